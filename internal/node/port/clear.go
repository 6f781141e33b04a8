// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"weft/internal/node/kernel/device"
)

// Clearer is what taking all ports off a node needs of its kernel. Every call may be repeated.
type Clearer interface {
	// FindLink returns a device by name.
	FindLink(name string) (device.Link, bool, error)
	// Links returns the devices whose names begin with prefix.
	Links(prefix string) ([]device.Link, error)
	// DeleteLink removes a device; an absent one is fine.
	DeleteLink(name string) error
	// ReturnDevice gives a device back as it was, but down; one that is gone is fine.
	ReturnDevice(name string, b device.Before) error
	// Places returns the names of the devices where programs were put, whether or not they are still there.
	Places() ([]string, error)
	// DetachPort brings a device down and takes the programs off, whether or not the device still exists.
	DetachPort(name string) error
}

// Left is what a port has on a node: a device, or the trace of one.
type Left struct {
	Port   string // tenant/port; "": nobody knows any more
	Device string
	There  bool // the device is

	attachment *Attachment
}

// Find lists what ports have on the node, by device: as the state file says, as devices are named, and where programs are.
func Find(stateFile string, k Clearer) ([]Left, error) {
	list, err := loadAttachments(stateFile)
	if err != nil {
		return nil, err
	}
	found := make(map[string]Left)
	for _, a := range list {
		if a.taken() && a.Before == nil {
			continue // it was never touched
		}
		found[a.HostDevice()] = Left{Port: a.ID.String(), Device: a.HostDevice(), attachment: &a}
	}
	places, err := k.Places()
	if err != nil {
		return nil, err
	}
	for _, name := range places {
		if _, known := found[name]; !known && !device.Own(name) {
			found[name] = Left{Device: name}
		}
	}
	links, err := k.Links("")
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		f, known := found[l.Name]
		if !known && !made(l) {
			continue
		}
		if id, ok := strings.CutPrefix(l.Alias, "weft "); ok && f.Port == "" {
			f.Port = id
		}
		f.Device, f.There = l.Name, true
		found[l.Name] = f
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Left) int { return strings.Compare(a.Device, b.Device) }), nil
}

// Clear takes away what Find has found, each device down first, so that no packet passes without programs; what the agent did not
// make is given back. The state file goes last.
func Clear(stateFile string, k Clearer, found []Left) error {
	var errs []error
	for _, f := range found {
		if err := f.clear(k); err != nil {
			errs = append(errs, fmt.Errorf("take down %s of %s: %w", f.Device, f.Port, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, file := range []string{stateFile, stateFile + ".next"} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget attachments: %w", err)
		}
	}
	return nil
}

func (f *Left) clear(k Clearer) error {
	if err := k.DetachPort(f.Device); err != nil {
		return err
	}
	link, ok, err := k.FindLink(f.Device)
	switch {
	case err != nil || !ok:
		return err
	case made(link):
		return k.DeleteLink(f.Device)
	case f.attachment != nil && f.attachment.Before != nil:
		return k.ReturnDevice(f.Device, *f.attachment.Before)
	}
	return nil
}
