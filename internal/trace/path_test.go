// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weft/internal/southbound"
)

var (
	macWeb1 = southbound.MAC{2, 1, 5: 4}
	macWeb2 = southbound.MAC{2, 1, 5: 5}
	macFW1  = southbound.MAC{2, 3, 5: 4}
	group   = southbound.MAC{0x33, 0x33, 5: 1}
)

const (
	a4, b4, c4 = "10.0.1.4", "10.0.1.5", "10.0.2.4"                // web-1, web-2, db-1
	a6, b6, c6 = "fd00:0:0:1::4", "fd00:0:0:1::5", "fd00:0:0:2::4" // the same
	g4, g6     = "10.0.1.1", "fd00:0:0:1::1"                       // the router, in web-1's subnet
	link       = "fe80::1234"                                      // what a stack makes up
	hole4      = "198.51.100.1"
)

// sent is a frame that a port sends, and what becomes of it: the verdict, of a drop its reason and, where the sender is told,
// what.
type sent struct {
	name  string
	frame []byte
	want  string
}

// from4 and from6 are packets of web-1 to the router's MAC.
func from4(dst string, change func(*ip)) []byte {
	p := ip{src: a4, dst: dst, protocol: protoUDP, body: udp(4000, 53, 8)}
	if change != nil {
		change(&p)
	}
	return p.frame(routerMAC, macWeb1)
}

func from6(dst string, change func(*ip)) []byte {
	p := ip{src: a6, dst: dst, protocol: protoUDP, body: udp(4000, 53, 8)}
	if change != nil {
		change(&p)
	}
	return p.frame(routerMAC, macWeb1)
}

// discovery is a message about the link, from web-1.
func discovery(src, dst string, hops byte, body []byte) []byte {
	return ip{src: src, dst: dst, protocol: protoICMP6, ttl: hops, body: body}.frame(group, macWeb1)
}

func changed(f []byte, at int, b ...byte) []byte {
	f = slices.Clone(f)
	copy(f[at:], b)
	return f
}

var sentIPv4 = []sent{
	{"short", make([]byte, 13), "drop short"},
	{"tagged", eth(routerMAC, macWeb1, typeVLAN, make([]byte, 60)), "drop vlan"},
	{"double_tagged", eth(routerMAC, macWeb1, typeQinQ, make([]byte, 60)), "drop vlan"},
	{"forged_mac", ip{src: a4, dst: c4, protocol: 17, body: udp(1, 2, 0)}.frame(routerMAC, macWeb2), "drop src-mac-spoof"},
	{"lldp", eth(routerMAC, macWeb1, 0x88cc, make([]byte, 60)), "drop ethertype"},
	{"cut", from4(c4, nil)[:33], "drop short"},
	{"version", changed(from4(c4, nil), 14, 0x65), "drop ip-malformed"},
	{"header_len", changed(from4(c4, nil), 14, 0x44), "drop ip-malformed"},
	{"longer_than_frame", changed(from4(c4, nil), 16, 9), "drop ip-malformed"},
	{"total_below_header", changed(from4(c4, nil), 16, 0, 19), "drop ip-malformed"},
	{"padded", append(from4(c4, nil), 0, 0, 0), "local red/db-1"},
	{"bridged_remote", ip{src: a4, dst: b4, protocol: 17, body: udp(1, 2, 0)}.frame(macWeb2, macWeb1), "tunnel h2"},
	{"routed", from4(c4, nil), "local red/db-1"},
	{"routed_ttl_2", from4(c4, func(p *ip) { p.ttl = 2 }), "local red/db-1"},
	{"ttl_1", from4(c4, func(p *ip) { p.ttl = 1 }), "drop ttl-expired, told time exceeded"},
	{"later_fragment_ttl_1", from4(c4, func(p *ip) { p.ttl, p.fragment = 1, 7 }), "drop ttl-expired"},
	{"fragments_pass", from4(c4, func(p *ip) { p.fragment = 0x2000 }), "local red/db-1"},
	{"error_ttl_1", from4(c4, func(p *ip) { p.ttl, p.protocol, p.body = 1, 1, []byte{3, 1, 0, 0, 0, 0, 0, 0} }), "drop ttl-expired"},
	{"bare_icmp_ttl_1", from4(c4, func(p *ip) { p.ttl, p.protocol, p.body = 1, 1, nil }), "drop ttl-expired"},
	{"as_long_as_may_be", from4(c4, func(p *ip) { p.body = udp(1, 2, 1450-28) }), "local red/db-1"},
	{"too_big", from4(c4, func(p *ip) { p.body = udp(1, 2, 1451-28) }), "drop too-big"},
	{"too_big_df", from4(c4, func(p *ip) { p.body, p.fragment = udp(1, 2, 1451-28), dontFragment }), "drop too-big, told fragmentation needed, MTU 1450"},
	{"nobody", from4("10.0.2.77", nil), "drop no-location, told host unreachable"},
	{"nobody_by_bridge", ip{src: a4, dst: "10.0.1.77", protocol: 17}.frame(macWeb2, macWeb1), "drop no-location"},
	{"others_subnet_by_bridge", ip{src: a4, dst: c4, protocol: 17}.frame(southbound.MAC{2, 2, 5: 4}, macWeb1), "drop dst-mac"},
	{"wrong_mac", ip{src: a4, dst: b4, protocol: 17}.frame(macFW1, macWeb1), "drop dst-mac"},
	{"forged_source", from4(c4, func(p *ip) { p.src = b4 }), "drop src-ip-spoof"},
	{"to_itself", from4(a4, nil), "drop to-self"},
	{"group", from4("224.0.0.5", nil), "drop multicast"},
	{"group_mac", ip{src: a4, dst: c4, protocol: 17}.frame(group, macWeb1), "drop multicast"},
	{"everybody", from4("255.255.255.255", nil), "drop broadcast"},
	{"everybody_mac", ip{src: a4, dst: c4, protocol: 17}.frame(broadcastMAC, macWeb1), "drop broadcast"},
	{"options", from4(c4, func(p *ip) { p.options = []byte{148, 4, 0, 0} }), "local red/db-1"},
	{"options_end_early", from4(c4, func(p *ip) { p.options = []byte{0, 131, 3, 4} }), "local red/db-1"},
	{"loose_source_route", from4(c4, func(p *ip) { p.options = []byte{1, 131, 3, 4} }), "drop ip-options"},
	{"strict_source_route", from4(c4, func(p *ip) { p.options = []byte{137, 3, 4, 0} }), "drop ip-options"},
	{"options_beyond", from4(c4, func(p *ip) { p.options = []byte{7, 5, 4, 0} }), "drop ip-malformed"},
	{"options_stuck", from4(c4, func(p *ip) { p.options = []byte{7, 1, 4, 0} }), "drop ip-malformed"},
	{"options_cut", from4(c4, func(p *ip) { p.options = []byte{1, 1, 1, 7} }), "drop ip-malformed"},

	{"echo", from4(g4, func(p *ip) { p.protocol, p.body = 1, []byte{8, 0, 0, 0, 0, 0, 0, 0} }), "answer"},
	{"echo_of_other_subnet", from4("10.0.2.1", func(p *ip) { p.protocol, p.body = 1, []byte{8, 0, 0, 0, 0, 0, 0, 0} }), "answer"},
	{"echo_cut", from4(g4, func(p *ip) { p.protocol, p.body = 1, []byte{8, 0, 0, 0} }), "drop short"},
	{"echo_in_fragments", from4(g4, func(p *ip) { p.protocol, p.fragment, p.body = 1, 0x2000, []byte{8, 0, 0, 0, 0, 0, 0, 0} }), "drop router-proto"},
	{"timestamp", from4(g4, func(p *ip) { p.protocol, p.body = 1, []byte{13, 0, 0, 0, 0, 0, 0, 0} }), "drop router-proto"},
	{"udp_to_router", from4(g4, nil), "drop router-proto"},
	{"router_by_wrong_mac", ip{src: a4, dst: g4, protocol: 1, body: make([]byte, 8)}.frame(macWeb2, macWeb1), "drop dst-mac"},

	{"by_route", from4("10.0.2.200", nil), "tunnel h2"},
	{"by_route_outside", from4("192.0.2.7", nil), "tunnel h2"},
	{"by_route_bridged", ip{src: a4, dst: "192.0.2.7", protocol: 17}.frame(macWeb2, macWeb1), "drop no-location"},
	{"hole", from4(hole4, nil), "drop blackhole, told host unreachable"},
	{"hole_by_bridge", ip{src: a4, dst: hole4, protocol: 17}.frame(macWeb2, macWeb1), "drop no-location"},
	{"next_hop_nowhere", from4("203.0.113.9", nil), "drop no-location, told host unreachable"},
	{"next_hop_itself", from4("10.0.2.5", nil), "drop to-self"},

	{"dhcp", ip{src: "0.0.0.0", dst: "255.255.255.255", protocol: 17, body: udp(68, 67, 300)}.frame(broadcastMAC, macWeb1), "service"},
	{"dhcp_renewed", from4(g4, func(p *ip) { p.body = udp(68, 67, 300) }), "service"},
	{"dhcp_to_others", from4(b4, func(p *ip) { p.body = udp(68, 67, 300) }), "tunnel h2"},
	{"dhcp_in_fragments", from4("255.255.255.255", func(p *ip) { p.body, p.fragment = udp(68, 67, 300), 0x2000 }), "drop broadcast"},
	{"dhcp_forged", ip{src: b4, dst: "255.255.255.255", protocol: 17, body: udp(68, 67, 300)}.frame(broadcastMAC, macWeb1), "drop broadcast"},
	{"dhcp_server", from4(b4, func(p *ip) { p.body = udp(67, 68, 300) }), "drop dhcp-server"},

	{"arp", arp(1, macWeb1, macWeb1, a4, b4), "answer"},
	{"arp_for_router", arp(1, macWeb1, macWeb1, a4, g4), "answer"},
	{"arp_probe", arp(1, macWeb1, macWeb1, "0.0.0.0", b4), "answer"},
	{"arp_probe_of_own", arp(1, macWeb1, macWeb1, "0.0.0.0", a4), "consumed"},
	{"arp_announcement", arp(1, macWeb1, macWeb1, a4, a4), "consumed"},
	{"arp_cut", arp(1, macWeb1, macWeb1, a4, b4)[:41], "drop short"},
	{"arp_reply", arp(2, macWeb1, macWeb1, a4, b4), "drop arp-malformed"},
	{"arp_forged", arp(1, macWeb1, macWeb1, b4, b4), "drop arp-spoof"},
	{"arp_forged_mac", arp(1, macWeb1, macWeb2, a4, b4), "drop arp-spoof"},
	{"arp_nobody", arp(1, macWeb1, macWeb1, a4, "10.0.1.77"), "drop arp-unknown"},
	{"arp_other_subnet", arp(1, macWeb1, macWeb1, a4, c4), "drop arp-unknown"},
}

// fragmentHeader and others are extension headers of IPv6 in front of UDP.
var (
	fragmentFirst = []byte{protoUDP, 0, 0, 1, 0, 0, 0, 9}
	fragmentLater = []byte{protoUDP, 0, 0, 8, 0, 0, 0, 9}
	destination   = []byte{protoUDP, 0, 1, 4, 0, 0, 0, 0}
	routing0      = []byte{protoUDP, 0, 0, 1, 0, 0, 0, 0}
	routing4      = []byte{protoUDP, 0, 4, 1, 0, 0, 0, 0}
)

// chain is n destination headers in a row.
func chain(n int) []byte {
	var b []byte
	for range n - 1 {
		b = append(b, protoDestination, 0, 1, 4, 0, 0, 0, 0)
	}
	return append(b, destination...)
}

func extended(first byte, headers []byte) func(*ip) {
	return func(p *ip) { p.first, p.options = first, headers }
}

var sentIPv6 = []sent{
	{"cut", from6(c6, nil)[:53], "drop short"},
	{"version", changed(from6(c6, nil), 14, 0x40), "drop ip-malformed"},
	{"longer_than_frame", changed(from6(c6, nil), 18, 9), "drop ip-malformed"},
	{"mapped", from6("::ffff:10.0.2.4", nil), "drop ip-malformed"},
	{"routed", from6(c6, nil), "local red/db-1"},
	{"bridged", ip{src: a6, dst: b6, protocol: 17}.frame(macWeb2, macWeb1), "tunnel h2"},
	{"hops_1", from6(c6, func(p *ip) { p.ttl = 1 }), "drop ttl-expired, told time exceeded"},
	{"later_fragment_hops_1", from6(c6, func(p *ip) { p.ttl, p.first, p.options = 1, protoFragment, fragmentLater }), "drop ttl-expired"},
	{"error_hops_1", from6(c6, func(p *ip) { p.ttl, p.protocol, p.body = 1, 58, make([]byte, 8) }), "drop ttl-expired"},
	{"echo_hops_1", from6(c6, func(p *ip) { p.ttl, p.protocol, p.body = 1, 58, []byte{128, 0, 0, 0, 0, 0, 0, 0} }), "drop ttl-expired, told time exceeded"},
	{"too_big", from6(c6, func(p *ip) { p.body = udp(1, 2, 1451-48) }), "drop too-big, told packet too big, MTU 1450"},
	{"nobody", from6("fd00:0:0:2::77", nil), "drop no-location, told unreachable, no route"},
	{"hole", from6("2001:db8:bad::1", nil), "drop blackhole, told unreachable, no route"},
	{"by_route", from6("fd00:0:0:2::c8", nil), "tunnel h2"},
	{"by_route_outside", from6("2001:db8::1", nil), "tunnel h2"},
	{"forged_source", from6(c6, func(p *ip) { p.src = b6 }), "drop src-ip-spoof"},
	{"as_the_router", from6(c6, func(p *ip) { p.src = "fe80::1" }), "drop src-ip-spoof"},
	{"to_itself", from6(a6, nil), "drop to-self"},
	{"group", from6("ff02::fb", nil), "drop multicast"},
	{"group_mac", ip{src: a6, dst: c6, protocol: 17}.frame(group, macWeb1), "drop multicast"},
	{"link_local_neighbour", from6("fe80::5", nil), "drop link-local"},
	{"from_link_local", from6(c6, func(p *ip) { p.src = link }), "drop link-local"},

	{"destination_options", from6(c6, extended(protoDestination, destination)), "local red/db-1"},
	{"hop_by_hop", from6(c6, extended(protoHopByHop, destination)), "local red/db-1"},
	{"hop_by_hop_later", from6(c6, extended(protoDestination, append([]byte{protoHopByHop, 0, 1, 4, 0, 0, 0, 0}, destination...))), "drop ext-header"},
	{"segment_routing", from6(c6, extended(protoRouting, routing4)), "local red/db-1"},
	{"source_routing", from6(c6, extended(protoRouting, routing0)), "drop ext-header"},
	{"six_headers", from6(c6, extended(protoDestination, chain(6))), "local red/db-1"},
	{"seven_headers", from6(c6, extended(protoDestination, chain(7))), "drop ext-header"},
	{"header_beyond", from6(c6, extended(protoDestination, changed(destination, 1, 9))), "drop ip-malformed"},
	{"header_cut", from6(c6, func(p *ip) { p.first, p.options, p.body = protoDestination, destination[:4], nil }), "drop ip-malformed"},
	{"first_fragment", from6(c6, extended(protoFragment, fragmentFirst)), "local red/db-1"},
	{"first_fragment_of_headers", from6(c6, func(p *ip) { p.first, p.options, p.body = protoFragment, fragmentFirst, nil }), "drop ext-header"},
	{"later_fragment", from6(c6, extended(protoFragment, fragmentLater)), "local red/db-1"},

	{"echo", from6(g6, func(p *ip) { p.protocol, p.body = 58, []byte{128, 0, 0, 0, 0, 0, 0, 0} }), "answer"},
	{"echo_link_local", from6("fe80::1", func(p *ip) { p.src, p.protocol, p.body = link, 58, []byte{128, 0, 0, 0, 0, 0, 0, 0} }), "answer"},
	{"echo_cut", from6(g6, func(p *ip) { p.protocol, p.body = 58, []byte{128, 0, 0, 0} }), "drop short"},
	{"echo_behind_headers", from6(g6, func(p *ip) {
		p.protocol, p.first, p.options, p.body = 58, protoDestination, changed(destination, 0, 58), []byte{128, 0, 0, 0, 0, 0, 0, 0}
	}), "drop router-proto"},
	{"udp_to_router", from6(g6, nil), "drop router-proto"},

	{"dhcp", ip{src: link, dst: "ff02::1:2", protocol: 17, body: udp(546, 547, 50)}.frame(group, macWeb1), "service"},
	{"dhcp_from_own", ip{src: a6, dst: "ff02::1:2", protocol: 17, body: udp(546, 547, 50)}.frame(group, macWeb1), "drop multicast"},
	{"dhcp_server", from6(b6, func(p *ip) { p.body = udp(547, 546, 50) }), "drop dhcp-server"},

	{"solicitation", discovery(a6, "ff02::1:ff00:5", 255, nd(135, b6, 1, macWeb1)), "answer"},
	{"solicitation_of_router", discovery(a6, "ff02::1:ff00:1", 255, nd(135, "fe80::1", 1, macWeb1)), "answer"},
	{"solicitation_of_gateway", discovery(link, "ff02::1:ff00:1", 255, nd(135, g6, 1, macWeb1)), "answer"},
	{"probe", discovery("::", "ff02::1:ff00:5", 255, nd(135, b6, 0, macWeb1)), "answer"},
	{"probe_of_own", discovery("::", "ff02::1:ff00:4", 255, nd(135, a6, 0, macWeb1)), "consumed"},
	{"probe_of_link_local", discovery("::", "ff02::1:ff00:4", 255, nd(135, link, 0, macWeb1)), "consumed"},
	{"advertisement", discovery(a6, "ff02::1", 255, nd(136, a6, 2, macWeb1)), "consumed"},
	{"advertisement_of_others", discovery(a6, "ff02::1", 255, nd(136, b6, 2, macWeb1)), "drop nd-spoof"},
	{"advertisement_of_router", discovery(a6, "ff02::1", 255, nd(136, "fe80::1", 2, macWeb1)), "drop nd-spoof"},
	{"advertisement_from_nobody", discovery("::", "ff02::1", 255, nd(136, a6, 2, macWeb1)), "drop nd-spoof"},
	{"solicitation_forged", discovery(b6, "ff02::1:ff00:5", 255, nd(135, b6, 1, macWeb1)), "drop nd-spoof"},
	{"solicitation_forged_mac", discovery(a6, "ff02::1:ff00:5", 255, nd(135, b6, 1, macWeb2)), "drop nd-spoof"},
	{"solicitation_from_afar", discovery(a6, "ff02::1:ff00:5", 254, nd(135, b6, 1, macWeb1)), "drop nd-malformed"},
	{"solicitation_of_group", discovery(a6, "ff02::1:ff00:5", 255, nd(135, "ff02::1", 1, macWeb1)), "drop nd-malformed"},
	{"solicitation_of_mapped", discovery(a6, "ff02::1:ff00:5", 255, nd(135, "::ffff:10.0.1.5", 1, macWeb1)), "drop nd-malformed"},
	{"solicitation_cut", discovery(a6, "ff02::1:ff00:5", 255, nd(135, "", 0, macWeb1)), "drop nd-malformed"},
	{"solicitation_option_0", discovery(a6, "ff02::1:ff00:5", 255, append(nd(135, b6, 0, macWeb1), make([]byte, 8)...)), "drop nd-malformed"},
	{"solicitation_half_option", discovery(a6, "ff02::1:ff00:5", 255, append(nd(135, b6, 0, macWeb1), 1, 1, 2, 3)), "drop nd-malformed"},
	{"five_options", discovery(a6, "ff02::1:ff00:5", 255, append(nd(135, b6, 0, macWeb1), bytes.Repeat([]byte{14, 1, 0, 0, 0, 0, 0, 0}, 5)...)), "drop nd-malformed"},
	{"solicitation_of_nobody", discovery(a6, "ff02::1:ff00:77", 255, nd(135, "fd00:0:0:1::77", 1, macWeb1)), "drop nd-unknown"},
	{"solicitation_of_other_subnet", discovery(a6, "ff02::1:ff00:4", 255, nd(135, c6, 1, macWeb1)), "drop nd-unknown"},
	{"solicitation_of_link_local", discovery(a6, "ff02::1:ff00:4", 255, nd(135, "fe80::5", 1, macWeb1)), "drop nd-unknown"},
	{"router_advertisement", discovery(link, "ff02::1", 255, append([]byte{134}, make([]byte, 15)...)), "drop ra-guard"},
	{"redirect", discovery(link, "ff02::1", 255, nd(137, b6, 0, macWeb1)), "drop ra-guard"},
	{"router_solicitation", discovery(link, "ff02::2", 255, nd(133, "", 1, macWeb1)), "service"},
	{"router_solicitation_from_nobody", discovery("::", "ff02::2", 255, nd(133, "", 0, macWeb1)), "service"},
	{"router_solicitation_of_others", discovery(link, "ff02::1", 255, nd(133, "", 1, macWeb1)), "drop router-solicit"},
	{"router_solicitation_from_afar", discovery(link, "ff02::2", 64, nd(133, "", 1, macWeb1)), "drop nd-malformed"},
	{"group_query", discovery(link, "ff02::1", 1, nd(130, "", 0, macWeb1)), "drop multicast"},
	{"group_report", discovery(link, "ff02::16", 1, nd(143, "", 0, macWeb1)), "consumed"},
}

// end is a result in one line.
func end(n *Node, r Result) string {
	s := r.Verdict.String()
	switch r.Verdict {
	case Drop:
		s += " " + r.Reason
	case Local:
		s += " " + r.Port.String()
	case Tunnel:
		s += " " + n.names[r.Node]
	}
	if told := r.Tells(); told != "" {
		s += ", told " + told
	}
	return s
}

func TestFromPort(t *testing.T) {
	for family, list := range map[string][]sent{"ipv4": sentIPv4, "ipv6": sentIPv6} {
		for _, s := range list {
			n := world()[1]
			if got := end(n, n.FromPort(web1, s.frame)); got != s.want {
				t.Errorf("%s %s: %s, want %s", family, s.name, got, s.want)
			}
		}
	}
}

// arrived is a frame at the other entries, and what becomes of it.
var arrived = []struct {
	name string
	in   func(*Node) Result
	want string
}{
	{"for_a_port", uplink("198.19.0.2", 4096, ip{src: b4, dst: a4}.frame(macWeb1, macWeb2)), "local red/web-1"},
	{"for_a_port_ipv6", uplink("198.19.0.2", 4096, ip{src: b6, dst: a6}.frame(macWeb1, macWeb2)), "local red/web-1"},
	{"from_itself", uplink("198.19.0.1", 4096, ip{src: b4, dst: a4}.frame(macWeb1, macWeb2)), "drop tunnel-peer-unknown"},
	{"from_a_stranger", uplink("198.19.0.9", 4096, ip{src: b4, dst: a4}.frame(macWeb1, macWeb2)), "drop tunnel-peer-unknown"},
	{"of_another_vpc", uplink("198.19.0.2", 4097, ip{src: b4, dst: a4}.frame(macWeb1, macWeb2)), "drop tunnel-peer-unknown"},
	{"cut", uplink("198.19.0.2", 4096, ip{src: b4, dst: a4}.frame(macWeb1, macWeb2)[:20]), "drop short"},
	{"tagged", uplink("198.19.0.2", 4096, eth(macWeb1, macWeb2, typeVLAN, make([]byte, 40))), "drop vlan"},
	{"arp", uplink("198.19.0.2", 4096, arp(1, macWeb2, macWeb2, b4, a4)), "drop ethertype"},
	{"malformed", uplink("198.19.0.2", 4096, changed(ip{src: b4, dst: a4}.frame(macWeb1, macWeb2), 14, 0x55)), "drop ip-malformed"},
	{"for_a_port_elsewhere", uplink("198.19.0.2", 4096, ip{src: b4, dst: b4}.frame(macWeb2, macWeb2)), "drop not-local"},
	{"for_nobody", uplink("198.19.0.2", 4096, ip{src: b4, dst: "10.0.1.77"}.frame(macWeb1, macWeb2)), "drop not-local"},
	{"for_another_mac", uplink("198.19.0.2", 4096, ip{src: b4, dst: a4}.frame(macFW1, macWeb2)), "drop dst-mac"},
	{"through_an_appliance", uplink("198.19.0.2", 4096, ip{src: b4, dst: "192.0.2.1"}.frame(southbound.MAC{2, 4, 5: 4}, routerMAC)), "local red/fw-2"},
	{"past_an_appliance", uplink("198.19.0.2", 4096, ip{src: b4, dst: "192.0.2.1"}.frame(macWeb1, routerMAC)), "drop not-local"},

	{"from_host", func(n *Node) Result { return n.FromHost(web1, ip{src: b4, dst: a4}.frame(macWeb1, macWeb2)) }, "drop host-to-port"},
	{"from_agent", service(web1, ip{src: g4, dst: a4}.frame(macWeb1, southbound.MAC{2})), "local red/web-1"},
	{"from_agent_to_all", service(web1, ip{src: "fe80::1", dst: "ff02::1"}.frame(group, southbound.MAC{2})), "local red/web-1"},
	{"from_agent_to_another", service(web1, ip{src: g4, dst: a4}.frame(macWeb2, southbound.MAC{2})), "drop dst-mac"},
	{"from_agent_to_nobody", service(PortID{"red", "nobody"}, ip{src: g4, dst: a4}.frame(macWeb1, southbound.MAC{2})), "drop port-unknown"},
	{"from_agent_cut", service(web1, []byte{1, 2, 3}), "drop short"},
	{"from_agent_tagged", service(web1, eth(macWeb1, macWeb2, typeQinQ, nil)), "drop vlan"},

	{"unknown_port", port(PortID{"red", "nobody"}, from4(c4, nil)), "drop port-unknown"},
	{"ipv6_of_a_port_without", port(only4, ip{src: "fe80::6", dst: "ff02::2"}.frame(group, southbound.MAC{2, 1, 5: 6})), "drop ipv6-unsupported"},
	{"port_of_the_other_node", port(fw1, ip{src: a4, dst: "10.99.0.1"}.frame(routerMAC, macFW1)), "drop port-unknown"},
}

func uplink(from string, vni uint32, frame []byte) func(*Node) Result {
	return func(n *Node) Result { return n.FromUplink(vni, addr(from), frame) }
}

func service(id PortID, frame []byte) func(*Node) Result {
	return func(n *Node) Result { return n.FromService(id, frame) }
}

func port(id PortID, frame []byte) func(*Node) Result {
	return func(n *Node) Result { return n.FromPort(id, frame) }
}

func TestOtherEntries(t *testing.T) {
	for _, a := range arrived {
		n := world()[1]
		if got := end(n, a.in(n)); got != a.want {
			t.Errorf("%s: %s, want %s", a.name, got, a.want)
		}
	}
}

// TestEveryReasonHasAFrame: the words that the model knows, as they stand in frame.go, all come up above.
func TestEveryReasonHasAFrame(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "frame.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 && strings.HasPrefix(v.Names[0].Name, "reason") {
			word, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			missing[word] = true
		}
		return true
	})
	if len(missing) < 30 {
		t.Fatalf("only %d reasons found in frame.go", len(missing))
	}
	for _, s := range slices.Concat(sentIPv4, sentIPv6) {
		delete(missing, world()[1].FromPort(web1, s.frame).Reason)
	}
	for _, a := range arrived {
		delete(missing, a.in(world()[1]).Reason)
	}
	if len(missing) > 0 {
		t.Errorf("no frame above is dropped for %v", slices.Sorted(maps.Keys(missing)))
	}
}

// TestAppliancesMaySendFromOthers: from what their sources hold, but never from an address of no single station.
func TestAppliancesMaySendFromOthers(t *testing.T) {
	n := world()[2]
	for src, want := range map[string]string{
		"192.0.2.1": "tunnel h1", "10.0.2.4": "tunnel h1", "127.0.0.1": "drop src-ip-spoof", "169.254.1.1": "drop src-ip-spoof",
		"0.1.2.3": "drop src-ip-spoof", "224.0.0.1": "drop src-ip-spoof", "240.0.0.1": "drop src-ip-spoof",
	} {
		if got := end(n, n.FromPort(fw1, ip{src: src, dst: a4}.frame(routerMAC, macFW1))); got != want {
			t.Errorf("from %s: %s, want %s", src, got, want)
		}
	}
	for src, want := range map[string]string{
		"2001:db8::1": "tunnel h1", "fd00:0:0:1::4": "tunnel h1", "::1": "drop src-ip-spoof", "64:ff9b::1": "drop src-ip-spoof",
		"ff02::1": "drop src-ip-spoof", "fe80::1": "drop src-ip-spoof",
	} {
		if got := end(n, n.FromPort(fw1, ip{src: src, dst: a6, protocol: protoUDP}.frame(routerMAC, macFW1))); got != want {
			t.Errorf("from %s: %s, want %s", src, got, want)
		}
	}
}
