// SPDX-License-Identifier: Apache-2.0

// Package device finds, makes, mends and removes network devices, the node's and the workloads' ends of pairs; it tells which of
// them may become a port's, and when one comes, goes or changes. It counts what is written to the kernel.
package device

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Refusal says why a device cannot become a port's, and what would help.
type Refusal struct{ Device, Why, Fix string }

// Error names the device and why it is refused.
func (e *Refusal) Error() string { return e.Device + " " + e.Why }

// Candidate is a device that is there already and is to become a port's.
type Candidate struct {
	Name       string
	Tap        bool       // it has to be a tap,
	MultiQueue bool       // for several queues,
	Owner      *uint32    // of this user
	Tunnel     netip.Addr // the node's tunnel end
	Force      bool       // although it has addresses, or devices on top, which will hear nothing any more
}

// Check refuses, by a *Refusal, what must not become a port's; the error of a device that is not there is
// ErrNoDevice.
func Check(c Candidate) error {
	found, err := netlink.LinkByName(c.Name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("device %s: %w", c.Name, ErrNoDevice)
	}
	if err != nil {
		return fmt.Errorf("look for device %s: %w", c.Name, err)
	}
	if err := c.checkKind(found); err != nil {
		return err
	}
	if err := c.checkUplink(found); err != nil || c.Force {
		return err
	}
	return c.checkUse(found)
}

func (c *Candidate) refuse(fix, why string, args ...any) error {
	return &Refusal{c.Name, fmt.Sprintf(why, args...), fix}
}

// checkKind looks at what the device is.
func (c *Candidate) checkKind(found netlink.Link) error {
	a := found.Attrs()
	switch {
	case Own(c.Name):
		return c.refuse("name another device", "is weft's own")
	case a.Flags&net.FlagLoopback != 0:
		return c.refuse("name another device", "is the loopback device")
	case a.EncapType != "ether":
		return c.refuse("a port needs Ethernet; a tap is made by --tap NAME", "carries no Ethernet frames (it is %s)", a.EncapType)
	case a.MasterIndex != 0:
		return c.refuse("take it out with 'ip link set "+c.Name+" nomaster' if nothing needs it there", "is part of %s", nameOf(a.MasterIndex))
	case !c.Tap:
		return nil
	}
	tap, ok := found.(*netlink.Tuntap)
	if !ok || tap.Mode != netlink.TUNTAP_MODE_TAP {
		return c.refuse("attach it with --device "+c.Name+", or name another tap", "is there, but is not a tap")
	}
	if c.MultiQueue && tap.Flags&netlink.TUNTAP_MULTI_QUEUE == 0 {
		return c.refuse("remove it, or leave --multi-queue out", "is there, but is not for several queues")
	}
	if c.Owner != nil && tap.Owner != *c.Owner {
		return c.refuse("remove it, or leave --owner out", "is there, but does not belong to user %d", *c.Owner)
	}
	return nil
}

// checkUplink spares what the node reaches others by, and is reached by.
func (c *Candidate) checkUplink(found netlink.Link) error {
	const fix = "the node would be cut off; name another device"
	addresses, err := addressesOf(found)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if a == c.Tunnel {
			return c.refuse(fix, "has the address of the node's tunnel, %s", a)
		}
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		switch {
		case !leavesBy(r, found.Attrs().Index):
		case isDefault(r):
			return c.refuse(fix, "has the node's default route")
		case r.Gw != nil || r.Via != nil || len(r.MultiPath) > 0:
			return c.refuse(fix, "has the node's route to %s", r.Dst)
		}
	}
	return nil
}

// checkUse looks for what would stop to work.
func (c *Candidate) checkUse(found netlink.Link) error {
	const fix = "take that away first, or say --force: it will not work any more"
	addresses, err := addressesOf(found)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		if !a.IsLinkLocalUnicast() {
			return c.refuse(fix, "has an address of the node, %s", a)
		}
	}
	all, err := whole(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, l := range all {
		a := l.Attrs()
		if a.MasterIndex == found.Attrs().Index {
			return c.refuse(fix, "has %s as a part", a.Name)
		}
		if a.ParentIndex == found.Attrs().Index && a.NetNsID == -1 && l.Type() != "veth" {
			return c.refuse(fix, "carries %s, a %s", a.Name, l.Type())
		}
	}
	return nil
}

func addressesOf(l netlink.Link) ([]netip.Addr, error) {
	list, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
	}
	var out []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			out = append(out, addr.Unmap())
		}
	}
	return out, nil
}

func leavesBy(r netlink.Route, ifindex int) bool {
	if r.LinkIndex == ifindex {
		return true
	}
	for _, hop := range r.MultiPath {
		if hop.LinkIndex == ifindex {
			return true
		}
	}
	return false
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0 && r.Dst.IP.IsUnspecified()
}

func nameOf(ifindex int) string {
	if l, err := netlink.LinkByIndex(ifindex); err == nil {
		return l.Attrs().Name
	}
	return fmt.Sprintf("device %d", ifindex)
}
