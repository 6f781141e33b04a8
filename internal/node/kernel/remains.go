// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"slices"

	"weft/internal/node/kernel/device"
)

// Remains is what agents have left in the kernel below one folder of pins. It needs no programs and makes nothing.
type Remains struct{ path Datapath }

// Left looks at a folder of pins that may not be there.
func Left(pinDir string) *Remains { return &Remains{Datapath{cfg: Config{PinDir: pinDir}}} }

// Places returns the names of the devices where programs were put, whether or not they are still there, in order.
func (r *Remains) Places() ([]string, error) {
	pins, err := r.path.attachments()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range pins {
		names = append(names, a.device)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// DetachPort is Datapath's.
func (r *Remains) DetachPort(name string) error { return r.path.DetachPort(name) }

// FindLink returns a device by name.
func (r *Remains) FindLink(name string) (device.Link, bool, error) { return device.FindLink(name) }

// Links returns the devices whose names begin with prefix.
func (r *Remains) Links(prefix string) ([]device.Link, error) { return device.Links(prefix) }

// DeleteLink removes a device; an absent one is fine.
func (r *Remains) DeleteLink(name string) error { return device.DeleteLink(name) }

// ReturnDevice gives a device back as it was, but down.
func (r *Remains) ReturnDevice(name string, b device.Before) error { return device.Return(name, b) }

// OwnDevices returns the packet path's own devices that are there.
func OwnDevices() ([]string, error) {
	var found []string
	for _, name := range []string{serviceName, uplinkName} {
		_, ok, err := device.FindLink(name)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, name)
		}
	}
	return found, nil
}
