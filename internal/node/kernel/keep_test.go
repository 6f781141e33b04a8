// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Whoever removes pins takes nothing from the packet path while an agent runs, and the next look puts them back.
func TestRemovedPinsLoseNoPacket(t *testing.T) {
	w := newTwoNodes(t)
	w.underTraffic(t, func() {
		for range 20 {
			if err := os.RemoveAll(w.a.pins); err != nil {
				t.Fatal(err)
			}
			w.a.do(t, w.a.dp.Repair)
		}
	})
	w.a.reopen(t, "198.19.0.1")
	if w.a.dp.Waiting() || w.a.dp.Writes() != 0 || len(w.a.ports(t)) != 3 {
		t.Errorf("the next start waits (%t), writes (%d), or has not every port", w.a.dp.Waiting(), w.a.dp.Writes())
	}
}

// unsound makes a program one that no kernel takes: it reads what it was not given.
func unsound(spec *ebpf.CollectionSpec) {
	spec.Programs[bpfProgFromPort].Instructions = asm.Instructions{asm.Mov.Reg(asm.R0, asm.R7), asm.Return()}
}

// A build whose programs the kernel refuses changes nothing of what runs, of its own layout or of another, and says why. One
// that is better takes over.
func TestRefusedProgramsLeaveWhatRuns(t *testing.T) {
	for name, edit := range map[string]func(*ebpf.CollectionSpec){
		"same_layout":    unsound,
		"another_layout": func(s *ebpf.CollectionSpec) { nextABI(s); unsound(s) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newTwoNodes(t)
			want := w.a.contents(t)
			w.underTraffic(t, func() {
				cfg := testConfig(w.a.pins, "198.19.0.1")
				cfg.edit = edit
				w.a.reopenAs(t, cfg)
				if err := w.a.dp.Trouble(); err == nil || !strings.Contains(err.Error(), "from_port") {
					t.Errorf("trouble is %v", err)
				}
				if err := want.write(w.a.dp); err != nil {
					t.Error(err)
				}
				w.a.do(t, func() error {
					if err := w.a.dp.Switch(); (err != nil) != w.a.dp.Waiting() {
						return fmt.Errorf("waits: %v, and switching said %w", w.a.dp.Waiting(), err)
					}
					return w.a.dp.Repair()
				})
				if len(w.a.ports(t)) != 3 {
					t.Error("a port lost its programs")
				}
				cfg.edit = nextABI
				w.a.do(t, func() error { return w.a.upgrade(cfg, want) })
				if w.a.dp.Trouble() != nil || w.a.dp.Waiting() {
					t.Errorf("a good build does not take over: %v", w.a.dp.Trouble())
				}
			})
		})
	}
}

// Where nothing ran before, nothing runs: a device does not come up, and why is said.
func TestRefusedProgramsOnANewNode(t *testing.T) {
	n := &node{testNS: newNS(t), pins: testPins(t, "a")}
	cfg := testConfig(n.pins, "198.19.0.1")
	cfg.edit = unsound
	n.do(t, func() (err error) { n.dp, err = Open(cfg); return err })
	t.Cleanup(func() {
		n.dp.Close()
		n.do(t, func() error { return Cleanup(n.pins) })
	})
	n.do(t, func() error {
		if err := n.dp.AttachPort(1, "lo"); err == nil || !strings.Contains(err.Error(), "cannot be loaded") {
			return fmt.Errorf("attached: %w", err)
		}
		return nil
	})
}

func TestFullTableSaysSo(t *testing.T) {
	n := &node{testNS: newNS(t), pins: testPins(t, "a")}
	cfg := testConfig(n.pins, "198.19.0.1")
	cfg.edit = func(s *ebpf.CollectionSpec) {
		s.Maps[bpfMapOvlLocations].MaxEntries, s.Maps[bpfMapRtRoutes].MaxEntries = 2, 2
	}
	n.do(t, func() (err error) { n.dp, err = Open(cfg); return err })
	t.Cleanup(func() {
		n.dp.Close()
		n.do(t, func() error { return Cleanup(n.pins) })
	})
	puts := map[string]func(i int) error{
		"hash": func(i int) error {
			return n.dp.Locations().Put(LocationKey{4096, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}, Location{Kind: LocationRouter})
		},
		"trie": func(i int) error {
			return n.dp.Routes().Put(RouteKey{4096, 1, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32)}, Location{Kind: LocationBlackhole})
		},
	}
	for name, put := range puts {
		t.Run(name, func(t *testing.T) {
			var errs []error
			for i := range 3 {
				errs = append(errs, put(i))
			}
			if slices.ContainsFunc(errs[:2], func(err error) bool { return err != nil }) || !errors.Is(errs[2], ErrMapFull) {
				t.Errorf("%v", errs)
			}
		})
	}
}
