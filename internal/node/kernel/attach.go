// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// attachment is a place where a program runs.
type attachment struct {
	device  string // name, as it stands in the pin
	program string
}

func (a attachment) String() string { return a.device + "-" + a.program }

func parseAttachment(pin string) (attachment, bool) {
	i := strings.LastIndexByte(pin, '-')
	if i <= 0 || !slices.Contains(programNames(), pin[i+1:]) {
		return attachment{}, false
	}
	return attachment{pin[:i], pin[i+1:]}, true
}

// side is where the program hooks in, as the kernel names it.
func (a attachment) side() ebpf.AttachType {
	if a.program == bpfProgToPort {
		return ebpf.AttachTCXEgress
	}
	return ebpf.AttachTCXIngress
}

// AttachPort makes the programs run at a port's device and only then brings the device up, so that no packet passes
// unchecked. A program that runs there already is replaced, without a gap, only if it is another one.
func (d *Datapath) AttachPort(ifindex int, name string) error {
	for _, program := range []string{bpfProgToPort, bpfProgFromPort} {
		a := attachment{name, program}
		if err := errors.Join(d.attach(a, ifindex), d.hold(a)); err != nil {
			return err
		}
	}
	return device.SetUp(ifindex)
}

// DetachPort brings a port's device down, where it still exists, and takes the programs from it. Absent is fine.
func (d *Datapath) DetachPort(name string) error {
	if err := device.SetDown(name); err != nil {
		return err
	}
	for _, program := range []string{bpfProgFromPort, bpfProgToPort} {
		if err := d.detach(attachment{name, program}); err != nil {
			return fmt.Errorf("detach %s from %s: %w", program, name, err)
		}
	}
	return nil
}

// detach takes a program off. Where only its pin goes, the kernel does so some time later, and a device that is attached
// again meanwhile is refused.
func (d *Datapath) detach(a attachment) error {
	defer d.letGo(a)
	l, _, err := d.openLink(a)
	if err != nil || l == nil {
		return err
	}
	defer l.Close()
	if err := l.Detach(); err != nil {
		return err
	}
	return unpin(d.linkPin(a))
}

// AttachedPorts returns the names of the ports that are whole, in order: all programs run at the device, and it is up.
func (d *Datapath) AttachedPorts() ([]string, error) {
	pins, err := d.attachments()
	if err != nil {
		return nil, err
	}
	var ports []string
	for _, a := range pins {
		if a.program != bpfProgFromPort {
			continue
		}
		whole, err := d.wholePort(a.device)
		if err != nil {
			return nil, err
		}
		if whole {
			ports = append(ports, a.device)
		}
	}
	return ports, nil
}

func (d *Datapath) wholePort(name string) (bool, error) {
	for _, program := range []string{bpfProgFromPort, bpfProgToPort} {
		if on, err := d.runs(attachment{name, program}); err != nil || !on {
			return false, err
		}
	}
	l, found, err := device.FindLink(name)
	return found && l.Up, err
}

// ensureLinks attaches the programs of weft's own devices, moves every attached port to the present programs, and forgets places
// whose device is gone.
func (d *Datapath) ensureLinks(dev devices) error {
	for _, own := range []struct {
		attachment
		ifindex int
	}{{attachment{uplinkName, bpfProgFromUplink}, dev.uplink}, {attachment{serviceName, bpfProgFromService}, dev.service}} {
		if err := d.attach(own.attachment, own.ifindex); err != nil && d.trouble == nil {
			return err
		}
	}
	pins, err := d.attachments()
	if err != nil {
		return err
	}
	for _, a := range pins {
		l, at, err := d.openLink(a)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		if at.ifindex == 0 {
			d.letGo(a)
			err = unpin(d.linkPin(a))
		} else {
			err = errors.Join(d.update(l, a, at), d.hold(a))
		}
		l.Close()
		if err != nil {
			return fmt.Errorf("repair %s: %w", a, err)
		}
	}
	return nil
}

// attach makes one program run at one device.
func (d *Datapath) attach(a attachment, ifindex int) error {
	l, at, err := d.openLink(a)
	if err != nil {
		return err
	}
	if l != nil {
		defer l.Close()
		if at.ifindex == ifindex {
			return d.update(l, a, at)
		}
		// The device is gone, or was made anew under its name.
		d.letGo(a)
		if err := unpin(d.linkPin(a)); err != nil {
			return fmt.Errorf("forget %s: %w", a, err)
		}
	}
	return d.create(a, ifindex)
}

func (d *Datapath) create(a attachment, ifindex int) error {
	if d.programs[a.program] == nil {
		return fmt.Errorf("attach %s to %s: the programs of this build cannot be loaded: %w", a.program, a.device, d.trouble)
	}
	device.Wrote()
	l, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: d.programs[a.program], Attach: a.side()})
	if errors.Is(err, unix.ENODEV) {
		err = device.ErrNoDevice
	}
	if err != nil {
		return fmt.Errorf("attach %s to %s (%d): %w", a.program, a.device, ifindex, err)
	}
	defer l.Close()
	if err := l.Pin(d.linkPin(a)); err != nil {
		return fmt.Errorf("pin %s: %w", a, err)
	}
	return nil
}

// place is what the kernel says of a link.
type place struct {
	ifindex int // 0: the device is gone, or somebody detached the program
	program ebpf.ProgramID
}

// openLink returns nil when nothing is pinned.
func (d *Datapath) openLink(a attachment) (link.Link, place, error) {
	l, err := link.LoadPinnedLink(d.linkPin(a), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, place{}, nil
	}
	if err != nil {
		return nil, place{}, fmt.Errorf("open link %s: %w", a, err)
	}
	info, err := l.Info()
	if err != nil {
		l.Close()
		return nil, place{}, fmt.Errorf("look at link %s: %w", a, err)
	}
	at := place{program: info.Program}
	if tcx := info.TCX(); tcx != nil {
		at.ifindex = int(tcx.Ifindex)
	}
	return l, at, nil
}

// update replaces the program of a link unless it is the present one. While the maps are being filled, what runs stays.
func (d *Datapath) update(l link.Link, a attachment, at place) error {
	if d.waiting || d.programs[a.program] == nil {
		return nil
	}
	current, err := d.current(a, at)
	if err != nil || current {
		return err
	}
	d.step("link " + a.String())
	device.Wrote()
	if err := l.Update(d.programs[a.program]); err != nil {
		return fmt.Errorf("replace %s at %s: %w", a.program, a.device, err)
	}
	return nil
}

func (d *Datapath) current(a attachment, at place) (bool, error) {
	info, err := d.programs[a.program].Info()
	if err != nil {
		return false, fmt.Errorf("look at program %s: %w", a.program, err)
	}
	id, _ := info.ID()
	return id == at.program, nil
}

// runs reports whether the present program runs at the place, or the one before while that is to stay.
func (d *Datapath) runs(a attachment) (bool, error) {
	l, at, err := d.openLink(a)
	if err != nil || l == nil {
		return false, err
	}
	defer l.Close()
	if at.ifindex == 0 || d.waiting || d.programs[a.program] == nil {
		return at.ifindex != 0, nil
	}
	return d.current(a, at)
}

// attachments lists the pinned links in order of name.
func (d *Datapath) attachments() ([]attachment, error) {
	entries, err := os.ReadDir(d.linkDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list pinned links: %w", err)
	}
	var all []attachment
	for _, e := range entries {
		if a, ok := parseAttachment(e.Name()); ok {
			all = append(all, a)
		}
	}
	return all, nil
}

func (d *Datapath) linkPin(a attachment) string {
	return filepath.Join(d.linkDir(), a.String())
}
