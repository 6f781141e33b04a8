// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The family netdev of generic netlink (linux/netdev.h).
const (
	netdevGet      = 1
	netdevIndex    = 1
	netdevFeatures = 3
	featureBasic   = 1 // programs run in the driver, and may pass, drop, send back
)

// drivers is the kernel's family of questions about devices; nil: it is older than 6.3, and has none.
func drivers() (*netlink.GenlFamily, error) {
	family, err := netlink.GenlFamilyGet("netdev")
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the kernel's family netdev: %w", err)
	}
	return family, nil
}

// genlHeader is the kernel's struct genlmsghdr. The library's lacks the two bytes that have to be 0.
type genlHeader [nl.SizeofGenlmsg]byte

// Len is the length of the header (nl.NetlinkRequestData).
func (h genlHeader) Len() int { return len(h) }

// Serialize is the header (nl.NetlinkRequestData).
func (h genlHeader) Serialize() []byte { return h[:] }

// xdpOf asks a device's driver what it can do. Nothing is attached.
func xdpOf(family *netlink.GenlFamily, ifindex int) (XDP, error) {
	if family == nil {
		return XDPGeneric, nil
	}
	req := nl.NewNetlinkRequest(int(family.ID), 0) // one by one: the answers to a question for all are not marked as parts of one
	req.AddData(genlHeader{netdevGet, uint8(family.Version), 0, 0})
	req.AddData(nl.NewRtAttr(netdevIndex, nl.Uint32Attr(uint32(ifindex))))
	answers, err := req.Execute(unix.NETLINK_GENERIC, 0)
	if err != nil {
		return "", err
	}
	for _, a := range answers {
		attributes, err := nl.ParseRouteAttr(a[nl.SizeofGenlmsg:])
		if err != nil {
			return "", err
		}
		for _, at := range attributes {
			if at.Attr.Type == netdevFeatures && len(at.Value) >= 8 && binary.NativeEndian.Uint64(at.Value)&featureBasic != 0 {
				return XDPNative, nil
			}
		}
	}
	return XDPGeneric, nil
}
