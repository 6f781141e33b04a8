// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weft/bpf/instrument"
	"weft/internal/node/kernel"
)

const (
	vni    = 4096
	tenant = 7
	mtu    = 1450
	peerIP = "198.19.0.4" // tunnel end of the other node

	outerTTL          = 64
	dontFragmentOuter = 1 << 2 // BPF_F_DONT_FRAGMENT
)

// redVPC fills the maps with tenant 7's VPC as this node sees it: the port of web-1 is the loopback device.
func redVPC(t testing.TB, b *rig) {
	t.Helper()
	b.put(t, "port_info", []byte{portIndex, 0, 0, 0}, port{vni: vni, tenant: tenant, subnet: 1, mtu: mtu, addr: "10.0.1.4", mac: web1MAC}.bytes())
	for addr, l := range map[string]location{
		"10.0.1.1": {kind: kernel.LocationRouter, subnet: 1},
		"10.0.2.1": {kind: kernel.LocationRouter, subnet: 2},
		"10.0.1.4": {kind: kernel.LocationPeer, ifindex: portIndex, subnet: 1, mac: web1MAC},
		"10.0.1.5": {kind: kernel.LocationPeer, ifindex: 15, subnet: 1, mac: web2MAC},
		"10.0.1.6": {kind: kernel.LocationRemote, tunnel: peerIP, subnet: 1, mac: web3MAC},
		"10.0.1.7": {kind: kernel.LocationDevice, ifindex: 17, subnet: 1, mac: tapMAC},
		"10.0.2.4": {kind: kernel.LocationPeer, ifindex: 24, subnet: 2, mac: db1MAC},
		"10.0.2.5": {kind: kernel.LocationRemote, tunnel: peerIP, subnet: 2, mac: db2MAC},
	} {
		b.put(t, "ovl_locations", addrKey(vni, addr), l.bytes())
	}
	b.put(t, "ovl_locations", addrKey(vni+1, "10.0.3.9"), location{kind: kernel.LocationPeer, ifindex: 39, subnet: 1, mac: otherMAC}.bytes())
	b.put(t, "ovl_senders", addrKey(vni, peerIP), sender(tenant))
}

// fixture is a packet and what must become of it. Zero values: nothing of the kind happens.
type fixture struct {
	name string
	in   input
	// One of the three.
	drop kernel.DropReason
	pass kernel.PassKind
	open bool // to_port lets it through, uncounted
	// What is expected beside.
	ifindex uint64 // redirected to
	peer    bool   // by redirect_peer
	remote  bool   // through the tunnel
	frame   []byte // as it leaves; nil: as it came
	ports   uint64 // lookups
	places  uint64
	senders uint64
	routes  uint64
	sources uint64
}

func (f *fixture) isDrop() bool { return f.drop != kernel.DropNone }

// check runs the fixture and compares everything.
func (f *fixture) check(t *testing.T, b *rig) {
	t.Helper()
	out := b.run(t, f.in)
	if got, want := []uint64{out.noted.Ports, out.noted.Locations, out.noted.Senders, out.noted.Routes, out.noted.Sources}, []uint64{f.ports, f.places, f.senders, f.routes, f.sources}; !slices.Equal(got, want) {
		t.Errorf("lookups of ports, locations, senders, routes, sources %v, want %v", got, want)
	}
	if f.isDrop() {
		checkDrop(t, f.in, out, f.drop, f.ports+f.senders > 0 && f.drop != kernel.DropPortUnknown && f.drop != kernel.DropTunnelPeerUnknown)
		return
	}
	if len(out.drops) != 0 {
		t.Errorf("dropped: %s", kernel.DropReason(out.drops[0].reason))
	}
	want := f.in.frame
	if f.frame != nil {
		want = f.frame
	}
	if !bytes.Equal(out.frame, want) {
		t.Errorf("left as\n%x, want\n%x", out.frame, want)
	}
	f.checkWay(t, out)
}

func (f *fixture) checkWay(t *testing.T, out output) {
	t.Helper()
	if f.open {
		if out.verdict != passed || len(out.passes) != 0 || out.mark != 0 {
			t.Errorf("verdict %d, mark %#x, counted %v", out.verdict, out.mark, out.passes)
		}
		return
	}
	if len(out.passes) != 1 || out.passes[0].reason != uint32(f.pass) || out.passes[0].packets != 1 ||
		out.passes[0].bytes != uint64(len(f.in.frame)-14) {
		t.Errorf("counted %v, want one %s of %d bytes", out.passes, f.pass, len(f.in.frame)-14)
	}
	if f.pass == kernel.PassConsumed {
		if out.verdict != dropped {
			t.Errorf("verdict %d", out.verdict)
		}
		return
	}
	way, mark := uint64(1), uint32(markDeliver)
	if f.peer {
		way, mark = 2, 0
	}
	if f.pass == kernel.PassToService {
		mark = 0
	}
	if f.remote {
		mark = 0
		if n := out.noted; n.Tunnel != 1 || n.VNI != vni || n.Remote != instrument.TunnelAddress(netip.MustParseAddr(peerIP)) || n.Local != instrument.TunnelAddress(thisTunnel) {
			t.Errorf("tunnel key for VNI %d from %x to %x", n.VNI, n.Local, n.Remote)
		}
		if n := out.noted; n.TTL != outerTTL || n.Flags != dontFragmentOuter {
			t.Errorf("outer TTL %d, flags %#x; want %d and %#x: the fabric carries the overlay's MTU", n.TTL, n.Flags, outerTTL, dontFragmentOuter)
		}
	}
	if out.verdict != redirected || out.noted.Redirect != way || out.noted.IfIndex != f.ifindex || out.mark != mark {
		t.Errorf("verdict %d, way %d to %d, mark %#x; want way %d to %d, mark %#x", out.verdict, out.noted.Redirect,
			out.noted.IfIndex, out.mark, way, f.ifindex, mark)
	}
	if f.peer != (out.noted.PktType == 1) {
		t.Errorf("packet type note %d", out.noted.PktType)
	}
}

func checkDrop(t *testing.T, in input, out output, reason kernel.DropReason, ours bool) {
	t.Helper()
	want := count{reason: uint32(reason), packets: 1, bytes: uint64(len(in.frame) - 14)}
	if ours {
		want.tenant = tenant
	}
	if out.verdict != dropped || len(out.passes) != 0 || len(out.drops) != 1 || out.drops[0] != want {
		t.Errorf("verdict %d, drops %v, passes %v; want one drop %v (%s)", out.verdict, out.drops, out.passes, want, reason)
	}
	if out.noted.Redirect != 0 {
		t.Error("redirected all the same")
	}
}

// good are the packets that must get through, one for each way.
func good(t testing.TB) []fixture {
	port := func(f []byte) input { return input{program: "from_port", frame: f, mark: 0xdead} }
	bridged, routedFrame := udp(t, web2MAC, "10.0.1.5", 20), udp(t, routerMAC, "10.0.2.4", 20)
	far, farRouted := udp(t, web3MAC, "10.0.1.6", 20), udp(t, routerMAC, "10.0.2.5", 20)
	tap := udp(t, tapMAC, "10.0.1.7", 20)
	hairpin := udp(t, routerMAC, "10.0.1.5", 20)
	tunnelled := frame(t, ether(web1MAC, web3MAC, layers.EthernetTypeIPv4), ip("10.0.1.4", layers.IPProtocolUDP, from("10.0.1.6")), gopacket.Payload("from afar"))
	toTap := frame(t, ether(tapMAC, routerMAC, layers.EthernetTypeIPv4), ip("10.0.1.7", layers.IPProtocolUDP, from("10.0.2.5")), gopacket.Payload("from afar"))
	up := func(f []byte) input {
		return input{program: "from_uplink", frame: f, tunnel: peerIP, vni: vni, mark: 0xdead}
	}
	probe := func(a *layers.ARP) { a.SourceProtAddress = make([]byte, 4) }
	me := []byte{10, 0, 1, 4}
	return []fixture{
		{name: "bridged", in: port(bridged), pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1},
		{name: "routed", in: port(routedFrame), frame: routed(t, routedFrame, db1MAC), pass: kernel.PassLocal, ifindex: 24, peer: true, ports: 1, places: 1},
		{name: "routed-inside-subnet", in: port(hairpin), frame: routed(t, hairpin, web2MAC), pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1},
		{name: "to-tap", in: port(tap), pass: kernel.PassLocal, ifindex: 17, ports: 1, places: 1},
		{name: "far-bridged", in: port(far), pass: kernel.PassToTunnel, ifindex: uplinkIndex, remote: true, ports: 1, places: 1},
		{name: "far-routed", in: port(farRouted), frame: routed(t, farRouted, db2MAC), pass: kernel.PassToTunnel, ifindex: uplinkIndex, remote: true, ports: 1, places: 1},
		{name: "echo-router", in: port(echo(t, routerMAC, "10.0.1.1")), frame: echoReply(t, "10.0.1.1"), pass: kernel.PassAnswered, ifindex: portIndex, ports: 1, places: 1},
		{name: "echo-other-router", in: port(echo(t, routerMAC, "10.0.2.1", ttl(1))), frame: echoReply(t, "10.0.2.1"), pass: kernel.PassAnswered, ifindex: portIndex, ports: 1, places: 1},
		{name: "arp-router", in: port(arp(t, "10.0.1.1")), frame: arpReply(t, "10.0.1.1", routerMAC, me), pass: kernel.PassAnswered, ifindex: portIndex, ports: 1, places: 1},
		{name: "arp-neighbour", in: port(arp(t, "10.0.1.6")), frame: arpReply(t, "10.0.1.6", web3MAC, me), pass: kernel.PassAnswered, ifindex: portIndex, ports: 1, places: 1},
		{name: "arp-probe-taken", in: port(arp(t, "10.0.1.5", probe)), frame: arpReply(t, "10.0.1.5", web2MAC, make([]byte, 4)), pass: kernel.PassAnswered, ifindex: portIndex, ports: 1, places: 1},
		{name: "arp-probe-own", in: port(arp(t, "10.0.1.4", probe)), pass: kernel.PassConsumed, ports: 1},
		{name: "arp-announcement", in: port(arp(t, "10.0.1.4")), pass: kernel.PassConsumed, ports: 1},
		{name: "from-tunnel", in: up(tunnelled), pass: kernel.PassFromTunnel, ifindex: portIndex, peer: true, places: 1, senders: 1},
		{name: "from-tunnel-to-tap", in: up(toTap), pass: kernel.PassFromTunnel, ifindex: 17, places: 1, senders: 1},
		{name: "marked", in: input{program: "to_port", frame: bridged, mark: markDeliver}, open: true},
	}
}

// bad are the packets that must not, by reason.
func bad(t testing.TB) []fixture {
	port := func(f []byte) input { return input{program: "from_port", frame: f} }
	up := func(f []byte) input { return input{program: "from_uplink", frame: f, tunnel: peerIP, vni: vni} }
	fine := udp(t, web2MAC, "10.0.1.5", 20)
	inner := func(mac [6]byte, dst string) []byte {
		return frame(t, ether(mac, web3MAC, layers.EthernetTypeIPv4), ip(dst, layers.IPProtocolUDP, from("10.0.1.6")), gopacket.Payload("from afar"))
	}
	v6 := frame(t, ether(routerMAC, web1MAC, layers.EthernetTypeIPv6), &layers.IPv6{
		Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP,
		SrcIP: []byte{0xfd, 15: 1}, DstIP: []byte{0xfd, 15: 2},
	}, gopacket.Payload(make([]byte, 20)))
	edit := func(f []byte, at int, b byte) []byte {
		f = slices.Clone(f)
		f[at] = b
		return f
	}
	reply := func(a *layers.ARP) { a.Operation = layers.ARPReply }
	liar := func(a *layers.ARP) { a.SourceProtAddress = []byte{10, 0, 1, 5} }
	liarMAC := func(a *layers.ARP) { a.SourceHwAddress = otherMAC[:] }
	group := [6]byte{1, 0, 0x5e, 0, 0, 1}
	return []fixture{
		{name: "vlan", in: port(tagged(fine, 0x8100)), drop: kernel.DropVLAN, ports: 1},
		{name: "qinq", in: port(tagged(fine, 0x88a8)), drop: kernel.DropVLAN, ports: 1},
		{name: "ethertype", in: port(edit(fine, 12, 0x88)), drop: kernel.DropEthertype, ports: 1},
		{name: "ipv6", in: port(v6), drop: kernel.DropIPv6Unsupported, ports: 1},
		{name: "mac-spoof", in: port(edit(fine, 11, 0x99)), drop: kernel.DropSrcMACSpoof, ports: 1},
		{name: "ip-spoof", in: port(udp(t, web2MAC, "10.0.1.5", 20, from("10.0.1.5"))), drop: kernel.DropSrcIPSpoof, ports: 1},
		{name: "ip-spoof-zero", in: port(udp(t, web2MAC, "10.0.1.5", 20, from("0.0.0.0"))), drop: kernel.DropSrcIPSpoof, ports: 1},
		{name: "arp-spoof-ip", in: port(arp(t, "10.0.1.6", liar)), drop: kernel.DropARPSpoof, ports: 1},
		{name: "arp-spoof-mac", in: port(arp(t, "10.0.1.6", liarMAC)), drop: kernel.DropARPSpoof, ports: 1},
		{name: "arp-reply", in: port(arp(t, "10.0.1.6", reply)), drop: kernel.DropARPMalformed, ports: 1},
		{name: "arp-hardware", in: port(edit(arp(t, "10.0.1.6"), 15, 6)), drop: kernel.DropARPMalformed, ports: 1},
		{name: "arp-nobody", in: port(arp(t, "10.0.1.99")), drop: kernel.DropARPUnknown, ports: 1, places: 1},
		{name: "arp-other-subnet", in: port(arp(t, "10.0.2.4")), drop: kernel.DropARPUnknown, ports: 1, places: 1},
		{name: "broadcast-mac", in: port(udp(t, broadcastMAC, "255.255.255.255", 20)), drop: kernel.DropBroadcast, ports: 1},
		{name: "broadcast-ip", in: port(udp(t, routerMAC, "255.255.255.255", 20)), drop: kernel.DropBroadcast, ports: 1},
		{name: "multicast-mac", in: port(udp(t, group, "224.0.0.1", 20)), drop: kernel.DropMulticast, ports: 1},
		{name: "multicast-ip", in: port(udp(t, routerMAC, "239.1.2.3", 20)), drop: kernel.DropMulticast, ports: 1},
		{name: "mac-nobody", in: port(udp(t, otherMAC, "10.0.1.5", 20)), drop: kernel.DropDstMAC, ports: 1, places: 1},
		{name: "mac-bridged-between-subnets", in: port(udp(t, db1MAC, "10.0.2.4", 20)), drop: kernel.DropDstMAC, ports: 1, places: 1},
		{name: "mac-router-address", in: port(echo(t, otherMAC, "10.0.1.1")), drop: kernel.DropDstMAC, ports: 1, places: 1},
		{name: "ip-version", in: port(edit(fine, 14, 0x55)), drop: kernel.DropIPMalformed, ports: 1},
		{name: "ip-header-length", in: port(edit(fine, 14, 0x44)), drop: kernel.DropIPMalformed, ports: 1},
		{name: "ip-header-longer-than-packet", in: port(edit(fine, 14, 0x4f)), drop: kernel.DropIPMalformed, ports: 1},
		{name: "ip-total-length", in: port(edit(fine, 17, 200)), drop: kernel.DropIPMalformed, ports: 1},
		{name: "ttl", in: port(udp(t, routerMAC, "10.0.2.4", 20, ttl(1))), drop: kernel.DropTTLExpired, ports: 1, places: 1},
		{name: "too-big", in: port(udp(t, web2MAC, "10.0.1.5", mtu-28+1)), drop: kernel.DropTooBig, ports: 1},
		{name: "no-location", in: port(udp(t, routerMAC, "10.0.1.99", 20)), drop: kernel.DropNoLocation, ports: 1, places: 1},
		{name: "other-tenants-address", in: port(udp(t, routerMAC, "10.0.3.9", 20)), drop: kernel.DropNoLocation, ports: 1, places: 1},
		{name: "to-self", in: port(udp(t, web1MAC, "10.0.1.4", 20)), drop: kernel.DropToSelf, ports: 1},
		{name: "router-udp", in: port(udp(t, routerMAC, "10.0.1.1", 20)), drop: kernel.DropRouterProto, ports: 1, places: 1},
		{name: "router-echo-fragment", in: port(echo(t, routerMAC, "10.0.1.1", firstFragment)), drop: kernel.DropRouterProto, ports: 1, places: 1},
		{name: "router-echo-options", in: port(echo(t, routerMAC, "10.0.1.1", options)), drop: kernel.DropRouterProto, ports: 1, places: 1},
		{name: "router-icmp-other", in: port(edit(echo(t, routerMAC, "10.0.1.1"), 34, 13)), drop: kernel.DropRouterProto, ports: 1, places: 1},
		{name: "router-icmp-short", in: port(frame(t, ether(routerMAC, web1MAC, layers.EthernetTypeIPv4),
			ip("10.0.1.1", layers.IPProtocolICMPv4), gopacket.Payload{8, 0, 0, 0})[:38]), drop: kernel.DropShort, ports: 1, places: 1},
		{name: "tunnel-key", in: input{program: "from_uplink", frame: fine}, drop: kernel.DropTunnelKey},
		{name: "tunnel-peer", in: input{program: "from_uplink", frame: fine, tunnel: "198.19.0.5", vni: vni}, drop: kernel.DropTunnelPeerUnknown, senders: 1},
		{name: "tunnel-vni", in: input{program: "from_uplink", frame: fine, tunnel: peerIP, vni: vni + 1}, drop: kernel.DropTunnelPeerUnknown, senders: 1},
		{name: "tunnel-arp", in: up(arp(t, "10.0.1.4")), drop: kernel.DropEthertype, senders: 1},
		{name: "tunnel-ipv6", in: up(v6), drop: kernel.DropNotLocal, places: 2, senders: 1},
		{name: "tunnel-vlan", in: up(tagged(fine, 0x8100)), drop: kernel.DropVLAN, senders: 1},
		{name: "tunnel-nobody", in: up(inner(web1MAC, "10.0.1.99")), drop: kernel.DropNotLocal, places: 2, senders: 1},
		{name: "tunnel-onwards", in: up(inner(db2MAC, "10.0.2.5")), drop: kernel.DropNotLocal, places: 2, senders: 1},
		{name: "tunnel-router", in: up(inner(routerMAC, "10.0.1.1")), drop: kernel.DropNotLocal, places: 2, senders: 1},
		{name: "tunnel-mac", in: up(inner(web2MAC, "10.0.1.4")), drop: kernel.DropDstMAC, places: 2, senders: 1},
		{name: "host", in: input{program: "to_port", frame: fine}, drop: kernel.DropHostToPort, ports: 1},
		{name: "host-other-mark", in: input{program: "to_port", frame: fine, mark: 1}, drop: kernel.DropHostToPort, ports: 1},
	}
}
