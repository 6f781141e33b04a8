// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weft/internal/node/kernel"
)

// raw is a prefix as tables have it: family, bits, and address in the 16-byte form.
func raw(prefix string) (family, bits uint32, addr [16]byte) {
	p := netip.MustParsePrefix(prefix)
	if p.Addr().Is4() {
		return 4, uint32(p.Bits()) + 96, p.Addr().As16()
	}
	return 6, uint32(p.Bits()), p.Addr().As16()
}

func words(w ...uint32) (b []byte) {
	for _, v := range w {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

func routeKey(vni, table uint32, prefix string) []byte {
	family, bits, addr := raw(prefix)
	return slices.Concat(words(96+bits, vni, table, family), addr[:])
}

func sourceKey(ifindex uint32, prefix string) []byte {
	family, bits, addr := raw(prefix)
	return slices.Concat(words(64+bits, ifindex, family), addr[:])
}

var fwMAC = [6]byte{2, 0, 0, 0, 1, 9} // an appliance

// routedVPC is dualVPC with a route table: most of the world through an appliance here, some of it through one at another
// node, and holes.
func routedVPC(t testing.TB, b *rig) {
	t.Helper()
	dualVPC(t, b)
	b.put(t, "port_info", []byte{portIndex, 0, 0, 0}, port{
		vni: vni, tenant: tenant, subnet: 1, mtu: mtu, addr: "10.0.1.4", router: "10.0.1.1", mac: web1MAC, addr6: web1IP6,
		router6: "fd00:1::1", table: 3, flags: 1,
	}.bytes())
	here := location{kind: kernel.LocationPeer, ifindex: 19, subnet: 1, mac: fwMAC}
	away := location{kind: kernel.LocationRemote, tunnel: peerIP, subnet: 1, mac: fwMAC}
	self := location{kind: kernel.LocationPeer, ifindex: portIndex, subnet: 1, mac: web1MAC}
	for prefix, to := range map[string]location{
		"0.0.0.0/0":       here,
		"172.16.0.0/12":   away,
		"172.16.9.0/24":   {kind: kernel.LocationBlackhole},
		"172.16.8.0/24":   {}, // the port is not attached
		"172.16.7.0/24":   self,
		"172.16.6.0/24":   {kind: kernel.LocationDevice, ifindex: portIndex, subnet: 1, mac: web1MAC},
		"10.0.1.0/24":     {kind: kernel.LocationConnected},
		"10.0.2.0/24":     {kind: kernel.LocationConnected},
		"10.0.2.5/32":     here, // inspected on the way
		"::/0":            away,
		"fd00:1::/64":     {kind: kernel.LocationConnected},
		"fd00:2::/64":     {kind: kernel.LocationConnected},
		"2001:db8::/32":   {kind: kernel.LocationBlackhole},
		"2001:db8:1::/48": here,
	} {
		b.put(t, "rt_routes", routeKey(vni, 3, prefix), to.bytes())
	}
	// Of other tables and VPCs: never looked at.
	b.put(t, "rt_routes", routeKey(vni, 4, "192.0.2.0/24"), location{kind: kernel.LocationBlackhole}.bytes())
	b.put(t, "rt_routes", routeKey(vni+1, 3, "192.0.2.0/24"), location{kind: kernel.LocationBlackhole}.bytes())
	for _, prefix := range []string{"0.0.0.0/0", "2001:db8:5::/48"} {
		b.put(t, "port_sources", sourceKey(portIndex, prefix), words(1))
	}
	b.put(t, "port_sources", sourceKey(9, "::/0"), words(1))
}

func TestRoutes(t *testing.T) {
	b := newRig(t)
	routedVPC(t, b)
	toHere := func(name string, f []byte, places uint64) fixture {
		return fixture{name: name, in: input{program: "from_port", frame: f}, frame: routed(t, f, fwMAC), pass: kernel.PassLocal, ifindex: 19, peer: true, ports: 1, places: places, routes: 1}
	}
	ends := func(name string, f []byte, reason kernel.DropReason) fixture {
		return fixture{name: name, in: input{program: "from_port", frame: f}, drop: reason, ports: 1, routes: 1}
	}
	v6 := func(dst string) []byte { return from6(t, routerMAC, web1IP6, dst) }
	v4 := func(dst string) []byte { return udp(t, routerMAC, dst, 20) }
	far, far6, near6 := v4("172.16.0.1"), v6("2001:4860::1"), v6("2001:db8:1::7")
	connected, bridged := v4("10.0.2.4"), udp(t, web2MAC, "10.0.1.5", 20)
	spoofed := udp(t, web2MAC, "10.0.1.5", 20, from("198.51.100.7"))
	fixtures := []fixture{
		toHere("default", v4("192.0.2.1"), 0),
		toHere("host-route-inside-subnet", v4("10.0.2.5"), 0),
		{name: "longer-far", in: input{program: "from_port", frame: far}, frame: routed(t, far, fwMAC), pass: kernel.PassToTunnel, ifindex: uplinkIndex, remote: true, ports: 1, routes: 1},
		{name: "connected", in: input{program: "from_port", frame: connected}, frame: routed(t, connected, db1MAC), pass: kernel.PassLocal, ifindex: 24, peer: true, ports: 1, places: 1, routes: 1},
		{name: "bridged-is-not-routed", in: input{program: "from_port", frame: bridged}, pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1},
		{name: "default6", in: input{program: "from_port", frame: far6}, frame: routed6(far6, fwMAC), pass: kernel.PassToTunnel, ifindex: uplinkIndex, remote: true, ports: 1, routes: 1},
		{name: "longer6", in: input{program: "from_port", frame: near6}, frame: routed6(near6, fwMAC), pass: kernel.PassLocal, ifindex: 19, peer: true, ports: 1, routes: 1},
		{name: "allowed-source", in: input{program: "from_port", frame: spoofed}, pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1, sources: 1},
		{name: "source-loopback", in: input{program: "from_port", frame: udp(t, web2MAC, "10.0.1.5", 20, from("127.0.0.1"))}, drop: kernel.DropSrcIPSpoof, ports: 1},
		{name: "source-group", in: input{program: "from_port", frame: udp(t, web2MAC, "10.0.1.5", 20, from("224.0.0.1"))}, drop: kernel.DropSrcIPSpoof, ports: 1},
		{name: "source-link-local", in: input{program: "from_port", frame: udp(t, web2MAC, "10.0.1.5", 20, from("169.254.1.1"))}, drop: kernel.DropSrcIPSpoof, ports: 1},
		{name: "source-none", in: input{program: "from_port", frame: udp(t, web2MAC, "10.0.1.5", 20, from("0.0.0.0"))}, drop: kernel.DropSrcIPSpoof, ports: 1},
		{name: "source-other-prefix6", in: input{program: "from_port", frame: from6(t, web2MAC, "2001:db8:6::1", "fd00:1::5")}, drop: kernel.DropSrcIPSpoof, ports: 1, sources: 1},
		{name: "allowed-source6", in: input{program: "from_port", frame: from6(t, web2MAC, "2001:db8:5::1", "fd00:1::5")}, pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1, sources: 1},
		{name: "arp-for-allowed-source", in: input{program: "from_port", frame: arp(t, "192.0.2.77", func(a *layers.ARP) { a.SourceProtAddress = []byte{192, 0, 2, 77} })}, pass: kernel.PassConsumed, ports: 1, sources: 1},
	}
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) { f.check(t, b) })
	}
	for _, f := range []fixture{
		ends("hole", v4("172.16.9.1"), kernel.DropBlackhole),
		ends("not-attached", v4("172.16.8.1"), kernel.DropNoLocation),
		ends("through-itself", v4("172.16.7.1"), kernel.DropToSelf),
		ends("through-itself-behind-a-device", v4("172.16.6.1"), kernel.DropToSelf),
		ends("hole6", v6("2001:db8::1"), kernel.DropBlackhole),
	} {
		t.Run(f.name, func(t *testing.T) {
			out := b.run(t, f.in)
			var want []byte
			switch {
			case f.drop == kernel.DropToSelf:
			case f.in.frame[12] == 8:
				want = icmpError(t, f.in.frame, 3, 1, 0)
			default:
				want = icmp6Error(t, f.in.frame, 1, 0, make([]byte, 4))
			}
			told(t, f.in, out, f.drop, want)
		})
	}
}

// What is routed through a port here comes from the tunnel with that port's MAC, for an address that is not its own.
func TestNextHopBehindTheTunnel(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	b.put(t, "ovl_locations", addrKey(vni, "fe80::ff:fe00:109"), location{kind: kernel.LocationPeer, ifindex: 19, subnet: 1, mac: fwMAC}.bytes())
	b.put(t, "ovl_locations", addrKey(vni, "fe80::ff:fe00:205"), location{kind: kernel.LocationRemote, tunnel: peerIP, subnet: 2, mac: db2MAC}.bytes())
	up := func(mac [6]byte, dst string) input {
		return input{program: "from_uplink", tunnel: peerIP, vni: vni, frame: frame(t, ether(mac, routerMAC, layers.EthernetTypeIPv4),
			ip(dst, layers.IPProtocolUDP, from("10.0.1.6")), gopacket.Payload("on its way"))}
	}
	for _, f := range []fixture{
		{name: "outside", in: up(fwMAC, "192.0.2.1"), pass: kernel.PassFromTunnel, ifindex: 19, peer: true, places: 2, senders: 1},
		{name: "of-a-port-here", in: up(fwMAC, "10.0.2.4"), pass: kernel.PassFromTunnel, ifindex: 19, peer: true, places: 2, senders: 1},
		{name: "next-hop-elsewhere", in: up(db2MAC, "192.0.2.1"), drop: kernel.DropNotLocal, places: 2, senders: 1},
		{name: "no-next-hop", in: up(web2MAC, "192.0.2.1"), drop: kernel.DropNotLocal, places: 2, senders: 1},
	} {
		t.Run(f.name, func(t *testing.T) { f.check(t, b) })
	}
}
