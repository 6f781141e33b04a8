// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"weft/internal/node/kernel/device"
)

const (
	uplinkName = "weft-vx"
	vxlanPort  = 4789

	minMTU = 1280 // what IPv6 asks of every link
)

// Overhead is what the tunnel adds to a packet, in bytes of layer 3: UDP 8, VXLAN 8, inner Ethernet 14, and the outer IP
// header, 20 for IPv4 and 40 for IPv6.
func Overhead(tunnel netip.Addr) int {
	if tunnel.Unmap().Is4() {
		return 50
	}
	return 70
}

// ensureUplink makes the VXLAN device as it should be and returns its index. One device serves all VNIs: each packet
// brings its own tunnel data. Group policy is on from the first day, because it cannot be turned on later.
func ensureUplink(mtu int) (int, error) {
	found, err := findUplink()
	if err != nil {
		return 0, err
	}
	if found == nil {
		if found, err = createUplink(mtu); err != nil {
			return 0, err
		}
	}
	attrs := found.Attrs()
	if err := device.Quiet(attrs.Name); err != nil {
		return 0, err
	}
	if attrs.MTU != mtu {
		device.Wrote()
		if err := netlink.LinkSetMTU(found, mtu); err != nil {
			return 0, fmt.Errorf("set MTU of %s to %d: %w", uplinkName, mtu, err)
		}
	}
	return attrs.Index, device.SetUp(attrs.Index)
}

// findUplink returns the device if it is as it should be, and removes one of that name which cannot be made so.
func findUplink() (*netlink.Vxlan, error) {
	found, err := device.ByName(uplinkName)
	if errors.Is(err, device.ErrNoDevice) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	vx, ok := found.(*netlink.Vxlan)
	if !ok {
		return nil, fmt.Errorf("%s is a %s: %w", uplinkName, found.Type(), device.ErrWrongDevice)
	}
	if vx.FlowBased && vx.GBP && !vx.Learning && vx.Port == vxlanPort {
		return vx, nil
	}
	return nil, device.DeleteLink(uplinkName)
}

func createUplink(mtu int) (*netlink.Vxlan, error) {
	vx := &netlink.Vxlan{
		LinkAttrs: netlink.LinkAttrs{Name: uplinkName, MTU: mtu},
		FlowBased: true, GBP: true, Learning: false, Port: vxlanPort,
	}
	device.Wrote()
	if err := netlink.LinkAdd(vx); err != nil {
		return nil, fmt.Errorf("create %s: %w", uplinkName, err)
	}
	made, err := findUplink()
	if err == nil && made == nil {
		err = fmt.Errorf("create %s: the kernel made another device than asked for: %w", uplinkName, device.ErrWrongDevice)
	}
	return made, err
}
