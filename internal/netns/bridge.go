// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AddBridge makes a bridge of the kernel's, down.
func (n *Namespace) AddBridge(name string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("add bridge %s in %s: %w", name, n.name, err)
	}
	return nil
}

// AddVXLAN makes a VXLAN device of the kernel's (RFC 7348), down: it learns nothing, and sends from local to UDP port.
func (n *Namespace) AddVXLAN(name string, vni int, local netip.Addr, port, mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	v := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: vni, SrcAddr: local.AsSlice(), Port: port}
	if local.Is6() {
		v.UDP6ZeroCSumRx, v.UDP6ZeroCSumTx = true, true
	}
	if err := n.handle.LinkAdd(v); err != nil {
		return fmt.Errorf("add VXLAN device %s in %s: %w", name, n.name, err)
	}
	return nil
}

// AddForward makes a VXLAN device send what is for a MAC address to a remote end; 00:00:00:00:00:00 stands for all that are unknown.
func (n *Namespace) AddForward(device string, to net.HardwareAddr, remote netip.Addr) error {
	return n.with(device, "add forwarding entry to", func(l netlink.Link) error {
		return n.handle.NeighAppend(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT | netlink.NUD_NOARP,
			HardwareAddr: to, IP: remote.AsSlice(),
		})
	})
}

// SetMaster makes a device a port of a bridge.
func (n *Namespace) SetMaster(device, bridge string) error {
	return n.with(bridge, "find", func(b netlink.Link) error {
		return n.with(device, "add to bridge", func(l netlink.Link) error { return n.handle.LinkSetMasterByIndex(l, b.Attrs().Index) })
	})
}

// Segmentation are the offloads that let packets larger than the MTU pass a device: of TCP and others, to and from it.
var segmentation = []uint32{ethtoolSetTSO, ethtoolSetGSO, ethtoolSetGRO}

// SetSegmentation says whether a device takes and makes packets larger than its MTU (TSO, GSO, GRO), as a network card does that cuts
// and joins them itself.
func (n *Namespace) SetSegmentation(device string, on bool) error {
	var errs []error
	for _, command := range segmentation {
		v := &ethtoolValue{command: command}
		if on {
			v.data = 1
		}
		if err := n.ethtool(device, v); err != nil && !errors.Is(err, syscall.EOPNOTSUPP) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
