// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"weft/internal/netns"
)

// settings of a namespace, below /proc/sys.
type settings [][2]string

// Settings of nodes: spread flows by their ports, do not use a way whose link is down, and do not drop what comes in by
// another way than answers go out (each node has two).
var (
	nodeSettings = settings{
		{"net/ipv4/fib_multipath_hash_policy", "1"},
		{"net/ipv4/conf/all/ignore_routes_with_linkdown", "1"},
		{"net/ipv4/conf/default/ignore_routes_with_linkdown", "1"},
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
	}
	ipv4Settings = settings{{"net/ipv6/conf/default/disable_ipv6", "1"}}
	ipv6Settings = settings{
		{"net/ipv6/fib_multipath_hash_policy", "1"},
		{"net/ipv6/conf/all/ignore_routes_with_linkdown", "1"},
		{"net/ipv6/conf/default/ignore_routes_with_linkdown", "1"},
		{"net/ipv6/conf/default/accept_dad", "0"}, // all addresses are the plan's: nothing to wait for
		{"net/ipv6/conf/default/accept_ra", "0"},
	}
	forwardSettings = settings{{"net/ipv4/ip_forward", "1"}}
	forward6        = settings{{"net/ipv6/conf/all/forwarding", "1"}}
)

// workloadSettings let a workload have its addresses at once, as nobody else can have them, and its router even if it routes
// itself.
var workloadSettings = settings{
	{"net/ipv6/conf/default/accept_ra", "2"},
	{"net/ipv6/conf/default/accept_dad", "0"},
	{"net/ipv6/conf/default/router_solicitation_delay", "0"},
}

// buildNamespaces makes the namespaces of all nodes, with their settings.
func buildNamespaces(l *Lab, p *plan) error {
	for _, n := range p.nodes {
		s := slices.Concat(nodeSettings, ipv4Settings)
		if n.loopback.Is6() {
			s = slices.Concat(nodeSettings, ipv6Settings)
		}
		switch {
		case n.Role.Forwards() && n.loopback.Is6():
			s = append(s, forward6...)
		case n.Role.Forwards():
			s = append(s, forwardSettings...)
		}
		if err := buildNamespace(l.netNS(n.Name), s); err != nil {
			return err
		}
	}
	return nil
}

func buildNamespace(name string, s settings) error {
	if netns.Exists(name) {
		return fmt.Errorf("create namespace %s: %w: it is not this lab's ('ip netns delete %s' removes it)", name, ErrExists, name)
	}
	if err := netns.Create(name); err != nil {
		return err
	}
	return netns.Inside(name, func(ns *netns.Namespace) error {
		for _, s := range s {
			if err := ns.SetSysctl(s[0], s[1]); err != nil {
				return err
			}
		}
		return nil
	})
}

// buildLinks makes all links, with both ends up.
func buildLinks(l *Lab, p *plan) error {
	for i, link := range p.links {
		a, b := link.a, link.b
		err := netns.CreateVeth(netns.End{NetNS: l.netNS(a.node.Name), Name: a.peer.Name, MAC: a.mac, Index: firstIndex + i},
			netns.End{NetNS: l.netNS(b.node.Name), Name: b.peer.Name, MAC: b.mac}, p.mtu)
		if err != nil {
			return err
		}
	}
	for _, n := range p.nodes {
		err := netns.Inside(l.netNS(n.Name), func(ns *netns.Namespace) error {
			err := ns.AddAddress("lo", host(n.loopback))
			for _, e := range n.ends {
				err = errors.Join(err, ns.AddAddress(e.peer.Name, e.address), ns.SetUp(e.peer.Name))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// firstIndex is the number of the first link's lower end: far from those that the kernel gives to the upper ends.
const firstIndex = 10_001

// buildRoutes leads every node to every other one, by all ways of the same length.
func buildRoutes(l *Lab, p *plan) error {
	for _, n := range p.nodes {
		err := netns.Inside(l.netNS(n.Name), func(ns *netns.Namespace) error {
			for _, r := range n.routes {
				if err := addRoute(ns, r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// linkWithin is how long the kernel may take to notice that both ends of a link are up.
const linkWithin = 3 * time.Second

// addRoute adds a route. IPv6 refuses one by a link whose other end, set up a moment ago, it does not see yet.
func addRoute(ns *netns.Namespace, r netns.Route) error {
	for deadline := time.Now().Add(linkWithin); ; time.Sleep(5 * time.Millisecond) {
		err := ns.AddRoute(r)
		early := errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EHOSTUNREACH)
		if !early || !r.To.Addr().Is6() || time.Now().After(deadline) {
			return err
		}
	}
}
