// SPDX-License-Identifier: Apache-2.0

package device

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link is a network device of the process's namespace.
type Link struct {
	Name  string
	Index int
	MTU   int
	Up    bool
	Alias string
	Tap   bool
	// Elsewhere says that it is one end of a veth, and that the other is in another namespace.
	Elsewhere bool
}

// FindLink returns a device by name, and whether there is one.
func FindLink(name string) (Link, bool, error) {
	found, err := ByName(name)
	if errors.Is(err, ErrNoDevice) {
		return Link{}, false, nil
	}
	if err != nil {
		return Link{}, false, err
	}
	return linkOf(found), true, nil
}

// Links lists the devices whose names begin with prefix, in order of name.
func Links(prefix string) ([]Link, error) {
	all, err := whole(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var links []Link
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, prefix) {
			links = append(links, linkOf(l))
		}
	}
	slices.SortFunc(links, func(a, b Link) int { return cmp.Compare(a.Name, b.Name) })
	return links, nil
}

// DeleteLink removes a device; an absent one is fine.
func DeleteLink(name string) error {
	found, err := ByName(name)
	if errors.Is(err, ErrNoDevice) {
		return nil
	}
	if err != nil {
		return err
	}
	Wrote()
	if err := netlink.LinkDel(found); err != nil && !errors.Is(err, unix.ENODEV) { // it may go with its other end
		return fmt.Errorf("delete device %s: %w", name, err)
	}
	return nil
}

// whole repeats a list that somebody else's change has broken off.
func whole[T any](list func() ([]T, error)) ([]T, error) {
	const tries = 5
	for range tries - 1 {
		if all, err := list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return list()
}

func linkOf(l netlink.Link) Link {
	a := l.Attrs()
	tap, ok := l.(*netlink.Tuntap)
	return Link{
		Name: a.Name, Index: a.Index, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0, Alias: a.Alias,
		Tap:       ok && tap.Mode == netlink.TUNTAP_MODE_TAP,
		Elsewhere: l.Type() == "veth" && a.NetNsID != -1,
	}
}

// ByName returns a device as netlink has it, or ErrNoDevice.
func ByName(name string) (netlink.Link, error) {
	found, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("device %s: %w", name, ErrNoDevice)
	}
	if err != nil {
		return nil, fmt.Errorf("look for device %s: %w", name, err)
	}
	return found, nil
}

// SetUp brings a device up.
func SetUp(ifindex int) error {
	found, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return fmt.Errorf("look for device %d: %w", ifindex, err)
	}
	if found.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	Wrote()
	if err := netlink.LinkSetUp(found); err != nil {
		return fmt.Errorf("bring %s up: %w", found.Attrs().Name, err)
	}
	return nil
}

// SetDown brings a device down; an absent one is fine.
func SetDown(name string) error {
	found, err := ByName(name)
	if errors.Is(err, ErrNoDevice) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Attrs().Flags&net.FlagUp == 0 {
		return nil
	}
	Wrote()
	if err := netlink.LinkSetDown(found); err != nil {
		return fmt.Errorf("bring %s down: %w", name, err)
	}
	return nil
}
