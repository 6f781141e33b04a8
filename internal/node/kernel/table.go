// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// batchSize is how many entries one system call reads.
const batchSize = 1024

// codec turns keys and values into the layouts of bpf/abi and back.
type codec[K, V comparable, RK, RV any] struct {
	key      func(K) RK
	value    func(K, V) RV // which says whose it is
	fromKey  func(*RK) K
	fromRead func(*RV) V
}

// table is a map of the packet path in Go's words.
type table[K, V comparable, RK, RV any] struct {
	m *ebpf.Map
	codec[K, V, RK, RV]
}

func newTable[K, V comparable, RK, RV any](m *ebpf.Map, c codec[K, V, RK, RV]) table[K, V, RK, RV] {
	return table[K, V, RK, RV]{m, c}
}

// All returns every entry that is in the kernel.
func (t *table[K, V, RK, RV]) All() (map[K]V, error) {
	all := map[K]V{}
	keys, values := make([]RK, batchSize), make([]RV, batchSize)
	for cursor := (ebpf.MapBatchCursor{}); ; {
		n, err := t.m.BatchLookup(&cursor, keys, values, nil)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, fmt.Errorf("read map %s: %w", t.m, err)
		}
		for i := range n {
			all[t.fromKey(&keys[i])] = t.fromRead(&values[i])
		}
		if err != nil {
			return all, nil
		}
	}
}

// Put adds an entry or replaces it.
func (t *table[K, V, RK, RV]) Put(key K, value V) error {
	k, v := t.key(key), t.value(key, value)
	device.Wrote()
	err := t.m.Put(&k, &v)
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) { // a hash's word for it, and a trie's
		err = fmt.Errorf("%w: it has room for %d entries", ErrMapFull, t.m.MaxEntries())
	}
	if err != nil {
		return fmt.Errorf("write %v to map %s: %w", key, t.m, err)
	}
	return nil
}

// Delete removes an entry; an absent one is fine.
func (t *table[K, V, RK, RV]) Delete(key K) error {
	k := t.key(key)
	err := t.m.Delete(&k)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	device.Wrote()
	if err != nil {
		return fmt.Errorf("delete %v from map %s: %w", key, t.m, err)
	}
	return nil
}

// rawAddr is an address in the packet path's 16-byte form; the zero Addr is all zero.
func rawAddr(a netip.Addr) bpfAddr {
	if !a.IsValid() {
		return bpfAddr{}
	}
	return bpfAddr{B: a.As16()}
}

func addrFrom(b [16]byte) netip.Addr {
	if b == [16]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom16(b).Unmap()
}
