// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"weft/internal/netns"
)

// plan is a topology with every address decided: the same topology always gives the same plan.
type plan struct {
	nodes []*planNode
	links []planLink
	mtu   int
}

type planNode struct {
	TopologyNode
	number   int        // from 1, in the order of the topology
	loopback netip.Addr // tunnel end
	ends     []planEnd
	routes   []netns.Route
}

// planEnd is a node's end of a link. Its device has the name of the node at the other end.
type planEnd struct {
	node, peer *planNode
	address    netip.Prefix // a /31, or of IPv6 a /127
	mac        net.HardwareAddr
	above      bool // the node is the nearer one to the routers
}

type planLink struct{ a, b planEnd } // b is the uplink: nearer to the routers

// makePlan decides all addresses and routes of a checked topology.
func makePlan(t *Topology) *plan {
	p := &plan{mtu: t.MTU}
	for i, n := range t.Nodes {
		loopbacks := t.Loopbacks
		if n.Role == RoleClient {
			loopbacks = t.Outside
		}
		p.nodes = append(p.nodes, &planNode{TopologyNode: n, number: i + 1, loopback: nth(loopbacks, i+1)})
	}
	inside, outside := 0, 0
	for _, n := range p.nodes {
		for _, up := range n.Uplinks {
			if n.Role == RoleClient { // links from the end of the prefix, loopbacks from its start
				p.addLink(n, p.node(up), nth(t.Outside, room(t.Outside)-2*(outside+1)))
				outside++
			} else {
				p.addLink(n, p.node(up), nth(t.Underlay, 2*inside))
				inside++
			}
		}
	}
	for _, n := range p.nodes {
		n.routes = p.routesOf(n)
	}
	return p
}

// addLink joins two nodes: the uplink has the even address.
func (p *plan) addLink(n, up *planNode, even netip.Addr) {
	i := len(p.links)
	l := planLink{
		a: planEnd{n, up, netip.PrefixFrom(even.Next(), even.BitLen()-1), macOf(i, 1), false},
		b: planEnd{up, n, netip.PrefixFrom(even, even.BitLen()-1), macOf(i, 0), true},
	}
	n.ends, up.ends = append(n.ends, l.a), append(up.ends, l.b)
	p.links = append(p.links, l)
}

// macOf makes the address of one end of a link; the virtual router's 02:77:65:66:74:01 is not among them.
func macOf(link, end int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x77, 0x6c, byte(link >> 8), byte(link), byte(end)}
}

// routesOf leads n to every other loopback by all ways that are equally short and pass only through nodes that forward.
func (p *plan) routesOf(n *planNode) []netns.Route {
	var routes []netns.Route
	for _, to := range p.nodes {
		if to == n {
			continue
		}
		far := distances(to)
		r := netns.Route{To: host(to.loopback), Source: n.loopback}
		for _, e := range n.ends {
			d, ok := far[e.peer]
			if ok && d+1 == far[n] && (e.peer == to || e.peer.Role.Forwards()) {
				r.By = append(r.By, netns.NextHop{Gateway: peerAddress(e), Device: e.peer.Name})
			}
		}
		if len(r.By) > 0 {
			routes = append(routes, r)
		}
	}
	return routes
}

// distances counts the links from each node to the node to.
func distances(to *planNode) map[*planNode]int {
	far := map[*planNode]int{to: 0}
	for queue := []*planNode{to}; len(queue) > 0; queue = queue[1:] {
		n := queue[0]
		if n != to && !n.Role.Forwards() {
			continue // reached, but not passed
		}
		for _, e := range n.ends {
			if _, seen := far[e.peer]; !seen {
				far[e.peer] = far[n] + 1
				queue = append(queue, e.peer)
			}
		}
	}
	return far
}

// host is the prefix of one address alone.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// peerAddress returns the other address of the link.
func peerAddress(e planEnd) netip.Addr {
	even := e.address.Masked().Addr()
	if e.address.Addr() == even {
		return even.Next()
	}
	return even
}

func (p *plan) node(name string) *planNode {
	i := slices.IndexFunc(p.nodes, func(n *planNode) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return p.nodes[i]
}

func (p *plan) server() *planNode {
	return p.nodes[slices.IndexFunc(p.nodes, func(n *planNode) bool { return n.Role == RoleServer })]
}

// nth returns the i-th address of a prefix that has room for it.
func nth(p netip.Prefix, i int) netip.Addr {
	b := p.Addr().AsSlice()
	low := b[len(b)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)+uint32(i))
	a, _ := netip.AddrFromSlice(b)
	return a
}

// room is how many addresses of a prefix are used at most.
func room(p netip.Prefix) int { return 1 << min(p.Addr().BitLen()-p.Bits(), 24) }
