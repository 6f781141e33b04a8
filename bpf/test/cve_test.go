// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weft/internal/node/kernel"
)

// Tests named after what was wrong elsewhere, as far as packets of one port or tunnel can show that it is right here.

// dropAll runs packets of which each must be dropped for its reason.
func dropAll(t *testing.T, packets map[string]judged) {
	t.Helper()
	b := newRig(t)
	dualVPC(t, b)
	for name, p := range packets {
		t.Run(name, func(t *testing.T) {
			in := input{program: "from_port", frame: p.frame}
			checkDrop(t, in, b.run(t, in), p.reason, true)
		})
	}
}

// judged is a packet of a port, and its reason.
type judged struct {
	frame  []byte
	reason kernel.DropReason
}

// Neutron let a workload answer for the IPv6 addresses of others.
func TestCVE_2021_20267_NeighborAdvertisementForAnother(t *testing.T) {
	dropAll(t, map[string]judged{
		"override":    {icmp6(t, allNodes, web1MAC, web1IP6, "ff02::1", 255, 136, about(0x20, "fd00:1::5", 2, web1MAC)), kernel.DropNDSpoof},
		"of router":   {icmp6(t, allNodes, web1MAC, web1IP6, "ff02::1", 255, 136, about(0xa0, "fd00:1::1", 2, web1MAC)), kernel.DropNDSpoof},
		"link router": {icmp6(t, allNodes, web1MAC, web1Link, "ff02::1", 255, 136, about(0xa0, "fe80::1", 2, web1MAC)), kernel.DropNDSpoof},
		"by another":  {icmp6(t, allNodes, web1MAC, "fd00:1::5", "ff02::1", 255, 136, about(0x20, "fd00:1::5", 2, web1MAC)), kernel.DropNDSpoof},
	})
}

// Calico let a workload advertise itself as a router.
func TestCVE_2020_13597_RouterAdvertisementOfAWorkload(t *testing.T) {
	body := make([]byte, 12)
	dropAll(t, map[string]judged{
		"to all":          {icmp6(t, allNodes, web1MAC, web1Link, "ff02::1", 255, 134, body), kernel.DropRAGuard},
		"to a neighbour":  {icmp6(t, web2MAC, web1MAC, web1Link, "fd00:1::5", 255, 134, body), kernel.DropRAGuard},
		"behind a header": {ip6(t, allNodes, web1Link, "ff02::1", 255, 60, slices.Concat([]byte{58, 0, 1, 4, 0, 0, 0, 0, 134, 0, 0, 0}, body)), kernel.DropRAGuard},
		"as the router":   {icmp6(t, allNodes, web1MAC, "fe80::1", "ff02::1", 255, 134, body), kernel.DropRAGuard},
	})
}

// Switches looked past a VLAN tag of priority alone, or LLC and SNAP, no further than for their own filters.
func TestCVE_2021_27853_27861_HiddenByLayer2(t *testing.T) {
	advert := icmp6(t, allNodes, web1MAC, web1Link, "ff02::1", 255, 134, make([]byte, 12))
	tag := func(f []byte, kind, id uint16) []byte {
		return slices.Concat(f[:12], binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, kind), id), f[12:])
	}
	snap := func(f []byte, length int) []byte {
		inside := slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0}, f[12:])
		if length < 0 {
			length = len(inside)
		}
		return slices.Concat(f[:12], binary.BigEndian.AppendUint16(nil, uint16(length)), inside)
	}
	dropAll(t, map[string]judged{
		"tag 0":              {tag(advert, 0x8100, 0), kernel.DropVLAN},
		"two tags 0":         {tag(tag(advert, 0x8100, 0), 0x8100, 0), kernel.DropVLAN},
		"service tag 0":      {tag(advert, 0x88a8, 0), kernel.DropVLAN},
		"SNAP":               {snap(advert, -1), kernel.DropEthertype},
		"SNAP, wrong length": {snap(advert, 3), kernel.DropEthertype},
		"SNAP in tag 0":      {tag(snap(advert, -1), 0x8100, 0), kernel.DropVLAN},
		"ARP in SNAP":        {snap(arp(t, "10.0.1.6", func(a *layers.ARP) { a.SourceProtAddress = []byte{10, 0, 1, 5} }), -1), kernel.DropEthertype},
	})
}

// Open vSwitch took a packet of IP protocol 0 for one of any protocol.
func TestCVE_2023_1668_EveryProtocolIsJudgedAlike(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	for protocol := range 256 {
		h := ip("10.0.1.5", layers.IPProtocol(protocol))
		good := frame(t, ether(web2MAC, web1MAC, layers.EthernetTypeIPv4), h, gopacket.Payload(make([]byte, 40)))
		out := b.run(t, input{program: "from_port", frame: good})
		if out.verdict != redirected || len(out.passes) != 1 || out.passes[0].reason != uint32(kernel.PassLocal) {
			t.Errorf("protocol %d: verdict %d, drops %v", protocol, out.verdict, out.drops)
		}
		spoofed := frame(t, ether(web2MAC, web1MAC, layers.EthernetTypeIPv4), ip("10.0.1.5", layers.IPProtocol(protocol), from("10.0.1.6")), gopacket.Payload(make([]byte, 40)))
		in := input{program: "from_port", frame: spoofed}
		checkDrop(t, in, b.run(t, in), kernel.DropSrcIPSpoof, true)
		foreign := frame(t, ether(routerMAC, web1MAC, layers.EthernetTypeIPv4), ip("10.0.3.9", layers.IPProtocol(protocol)), gopacket.Payload(make([]byte, 40)))
		in.frame = foreign
		checkDrop(t, in, b.run(t, in), kernel.DropNoLocation, true)
	}
}

// Open vSwitch computed a length below zero from a header that was longer than its packet.
func TestCVE_2016_10377_LengthsThatDisagree(t *testing.T) {
	fine := udp(t, web2MAC, "10.0.1.5", 20)
	b := newRig(t)
	dualVPC(t, b)
	for header := range 16 {
		for total := range len(fine) - 14 + 3 {
			f := slices.Clone(fine)
			f[14] = 0x40 | byte(header)
			binary.BigEndian.PutUint16(f[16:], uint16(total))
			if header == 5 && total >= 20 && total <= len(fine)-14 || header > 5 && header*4 <= total && total <= len(fine)-14 {
				continue // they agree
			}
			in := input{program: "from_port", frame: f}
			checkDrop(t, in, b.run(t, in), kernel.DropIPMalformed, true)
		}
	}
}

// OVN took BFD packets of a workload for those of a tunnel.
func TestCVE_2024_2182_BFDOfAWorkload(t *testing.T) {
	bfd := func(mac [6]byte, dst string, port layers.UDPPort) []byte {
		h := ip(dst, layers.IPProtocolUDP, ttl(255))
		u := &layers.UDP{SrcPort: 49152, DstPort: port}
		if err := u.SetNetworkLayerForChecksum(h); err != nil {
			t.Fatal(err)
		}
		return frame(t, ether(mac, web1MAC, layers.EthernetTypeIPv4), h, u, gopacket.Payload(make([]byte, 24)))
	}
	dropAll(t, map[string]judged{
		"to the router":       {bfd(routerMAC, "10.0.1.1", 3784), kernel.DropRouterProto},
		"multihop":            {bfd(routerMAC, "10.0.1.1", 4784), kernel.DropRouterProto},
		"to a node":           {bfd(routerMAC, peerIP, 3784), kernel.DropNoLocation},
		"to the own node":     {bfd(routerMAC, thisTunnel.String(), 3784), kernel.DropNoLocation},
		"to a link-local one": {bfd(routerMAC, "169.254.1.1", 3784), kernel.DropNoLocation},
	})
}

// Moby took a VXLAN packet of anybody for one of a node.
func TestCVE_2026_92542_TunnelPacketOfAStranger(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	inner := frame(t, ether(web1MAC, web3MAC, layers.EthernetTypeIPv4), ip("10.0.1.4", layers.IPProtocolUDP, from("10.0.1.6")), gopacket.Payload("from afar"))
	for name, in := range map[string]input{
		"an address of no node":  {program: "from_uplink", frame: inner, tunnel: "198.19.0.77", vni: vni},
		"this node":              {program: "from_uplink", frame: inner, tunnel: thisTunnel.String(), vni: vni},
		"a node without the VPC": {program: "from_uplink", frame: inner, tunnel: peerIP, vni: vni + 1},
		"no VNI":                 {program: "from_uplink", frame: inner, tunnel: peerIP, vni: 0},
		"the highest VNI":        {program: "from_uplink", frame: inner, tunnel: peerIP, vni: 1<<24 - 1},
	} {
		t.Run(name, func(t *testing.T) { checkDrop(t, in, b.run(t, in), kernel.DropTunnelPeerUnknown, false) })
	}
}

// OVN did not limit what a workload sends to its service monitor: here all that goes to the agent has one budget for each port.
func TestCVE_2023_3153_EveryQuestionToTheAgentIsLimited(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	for name, f := range map[string][]byte{
		"DHCP":         dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 68, 67),
		"DHCPv6":       dhcp6(t, web1Link, "ff02::1:2", 34, 35),
		"solicitation": icmp6(t, allRouters, web1MAC, web1Link, "ff02::2", 255, 133, make([]byte, 4)),
	} {
		passed, limited := 0, 0
		for range 200 {
			out := b.run(t, input{program: "from_port", frame: f, keep: true})
			switch {
			case out.verdict == redirected:
				passed++
			case len(out.drops) == 1 && out.drops[0].reason == uint32(kernel.DropPuntRate):
				limited++
			default:
				t.Fatalf("%s: %+v", name, out)
			}
		}
		if limited < 100 {
			t.Errorf("%s: %d of 200 reach the agent at once, %d do not", name, passed, limited)
		}
	}
	// A super-packet would be many questions for one token.
	for _, f := range [][]byte{dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 68, 67), dhcp6(t, web1Link, "ff02::1:2", 34, 35)} {
		out := b.run(t, input{program: "from_port", frame: f, gsoSize: 8, gsoSegs: 3})
		if len(out.drops) != 1 || out.drops[0].reason != uint32(kernel.DropPuntRate) || out.drops[0].packets != 3 {
			t.Errorf("a super-packet: verdict %d, %v, %v", out.verdict, out.drops, out.passes)
		}
	}
}

// RA guards and DHCP guards were passed by headers that a first fragment left to the next one (RFC 7113).
func TestFirstFragmentSaysWhatItIs(t *testing.T) {
	pad := []byte{17, 0, 1, 4, 0, 0, 0, 0}
	first := []byte{60, 0, 0, 1, 0, 0, 0, 7}
	dropAll(t, map[string]judged{
		"DHCP server":    {ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 44, slices.Concat(first, pad)), kernel.DropExtHeader},
		"advertisement":  {ip6(t, web2MAC, web1IP6, "fd00:1::5", 255, 44, slices.Concat(first, []byte{58}, pad[1:])), kernel.DropExtHeader},
		"nothing at all": {ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 44, slices.Concat([]byte{17}, first[1:])), kernel.DropExtHeader},
		"headers before": {ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 60, slices.Concat([]byte{44}, pad[1:], []byte{17}, first[1:])), kernel.DropExtHeader},
	})
}
