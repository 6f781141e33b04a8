// SPDX-License-Identifier: Apache-2.0

package test

import (
	"net"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weft/internal/node/kernel"
)

const (
	web1IP6  = "fd00:1::4"
	web1Link = "fe80::ff:fe00:104" // EUI-64 of web1MAC
)

// dualVPC is redVPC with IPv6 beside IPv4.
func dualVPC(t testing.TB, b *rig) {
	t.Helper()
	redVPC(t, b)
	b.put(t, "port_info", []byte{portIndex, 0, 0, 0}, port{vni: vni, tenant: tenant, subnet: 1, mtu: mtu, addr: "10.0.1.4", mac: web1MAC, addr6: web1IP6}.bytes())
	for addr, l := range map[string]location{
		"fd00:1::1": {kind: kernel.LocationRouter, subnet: 1},
		"fd00:2::1": {kind: kernel.LocationRouter, subnet: 2},
		web1IP6:     {kind: kernel.LocationPeer, ifindex: portIndex, subnet: 1, mac: web1MAC},
		"fd00:1::5": {kind: kernel.LocationPeer, ifindex: 15, subnet: 1, mac: web2MAC},
		"fd00:1::6": {kind: kernel.LocationRemote, tunnel: peerIP, subnet: 1, mac: web3MAC},
		"fd00:2::4": {kind: kernel.LocationPeer, ifindex: 24, subnet: 2, mac: db1MAC},
	} {
		b.put(t, "ovl_locations", addrKey(vni, addr), l.bytes())
	}
}

// ip6 is a frame from web-1 with an IPv6 header, and body behind it.
func ip6(t testing.TB, mac [6]byte, src, dst string, hops uint8, next layers.IPProtocol, body []byte) []byte {
	t.Helper()
	return frame(t, ether(mac, web1MAC, layers.EthernetTypeIPv6), &layers.IPv6{
		Version: 6, HopLimit: hops, NextHeader: next, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst),
	}, gopacket.Payload(body))
}

// icmp6 is a frame with an ICMPv6 message and its checksum.
func icmp6(t testing.TB, mac, from [6]byte, src, dst string, hops, kind uint8, body []byte) []byte {
	t.Helper()
	h := &layers.IPv6{Version: 6, HopLimit: hops, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP(src), DstIP: net.ParseIP(dst)}
	m := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	if err := m.SetNetworkLayerForChecksum(h); err != nil {
		t.Fatal(err)
	}
	return frame(t, ether(mac, from, layers.EthernetTypeIPv6), h, m, gopacket.Payload(body))
}

// about is the body of a neighbour message: flags, target, and one option with a MAC.
func about(flags byte, target string, option byte, mac [6]byte) []byte {
	b := slices.Concat([]byte{flags, 0, 0, 0}, net.ParseIP(target).To16())
	if option != 0 {
		b = slices.Concat(b, []byte{option, 1}, mac[:])
	}
	return b
}

var (
	solicited  = [6]byte{0x33, 0x33, 0xff, 0, 0, 5}
	allNodes   = [6]byte{0x33, 0x33, 0, 0, 0, 1}
	allRouters = [6]byte{0x33, 0x33, 0, 0, 0, 2}
)

func solicit(t testing.TB, src, target string, hops uint8, body []byte) []byte {
	t.Helper()
	if body == nil {
		body = about(0, target, 1, web1MAC)
	}
	return icmp6(t, solicited, web1MAC, src, "ff02::1:ff00:5", hops, 135, body)
}

// advert is the answer that target is at mac.
func advert(t testing.TB, flags byte, dst, target string, mac [6]byte) []byte {
	t.Helper()
	to := web1MAC
	if dst == "ff02::1" {
		to = allNodes
	}
	return icmp6(t, to, mac, target, dst, 255, 136, about(flags, target, 2, mac))
}

// routed6 is what the router makes of a frame.
func routed6(f []byte, dst [6]byte) []byte {
	out := slices.Clone(f)
	copy(out, dst[:])
	copy(out[6:], routerMAC[:])
	out[21]--
	return out
}

func good6(t testing.TB) []fixture {
	port := func(f []byte) input { return input{program: "from_port", frame: f, mark: 0xdead} }
	data := make([]byte, 20)
	bridged, through := ip6(t, web2MAC, web1IP6, "fd00:1::5", 1, 17, data), ip6(t, routerMAC, web1IP6, "fd00:2::4", 64, 17, data)
	far := ip6(t, web3MAC, web1IP6, "fd00:1::6", 64, 17, data)
	extended := ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 0, slices.Concat([]byte{60, 0, 1, 4, 0, 0, 0, 0}, []byte{44, 0, 1, 4, 0, 0, 0, 0}, []byte{17, 0, 0, 1, 0, 0, 0, 1}, data))
	routing2 := ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 43, slices.Concat([]byte{17, 0, 4, 0, 0, 0, 0, 0}, data))
	ah := ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 51, data)
	inbound := frame(t, ether(web1MAC, web3MAC, layers.EthernetTypeIPv6), &layers.IPv6{
		Version: 6, HopLimit: 64, NextHeader: 17, SrcIP: net.ParseIP("fd00:1::6"), DstIP: net.ParseIP(web1IP6),
	}, gopacket.Payload("from afar"))
	echo6 := func(src, dst string) []byte {
		return icmp6(t, routerMAC, web1MAC, src, dst, 3, 128, []byte{0, 1, 0, 1, 'h', 'e', 'y'})
	}
	reply6 := func(dst, src string) []byte {
		return icmp6(t, web1MAC, routerMAC, src, dst, 64, 129, []byte{0, 1, 0, 1, 'h', 'e', 'y'})
	}
	answered := func(name string, in, out []byte, places uint64) fixture {
		return fixture{name: name, in: port(in), frame: out, pass: kernel.PassAnswered, ifindex: portIndex, ports: 1, places: places}
	}
	near := func(name string, in, out []byte, ifindex uint64) fixture {
		return fixture{name: name, in: port(in), frame: out, pass: kernel.PassLocal, ifindex: ifindex, peer: true, ports: 1, places: 1}
	}
	heard := func(name string, in []byte) fixture {
		return fixture{name: name, in: port(in), pass: kernel.PassConsumed, ports: 1}
	}
	return []fixture{
		near("bridged6", bridged, nil, 15),
		near("routed6", through, routed6(through, db1MAC), 24),
		near("extensions6", extended, nil, 15),
		near("routing-type-4", routing2, nil, 15),
		near("ah6", ah, nil, 15),
		{name: "far6", in: port(far), pass: kernel.PassToTunnel, ifindex: uplinkIndex, remote: true, ports: 1, places: 1},
		{name: "from-tunnel6", in: input{program: "from_uplink", frame: inbound, tunnel: peerIP, vni: vni}, pass: kernel.PassFromTunnel, ifindex: portIndex, peer: true, places: 1, senders: 1},
		answered("echo6", echo6(web1IP6, "fd00:1::1"), reply6(web1IP6, "fd00:1::1"), 1),
		answered("echo6-link", echo6(web1Link, "fe80::1"), reply6(web1Link, "fe80::1"), 0),
		answered("echo6-any-link", echo6("fe80::1234:5678", "fe80::1"), reply6("fe80::1234:5678", "fe80::1"), 0),
		answered("ns-router-link", solicit(t, web1Link, "fe80::1", 255, nil), advert(t, 0xe0, web1Link, "fe80::1", routerMAC), 0),
		answered("ns-router", solicit(t, web1IP6, "fd00:1::1", 255, nil), advert(t, 0xe0, web1IP6, "fd00:1::1", routerMAC), 1),
		answered("ns-neighbour", solicit(t, web1IP6, "fd00:1::6", 255, nil), advert(t, 0x60, web1IP6, "fd00:1::6", web3MAC), 1),
		answered("ns-without-option", solicit(t, web1IP6, "fd00:1::6", 255, about(0, "fd00:1::6", 0, web1MAC)), advert(t, 0x60, web1IP6, "fd00:1::6", web3MAC), 1),
		answered("dad-taken", solicit(t, "::", "fd00:1::5", 255, about(0, "fd00:1::5", 0, web1MAC)), advert(t, 0x20, "ff02::1", "fd00:1::5", web2MAC), 1),
		heard("dad-own", solicit(t, "::", web1IP6, 255, about(0, web1IP6, 0, web1MAC))),
		heard("dad-own-link-nonce", solicit(t, "::", web1Link, 255, about(0, web1Link, 14, web2MAC))),
		heard("dad-any-link", solicit(t, "::", "fe80::1234:5678", 255, about(0, "fe80::1234:5678", 0, web1MAC))),
		heard("na-any-link", icmp6(t, allNodes, web1MAC, "fe80::1234:5678", "ff02::1", 255, 136, about(0x20, "fe80::1234:5678", 2, web1MAC))),
		heard("na-own", icmp6(t, allNodes, web1MAC, web1IP6, "ff02::1", 255, 136, about(0x20, web1IP6, 2, web1MAC))),
		heard("mld", ip6(t, [6]byte{0x33, 0x33, 0, 0, 0, 0x16}, web1Link, "ff02::16", 1, 0, slices.Concat([]byte{58, 0, 5, 2, 0, 0, 1, 0}, []byte{143, 0, 0, 0, 0, 0, 0, 0}))),
	}
}

func bad6(t testing.TB) []fixture {
	data := make([]byte, 20)
	fine := ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 17, data)
	edit := func(f []byte, at int, b byte) []byte { f = slices.Clone(f); f[at] = b; return f }
	ext := func(next byte, b ...byte) []byte {
		return ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, layers.IPProtocol(next), b)
	}
	var long []byte
	for range 7 {
		long = append(long, 60, 0, 1, 4, 0, 0, 0, 0)
	}
	bad := func(name string, f []byte, reason kernel.DropReason, places uint64) fixture {
		return fixture{name: name, in: input{program: "from_port", frame: f}, drop: reason, ports: 1, places: places}
	}
	mld := icmp6(t, allNodes, web1MAC, web1Link, "ff02::1", 1, 130, make([]byte, 20))
	mapped := ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 17, data)
	copy(mapped[38:], net.ParseIP("10.0.1.5").To16())
	return []fixture{
		bad("version6", edit(fine, 14, 0x40), kernel.DropIPMalformed, 0),
		bad("length6", edit(fine, 19, 200), kernel.DropIPMalformed, 0),
		bad("spoof6", ip6(t, web2MAC, "fd00:1::6", "fd00:1::5", 64, 17, data), kernel.DropSrcIPSpoof, 0),
		bad("spoof6-router-link", ip6(t, routerMAC, "fe80::1", "fd00:1::5", 64, 17, data), kernel.DropSrcIPSpoof, 0),
		bad("mapped-source", ip6(t, web2MAC, "::ffff:10.0.1.4", "fd00:1::5", 64, 17, data), kernel.DropIPMalformed, 0),
		bad("mapped-destination", mapped, kernel.DropIPMalformed, 0),
		bad("spoof6-none", ip6(t, web2MAC, "::", "fd00:1::5", 64, 17, data), kernel.DropSrcIPSpoof, 0),
		bad("routing-type-0", ext(43, 17, 0, 0, 1, 0, 0, 0, 0), kernel.DropExtHeader, 0),
		bad("hop-by-hop-later", ext(60, 0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0), kernel.DropExtHeader, 0),
		bad("too-many", ext(60, long...), kernel.DropExtHeader, 0),
		bad("extension-longer", ext(60, 17, 9, 1, 4, 0, 0, 0, 0), kernel.DropIPMalformed, 0),
		bad("multicast6", ip6(t, allNodes, web1IP6, "ff02::1", 64, 17, data), kernel.DropMulticast, 0),
		bad("multicast6-by-router", ip6(t, routerMAC, web1IP6, "ff0e::1", 64, 17, data), kernel.DropMulticast, 0),
		bad("self6", ip6(t, routerMAC, web1IP6, web1IP6, 64, 17, data), kernel.DropToSelf, 0),
		bad("link-local-to-other", ip6(t, web2MAC, web1Link, "fd00:1::5", 64, 17, data), kernel.DropLinkLocal, 1),
		bad("to-other-link-local", ip6(t, web2MAC, web1Link, "fe80::5", 64, 17, data), kernel.DropLinkLocal, 0),
		bad("too-big6", ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 17, make([]byte, mtu-39)), kernel.DropTooBig, 0),
		bad("hops", ip6(t, routerMAC, web1IP6, "fd00:2::4", 1, 17, data), kernel.DropTTLExpired, 1),
		bad("nobody6", ip6(t, routerMAC, web1IP6, "fd00:2::9", 64, 17, data), kernel.DropNoLocation, 1),
		bad("mac6", ip6(t, db1MAC, web1IP6, "fd00:2::4", 64, 17, data), kernel.DropDstMAC, 1),
		bad("router6-udp", ip6(t, routerMAC, web1IP6, "fe80::1", 64, 17, data), kernel.DropRouterProto, 0),
		bad("ns-nobody", solicit(t, web1IP6, "fd00:1::9", 255, nil), kernel.DropNDUnknown, 1),
		bad("ns-other-subnet", solicit(t, web1IP6, "fd00:2::4", 255, nil), kernel.DropNDUnknown, 1),
		bad("ns-spoof", solicit(t, "fd00:1::6", "fd00:1::5", 255, nil), kernel.DropNDSpoof, 0),
		bad("ns-spoof-mac", solicit(t, web1IP6, "fd00:1::5", 255, about(0, "fd00:1::5", 1, otherMAC)), kernel.DropNDSpoof, 0),
		bad("ns-hops", solicit(t, web1IP6, "fd00:1::5", 254, nil), kernel.DropNDMalformed, 0),
		bad("ns-group", solicit(t, web1IP6, "ff02::1", 255, nil), kernel.DropNDMalformed, 0),
		bad("ns-option-0", solicit(t, web1IP6, "fd00:1::5", 255, append(about(0, "fd00:1::5", 0, web1MAC), 1, 0, 0, 0, 0, 0, 0, 0)), kernel.DropNDMalformed, 0),
		bad("ns-cut", solicit(t, web1IP6, "fd00:1::5", 255, []byte{0, 0, 0, 0}), kernel.DropNDMalformed, 0),
		bad("na-spoof", icmp6(t, allNodes, web1MAC, web1IP6, "ff02::1", 255, 136, about(0x20, "fd00:1::5", 2, web1MAC)), kernel.DropNDSpoof, 0),
		bad("na-spoof-mac", icmp6(t, allNodes, web1MAC, web1IP6, "ff02::1", 255, 136, about(0x20, web1IP6, 2, otherMAC)), kernel.DropNDSpoof, 0),
		bad("ns-extended", ip6(t, solicited, web1IP6, "ff02::1", 255, 60, slices.Concat([]byte{58, 0, 1, 4, 0, 0, 0, 0}, []byte{135, 0, 0, 0}, about(0, "fd00:1::5", 0, web1MAC))), kernel.DropNDMalformed, 0),
		bad("ra", icmp6(t, allNodes, web1MAC, web1Link, "ff02::1", 255, 134, make([]byte, 12)), kernel.DropRAGuard, 0),
		bad("redirect", icmp6(t, web2MAC, web1MAC, web1Link, "fd00:1::5", 255, 137, make([]byte, 36)), kernel.DropRAGuard, 0),
		bad("rs-of-another", icmp6(t, web2MAC, web1MAC, web1Link, "fd00:1::5", 255, 133, make([]byte, 4)), kernel.DropRouterSolicit, 0),
		bad("rs-hops", icmp6(t, allRouters, web1MAC, web1Link, "ff02::2", 254, 133, make([]byte, 4)), kernel.DropNDMalformed, 0),
		bad("rs-spoof", icmp6(t, allRouters, web1MAC, "fd00:1::5", "ff02::2", 255, 133, make([]byte, 4)), kernel.DropNDSpoof, 0),
		bad("rs-spoof-mac", icmp6(t, allRouters, web1MAC, web1Link, "ff02::2", 255, 133, slices.Concat(make([]byte, 4), []byte{1, 1}, otherMAC[:])), kernel.DropNDSpoof, 0),
		bad("ns-mapped", solicit(t, web1IP6, "fd00:1::5", 255, slices.Concat(make([]byte, 4), net.ParseIP("10.0.1.5").To16())), kernel.DropNDMalformed, 0),
		bad("ns-link-of-another", solicit(t, web1IP6, "fe80::5", 255, nil), kernel.DropNDUnknown, 0),
		bad("mld-query", mld, kernel.DropMulticast, 0),
	}
}

func TestIPv6(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	for _, f := range append(append(good6(t), bad6(t)...), good(t)...) {
		t.Run(f.name, func(t *testing.T) { f.check(t, b) })
	}
}

// Cut at any byte, an IPv6 packet is dropped; so is all IPv6 of a port without an address.
func TestIPv6CutOrWithoutAddress(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	for _, f := range good6(t) {
		for size := 54; size < 54+int(f.in.frame[18])<<8+int(f.in.frame[19]); size++ {
			in := f.in
			in.frame = f.in.frame[:size]
			checkDrop(t, in, b.run(t, in), kernel.DropIPMalformed, true)
		}
	}
	redVPC(t, b)
	for _, f := range good6(t) {
		if f.in.program == "from_port" {
			checkDrop(t, f.in, b.run(t, f.in), kernel.DropIPv6Unsupported, true)
		}
	}
}
