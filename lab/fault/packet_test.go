// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"

	"weft/internal/base/privtest"
)

// fate runs a fault's program on frames and says which of them it drops.
func fate(t *testing.T, decide asm.Instructions, frames ...[]byte) (dropped []bool) {
	t.Helper()
	privtest.Require(t)
	program, counts, err := build(decide)
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	defer counts.Close()
	drops := uint64(0)
	for _, f := range frames {
		verdict, _, err := program.Test(f)
		if err != nil {
			t.Fatal(err)
		}
		dropped = append(dropped, verdict == tcxDrop)
		if verdict == tcxDrop {
			drops++
		} else if int32(verdict) != tcxNext {
			t.Fatalf("verdict %d", int32(verdict))
		}
	}
	var got Tally
	if err := counts.Lookup(uint32(0), &got); err != nil || got != (Tally{uint64(len(frames)), drops}) {
		t.Errorf("counted %+v, want %d of %d, %v", got, drops, len(frames), err)
	}
	return dropped
}

func frame(etherType uint16, at int, address netip.Addr) []byte {
	f := make([]byte, 64)
	f[12], f[13] = byte(etherType>>8), byte(etherType)
	copy(f[at:], address.AsSlice())
	return f
}

func TestLossIsAsAskedAndRepeatable(t *testing.T) {
	const packets = 4000
	some := slices.Repeat([][]byte{make([]byte, 64)}, packets)
	for _, percent := range []float64{0.5, 10, 50, 99, 100} {
		dropped := fate(t, dropSome(percent, 7), some...)
		n := 0
		for _, d := range dropped {
			if d {
				n++
			}
		}
		if want := percent / 100 * packets; float64(n) < want-130 || float64(n) > want+130 || percent == 100 && n != packets { // 4 sigma
			t.Errorf("%v%%: %d of %d", percent, n, packets)
		}
		if !slices.Equal(dropped, fate(t, dropSome(percent, 7), some...)) {
			t.Errorf("%v%%: the same seed drops others", percent)
		}
		if percent == 50 && slices.Equal(dropped, fate(t, dropSome(percent, 8), some...)) {
			t.Error("another seed drops the same")
		}
	}
}

func TestPartitionDropsByAddress(t *testing.T) {
	far := []netip.Addr{netip.MustParseAddr("198.19.0.3"), netip.MustParseAddr("fd00:19::4")}
	near := []netip.Addr{netip.MustParseAddr("198.19.0.8"), netip.MustParseAddr("fd00:19::8")}
	for name, c := range map[string]struct {
		destination bool
		frame       []byte
		dropped     bool
	}{
		"to_far":     {true, frame(0x0800, 30, far[0]), true},
		"to_near":    {true, frame(0x0800, 30, near[0]), false},
		"from_far":   {false, frame(0x0800, 26, far[0]), true},
		"from_near":  {false, frame(0x0800, 26, near[0]), false},
		"to_far_6":   {true, frame(0x86dd, 38, far[1]), true},
		"to_near_6":  {true, frame(0x86dd, 38, near[1]), false},
		"from_far_6": {false, frame(0x86dd, 22, far[1]), true},
		"arp":        {true, frame(0x0806, 30, far[0]), false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := fate(t, dropBetween(far, c.destination), c.frame); got[0] != c.dropped {
				t.Errorf("dropped: %v", got[0])
			}
		})
	}
}
