// SPDX-License-Identifier: Apache-2.0

package device

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ConfigurePeer gives the workload's end of a veth its addresses, a default route by each gateway, and its MTU. What is
// there already is not written again; what others added is left.
func ConfigurePeer(netNS, name string, addresses []netip.Prefix, gateways []netip.Addr, mtu int) error {
	ns, err := OpenNetNS(netNS)
	if err != nil {
		return err
	}
	defer ns.Close()
	inside, err := netlink.NewHandleAt(ns)
	if err != nil {
		return fmt.Errorf("enter namespace %s: %w", netNS, err)
	}
	defer inside.Close()
	found, err := inside.LinkByName(name)
	if err != nil {
		return fmt.Errorf("look for device %s in %s: %w", name, netNS, err)
	}
	p := peer{inside, found, name + " in " + netNS}
	if err := p.setMTU(mtu); err != nil {
		return err
	}
	for _, a := range addresses {
		if err := p.addAddress(a); err != nil {
			return err
		}
	}
	for _, g := range gateways {
		if err := p.addDefault(g); err != nil {
			return err
		}
	}
	return nil
}

// peer is the workload's end of a veth.
type peer struct {
	*netlink.Handle
	link netlink.Link
	name string // for errors
}

func (p *peer) setMTU(mtu int) error {
	if p.link.Attrs().MTU != mtu {
		Wrote()
		if err := p.LinkSetMTU(p.link, mtu); err != nil {
			return fmt.Errorf("set MTU of %s to %d: %w", p.name, mtu, err)
		}
	}
	if p.link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	Wrote()
	if err := p.LinkSetUp(p.link); err != nil {
		return fmt.Errorf("bring %s up: %w", p.name, err)
	}
	return nil
}

func (p *peer) addAddress(prefix netip.Prefix) error {
	now, err := whole(func() ([]netlink.Addr, error) { return p.AddrList(p.link, family(prefix.Addr())) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", p.name, err)
	}
	ipNet := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
	for _, a := range now {
		if a.IP.Equal(ipNet.IP) && a.Mask.String() == ipNet.Mask.String() {
			return nil
		}
	}
	Wrote()
	flags := 0
	if prefix.Addr().Is6() {
		flags = unix.IFA_F_NODAD // nobody else can have it, and a second of probing would be lost
	}
	if err := p.AddrReplace(p.link, &netlink.Addr{IPNet: ipNet, Flags: flags}); err != nil {
		return fmt.Errorf("add address %s to %s: %w", prefix, p.name, err)
	}
	return nil
}

func (p *peer) addDefault(gateway netip.Addr) error {
	now, err := whole(func() ([]netlink.Route, error) { return p.RouteList(p.link, family(gateway)) })
	if err != nil {
		return fmt.Errorf("list routes of %s: %w", p.name, err)
	}
	for _, r := range now {
		if (r.Dst == nil || r.Dst.IP.IsUnspecified()) && r.Gw.Equal(gateway.AsSlice()) {
			return nil
		}
	}
	everywhere := &net.IPNet{IP: make(net.IP, gateway.BitLen()/8), Mask: net.CIDRMask(0, gateway.BitLen())}
	Wrote()
	err = p.RouteReplace(&netlink.Route{
		LinkIndex: p.link.Attrs().Index, Dst: everywhere, Gw: gateway.AsSlice(),
		Flags: int(netlink.FLAG_ONLINK),
	})
	if err != nil {
		return fmt.Errorf("add default route by %s to %s: %w", gateway, p.name, err)
	}
	return nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
