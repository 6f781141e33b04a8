// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is an open namespace: what netlink says and does inside it.
type Namespace struct {
	name   string
	handle *netlink.Handle
}

// Link is a device of a namespace.
type Link struct {
	Name      string
	Kind      string // "veth", "device" …
	Index     int
	MTU       int
	MAC       net.HardwareAddr
	Up        bool // set up, and with a carrier
	Addresses []netip.Prefix
}

// End is one end of a veth pair.
type End struct {
	NetNS string // name of the namespace
	Name  string
	MAC   net.HardwareAddr
	Index int // of the first end only; 0: the kernel's choice
}

// NextHop is one of the ways of a route.
type NextHop struct {
	Gateway netip.Addr
	Device  string
}

// Route leads to a prefix by one or several next hops of the same weight.
type Route struct {
	To     netip.Prefix
	Source netip.Addr // what packets from this namespace carry; invalid: the kernel's choice
	By     []NextHop
}

// Open opens the namespace name for work; Close it.
func Open(name string) (*Namespace, error) {
	n := &Namespace{name: name}
	err := Do(name, func() (err error) {
		n.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE) // the socket stays in the namespace it was made in
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open netlink in %s: %w", name, err)
	}
	return n, nil
}

// Inside opens the namespace name for as long as do runs.
func Inside(name string, do func(*Namespace) error) error {
	n, err := Open(name)
	if err != nil {
		return err
	}
	defer n.Close()
	return do(n)
}

// Close ends the work. The namespace stays.
func (n *Namespace) Close() { n.handle.Close() }

// CreateVeth makes a pair of devices, each directly in its namespace, down. It fails if one of them exists.
//
// The kernel tells at once that a device has lost its carrier only where the other end has another number; else that may take
// a second (linkwatch). Where it matters, give a number that nobody else has.
func CreateVeth(a, b End, mtu int) error {
	fa, err := openFile(a.NetNS)
	if err != nil {
		return err
	}
	defer fa.Close()
	fb, err := openFile(b.NetNS)
	if err != nil {
		return err
	}
	defer fb.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU, attrs.Index, attrs.Namespace = a.Name, a.MAC, mtu, a.Index, netlink.NsFd(int(fa.Fd()))
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr, veth.PeerMTU, veth.PeerNamespace = b.Name, b.MAC, uint32(mtu), netlink.NsFd(int(fb.Fd()))
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("create link %s in %s to %s in %s: %w", a.Name, a.NetNS, b.Name, b.NetNS, err)
	}
	return nil
}

// Links returns the devices, in the kernel's order.
func (n *Namespace) Links() ([]Link, error) {
	found, err := n.handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices of %s: %w", n.name, err)
	}
	addresses, err := n.handle.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", n.name, err)
	}
	links := make([]Link, 0, len(found))
	for _, l := range found {
		at := l.Attrs()
		link := Link{
			Name: at.Name, Kind: l.Type(), Index: at.Index, MTU: at.MTU, MAC: at.HardwareAddr,
			Up: at.Flags&net.FlagUp != 0 && at.OperState != netlink.OperLowerLayerDown,
		}
		for _, a := range addresses {
			if a.LinkIndex == at.Index {
				ip, _ := netip.AddrFromSlice(a.IP)
				ones, _ := a.Mask.Size()
				link.Addresses = append(link.Addresses, netip.PrefixFrom(ip.Unmap(), ones))
			}
		}
		links = append(links, link)
	}
	return links, nil
}

// SetUp brings a device up.
func (n *Namespace) SetUp(device string) error {
	return n.with(device, "bring up", n.handle.LinkSetUp)
}

// SetDown takes a device down; routes by it go with it.
func (n *Namespace) SetDown(device string) error {
	return n.with(device, "take down", n.handle.LinkSetDown)
}

// Delete removes a device, and its other end; absent is fine.
func (n *Namespace) Delete(device string) error {
	err := n.with(device, "delete", n.handle.LinkDel)
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return nil
	}
	return err
}

// AddAddress gives a device an address; one that it has is fine. In IPv6 it may be used at once: nobody is asked whether
// it is taken (RFC 4862 5.4).
func (n *Namespace) AddAddress(device string, a netip.Prefix) error {
	return n.with(device, "add address "+a.String()+" to", func(l netlink.Link) error {
		flags := 0
		if a.Addr().Is6() {
			flags = unix.IFA_F_NODAD
		}
		return n.handle.AddrReplace(l, &netlink.Addr{IPNet: toIPNet(a), Flags: flags})
	})
}

// SetMTU changes the MTU of a device, in bytes of layer 3.
func (n *Namespace) SetMTU(device string, mtu int) error {
	return n.with(device, fmt.Sprintf("set MTU %d of", mtu), func(l netlink.Link) error {
		if l.Attrs().MTU == mtu {
			return nil
		}
		return n.handle.LinkSetMTU(l, mtu)
	})
}

// HasDefaultRoute reports whether packets to anywhere have a way by the device, in one of the IP versions.
func (n *Namespace) HasDefaultRoute(device string, ipv6 bool) (found bool, err error) {
	family := netlink.FAMILY_V4
	if ipv6 {
		family = netlink.FAMILY_V6
	}
	err = n.with(device, "list routes of", func(l netlink.Link) error {
		routes, err := n.handle.RouteList(l, family)
		for _, r := range routes {
			found = found || r.Gw != nil && (r.Dst == nil || r.Dst.IP.IsUnspecified())
		}
		return err
	})
	return found, err
}

// Ways counts the next hops of the route to exactly this prefix; 0: there is none.
func (n *Namespace) Ways(to netip.Prefix) (int, error) {
	family := netlink.FAMILY_V4
	if to.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := n.handle.RouteListFiltered(family, &netlink.Route{Dst: toIPNet(to.Masked())}, netlink.RT_FILTER_DST)
	if err != nil {
		return 0, fmt.Errorf("routes to %s in %s: %w", to, n.name, err)
	}
	ways := 0
	for _, r := range routes {
		ways += max(1, len(r.MultiPath))
	}
	return ways, nil
}

// AddRoute adds a route, or replaces the one to the same prefix.
func (n *Namespace) AddRoute(r Route) error {
	route := &netlink.Route{Dst: toIPNet(r.To.Masked()), Protocol: unix.RTPROT_STATIC}
	if r.Source.IsValid() {
		route.Src = r.Source.AsSlice()
	}
	for _, h := range r.By {
		link, err := n.handle.LinkByName(h.Device)
		if err != nil {
			return fmt.Errorf("add route to %s in %s: device %s: %w", r.To, n.name, h.Device, err)
		}
		route.MultiPath = append(route.MultiPath, &netlink.NexthopInfo{LinkIndex: link.Attrs().Index, Gw: h.Gateway.AsSlice()})
	}
	if err := n.handle.RouteReplace(route); err != nil {
		return fmt.Errorf("add route to %s in %s: %w", r.To, n.name, err)
	}
	return nil
}

// SetSysctl writes a setting below /proc/sys, for example "net/ipv4/ip_forward".
func (n *Namespace) SetSysctl(key, value string) error {
	path := filepath.Join("/proc/sys", filepath.FromSlash(key))
	if !strings.HasPrefix(path, "/proc/sys/net/") {
		return fmt.Errorf("set %s in %s: only net/ belongs to a namespace: %w", key, n.name, syscall.EINVAL)
	}
	err := Do(n.name, func() error { return os.WriteFile(path, []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("set %s in %s: %w", key, n.name, err)
	}
	return nil
}

// with finds the device and does to it what.
func (n *Namespace) with(device, what string, do func(netlink.Link) error) error {
	link, err := n.handle.LinkByName(device)
	if err == nil {
		err = do(link)
	}
	if err != nil {
		return fmt.Errorf("%s %s in %s: %w", what, device, n.name, err)
	}
	return nil
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: slices.Clone(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
