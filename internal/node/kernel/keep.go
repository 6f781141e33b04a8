// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"weft/internal/node/kernel/device"
)

// A pin is the name of something in the kernel, and holds it; so does a descriptor. The process holds its maps, programs and
// links by both: if somebody removes pins, packets are checked as before, and Repair puts the pins back.

// holds are the links that this process holds.
type holds struct {
	mu    sync.Mutex // guards links
	links map[attachment]link.Link
}

// hold keeps the pinned link of a place open.
func (d *Datapath) hold(a attachment) error {
	l, at, err := d.openLink(a)
	if err != nil || l == nil {
		return err
	}
	d.held.mu.Lock()
	defer d.held.mu.Unlock()
	if old := d.held.links[a]; old != nil {
		if sameLink(old, l) || at.ifindex == 0 {
			return l.Close()
		}
		old.Close()
	}
	if d.held.links == nil {
		d.held.links = make(map[attachment]link.Link)
	}
	d.held.links[a] = l
	return nil
}

// letGo closes the link of a place; none is fine.
func (d *Datapath) letGo(a attachment) {
	d.held.mu.Lock()
	defer d.held.mu.Unlock()
	if l := d.held.links[a]; l != nil {
		l.Close()
		delete(d.held.links, a)
	}
}

func (d *Datapath) letGoAll() {
	d.held.mu.Lock()
	defer d.held.mu.Unlock()
	for _, l := range d.held.links {
		l.Close()
	}
	d.held.links = nil
}

func sameLink(x, y link.Link) bool {
	a, err := x.Info()
	b, err2 := y.Info()
	return err == nil && err2 == nil && a.ID == b.ID
}

// keepPins puts pins back that somebody removed, of maps and links that this process holds.
func (d *Datapath) keepPins() error {
	for _, dir := range []string{d.versionDir(), d.linkDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder for pins: %w", err)
		}
	}
	for name, m := range d.maps {
		if err := d.keepMap(name, m); err != nil {
			return fmt.Errorf("pin map %s again: %w", name, err)
		}
	}
	d.held.mu.Lock()
	defer d.held.mu.Unlock()
	for a, l := range d.held.links {
		if err := d.keepLink(a, l); err != nil {
			return fmt.Errorf("pin %s again: %w", a, err)
		}
	}
	return nil
}

func (d *Datapath) keepMap(name string, m *ebpf.Map) error {
	path := d.mapPin(name)
	pinned, err := ebpf.LoadPinnedMap(path, nil)
	if err == nil {
		same, err := sameMap(pinned, m)
		if err := errors.Join(err, pinned.Close()); err != nil || same {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := unpin(path); err != nil {
		return err
	}
	again, err := m.Clone() // which has no pin, whatever m believes
	if err != nil {
		return err
	}
	defer again.Close()
	device.Wrote()
	d.cfg.Log.Warn("pin put back", "pin", path)
	return again.Pin(path)
}

func sameMap(x, y *ebpf.Map) (bool, error) {
	a, err := x.Info()
	b, err2 := y.Info()
	if err := errors.Join(err, err2); err != nil {
		return false, err
	}
	id, _ := a.ID()
	other, _ := b.ID()
	return id == other, nil
}

// keepLink leaves alone a pin that leads elsewhere by now: links are looked at one by one.
func (d *Datapath) keepLink(a attachment, l link.Link) error {
	path := d.linkPin(a)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, err := l.Info()
	if err != nil {
		return err
	}
	if tcx := info.TCX(); tcx == nil || tcx.Ifindex == 0 {
		return nil // it runs nowhere any more
	}
	if err := l.Unpin(); err != nil {
		return err
	}
	device.Wrote()
	d.cfg.Log.Warn("pin put back", "pin", path)
	return l.Pin(path)
}
