// SPDX-License-Identifier: Apache-2.0

// Package fib writes routes of weft's own into the kernel's main table of this network namespace, and hears of its links.
package fib

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks the kernel's routes that are weft's (rtm_protocol).
const Protocol = 119

// NextHop is one way of a route.
type NextHop struct {
	Gateway netip.Addr
	Device  string
}

// Compare orders next hops.
func (h NextHop) Compare(o NextHop) int {
	if c := h.Gateway.Compare(o.Gateway); c != 0 {
		return c
	}
	switch {
	case h.Device < o.Device:
		return -1
	case h.Device > o.Device:
		return 1
	}
	return 0
}

// Route leads to a prefix by next hops of the same weight, in order (NextHop.Compare).
type Route struct {
	To     netip.Prefix
	Source netip.Addr // what packets of this machine carry; invalid: the kernel's choice
	By     []NextHop
}

// Equal reports whether two routes are the same.
func (r Route) Equal(o Route) bool {
	return r.To == o.To && r.Source == o.Source && slices.Equal(r.By, o.By)
}

// Table is the kernel's table.
type Table struct{ handle *netlink.Handle }

// Open opens the table of the namespace of this process.
func Open() (*Table, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open routing table: %w", err)
	}
	return &Table{h}, nil
}

// Close leaves the routes.
func (t *Table) Close() { t.handle.Close() }

// Routes returns weft's routes, by prefix, with next hops that the kernel does not use for the moment because their link is down:
// it would use them again at once when the link is back.
func (t *Table) Routes() (map[netip.Prefix]Route, error) {
	devices, err := t.devices()
	if err != nil {
		return nil, err
	}
	found := make(map[netip.Prefix]Route)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := t.handle.RouteListFiltered(family, &netlink.Route{Protocol: Protocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if route, ok := read(r, devices, family); ok {
				found[route.To] = route
			}
		}
	}
	return found, nil
}

// read makes a Route of the kernel's.
func read(r netlink.Route, devices map[int]string, family int) (Route, bool) {
	route := Route{To: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
	if family == netlink.FAMILY_V6 {
		route.To = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		if !ok {
			return route, false
		}
		if family == netlink.FAMILY_V4 {
			a = a.Unmap()
		}
		route.To = netip.PrefixFrom(a, bits)
	}
	if a, ok := netip.AddrFromSlice(r.Src); ok {
		route.Source = a.Unmap()
	}
	hops := r.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: r.LinkIndex, Gw: r.Gw}}
	}
	for _, h := range hops {
		gateway, _ := netip.AddrFromSlice(h.Gw)
		route.By = append(route.By, NextHop{gateway.Unmap(), devices[h.LinkIndex]})
	}
	slices.SortFunc(route.By, NextHop.Compare)
	return route, true
}

// Put writes a route in place of what weft has for the prefix.
func (t *Table) Put(r Route) error {
	route := &netlink.Route{Dst: ipNet(r.To), Protocol: Protocol}
	if r.Source.IsValid() {
		route.Src = r.Source.AsSlice()
	}
	for _, h := range r.By {
		link, err := t.handle.LinkByName(h.Device)
		if err != nil {
			return fmt.Errorf("route to %s by %s: device %s: %w", r.To, h.Gateway, h.Device, err)
		}
		route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Gw: h.Gateway.AsSlice()})
	}
	if len(r.By) == 1 {
		route.LinkIndex, route.Gw, route.MultiPath = route.MultiPath[0].LinkIndex, route.MultiPath[0].Gw, nil
	}
	if err := t.handle.RouteReplace(route); err != nil {
		return fmt.Errorf("route to %s: %w", r.To, err)
	}
	return nil
}

// Delete removes weft's route to a prefix; one that is not there is fine.
func (t *Table) Delete(to netip.Prefix) error {
	err := t.handle.RouteDel(&netlink.Route{Dst: ipNet(to), Protocol: Protocol})
	if err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("delete route to %s: %w", to, err)
	}
	return nil
}

func (t *Table) devices() (map[int]string, error) {
	links, err := t.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	names := make(map[int]string, len(links))
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	return names, nil
}

// Device returns the device whose subnet an address is in, but for loopback.
func (t *Table) Device(a netip.Addr) (string, error) {
	links, err := t.handle.LinkList()
	if err != nil {
		return "", fmt.Errorf("list devices: %w", err)
	}
	for _, l := range links {
		addresses, err := t.handle.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return "", fmt.Errorf("addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, own := range addresses {
			if l.Attrs().Flags&net.FlagLoopback == 0 && own.Contains(a.AsSlice()) {
				return l.Attrs().Name, nil
			}
		}
	}
	return "", fmt.Errorf("no device has a subnet with %s", a)
}

// Up reports whether a device is there, set up, and has a carrier.
func (t *Table) Up(device string) bool {
	l, err := t.handle.LinkByName(device)
	return err == nil && up(l)
}

func up(l netlink.Link) bool {
	a := l.Attrs()
	return a.Flags&net.FlagUp != 0 && a.RawFlags&unix.IFF_LOWER_UP != 0
}

// Link is what was heard of a device.
type Link struct {
	Device string
	Up     bool // there, set up, and with a carrier
}

// Watch tells of every change of a link and of weft's routes until ctx ends, beginning with all links. It may tell what is known.
func Watch(ctx context.Context) (links <-chan Link, routes <-chan struct{}, err error) {
	heard, lost := make(chan netlink.LinkUpdate, 256), make(chan netlink.RouteUpdate, 256)
	done := ctx.Done()
	if err := netlink.LinkSubscribeWithOptions(heard, done, netlink.LinkSubscribeOptions{ListExisting: true}); err != nil {
		return nil, nil, fmt.Errorf("watch links: %w", err)
	}
	if err := netlink.RouteSubscribe(lost, done); err != nil {
		return nil, nil, fmt.Errorf("watch routes: %w", err)
	}
	out, wake := make(chan Link, 256), make(chan struct{}, 1)
	go func() {
		defer close(out)
		for u := range heard {
			select {
			case out <- Link{u.Attrs().Name, u.Header.Type != unix.RTM_DELLINK && up(u.Link)}:
			case <-done:
				return
			}
		}
	}()
	go func() {
		for u := range lost {
			if u.Protocol == Protocol {
				select {
				case wake <- struct{}{}:
				default:
				}
			}
		}
	}()
	return out, wake, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
