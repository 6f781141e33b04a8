// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	v1 "weft/api/v1"
)

// mustFail lists what may arrive nowhere.
func (r *run) mustFail() []test {
	var tests []test
	for side := range 2 {
		for _, from := range r.sides[side] {
			tests = append(tests, r.apart(side, from))
		}
	}
	attacker, victim := r.sides[1][0], r.sides[1][1]
	for _, a := range attacks(attacker, victim) {
		tests = append(tests, r.attack(attacker, a))
	}
	for _, to := range r.sides[1][1:] {
		tests = append(tests, r.tooBig(attacker, to))
	}
	return tests
}

// apart is a case in which from sends to every address of the VPC, and no workload of the other tenant hears anything.
func (r *run) apart(side int, from *actor) test {
	name := fmt.Sprintf("isolation, %s/%s to every address", strings.TrimSuffix(strings.TrimPrefix(from.tenant, tenantPrefix), "-"+r.id), from.port)
	return test{name: name, path: from.String() + " -> all", try: func(ctx context.Context) (string, error) {
		var missed error
		for _, to := range r.sides[side] {
			if to == from {
				continue
			}
			q := request{Do: "udp", To: target(to), Size: smallSize, Canary: r.canary(from)}
			a, err := r.ask(ctx, from, q)
			if err != nil {
				return "", err
			}
			if want := to.tenant + "/" + to.port; missed == nil && (!a.OK || a.Identity != want) {
				missed = failure{"an answer from " + want, strings.TrimSpace(a.Identity + " " + a.Detail)}
			}
			if missed == nil {
				missed = r.heard(ctx, to, q.Canary)
			}
		}
		// All that this tenant has sent in the whole run, and a packet in the wrong place before one that is missing.
		sent := r.sentBy(from.tenant)
		if err := r.unheard(ctx, sent, func(a *actor) bool { return a.tenant != from.tenant }); err != nil {
			return "", err
		}
		return fmt.Sprintf("of %d packets so far the other tenant heard 0", len(sent)), missed
	}}
}

// sentBy lists the canaries of a tenant.
func (r *run) sentBy(tenant string) []string {
	var out []string
	for c, p := range r.sent {
		if p.tenant == tenant {
			out = append(out, c)
		}
	}
	return out
}

// unheard fails if any actor that matters has heard one of the canaries, or may have missed it.
func (r *run) unheard(ctx context.Context, canaries []string, matters func(*actor) bool) error {
	if err := pause(ctx, r.cfg.earWithin); err != nil {
		return err
	}
	return r.each(func(a *actor) error {
		if !matters(a) {
			return nil
		}
		seen, err := r.seen(ctx, a)
		if err != nil {
			return err
		}
		for _, c := range seen {
			if slices.Contains(canaries, c) {
				p := r.sent[c]
				return failure{"silence", fmt.Sprintf("%s heard a packet of tenant %s that was not for it: %s, of case %q", a, p.tenant, c, p.test)}
			}
		}
		return nil
	})
}

// except is every actor but one.
func except(one *actor) func(*actor) bool { return func(a *actor) bool { return a != one } }

// attack is a frame that must be dropped for a reason.
type attack struct {
	name   string
	reason string
	layers []gopacket.SerializableLayer // a canary is added at the end
}

// attack sends the frame, wants its reason to count at the attacker's node, and nobody to hear it.
func (r *run) attack(from *actor, at attack) test {
	return test{name: "must drop, " + at.name, path: from.String(), try: func(ctx context.Context) (string, error) {
		canary := r.canary(from)
		buf := gopacket.NewSerializeBuffer()
		err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(at.layers, gopacket.Payload(canary))...)
		if err != nil {
			return "", err
		}
		send := func() error {
			a, err := r.ask(ctx, from, request{Do: "inject", Frame: buf.Bytes()})
			if err == nil && !a.OK {
				err = errors.New(a.Detail)
			}
			return err
		}
		return r.dropped(ctx, from, at.reason, canary, send)
	}}
}

// dropped runs send and wants the reason to count for the tenant at the node, and the canary to be heard by nobody
// else: an ICMP error brings a part of the packet back to its sender.
func (r *run) dropped(ctx context.Context, from *actor, reason, canary string, send func() error) (string, error) {
	before, err := r.count(ctx, from, reason)
	if err != nil {
		return "", err
	}
	if err := send(); err != nil {
		return "", err
	}
	for deadline := time.Now().Add(r.cfg.countWithin); ; {
		after, err := r.count(ctx, from, reason)
		if err != nil {
			return "", err
		}
		if after > before {
			break
		}
		if time.Now().After(deadline) {
			return "", failure{"a drop for " + reason, "none counted"}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return "", err
		}
	}
	return reason, r.unheard(ctx, []string{canary}, except(from))
}

// count returns how many packets of the actor's tenant its node dropped for a reason.
func (r *run) count(ctx context.Context, a *actor, reason string) (uint64, error) {
	drops, warnings, err := r.cfg.Client.Drops(ctx, a.tenant)
	if err != nil {
		return 0, err
	}
	if len(warnings) > 0 {
		return 0, errors.New(strings.Join(warnings, "; "))
	}
	for _, d := range drops {
		if d.Node == a.node && d.Reason == reason {
			return d.Packets, nil
		}
	}
	return 0, nil
}

// tooBig makes the attacker's own MTU larger, as a workload can, and sends a packet that then fits.
func (r *run) tooBig(from, to *actor) test {
	name := "must drop, larger than the MTU, " + r.relation(from, to)
	return test{name: name, path: fmt.Sprintf("%s -> %s", from, to), try: func(ctx context.Context) (string, error) {
		a, err := r.ask(ctx, from, request{Do: "mtu", Size: r.mtu + 4})
		if err = errors.Join(err, a.failed()); err != nil {
			return "", err
		}
		mac := net.HardwareAddr(to.mac[:])
		if from.subnet != to.subnet {
			mac = v1.RouterMAC[:]
		}
		ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(from.addr).To4(), DstIP: net.ParseIP(to.addr).To4()}
		u := &layers.UDP{SrcPort: 4000, DstPort: talkPort}
		_ = u.SetNetworkLayerForChecksum(ip) // fails for other layers only
		fill := make([]byte, r.mtu+4-udpHeaders-canaryLength)
		eth := &layers.Ethernet{SrcMAC: from.mac[:], DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
		return r.attack(from, attack{name, "too-big", []gopacket.SerializableLayer{eth, ip, u, gopacket.Payload(fill)}}).try(ctx)
	}}
}

var (
	broadcastMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nowhereMAC   = net.HardwareAddr{0x02, 0, 0, 0, 0x99, 0xee}
	nowhereIP    = net.IPv4(10, 99, 1, 200)
	routerIP     = net.IPv4(10, 99, 1, 1)
)

// attacks lists frames from one workload that may not pass, by what they pretend.
func attacks(from, to *actor) []attack {
	mac, router, peer := net.HardwareAddr(from.mac[:]), net.HardwareAddr(v1.RouterMAC[:]), net.HardwareAddr(to.mac[:])
	src, dst := net.ParseIP(from.addr).To4(), net.ParseIP(to.addr).To4()
	eth := func(src, dst net.HardwareAddr, t layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: t}
	}
	udp := func(e *layers.Ethernet, src, dst net.IP, ttl uint8, port layers.UDPPort) []gopacket.SerializableLayer {
		ip := &layers.IPv4{Version: 4, IHL: 5, TTL: ttl, Protocol: layers.IPProtocolUDP, SrcIP: src, DstIP: dst}
		u := &layers.UDP{SrcPort: 4000, DstPort: port}
		_ = u.SetNetworkLayerForChecksum(ip) // fails for other layers only
		return []gopacket.SerializableLayer{e, ip, u}
	}
	arp := func(op uint16, hw net.HardwareAddr, sender, target net.IP) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{eth(mac, broadcastMAC, layers.EthernetTypeARP), &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: hw, SourceProtAddress: sender.To4(), DstHwAddress: make([]byte, 6), DstProtAddress: target.To4(),
		}}
	}
	ip4 := layers.EthernetTypeIPv4
	inner := udp(eth(mac, peer, ip4), src, dst, 64, talkPort)
	nested := append(udp(eth(mac, router, ip4), src, net.IPv4(198, 19, 0, 3), 64, 4789), &layers.VXLAN{ValidIDFlag: true, VNI: 4096})
	return []attack{
		{"source MAC of somebody else", "src-mac-spoof", udp(eth(nowhereMAC, peer, ip4), src, dst, 64, talkPort)},
		{"source MAC of the router", "src-mac-spoof", udp(eth(router, peer, ip4), src, dst, 64, talkPort)},
		{"source address of a neighbour", "src-ip-spoof", udp(eth(mac, peer, ip4), dst, dst, 64, talkPort)},
		{"source address of the router", "src-ip-spoof", udp(eth(mac, peer, ip4), routerIP, dst, 64, talkPort)},
		{"source address from outside", "src-ip-spoof", udp(eth(mac, router, ip4), net.IPv4(192, 0, 2, 1), dst, 64, talkPort)},
		{"ARP in the name of a neighbour", "arp-spoof", arp(layers.ARPRequest, mac, dst, nowhereIP)},
		{"ARP with the MAC of a neighbour", "arp-spoof", arp(layers.ARPRequest, peer, src, dst)},
		{"ARP reply nobody asked for", "arp-malformed", arp(layers.ARPReply, mac, src, dst)},
		{"ARP for an address that nobody has", "arp-unknown", arp(layers.ARPRequest, mac, src, nowhereIP)},
		{"VLAN tag", "vlan", append([]gopacket.SerializableLayer{eth(mac, peer, layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Type: ip4}}, inner[1:]...)},
		{"LLDP", "ethertype", []gopacket.SerializableLayer{eth(mac, net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0x0e}, layers.EthernetTypeLinkLayerDiscovery)}},
		{"IPv6", "ipv6-unsupported", []gopacket.SerializableLayer{eth(mac, router, layers.EthernetTypeIPv6), &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolNoNextHeader, SrcIP: net.ParseIP("fd00::4"), DstIP: net.ParseIP("fd00::5")}}},
		{"TTL 1 through the router", "ttl-expired", udp(eth(mac, router, ip4), src, net.IPv4(10, 99, 2, 10), 1, talkPort)},
		{"address that nobody has", "no-location", udp(eth(mac, router, ip4), src, nowhereIP, 64, talkPort)},
		{"address outside of the VPC", "no-location", udp(eth(mac, router, ip4), src, net.IPv4(192, 0, 2, 9), 64, talkPort)},
		{"VXLAN to a tunnel end", "no-location", append(nested, inner...)},
		{"MAC that nobody has", "dst-mac", udp(eth(mac, nowhereMAC, ip4), src, dst, 64, talkPort)},
		{"broadcast", "broadcast", udp(eth(mac, broadcastMAC, ip4), src, net.IPv4bcast, 64, talkPort)},
		{"DHCP offer", "broadcast", udp(eth(mac, broadcastMAC, ip4), src, net.IPv4bcast, 64, 68)},
		{"multicast", "multicast", udp(eth(mac, net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}, ip4), src, net.IPv4(224, 0, 0, 251), 64, 5353)},
		{"UDP to the router", "router-proto", udp(eth(mac, router, ip4), src, routerIP, 64, talkPort)},
		{"TCP BGP to the router", "router-proto", bgp(eth(mac, router, ip4), src)},
	}
}

// bgp is the beginning of a session with the virtual router.
func bgp(e *layers.Ethernet, src net.IP) []gopacket.SerializableLayer {
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 1, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: routerIP}
	t := &layers.TCP{SrcPort: 4000, DstPort: 179, SYN: true, Window: 1024}
	_ = t.SetNetworkLayerForChecksum(ip) // fails for other layers only
	return []gopacket.SerializableLayer{e, ip, t}
}
