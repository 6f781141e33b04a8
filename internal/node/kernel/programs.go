// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"weft/internal/node/kernel/device"
)

// programNames are the programs of a node.
func programNames() []string {
	return []string{bpfProgFromPort, bpfProgToPort, bpfProgFromUplink, bpfProgFromService}
}

// ensurePrograms loads the programs, unless the pinned ones are the same: same instructions, same configuration, on
// the same maps.
func (d *Datapath) ensurePrograms(dev devices) error {
	if len(d.programs) > 0 && d.trouble == nil && d.loadedFor == dev {
		return d.keepPrograms()
	}
	spec, err := d.spec()
	if err != nil {
		return err
	}
	if err := d.configure(spec, dev); err != nil {
		return err
	}
	loaded, err := d.loadPrograms(spec)
	if err != nil {
		return d.refused(err)
	}
	d.trouble, d.loadedFor = nil, dev
	pinned := map[string]*ebpf.Program{}
	for _, name := range programNames() {
		p, err := d.pinnedProgram(spec, name, loaded[name])
		if err != nil {
			closeAll(pinned)
			closeAll(loaded)
			return err
		}
		if p == nil {
			closeAll(pinned)
			return d.replacePrograms(loaded)
		}
		pinned[name] = p
	}
	closeAll(loaded)
	d.setPrograms(pinned)
	return nil
}

// keepPrograms puts pins of programs back that somebody removed.
func (d *Datapath) keepPrograms() error {
	for _, name := range programNames() {
		if _, err := os.Stat(d.programPin(name)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		p, err := d.programs[name].Clone()
		if err != nil {
			return fmt.Errorf("pin program %s again: %w", name, err)
		}
		d.cfg.Log.Warn("pin put back", "pin", d.programPin(name))
		if err := errors.Join(d.pinProgram(name, p), p.Close()); err != nil {
			return err
		}
	}
	return nil
}

// refused notes that the kernel does not take this build's programs. What runs, goes on: pinned programs of this layout are
// taken, as an earlier build left them, and without them links stay as they are.
func (d *Datapath) refused(why error) error {
	if d.trouble == nil || d.trouble.Error() != why.Error() {
		d.cfg.Log.Error("the programs of this build cannot be loaded; what runs stays", "err", why)
	}
	d.trouble = why
	if len(d.programs) > 0 {
		return nil
	}
	pinned := map[string]*ebpf.Program{}
	for _, name := range programNames() {
		p, err := ebpf.LoadPinnedProgram(d.programPin(name), nil)
		if err != nil {
			closeAll(pinned)
			return nil // a part of them serves nobody
		}
		pinned[name] = p
	}
	d.setPrograms(pinned)
	return nil
}

// Trouble returns why this build's programs could not be loaded; nil: they were. It is tried again by each Repair.
func (d *Datapath) Trouble() error { return d.trouble }

// loadPrograms loads all programs on our maps, attached to nothing. What they are can be known only then: calls and
// offsets are resolved against the running kernel.
func (d *Datapath) loadPrograms(spec *ebpf.CollectionSpec) (map[string]*ebpf.Program, error) {
	for _, name := range pinnedMaps() {
		spec.Maps[name].Pinning = ebpf.PinNone
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: d.maps})
	if err != nil {
		return nil, fmt.Errorf("load programs: %w", err)
	}
	defer coll.Close()
	loaded := map[string]*ebpf.Program{}
	for _, name := range programNames() {
		loaded[name] = coll.DetachProgram(name)
	}
	return loaded, nil
}

func (d *Datapath) configure(spec *ebpf.CollectionSpec, dev devices) error {
	var ipv6 uint8
	if d.cfg.Tunnel.Is6() {
		ipv6 = 1
	}
	for name, value := range map[string]any{
		"config_tunnel":      rawAddr(d.cfg.Tunnel),
		"config_tunnel_ipv6": ipv6,
		"config_uplink":      uint32(dev.uplink),
		"config_service":     uint32(dev.service),
		"config_router_mac":  d.cfg.RouterMAC,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// pinnedProgram returns the pinned program if it is the same as the loaded one, else nil.
func (d *Datapath) pinnedProgram(spec *ebpf.CollectionSpec, name string, loaded *ebpf.Program) (*ebpf.Program, error) {
	p, err := ebpf.LoadPinnedProgram(d.programPin(name), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pinned program %s: %w", name, err)
	}
	same, err := d.same(spec, p, loaded)
	if err != nil || !same {
		p.Close()
		return nil, err
	}
	return p, nil
}

// same compares instructions by the kernel's tag, maps, and configuration.
func (d *Datapath) same(spec *ebpf.CollectionSpec, pinned, loaded *ebpf.Program) (bool, error) {
	info, err := pinned.Info()
	if err != nil {
		return false, fmt.Errorf("look at pinned program: %w", err)
	}
	want, err := loaded.Info()
	if err != nil {
		return false, fmt.Errorf("look at loaded program: %w", err)
	}
	if info.Tag != want.Tag {
		return false, nil
	}
	ours, err := d.mapIDs()
	if err != nil {
		return false, err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		if ours[id] {
			continue
		}
		if same, err := sameConstants(spec, id); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// sameConstants compares the configuration a program was loaded with, which lies in a map of its own.
func sameConstants(spec *ebpf.CollectionSpec, id ebpf.MapID) (bool, error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return false, fmt.Errorf("open a program's map: %w", err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return false, fmt.Errorf("look at a program's map: %w", err)
	}
	if !isConstants(info) || info.Type != ebpf.Array {
		return false, nil // a map that is no longer pinned: the program works on another table
	}
	now, err := m.LookupBytes(uint32(0))
	if err != nil {
		return false, fmt.Errorf("read a program's constants: %w", err)
	}
	for _, v := range spec.Variables {
		if v.SectionName != constants {
			continue
		}
		end := int(v.Offset) + len(v.Value)
		if end > len(now) || !bytes.Equal(now[v.Offset:end], v.Value) {
			return false, nil
		}
	}
	return true, nil
}

// replacePrograms pins all programs in place of the ones before. Links still run the old ones.
func (d *Datapath) replacePrograms(loaded map[string]*ebpf.Program) error {
	for _, name := range programNames() {
		d.step("pin " + name)
		if err := d.pinProgram(name, loaded[name]); err != nil {
			closeAll(loaded)
			return err
		}
	}
	d.setPrograms(loaded)
	d.cfg.Log.Info("packet path programs loaded", "programs", strings.Join(slices.Sorted(maps.Keys(loaded)), " "))
	return nil
}

// pinProgram replaces the pin in one step.
func (d *Datapath) pinProgram(name string, p *ebpf.Program) error {
	pin := d.programPin(name)
	next := pin + "_next"
	if err := unpin(next); err != nil {
		return fmt.Errorf("remove old pin: %w", err)
	}
	device.Wrote()
	if err := p.Pin(next); err != nil {
		return fmt.Errorf("pin program %s: %w", name, err)
	}
	if err := os.Rename(next, pin); err != nil {
		return fmt.Errorf("pin program %s: %w", name, err)
	}
	return nil
}

func (d *Datapath) programPin(name string) string {
	return filepath.Join(d.versionDir(), "prog_"+name)
}

func (d *Datapath) setPrograms(p map[string]*ebpf.Program) {
	closeAll(d.programs)
	d.programs = p
}

func closeAll(programs map[string]*ebpf.Program) {
	for _, p := range programs {
		p.Close()
	}
}
