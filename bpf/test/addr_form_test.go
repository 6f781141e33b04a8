// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"weft/internal/base/privtest"
	"weft/internal/node/kernel"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -no-global-types addrForm c/addr_form.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Wno-unused-parameter -Werror -nostdlibinc -I../include

const addrFormEntries = 64 << 10

// BenchmarkAddressForm compares lookups by 4-byte and by 16-byte addresses. Each loop is one program run of 16,384
// lookups of each, in turns; what is reported is the median of the runs, and the range of the middle 80% of them.
func BenchmarkAddressForm(b *testing.B) {
	objects := loadAddrFormFilled(b)
	var lookups uint32
	if err := objects.Lookups.Get(&lookups); err != nil {
		b.Fatal(err)
	}
	var short, long, bare, ratio []float64
	for b.Loop() {
		var ns [3]uint64
		if _, err := objects.AddrForm.Run(runOnce()); err != nil {
			b.Fatal(err)
		}
		for i, v := range []interface{ Get(any) error }{objects.ShortNs, objects.LongNs, objects.BareNs} {
			if err := v.Get(&ns[i]); err != nil {
				b.Fatal(err)
			}
		}
		each := func(i int) float64 { return float64(ns[i]) / float64(lookups) }
		short, long, bare = append(short, each(0)), append(long, each(1)), append(bare, each(2))
		ratio = append(ratio, each(1)/each(0))
	}
	b.ReportMetric(0, "ns/op") // says nothing here
	for name, v := range map[string][]float64{"short-ns": short, "long-ns": long, "bare-ns": bare, "long/short": ratio} {
		slices.Sort(v)
		b.ReportMetric(v[len(v)/2], name)
		b.Logf("%-10s median %.2f, 10%%..90%% %.2f..%.2f of %d runs", name, v[len(v)/2], v[len(v)/10], v[len(v)*9/10], len(v))
	}
}

// TestAddressFormFindsEverything keeps the measurement honest: every lookup must hit.
func TestAddressFormFindsEverything(t *testing.T) {
	objects := loadAddrFormFilled(t)
	if _, err := objects.AddrForm.Run(runOnce()); err != nil {
		t.Fatal(err)
	}
	var lookups uint32
	var found uint64
	for _, err := range []error{objects.Lookups.Get(&lookups), objects.Found.Get(&found)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := uint64(2*lookups) * uint64(kernel.LocationRemote); found < want {
		t.Errorf("sum of what was found %d, want at least %d", found, want)
	}
}

func loadAddrFormFilled(t testing.TB) *addrFormObjects {
	t.Helper()
	privtest.Require(t)
	var objects addrFormObjects
	if err := loadAddrFormObjects(&objects, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { objects.Close() })
	if err := fillAddrForm(&objects); err != nil {
		t.Fatal(err)
	}
	return &objects
}

func runOnce() *ebpf.RunOptions { return &ebpf.RunOptions{Data: make([]byte, 64)} }

func fillAddrForm(objects *addrFormObjects) error {
	value := location{kind: kernel.LocationRemote, tunnel: peerIP, subnet: 1, mac: web3MAC}.bytes()
	value = slices.Concat(make([]byte, 4), value, make([]byte, 4))
	for i := range addrFormEntries {
		addr := fmt.Sprintf("10.0.%d.%d", i&0xff, i>>8)
		key := addrKey(vni, addr)
		if err := objects.LongTable.Put(key, value); err != nil {
			return err
		}
		if err := objects.ShortTable.Put(slices.Concat(key[:4], key[16:]), value); err != nil {
			return err
		}
	}
	return nil
}
