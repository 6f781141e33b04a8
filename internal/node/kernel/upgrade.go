// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// An upgrade from one layout of the maps to another, and the way back, which is the same:
//
//	Open    maps of this layout, empty      links run the programs before, on their maps
//	(agent) fills the maps                  the same
//	Switch  each link gets the new program, in one step of the kernel
//	        the folders of other layouts are removed
//
// What runs is known by looking at the links, so the next Open goes on wherever the one before ended. Counters are the
// same maps before and after, as long as their layout is.

// Waiting reports whether what runs at the links works on other maps than these: another build's, or ones whose pins were
// removed. It goes on so until Switch; only devices that nothing runs at get the new programs.
func (d *Datapath) Waiting() bool { return d.waiting }

// Switch moves all links to this build's programs, once the caller has filled the maps, and removes what other builds left.
// One that fails half way can be repeated.
func (d *Datapath) Switch() error {
	switch {
	case !d.waiting:
		return nil
	case d.trouble != nil:
		return fmt.Errorf("the programs of this build cannot be loaded: %w", d.trouble)
	}
	d.waiting = false
	if err := d.Repair(); err != nil {
		d.waiting = true
		return fmt.Errorf("switch to the packet path of this build: %w", err)
	}
	d.cfg.Log.Info("packet path switched", "abi", d.version)
	return nil
}

// running lists the programs that run at the links, each once.
func (d *Datapath) running() ([]ebpf.ProgramID, error) {
	pins, err := d.attachments()
	if err != nil {
		return nil, err
	}
	var ids []ebpf.ProgramID
	for _, a := range pins {
		l, at, err := d.openLink(a)
		if err != nil {
			return nil, err
		}
		if l == nil {
			continue
		}
		l.Close()
		if at.ifindex != 0 && !slices.Contains(ids, at.program) {
			ids = append(ids, at.program)
		}
	}
	return ids, nil
}

// runElsewhere reports whether one of the programs works on maps that are not ours.
func (d *Datapath) runElsewhere(running []ebpf.ProgramID) (bool, error) {
	ours, err := d.mapIDs()
	if err != nil {
		return false, err
	}
	for _, program := range running {
		ids, err := mapsOf(program)
		if err != nil {
			return false, err
		}
		for _, id := range ids {
			if ours[id] {
				continue
			}
			m, info, err := openMapID(id)
			if err != nil {
				return false, err
			}
			m.Close()
			if !isConstants(info) {
				return true, nil
			}
		}
	}
	return false, nil
}

func (d *Datapath) mapIDs() (map[ebpf.MapID]bool, error) {
	ids := map[ebpf.MapID]bool{}
	for _, m := range d.maps {
		info, err := m.Info()
		if err != nil {
			return nil, fmt.Errorf("look at map: %w", err)
		}
		id, _ := info.ID()
		ids[id] = true
	}
	return ids, nil
}

// carry finds, for a map that only programs write, the one that they write now: counters do not begin again when all else
// is made anew. It returns nil if there is none, or if its layout is another.
func carry(spec *ebpf.MapSpec, running []ebpf.ProgramID) (*ebpf.Map, error) {
	if !slices.Contains([]string{bpfMapDropCount, bpfMapPassCount, bpfMapRateBuckets, bpfMapReceiveCount}, spec.Name) {
		return nil, nil
	}
	for _, program := range running {
		ids, err := mapsOf(program)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			m, info, err := openMapID(id)
			if err != nil {
				return nil, err
			}
			if info.Name == spec.Name && spec.Compatible(m) == nil {
				return m, nil
			}
			m.Close()
		}
	}
	return nil, nil
}

func mapsOf(id ebpf.ProgramID) ([]ebpf.MapID, error) {
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return nil, fmt.Errorf("open program %d, which runs: %w", id, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return nil, fmt.Errorf("look at program %d: %w", id, err)
	}
	ids, _ := info.MapIDs()
	return ids, nil
}

func openMapID(id ebpf.MapID) (*ebpf.Map, *ebpf.MapInfo, error) {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return nil, nil, fmt.Errorf("open a program's map: %w", err)
	}
	info, err := m.Info()
	if err != nil {
		m.Close()
		return nil, nil, fmt.Errorf("look at a program's map: %w", err)
	}
	return m, info, nil
}

// constants is the section of a program's configuration, which lies in a map of its own.
const constants = ".rodata"

func isConstants(m *ebpf.MapInfo) bool { return strings.HasSuffix(m.Name, constants) }

// removeOthers removes the maps and programs of other layouts, once nothing runs on them.
func (d *Datapath) removeOthers() error {
	if d.waiting {
		return nil
	}
	entries, err := os.ReadDir(d.cfg.PinDir)
	if err != nil {
		return fmt.Errorf("look for other builds' pins: %w", err)
	}
	for _, e := range entries {
		if n, err := strconv.ParseUint(strings.TrimPrefix(e.Name(), "v"), 10, 32); err != nil || e.Name() != fmt.Sprint("v", n) || uint32(n) == d.version {
			continue
		}
		if err := d.removeFolder(filepath.Join(d.cfg.PinDir, e.Name())); err != nil {
			return fmt.Errorf("remove another build's pins: %w", err)
		}
		d.cfg.Log.Info("packet path of another build removed", "folder", e.Name())
	}
	return nil
}

func (d *Datapath) removeFolder(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		d.step("remove " + e.Name())
		if err := unpin(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	d.step("remove folder")
	if err := os.Remove(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// step names what is done next.
func (d *Datapath) step(name string) {
	if d.cfg.step != nil {
		d.cfg.step(name)
	}
}
