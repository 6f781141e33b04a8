// SPDX-License-Identifier: Apache-2.0

// Package dhcp gives a workload of a lab its addresses as any machine gets them: by DHCPv4 and DHCPv6, from inside, over its own
// device. In IPv6 router and prefix come to the kernel by advertisement.
package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/dhcpv6/nclient6"

	"weft/internal/netns"
)

// How long a workload asks for its addresses: each question so long, so often; and the kernel for its router.
const (
	leaseAfter   = 500 * time.Millisecond
	leaseTries   = 8
	routerWithin = 5 * time.Second
	upWithin     = 3 * time.Second // a device plugged in a moment ago is seen to be up
)

// Client asks for the addresses of one device.
type Client struct {
	NetNS  string // name of the namespace that it is in
	Device string
}

// Lease gets the addresses of the IP versions asked for and sets them, with MTU and routes.
func (c Client) Lease(ctx context.Context, ipv4, ipv6 bool) error {
	if ipv4 {
		if err := whenUp(ctx, c.lease4); err != nil {
			return fmt.Errorf("no IPv4 address by DHCP: %w", err)
		}
	}
	if ipv6 {
		if err := whenUp(ctx, c.lease6); err != nil {
			return fmt.Errorf("no IPv6 address by DHCPv6 and router advertisement: %w", err)
		}
	}
	return nil
}

// whenUp repeats what fails because the device, plugged in a moment ago, is not seen to be up yet.
func whenUp(ctx context.Context, do func(context.Context) error) error {
	for deadline := time.Now().Add(upWithin); ; {
		err := do(ctx)
		if !errors.Is(err, syscall.ENETDOWN) && !errors.Is(err, syscall.EADDRNOTAVAIL) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// lease4 asks for the IPv4 address and sets it, with MTU and default route (RFC 2131).
func (c Client) lease4(ctx context.Context) error {
	var asker *nclient4.Client
	err := netns.Do(c.NetNS, func() (err error) { // its socket stays in the namespace where it was made
		asker, err = nclient4.New(c.Device, nclient4.WithTimeout(leaseAfter), nclient4.WithRetry(leaseTries))
		return err
	})
	if err != nil {
		return err
	}
	defer asker.Close()
	l, err := asker.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionInterfaceMTU, dhcpv4.OptionClasslessStaticRoute))
	if err != nil {
		return err
	}
	address, _ := netip.AddrFromSlice(l.ACK.YourIPAddr.To4())
	bits, _ := l.ACK.SubnetMask().Size()
	if !address.IsValid() || bits == 0 {
		return fmt.Errorf("the answer has address %s and mask %s", l.ACK.YourIPAddr, l.ACK.SubnetMask())
	}
	return netns.Inside(c.NetNS, func(ns *netns.Namespace) error {
		if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, l.ACK.Options); err == nil {
			if err := ns.SetMTU(c.Device, int(mtu)); err != nil {
				return err
			}
		}
		if err := ns.AddAddress(c.Device, netip.PrefixFrom(address, bits)); err != nil {
			return err
		}
		for _, r := range c.routes(l.ACK) {
			if err := ns.AddRoute(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// routes are the routes of an answer: the classless ones if there are any, else the router (RFC 3442).
func (c Client) routes(ack *dhcpv4.DHCPv4) []netns.Route {
	var routes []netns.Route
	add := func(to netip.Prefix, by net.IP) {
		if gateway, ok := netip.AddrFromSlice(by.To4()); ok && !gateway.IsUnspecified() {
			routes = append(routes, netns.Route{To: to, By: []netns.NextHop{{Gateway: gateway, Device: c.Device}}})
		}
	}
	for _, r := range ack.ClasslessStaticRoute() {
		to, ok := netip.AddrFromSlice(r.Dest.IP.To4())
		if bits, _ := r.Dest.Mask.Size(); ok {
			add(netip.PrefixFrom(to, bits), r.Router)
		}
	}
	if routes == nil {
		for _, r := range ack.Router() {
			add(netip.PrefixFrom(netip.IPv4Unspecified(), 0), r)
		}
	}
	return routes
}

// lease6 waits for the router, asks for the IPv6 address and sets it (RFC 4861, RFC 8415).
func (c Client) lease6(ctx context.Context) error {
	if err := c.awaitRouter(ctx); err != nil {
		return err
	}
	var asker *nclient6.Client
	err := netns.Do(c.NetNS, func() error {
		device, err := net.InterfaceByName(c.Device)
		if err != nil {
			return err
		}
		conn, err := c.listen6(ctx)
		if err != nil {
			return err
		}
		asker, err = nclient6.NewWithConn(conn, device.HardwareAddr, nclient6.WithTimeout(leaseAfter), nclient6.WithRetry(leaseTries))
		return err
	})
	if err != nil {
		return err
	}
	defer asker.Close()
	advertise, err := asker.Solicit(ctx)
	if err != nil {
		return err
	}
	answer, err := asker.Request(ctx, advertise)
	if err != nil {
		return err
	}
	address, err := addressIn(answer)
	if err != nil {
		return err
	}
	return netns.Inside(c.NetNS, func(ns *netns.Namespace) error {
		return ns.AddAddress(c.Device, netip.PrefixFrom(address, address.BitLen()))
	})
}

// listen6 opens a DHCPv6 client's socket at the workload's device. It is bound by name: package net remembers the numbers of
// devices by their names, which are the same in all namespaces.
func (c Client) listen6(ctx context.Context) (net.PacketConn, error) {
	bind := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		var err error
		cerr := conn.Control(func(fd uintptr) { err = syscall.BindToDevice(int(fd), c.Device) })
		return errors.Join(cerr, err)
	}}
	return bind.ListenPacket(ctx, "udp6", net.JoinHostPort("::", strconv.Itoa(dhcpv6.DefaultClientPort)))
}

// addressIn is the address that a reply gives.
func addressIn(reply *dhcpv6.Message) (netip.Addr, error) {
	ia := reply.Options.OneIANA()
	if ia == nil || ia.Options.OneAddress() == nil {
		return netip.Addr{}, fmt.Errorf("the answer has no address: %s", reply.Summary())
	}
	address, ok := netip.AddrFromSlice(ia.Options.OneAddress().IPv6Addr)
	if !ok {
		return netip.Addr{}, fmt.Errorf("the answer has the address %s", ia.Options.OneAddress().IPv6Addr)
	}
	return address, nil
}

var errNoRouter = errors.New("no router has advertised itself")

// awaitRouter waits until the kernel of the workload has heard of its router.
func (c Client) awaitRouter(ctx context.Context) error {
	for deadline := time.Now().Add(routerWithin); ; {
		var found bool
		err := netns.Inside(c.NetNS, func(ns *netns.Namespace) (err error) {
			found, err = ns.HasDefaultRoute(c.Device, true)
			return err
		})
		switch {
		case err != nil || found:
			return err
		case time.Now().After(deadline):
			return errNoRouter
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
