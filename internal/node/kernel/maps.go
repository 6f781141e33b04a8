// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
)

// abiVersion is ABI_VERSION of bpf/abi/version.h.
const abiVersion = 2

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

// openMaps finds the pinned maps or makes them. One of another layout is an error: it is never deleted here.
func openMaps(spec *ebpf.CollectionSpec, dir string) (map[string]*ebpf.Map, error) {
	maps := map[string]*ebpf.Map{}
	for _, name := range pinnedMaps() {
		m, err := openMap(spec.Maps[name], filepath.Join(dir, name))
		if err != nil {
			for _, m := range maps {
				m.Close()
			}
			return nil, fmt.Errorf("map %s: %w", name, err)
		}
		maps[name] = m
	}
	if err := ensureVersion(maps[bpfMapAbiInfo]); err != nil {
		for _, m := range maps {
			m.Close()
		}
		return nil, err
	}
	return maps, nil
}

func openMap(spec *ebpf.MapSpec, path string) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return createMap(spec, path)
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

func createMap(spec *ebpf.MapSpec, path string) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, fmt.Errorf("create: %w", err)
	}
	writes.Add(1)
	if err := m.Pin(path); err != nil {
		m.Close()
		return nil, fmt.Errorf("pin: %w", err)
	}
	return m, nil
}

func ensureVersion(m *ebpf.Map) error {
	var info bpfAbiValue
	if err := m.Lookup(uint32(0), &info); err != nil {
		return fmt.Errorf("read the version of pinned maps: %w", err)
	}
	switch info.Version {
	case abiVersion:
		return nil
	case 0:
		writes.Add(1)
		if err := m.Put(uint32(0), &bpfAbiValue{Version: abiVersion}); err != nil {
			return fmt.Errorf("write the version of pinned maps: %w", err)
		}
		return nil
	}
	return fmt.Errorf("pinned maps are of version %d, this build has %d: %w", info.Version, abiVersion, ErrMapIncompatible)
}

// unpin removes a pin; an absent one is fine.
func unpin(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	writes.Add(1)
	return err
}
