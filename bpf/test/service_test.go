// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weft/internal/node/kernel"
)

// dhcp4 is a frame with a UDP header, from web-1.
func dhcp4(t testing.TB, mac [6]byte, src, dst string, sport, dport layers.UDPPort, edits ...func(*layers.IPv4)) []byte {
	t.Helper()
	h := ip(dst, layers.IPProtocolUDP, append([]func(*layers.IPv4){from(src)}, edits...)...)
	u := &layers.UDP{SrcPort: sport, DstPort: dport}
	if err := u.SetNetworkLayerForChecksum(h); err != nil {
		t.Fatal(err)
	}
	return frame(t, ether(mac, web1MAC, layers.EthernetTypeIPv4), h, u, gopacket.Payload("a question"))
}

func dhcp6(t testing.TB, src, dst string, sport, dport byte) []byte {
	t.Helper()
	mac := [6]byte{0x33, 0x33, 0, 1, 0, 2}
	if dst[0:2] != "ff" {
		mac = web2MAC
	}
	return ip6(t, mac, src, dst, 1, 17, slices.Concat([]byte{2, sport, 2, dport, 0, 12, 0, 0}, []byte("more")))
}

// named is the frame with the port's device in place of the destination.
func named(f []byte) []byte {
	f = slices.Clone(f)
	copy(f, []byte{2, 0, 0, 0, 0, portIndex})
	return f
}

func TestQuestionsGoToTheAgent(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	asks := func(name string, f []byte, places uint64) fixture {
		return fixture{
			name: name, in: input{program: "from_port", frame: f, mark: 0xdead}, frame: named(f), pass: kernel.PassToService,
			ifindex: serviceIndex, ports: 1, places: places,
		}
	}
	ends := func(name string, f []byte, reason kernel.DropReason, places uint64) fixture {
		return fixture{name: name, in: input{program: "from_port", frame: f}, drop: reason, ports: 1, places: places}
	}
	more := func(h *layers.IPv4) { h.Flags |= layers.IPv4MoreFragments }
	solicit := func(src string, body []byte) []byte {
		return icmp6(t, allRouters, web1MAC, src, "ff02::2", 255, 133, slices.Concat(make([]byte, 4), body))
	}
	for _, f := range []fixture{
		asks("discover", dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 68, 67), 0),
		asks("discover-options", dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 68, 67, options), 0),
		asks("rebind", dhcp4(t, broadcastMAC, "10.0.1.4", "255.255.255.255", 68, 67), 0),
		asks("renew", dhcp4(t, routerMAC, "10.0.1.4", "10.0.1.1", 68, 67), 1),
		ends("renew-of-another", dhcp4(t, routerMAC, "10.0.1.4", "10.0.1.99", 68, 67), kernel.DropNoLocation, 2),
		ends("renew-by-another-mac", dhcp4(t, web2MAC, "10.0.1.4", "10.0.1.1", 68, 67), kernel.DropDstMAC, 2),
		ends("discover-spoof", dhcp4(t, broadcastMAC, "10.0.1.5", "255.255.255.255", 68, 67), kernel.DropBroadcast, 0),
		ends("discover-fragment", dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 68, 67, more), kernel.DropBroadcast, 0),
		ends("relay", dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 67, 67), kernel.DropBroadcast, 0),
		ends("offer", dhcp4(t, web2MAC, "10.0.1.4", "10.0.1.5", 67, 68), kernel.DropDHCPServer, 0),
		ends("offer-to-all", dhcp4(t, broadcastMAC, "10.0.1.4", "255.255.255.255", 67, 68), kernel.DropDHCPServer, 0),
		ends("offer-first-fragment", dhcp4(t, web2MAC, "10.0.1.4", "10.0.1.5", 67, 68, more), kernel.DropDHCPServer, 0),
		asks("solicit6", dhcp6(t, web1Link, "ff02::1:2", 34, 35), 0),
		asks("solicit6-any-link", dhcp6(t, "fe80::1234", "ff02::1:2", 34, 35), 0),
		ends("solicit6-global", dhcp6(t, web1IP6, "ff02::1:2", 34, 35), kernel.DropMulticast, 0),
		ends("solicit6-site", dhcp6(t, web1Link, "ff05::1:3", 34, 35), kernel.DropMulticast, 0),
		ends("relay6", dhcp6(t, web1Link, "ff02::1:2", 35, 35), kernel.DropMulticast, 0),
		ends("advertise6", dhcp6(t, web1Link, "fe80::5", 35, 34), kernel.DropDHCPServer, 0),
		asks("rs", solicit(web1Link, nil), 0),
		asks("rs-none", solicit("::", nil), 0),
		asks("rs-option", solicit(web1Link, slices.Concat([]byte{1, 1}, web1MAC[:])), 0),
		asks("rs-unicast", icmp6(t, routerMAC, web1MAC, web1Link, "fe80::1", 255, 133, make([]byte, 4)), 0),
	} {
		t.Run(f.name, func(t *testing.T) { f.check(t, b) })
	}
}

// A port without an address of the family asks for none.
func TestWithoutAddressNothingIsAsked(t *testing.T) {
	b := newRig(t)
	b.put(t, "port_info", []byte{portIndex, 0, 0, 0}, port{vni: vni, tenant: tenant, subnet: 1, mtu: mtu, mac: web1MAC, addr6: web1IP6}.bytes())
	in := input{program: "from_port", frame: dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 68, 67)}
	checkDrop(t, in, b.run(t, in), kernel.DropBroadcast, true)
}

// A port asks so often in one go, then 20 times a second; the rest is counted.
func TestQuestionsAreLimitedPerPort(t *testing.T) {
	b := newRig(t)
	withRouter(t, b)
	in := input{program: "from_port", frame: dhcp4(t, broadcastMAC, "0.0.0.0", "255.255.255.255", 68, 67), keep: true}
	asked, begin := 0, time.Now()
	for range 100 {
		out := b.run(t, in)
		if out.verdict == redirected {
			asked++
			continue
		}
		checkDrop(t, in, out, kernel.DropPuntRate, true)
	}
	if most := 20 + int(time.Since(begin)/(50*time.Millisecond)); asked < 20 || asked > most {
		t.Errorf("%d questions got through, want 20 to %d", asked, most)
	}
	// Errors have tokens of their own.
	if out := b.run(t, input{program: "from_port", frame: udp(t, routerMAC, "10.0.2.4", 20, ttl(1)), keep: true}); out.verdict != redirected {
		t.Errorf("an error after many questions: verdict %d, %v", out.verdict, out.drops)
	}
}

func TestAnswersOfTheAgent(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	answer := func(dst, src [6]byte) []byte {
		return frame(t, ether(dst, src, layers.EthernetTypeIPv4), ip("10.0.1.4", layers.IPProtocolUDP, from("10.0.1.1")), gopacket.Payload("an answer"))
	}
	us, other := [6]byte{2, 0, 0, 0, 0, portIndex}, [6]byte{2, 0, 0, 0, 0, 9}
	for _, c := range []struct {
		name   string
		frame  []byte
		reason kernel.DropReason
	}{
		{"to-port", answer(web1MAC, us), kernel.DropNone},
		{"to-group", answer(allNodes, us), kernel.DropNone},
		{"to-no-port", answer(web1MAC, other), kernel.DropPortUnknown},
		{"to-no-name", answer(web1MAC, [6]byte{2, 1, 0, 0, 0, portIndex}), kernel.DropPortUnknown},
		{"to-another-mac", answer(web2MAC, us), kernel.DropDstMAC},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input{program: "from_service", frame: c.frame}
			out := b.run(t, in)
			if c.reason != kernel.DropNone {
				checkDrop(t, in, out, c.reason, c.reason == kernel.DropDstMAC)
				return
			}
			want := slices.Clone(c.frame)
			copy(want[6:], routerMAC[:])
			if out.verdict != redirected || out.noted.IfIndex != portIndex || out.mark != markDeliver || !bytes.Equal(out.frame, want) {
				t.Errorf("verdict %d to %d, mark %#x, %x", out.verdict, out.noted.IfIndex, out.mark, out.frame)
			}
			if len(out.passes) != 1 || out.passes[0].reason != uint32(kernel.PassFromService) {
				t.Errorf("counted %v", out.passes)
			}
		})
	}
}

// Options of IPv4 pass, but for source routes; lists that cannot be do not.
func TestOptionsOfIPv4(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	for _, c := range []struct {
		name   string
		list   []byte
		reason kernel.DropReason
	}{
		{"router-alert", []byte{148, 4, 0, 0}, kernel.DropNone},
		{"nops", []byte{1, 1, 1, 1, 1, 1, 1, 0}, kernel.DropNone},
		{"timestamp-full", slices.Concat([]byte{68, 40, 5, 0}, make([]byte, 36)), kernel.DropNone},
		{"end-hides", []byte{0, 131, 9, 9}, kernel.DropNone},
		{"loose", []byte{131, 7, 4, 10, 0, 2, 4, 0}, kernel.DropIPOptions},
		{"strict", []byte{137, 7, 4, 10, 0, 2, 4, 0}, kernel.DropIPOptions},
		{"loose-last", slices.Concat(bytes.Repeat([]byte{1}, 33), []byte{131, 7, 4, 10, 0, 2, 4}), kernel.DropIPOptions},
		{"length-0", []byte{7, 0, 0, 0}, kernel.DropIPMalformed},
		{"length-1", []byte{7, 1, 0, 0}, kernel.DropIPMalformed},
		{"too-long", []byte{7, 5, 0, 0}, kernel.DropIPMalformed},
		{"cut", []byte{1, 1, 1, 7}, kernel.DropIPMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := withOptions(udp(t, web2MAC, "10.0.1.5", 20), c.list)
			in := input{program: "from_port", frame: f}
			out := b.run(t, in)
			if c.reason != kernel.DropNone {
				checkDrop(t, in, out, c.reason, true)
				return
			}
			if out.verdict != redirected || !bytes.Equal(out.frame, f) {
				t.Errorf("verdict %d, drops %v", out.verdict, out.drops)
			}
		})
	}
}

// withOptions puts options, a multiple of 4 bytes, into an IPv4 header that has none.
func withOptions(f, options []byte) []byte {
	out := slices.Concat(f[:34], options, f[34:])
	out[14] = 0x45 + byte(len(options)/4)
	size := len(out) - 14
	out[16], out[17] = byte(size>>8), byte(size)
	return out
}

// from6 is a frame of IPv6 UDP from another address than web-1's.
func from6(t testing.TB, mac [6]byte, src, dst string) []byte {
	t.Helper()
	return ip6(t, mac, src, dst, 64, 17, make([]byte, 20))
}

// icmp6Error is what the router says of a frame from web-1; made by layers, not by difference.
func icmp6Error(t testing.TB, in []byte, kind, code uint8, rest []byte) []byte {
	t.Helper()
	quote := in[14 : 54+int(in[18])<<8+int(in[19])] // without padding of the frame
	h := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fd00:1::1"), DstIP: net.ParseIP(web1IP6)}
	m := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, code)}
	if err := m.SetNetworkLayerForChecksum(h); err != nil {
		t.Fatal(err)
	}
	return frame(t, ether(web1MAC, routerMAC, layers.EthernetTypeIPv6), h, m, gopacket.Payload(slices.Concat(rest, quote[:min(len(quote), quoted)])))
}

func TestErrorsOfIPv6(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	b.put(t, "port_info", []byte{portIndex, 0, 0, 0}, port{
		vni: vni, tenant: tenant, subnet: 1, mtu: mtu, addr: "10.0.1.4", mac: web1MAC, addr6: web1IP6, router6: "fd00:1::1",
	}.bytes())
	none, mtuRest := make([]byte, 4), []byte{0, 0, mtu >> 8, mtu & 0xff}
	hops := func(next layers.IPProtocol, body []byte) []byte {
		return ip6(t, routerMAC, web1IP6, "fd00:2::4", 1, next, body)
	}
	for _, c := range []struct {
		name       string
		frame      []byte
		reason     kernel.DropReason
		kind, code uint8
		rest       []byte // nil: nothing is said
	}{
		{"hops", hops(17, make([]byte, 20)), kernel.DropTTLExpired, 3, 0, none},
		{"hops-empty", hops(17, nil), kernel.DropTTLExpired, 3, 0, none},
		{"hops-long", hops(17, make([]byte, 500)), kernel.DropTTLExpired, 3, 0, none},
		{"hops-echo", hops(58, []byte{128, 0, 0, 0, 0, 0, 0, 0}), kernel.DropTTLExpired, 3, 0, none},
		{"hops-error", hops(58, []byte{1, 0, 0, 0, 0, 0, 0, 0}), kernel.DropTTLExpired, 0, 0, nil},
		{"hops-error-127", hops(58, []byte{127, 0, 0, 0, 0, 0, 0, 0}), kernel.DropTTLExpired, 0, 0, nil},
		{"hops-icmp-cut", hops(58, nil), kernel.DropTTLExpired, 0, 0, nil},
		{"hops-first-fragment", hops(44, []byte{17, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8}), kernel.DropTTLExpired, 3, 0, none},
		{"hops-later-fragment", hops(44, []byte{17, 0, 1, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8}), kernel.DropTTLExpired, 0, 0, nil},
		{"too-big", ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, 17, make([]byte, mtu-39)), kernel.DropTooBig, 2, 0, mtuRest},
		{"too-big-routed", ip6(t, routerMAC, web1IP6, "fd00:2::4", 64, 6, make([]byte, 3000)), kernel.DropTooBig, 2, 0, mtuRest},
		{"nobody", from6(t, routerMAC, web1IP6, "fd00:2::9"), kernel.DropNoLocation, 1, 0, none},
		{"nobody-bridged", from6(t, otherMAC, web1IP6, "fd00:2::9"), kernel.DropNoLocation, 0, 0, nil},
		{"spoof", from6(t, routerMAC, "fd00:1::6", "fd00:2::9"), kernel.DropSrcIPSpoof, 0, 0, nil},
		{"link-local", from6(t, routerMAC, "fe80::4", "fd00:2::9"), kernel.DropLinkLocal, 0, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := input{program: "from_port", frame: c.frame}
			var want []byte
			if c.rest != nil {
				want = icmp6Error(t, c.frame, c.kind, c.code, c.rest)
			}
			told(t, in, b.run(t, in), c.reason, want)
		})
	}
}
