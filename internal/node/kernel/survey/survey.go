// SPDX-License-Identifier: Apache-2.0

// Package survey looks at what a machine's kernel has and can do, in the network namespace of its caller, and changes nothing there:
// what has to be tried is tried in a namespace of its own that ends with the trial.
package survey

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Device is a network device.
type Device struct {
	Name, Kind, Alias string
	Index, MTU        int
	Up, Loopback      bool
	VXLANPort         int // of a VXLAN device
	Addresses         []netip.Prefix
	XDP               XDP
}

// XDP says how programs of XDP run at a device.
type XDP string

// How programs of XDP run.
const (
	XDPNative  XDP = "native"  // in the driver
	XDPGeneric XDP = "generic" // after the driver, on any device
)

// Devices lists the devices, in the kernel's order.
func Devices() ([]Device, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	family, err := drivers()
	if err != nil {
		return nil, err
	}
	var out []Device
	for _, l := range links {
		a := l.Attrs()
		d := Device{Name: a.Name, Kind: l.Type(), Alias: a.Alias, Index: a.Index, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Loopback: a.Flags&net.FlagLoopback != 0}
		if d.XDP, err = xdpOf(family, d.Index); err != nil {
			return nil, fmt.Errorf("ask the driver of %s for XDP: %w", d.Name, err)
		}
		if vx, ok := l.(*netlink.Vxlan); ok {
			d.VXLANPort = vx.Port
		}
		addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", a.Name, err)
		}
		for _, address := range addresses {
			ip, _ := netip.AddrFromSlice(address.IP)
			ones, _ := address.Mask.Size()
			d.Addresses = append(d.Addresses, netip.PrefixFrom(ip.Unmap(), ones))
		}
		out = append(out, d)
	}
	return out, nil
}

// Ways lists the devices by which routes with a gateway leave, each once.
func Ways() ([]int, error) {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []int
	add := func(ifindex int, gateway net.IP) {
		if gateway != nil && !slices.Contains(out, ifindex) {
			out = append(out, ifindex)
		}
	}
	for _, r := range routes {
		add(r.LinkIndex, r.Gw)
		for _, hop := range r.MultiPath {
			add(hop.LinkIndex, hop.Gw)
		}
	}
	return out, nil
}

// Apart runs f in a network namespace that ends with it.
func Apart(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("make a network namespace: %w", err)
			return
		}
		result <- f()
	}()
	return <-result
}

// loopback is its number in every new namespace.
const loopback = 1

// TryTCX attaches a program by tcx and replaces it, as the packet path needs.
func TryTCX() error {
	return Apart(func() error {
		spec := &ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}}
		program, err := ebpf.NewProgram(spec)
		if err != nil {
			return fmt.Errorf("load a program: %w", err)
		}
		defer program.Close()
		l, err := link.AttachTCX(link.TCXOptions{Interface: loopback, Program: program, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("attach by tcx: %w", err)
		}
		defer l.Close()
		if err := l.Update(program); err != nil {
			return fmt.Errorf("replace at its place: %w", err)
		}
		return nil
	})
}

// TryDevices makes one of each device that the agent makes.
func TryDevices() error {
	return Apart(func() error {
		var errs []error
		for _, l := range []netlink.Link{
			&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "weft-vx"}, FlowBased: true, GBP: true, Port: 4789},
			&netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "weft-svc"}, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI},
			&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "wp0"}, PeerName: "wp1"},
		} {
			if err := netlink.LinkAdd(l); err != nil {
				errs = append(errs, fmt.Errorf("a device of kind %s: %w", l.Type(), err))
			}
		}
		return errors.Join(errs...)
	})
}
