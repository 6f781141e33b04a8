// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"weft/internal/node/kernel/device"
)

// TakeDevice makes a device ready to become a port's: down until the programs run at it, of no interest to the node's own
// IPv6, and with the MTU of ports. Nothing is written where all is so.
func (d *Datapath) TakeDevice(name string, mtu int) error {
	found, err := device.ByName(name)
	if err != nil {
		return err
	}
	if found.Type() == "veth" {
		mtu = device.HostMTU
	}
	if err := d.HoldDevice(found.Attrs().Index, name); err != nil {
		return err
	}
	if err := device.Quiet(name); err != nil {
		return err
	}
	return device.SetMTU(found, mtu)
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
			return device.SetDown(name)
		}
	}
	return nil
}
