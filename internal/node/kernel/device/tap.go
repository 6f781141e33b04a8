// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TunDevice is where taps are made and opened.
const TunDevice = "/dev/net/tun"

// Tap is a persistent tap device of the node's namespace, for a virtual machine. Whether frames carry a virtio header is
// not the device's: each program that opens it (QEMU does) says so for itself.
type Tap struct {
	Name       string
	MTU        int
	Alias      string  // for people, and by which a tap of ours is known: "weft <tenant>/<port>"
	MultiQueue bool    // may be opened several times; then whoever opens it must ask for that
	Owner      *uint32 // the user who may open it beside root; nil: root alone
}

// CreateTap makes the device, down, and returns its index; one that is there is an error. It is made to outlive its maker
// last of all: who dies before leaves nothing, who dies after a tap that can be known.
func CreateTap(t Tap) (ifindex int, err error) {
	tun, err := os.OpenFile(TunDevice, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("create tap %s: there is no %s; load the kernel's module tun: %w", t.Name, TunDevice, err)
	}
	if err != nil {
		return 0, fmt.Errorf("create tap %s: %w", t.Name, err)
	}
	defer tun.Close()
	fd := int(tun.Fd())
	req, err := unix.NewIfreq(t.Name)
	if err != nil {
		return 0, fmt.Errorf("create tap %q: %w", t.Name, err)
	}
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if t.MultiQueue {
		flags |= unix.IFF_MULTI_QUEUE
	}
	req.SetUint16(flags)
	Wrote()
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return 0, fmt.Errorf("create tap %s: %w", t.Name, err)
	}
	made, err := ByName(t.Name)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(Quiet(t.Name), netlink.LinkSetMTU(made, t.MTU), netlink.LinkSetAlias(made, t.Alias)); err != nil {
		return 0, fmt.Errorf("configure tap %s: %w", t.Name, err)
	}
	owner := 0 // a tap that has none is for the kernel everybody's who can open TunDevice
	if t.Owner != nil {
		owner = int(*t.Owner)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOWNER, owner); err != nil {
		return 0, fmt.Errorf("set owner of tap %s to %d: %w", t.Name, owner, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return 0, fmt.Errorf("keep tap %s: %w", t.Name, err)
	}
	return made.Attrs().Index, nil
}
