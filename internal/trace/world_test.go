// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"weft/internal/southbound"
)

var (
	routerMAC = southbound.MAC{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}
	config    = Config{RouterMAC: routerMAC, MTU: 1450}
	web1      = PortID{"red", "web-1"}
	fw1       = PortID{"red", "fw-1"}
	only4     = PortID{"red", "only4"}
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// place is a port of the world: its MAC is 02:SUBNET:00:00:00:HOST.
type place struct {
	name         string
	node         uint16
	subnet, host byte
	table        uint32
	sources      string // "any": of both versions
	ipv4Only     bool
}

func (p place) mac() southbound.MAC { return southbound.MAC{2, p.subnet, 5: p.host} }

func (p place) addresses() []netip.Addr {
	list := []netip.Addr{addr(fmt.Sprintf("10.0.%d.%d", p.subnet, p.host))}
	if !p.ipv4Only {
		list = append(list, addr(fmt.Sprintf("fd00:0:0:%d::%x", p.subnet, p.host)))
	}
	return list
}

// places are the ports of VPC 4096. Subnet 1 has route table 1, the appliances' subnets 3 and 4 have tables 3 and 4.
var places = []place{
	{name: "web-1", node: 1, subnet: 1, host: 4, table: 1},
	{name: "web-2", node: 2, subnet: 1, host: 5, table: 1},
	{name: "only4", node: 1, subnet: 1, host: 6, table: 1, ipv4Only: true},
	{name: "db-1", node: 1, subnet: 2, host: 4},
	{name: "db-2", node: 1, subnet: 2, host: 200},
	{name: "fw-1", node: 2, subnet: 3, host: 4, table: 3, sources: "any"},
	{name: "fw-2", node: 1, subnet: 4, host: 4, table: 4, sources: "any"},
}

// world is two nodes, h1 and h2, with the ports of places in VPC red/main (VNI 4096), by number; and node 3, which h1 and
// h2 know, but which has no rows.
func world() map[uint16]*Node {
	rows := map[uint16][]southbound.Row{}
	all := func(r southbound.Row) {
		rows[1], rows[2] = append(rows[1], r), append(rows[2], r)
	}
	all(southbound.VPC{VNI: 4096, TenantNumber: 1, Tenant: "red", Name: "main"})
	for s := 1; s <= 4; s++ {
		for _, prefix := range []string{fmt.Sprintf("10.0.%d.0/24", s), fmt.Sprintf("fd00:0:0:%d::/64", s)} {
			p := netip.MustParsePrefix(prefix)
			all(southbound.Subnet{VNI: 4096, Number: uint32(s), Prefix: p, Gateway: p.Addr().Next()})
		}
	}
	for i := range 3 {
		all(southbound.Peer{VNI: 4096, Node: uint16(i + 1), Name: fmt.Sprint("h", i+1), Address: addr(fmt.Sprint("198.19.0.", i+1))})
	}
	for _, p := range places {
		port := southbound.Port{VNI: 4096, Tenant: "red", Name: p.name, TenantNumber: 1, Subnet: uint32(p.subnet), MAC: p.mac(), Table: p.table}
		if p.sources != "" {
			port.Sources = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		}
		for _, a := range p.addresses() {
			bits := map[bool]int{true: 24, false: 64}[a.Is4()]
			gateway := netip.PrefixFrom(a, bits).Masked().Addr().Next()
			port.Interfaces = append(port.Interfaces, southbound.Interface{Address: a, Bits: bits, Gateway: gateway})
			all(southbound.Location{VNI: 4096, Address: a, Node: p.node, MAC: p.mac(), Subnet: uint32(p.subnet)})
		}
		rows[p.node] = append(rows[p.node], port)
	}
	all(southbound.Location{VNI: 4096, Address: addr("10.0.2.9"), Node: 3, MAC: southbound.MAC{2, 2, 5: 9}, Subnet: 2})
	all(southbound.Location{VNI: 4096, Address: addr("10.0.2.10"), Node: 2, MAC: southbound.MAC{2, 2, 5: 10}, Subnet: 2}) // h2 has not heard of it
	for _, r := range []struct {
		table  uint32
		prefix string
		via    string // "": blackhole
	}{
		{1, "10.0.2.128/25", "fw-1"},
		{1, "fd00:0:0:2::80/121", "fw-1"},
		{1, "192.0.2.0/24", "fw-1"},
		{1, "2001:db8::/32", "fw-1"},
		{1, "198.51.100.0/24", ""},
		{1, "2001:db8:bad::/48", ""},
		{1, "203.0.113.0/24", "nobody"},
		{1, "10.0.2.5/32", "web-1"},
		{1, "10.99.0.0/16", "fw-1"},
		{3, "10.99.0.0/16", "fw-2"},
		{4, "10.99.0.0/16", "fw-1"},
	} {
		row := southbound.Route{VNI: 4096, Table: r.table, Prefix: netip.MustParsePrefix(r.prefix), Via: southbound.RouteBlackhole}
		if r.via != "" {
			row.Via = southbound.RoutePort
		}
		if i := slices.IndexFunc(places, func(p place) bool { return p.name == r.via }); i >= 0 {
			row.Node, row.MAC = places[i].node, places[i].mac()
		}
		all(row)
	}
	return map[uint16]*Node{1: NewNode("h1", rows[1], config), 2: NewNode("h2", rows[2], config)}
}

// eth is a frame of any type.
func eth(dst, src southbound.MAC, typ uint16, body []byte) []byte {
	return slices.Concat(dst[:], src[:], []byte{byte(typ >> 8), byte(typ)}, body)
}

// ip is an IP packet of the version of its addresses. Its checksums are nobody's business on the path.
type ip struct {
	src, dst string
	protocol byte
	ttl      byte   // 0: 64
	fragment uint16 // IPv4: flags and offset
	options  []byte // IPv4: options; IPv6: extension headers
	first    byte   // IPv6 with extension headers: the first next header
	body     []byte
}

// frame is the packet in a frame.
func (p ip) frame(dst, src southbound.MAC) []byte {
	s, d, ttl := addr(p.src), addr(p.dst), byte(64)
	if p.ttl != 0 {
		ttl = p.ttl
	}
	if s.Is4() {
		h := []byte{0x40 | byte(5+len(p.options)/4), 0, 0, 0, 0, 0, 0, 0, ttl, p.protocol, 0, 0}
		binary.BigEndian.PutUint16(h[2:], uint16(ipv4Len+len(p.options)+len(p.body)))
		binary.BigEndian.PutUint16(h[6:], p.fragment)
		return eth(dst, src, typeIPv4, slices.Concat(h, s.AsSlice(), d.AsSlice(), p.options, p.body))
	}
	size, next := len(p.options)+len(p.body), p.protocol
	if len(p.options) > 0 {
		next = p.first
	}
	h := []byte{0x60, 0, 0, 0, byte(size >> 8), byte(size), next, ttl}
	return eth(dst, src, typeIPv6, slices.Concat(h, s.AsSlice(), d.AsSlice(), p.options, p.body))
}

// udp is a UDP header with payload bytes behind it.
func udp(from, to uint16, payload int) []byte {
	b := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	return append(append(b, byte((8+payload)>>8), byte(8+payload), 0, 0), make([]byte, payload)...)
}

// nd is a message of Neighbor Discovery about a target ("": none), with one option ("": none).
func nd(kind byte, target string, option byte, mac southbound.MAC) []byte {
	b := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
	if target != "" {
		b = append(b, addr(target).AsSlice()...)
	}
	if option != 0 {
		b = slices.Concat(b, []byte{option, 1}, mac[:])
	}
	return b
}

// arp is a frame with a request, or with another operation.
func arp(op byte, srcMAC, senderMAC southbound.MAC, sender, target string) []byte {
	b := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, op}, senderMAC[:], addr(sender).AsSlice(), make([]byte, 6), addr(target).AsSlice())
	return eth(broadcastMAC, srcMAC, typeARP, b)
}
