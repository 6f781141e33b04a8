// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/cilium/ebpf"

	"weft/internal/node/kernel/device"
)

// mapSizes is how many entries each map can hold. Hashes take memory only as they fill, but for 16 bytes of index for
// each entry that they could hold.
var mapSizes = map[string]uint32{
	bpfMapPortInfo:     4 << 10,
	bpfMapOvlLocations: 256 << 10,
	bpfMapOvlSenders:   64 << 10,
	bpfMapDropCount:    16 << 10,
	bpfMapRateBuckets:  8 << 10,
	bpfMapRtRoutes:     64 << 10,
	bpfMapPortSources:  32 << 10,
}

// LoadSpec returns programs and maps as they were compiled, with the sizes of maps set and no configuration.
func LoadSpec() (*ebpf.CollectionSpec, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the embedded programs: %w", err)
	}
	for name, size := range mapSizes {
		spec.Maps[name].MaxEntries = size
	}
	return spec, nil
}

// pinnedMaps are the maps of the ABI: all but the ones that hold a program's own constants.
func pinnedMaps() []string {
	return []string{
		bpfMapAbiInfo, bpfMapDropCount, bpfMapOvlLocations, bpfMapOvlSenders, bpfMapPassCount, bpfMapPortInfo,
		bpfMapPortSources, bpfMapRateBuckets, bpfMapReceiveCount, bpfMapRtRoutes,
	}
}

// versionOf returns ABI_VERSION of bpf/abi/version.h as the objects were compiled with it.
func versionOf(spec *ebpf.CollectionSpec) (uint32, error) {
	var version uint32
	if err := spec.Variables["abi_version"].Get(&version); err != nil {
		return 0, fmt.Errorf("read the version of the embedded programs: %w", err)
	}
	return version, nil
}

// openMaps finds the pinned maps or makes them. One of another layout is an error: it is never deleted here.
func (d *Datapath) openMaps(spec *ebpf.CollectionSpec) error {
	running, err := d.running()
	if err != nil {
		return err
	}
	for _, name := range pinnedMaps() {
		m, err := d.openMap(spec.Maps[name], d.mapPin(name), running)
		if err != nil {
			return fmt.Errorf("map %s: %w", name, err)
		}
		d.maps[name] = m
	}
	if err := d.ensureVersion(); err != nil {
		return err
	}
	d.waiting, err = d.runElsewhere(running)
	return err
}

func (d *Datapath) openMap(spec *ebpf.MapSpec, path string, running []ebpf.ProgramID) (*ebpf.Map, error) {
	d.step("map " + spec.Name)
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		if m, err = carry(spec, running); m == nil && err == nil {
			m, err = createMap(spec)
		}
		if err != nil {
			return nil, err
		}
		device.Wrote()
		if err := m.Pin(path); err != nil {
			m.Close()
			return nil, fmt.Errorf("pin: %w", err)
		}
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open pin: %w", err)
	}
	if err := spec.Compatible(m); err != nil {
		m.Close()
		return nil, fmt.Errorf("%s was made by another build of weft, detach the node's ports and remove it: %w", path, err)
	}
	return m, nil
}

func createMap(spec *ebpf.MapSpec) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	return m, nil
}

func (d *Datapath) ensureVersion() error {
	m := d.maps[bpfMapAbiInfo]
	var info bpfAbiValue
	if err := m.Lookup(uint32(0), &info); err != nil {
		return fmt.Errorf("read the version of pinned maps: %w", err)
	}
	switch info.Version {
	case d.version:
		return nil
	case 0:
		device.Wrote()
		if err := m.Put(uint32(0), &bpfAbiValue{Version: d.version}); err != nil {
			return fmt.Errorf("write the version of pinned maps: %w", err)
		}
		return nil
	}
	return fmt.Errorf("pinned maps are of version %d, this build has %d: %w", info.Version, d.version, ErrMapIncompatible)
}

// unpin removes a pin; an absent one is fine.
func unpin(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	device.Wrote()
	return err
}
