// SPDX-License-Identifier: Apache-2.0

package model

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"weft/internal/southbound"
)

// network is two VPCs with equal addresses, as one node sees them.
type network struct {
	rows    []southbound.Row
	local   []southbound.Port // the first one sends
	all     []southbound.Location
	addrs   []netip.Addr     // of ports and routers
	macs    []southbound.MAC // of ports and the router
	tunnels [3]netip.Addr    // of nodes 1 to 3
	vnis    [2]uint32
}

// String lists the rows.
func (n *network) String() string {
	var b strings.Builder
	for _, r := range n.rows {
		fmt.Fprintln(&b, "  ", r)
		if p, ok := r.(southbound.Port); ok {
			fmt.Fprintln(&b, "     table", p.Table, "sources", p.Sources)
		}
	}
	return b.String()
}

func randomNetwork(r *rand.Rand, ipv6Tunnel bool) *network {
	n := &network{macs: []southbound.MAC{routerMAC}, vnis: [2]uint32{uint32(4096 + r.IntN(4)), 5000}}
	for i := range n.tunnels {
		n.tunnels[i] = netip.AddrFrom4([4]byte{198, 19, 0, byte(i + 1)})
		if ipv6Tunnel {
			n.tunnels[i] = netip.AddrFrom16([16]byte{0xfd, 0x98, 15: byte(i + 1)})
		}
	}
	for _, vni := range n.vnis {
		n.vpc(r, vni)
	}
	return n
}

// vpc adds one VPC: up to three subnets of either IP version or both, ports on three nodes, two route tables.
func (n *network) vpc(r *rand.Rand, vni uint32) {
	n.rows = append(n.rows, southbound.VPC{VNI: vni, TenantNumber: vni, Tenant: fmt.Sprint("t", vni), Name: "n"})
	for i, t := range n.tunnels {
		n.rows = append(n.rows, southbound.Peer{VNI: vni, Node: uint16(i + 1), Name: fmt.Sprint("h", i+1), Address: t})
	}
	first := len(n.all)
	for s := range 1 + r.IntN(3) {
		var prefixes []netip.Prefix
		versions := r.IntN(4) // 0: IPv4, 1: IPv6, 2 and 3: both
		if versions != 1 {
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(s)}), 24))
		}
		if versions != 0 {
			prefixes = append(prefixes, netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(s)}), 64))
		}
		for _, p := range prefixes {
			gateway := p.Addr().Next()
			n.rows = append(n.rows, southbound.Subnet{VNI: vni, Number: uint32(s + 1), Prefix: p, Gateway: gateway})
			n.addrs = append(n.addrs, gateway)
		}
		table := uint32(r.IntN(3))
		for h := range 1 + r.IntN(5) {
			n.port(r, vni, s, h, table, prefixes)
		}
	}
	for table := uint32(1); table <= 2; table++ {
		n.routes(r, vni, table, n.all[first:])
	}
}

var sources = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("10.0.0.0/16"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("fd00::5/128"),
}

// port adds one port, on this node or another; the first of all is on this one.
func (n *network) port(r *rand.Rand, vni uint32, subnet, host int, table uint32, prefixes []netip.Prefix) {
	mac := southbound.MAC{2, byte(vni), 0, 0, byte(subnet), byte(host)}
	node := uint16(1 + r.IntN(3))
	if len(n.local) == 0 {
		node = 1
	}
	p := southbound.Port{
		VNI: vni, Tenant: fmt.Sprint("t", vni), Name: fmt.Sprintf("p-%d-%d", subnet, host), TenantNumber: vni, Subnet: uint32(subnet + 1), MAC: mac,
		Table: table,
	}
	if r.IntN(2) == 0 {
		p.Sources = append(p.Sources, sources[r.IntN(len(sources))])
		if s := sources[r.IntN(len(sources))]; !slices.Contains(p.Sources, s) {
			p.Sources = append(p.Sources, s)
		}
	}
	n.macs = append(n.macs, mac)
	for i, prefix := range prefixes {
		if len(prefixes) == 2 && i == r.IntN(8) {
			continue // of one version only
		}
		addr := prefix.Addr()
		for range 4 + host {
			addr = addr.Next()
		}
		face := southbound.Interface{Address: addr, Bits: prefix.Bits(), Gateway: prefix.Addr().Next()}
		if r.IntN(8) == 0 {
			face.Gateway = netip.Addr{}
		}
		p.Interfaces = append(p.Interfaces, face)
		l := southbound.Location{VNI: vni, Address: addr, Node: node, MAC: mac, Subnet: uint32(subnet + 1)}
		n.rows, n.all, n.addrs = append(n.rows, l), append(n.all, l), append(n.addrs, addr)
	}
	if node == 1 && len(p.Interfaces) > 0 {
		n.local = append(n.local, p)
		n.rows = append(n.rows, p)
	}
}

var destinations = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.0.0.0/25"), netip.MustParsePrefix("10.0.1.0/24"),
	netip.MustParsePrefix("10.0.1.5/32"), netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("::/0"), netip.MustParsePrefix("fd00:0:0:1::/64"), netip.MustParsePrefix("fd00::/96"),
	netip.MustParsePrefix("fd00:0:0:1::5/128"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2001:db8:1::/48"),
}

// routes fills a route table: to ports here and elsewhere, into holes, and to ports that are nowhere.
func (n *network) routes(r *rand.Rand, vni, table uint32, ports []southbound.Location) {
	for _, d := range destinations {
		row := southbound.Route{VNI: vni, Table: table, Prefix: d, Via: southbound.RoutePort}
		switch r.IntN(6) {
		case 0, 1:
			continue
		case 2:
			row.Via = southbound.RouteBlackhole
		case 3: // nowhere
		default:
			if len(ports) == 0 {
				continue
			}
			hop := ports[r.IntN(len(ports))]
			row.Node, row.MAC = hop.Node, hop.MAC
		}
		n.rows = append(n.rows, row)
	}
}
