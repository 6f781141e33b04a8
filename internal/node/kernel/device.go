// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
)

// Before is how a device was before a port took it: what giving it back restores.
type Before struct {
	Index int  `json:"index"`
	MTU   int  `json:"mtu"`
	IPv6  bool `json:"ipv6"` // the node's stack spoke IPv6 there
}

// OwnDevice reports whether the name is one of the packet path's own devices.
func OwnDevice(name string) bool { return strings.HasPrefix(name, "weft-") }

// InspectDevice says how a device is that a port is about to take.
func InspectDevice(name string) (Before, error) {
	found, err := linkByName(name)
	if err != nil {
		return Before{}, err
	}
	return Before{Index: found.Attrs().Index, MTU: found.Attrs().MTU, IPv6: !isQuiet(name)}, nil
}

// TakeDevice makes a device ready to become a port's: down until the programs run at it, of no interest to the node's own
// IPv6, and with the MTU of ports. Nothing is written where all is so.
func (d *Datapath) TakeDevice(name string, mtu int) error {
	found, err := linkByName(name)
	if err != nil {
		return err
	}
	if found.Type() == "veth" {
		mtu = hostMTU
	}
	if err := d.HoldDevice(found.Attrs().Index, name); err != nil {
		return err
	}
	if err := quiet(name); err != nil {
		return err
	}
	return setMTU(found, mtu)
}

// HoldDevice brings a device down at which the programs do not run.
func (d *Datapath) HoldDevice(ifindex int, name string) error {
	for _, program := range []string{bpfProgFromPort, bpfProgToPort} {
		l, at, err := d.openLink(attachment{name, program})
		if err != nil {
			return err
		}
		if l != nil {
			l.Close()
		}
		if l == nil || at.ifindex != ifindex {
			return SetDown(name)
		}
	}
	return nil
}

// ReturnDevice gives a device back as it was, but down: whoever brings it up decides what may pass then. One that is gone,
// or was made anew, is left alone.
func ReturnDevice(name string, b Before) error {
	found, err := linkByName(name)
	if errors.Is(err, ErrNoDevice) {
		return nil
	}
	if err != nil || found.Attrs().Index != b.Index {
		return err
	}
	if b.IPv6 {
		if err := ensureSysctl(ipv6Switch(name), "0"); err != nil {
			return err
		}
	}
	return setMTU(found, b.MTU)
}

func setMTU(l netlink.Link, mtu int) error {
	if l.Attrs().MTU == mtu {
		return nil
	}
	writes.Add(1)
	if err := netlink.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set MTU of %s to %d: %w", l.Attrs().Name, mtu, err)
	}
	return nil
}

func isQuiet(device string) bool {
	now, err := os.ReadFile("/proc/sys/" + ipv6Switch(device))
	return err != nil || strings.TrimSpace(string(now)) == "1" // without IPv6 in the kernel all are
}
