// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"fmt"
	"net"
	"net/netip"

	"weft/internal/netns"
	"weft/lab"
)

// Names of the ways.
const (
	overVeth   = "bare veth"
	overRoute  = "bare route"
	overBridge = "bridge"
	overVXLAN  = "bridge+VXLAN"
	overWeft   = "weft"
)

// The yardsticks' VXLAN has a port of its own: 4789 is weft's.
const (
	yardstickPort = 8472
	yardstickVNI  = 77
	overlayMTU    = 1450
	underlayMTU   = 1500
)

// place is a lab with the yardsticks' devices beside weft's: in the same workloads, on the same hosts and wires, with other addresses.
type place struct {
	lab     *lab.Lab
	a, b, c string // namespaces of the workloads: a and c on host-1, b on host-2
	host    [2]string
	near    []way // between two workloads of a host
	far     []way // between two hosts
}

// build makes the yardsticks. All of it goes with the lab.
func build(l *lab.Lab) (*place, error) {
	p := &place{lab: l}
	for _, t := range []struct {
		name string
		to   *string
	}{{"bench/a", &p.a}, {"bench/b", &p.b}, {"bench/c", &p.c}, {"host-1", &p.host[0]}, {"host-2", &p.host[1]}} {
		var err error
		if *t.to, err = l.Target(t.name); err != nil {
			return nil, err
		}
	}
	var hosts [2]netip.Addr
	for i, name := range []string{"host-1", "host-2"} {
		e, err := l.End(name, false)
		if err != nil {
			return nil, err
		}
		hosts[i] = e.Address
	}
	at := func(last byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, last}) }
	p.near = append(p.near, way{overWeft, End{p.a, at(4)}, End{p.c, at(6)}})
	p.far = append(p.far, way{overWeft, End{p.a, at(4)}, End{p.b, at(5)}})
	for _, step := range []func([2]netip.Addr) error{p.veth, p.routes, p.bridges} {
		if err := step(hosts); err != nil {
			return nil, fmt.Errorf("make a yardstick: %w", err)
		}
	}
	return p, nil
}

// device gives a device of a namespace an address, and sets it up.
func device(ns, name string, address netip.Prefix) error {
	return netns.Inside(ns, func(n *netns.Namespace) error {
		if err := n.AddAddress(name, address); err != nil {
			return err
		}
		return n.SetUp(name)
	})
}

// veth joins a and c directly.
func (p *place) veth([2]netip.Addr) error {
	from, to := netip.MustParsePrefix("192.0.2.1/30"), netip.MustParsePrefix("192.0.2.2/30")
	if err := netns.CreateVeth(netns.End{NetNS: p.a, Name: "veth"}, netns.End{NetNS: p.c, Name: "veth"}, underlayMTU); err != nil {
		return err
	}
	if err := device(p.a, "veth", from); err != nil {
		return err
	}
	p.near = append(p.near, way{overVeth, End{p.a, from.Addr()}, End{p.c, to.Addr()}})
	return device(p.c, "veth", to)
}

// routes gives each workload a subnet that the hosts and the router route.
func (p *place) routes([2]netip.Addr) error {
	subnet := func(i int, last byte) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 200 + byte(i), last}), 24)
	}
	ends := []End{{p.a, subnet(0, 2).Addr()}, {p.b, subnet(1, 2).Addr()}, {p.c, subnet(2, 2).Addr()}}
	for i, host := range []string{p.host[0], p.host[1], p.host[0]} {
		e, name := ends[i], fmt.Sprintf("route%d", i)
		if err := netns.CreateVeth(netns.End{NetNS: e.NetNS, Name: "route"}, netns.End{NetNS: host, Name: name}, underlayMTU); err != nil {
			return err
		}
		if err := device(host, name, subnet(i, 1)); err != nil {
			return err
		}
		if err := device(e.NetNS, "route", subnet(i, 2)); err != nil {
			return err
		}
		err := netns.Inside(host, func(n *netns.Namespace) error { return n.SetSysctl("net/ipv4/ip_forward", "1") })
		if err != nil {
			return err
		}
		err = netns.Inside(e.NetNS, func(n *netns.Namespace) error {
			all := netip.MustParsePrefix("198.18.192.0/18")
			return n.AddRoute(netns.Route{To: all, By: []netns.NextHop{{Gateway: subnet(i, 1).Addr(), Device: "route"}}})
		})
		if err != nil {
			return err
		}
	}
	p.near = append(p.near, way{overRoute, ends[0], ends[2]})
	p.far = append(p.far, way{overRoute, ends[0], ends[1]})
	return p.wire(ends)
}

// wire routes the workloads' addresses between the hosts and at the router.
func (p *place) wire(ends []End) error {
	on := map[string][]End{"host-1": {ends[0], ends[2]}, "host-2": {ends[1]}}
	for _, w := range p.lab.Wiring() {
		near, router := w[0], w[1]
		for name, here := range on {
			for _, e := range here {
				to := netip.PrefixFrom(e.Address, 24).Masked()
				var at, device string
				var gateway netip.Addr
				switch {
				case near.Node == name:
					at, device, gateway = router.Node, router.Device, near.Address.Addr()
				case on[near.Node] != nil:
					at, device, gateway = near.Node, near.Device, router.Address.Addr()
				default:
					continue
				}
				target, err := p.lab.Target(at)
				if err != nil {
					return err
				}
				err = netns.Inside(target, func(n *netns.Namespace) error {
					return n.AddRoute(netns.Route{To: to, By: []netns.NextHop{{Gateway: gateway, Device: device}}})
				})
				if err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// bridges gives each host a bridge with its workloads on it, and a VXLAN device of the kernel's between them that knows all
// addresses.
func (p *place) bridges(hosts [2]netip.Addr) error {
	ends := []End{{p.a, netip.MustParseAddr("192.0.2.17")}, {p.b, netip.MustParseAddr("192.0.2.18")}, {p.c, netip.MustParseAddr("192.0.2.19")}}
	mac := func(i int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 77, byte(i)} }
	for i, host := range p.host {
		err := netns.Inside(host, func(n *netns.Namespace) error {
			if err := n.AddBridge("bridge"); err != nil {
				return err
			}
			if err := n.AddVXLAN("vxlan", yardstickVNI, hosts[i], yardstickPort, overlayMTU); err != nil {
				return err
			}
			if err := n.SetMaster("vxlan", "bridge"); err != nil {
				return err
			}
			if err := n.SetUp("vxlan"); err != nil {
				return err
			}
			return n.SetUp("bridge")
		})
		if err != nil {
			return err
		}
	}
	for i, on := range []int{0, 1, 0} {
		e, name := ends[i], fmt.Sprintf("bridge%d", i)
		if err := netns.CreateVeth(netns.End{NetNS: e.NetNS, Name: "bridge", MAC: mac(i)}, netns.End{NetNS: p.host[on], Name: name}, overlayMTU); err != nil {
			return err
		}
		if err := device(e.NetNS, "bridge", netip.PrefixFrom(e.Address, 28)); err != nil {
			return err
		}
		err := netns.Inside(p.host[on], func(n *netns.Namespace) error {
			if err := n.SetMaster(name, "bridge"); err != nil {
				return err
			}
			return n.SetUp(name)
		})
		if err != nil {
			return err
		}
		err = netns.Inside(p.host[1-on], func(n *netns.Namespace) error {
			if err := n.AddForward("vxlan", mac(i), hosts[on]); err != nil {
				return err
			}
			if i == 2 {
				return nil // the same host is in the list of all others already
			}
			return n.AddForward("vxlan", make(net.HardwareAddr, 6), hosts[on])
		})
		if err != nil {
			return err
		}
	}
	p.near = append(p.near, way{overBridge, ends[0], ends[2]})
	p.far = append(p.far, way{overVXLAN, ends[0], ends[1]})
	return nil
}

// offloads says whether the wires take packets larger than their MTU, as a network card with such offloads does.
func (p *place) offloads(on bool) error {
	for _, w := range p.lab.Wiring() {
		for _, e := range w {
			ns, err := p.lab.Target(e.Node)
			if err != nil {
				return err
			}
			if err := netns.Inside(ns, func(n *netns.Namespace) error { return n.SetSegmentation(e.Device, on) }); err != nil {
				return err
			}
		}
	}
	return nil
}
