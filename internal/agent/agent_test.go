// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weft/internal/node/dhcp"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/node/overlay"
	"weft/internal/node/port"
	"weft/internal/node/routing"
	"weft/internal/southbound"
)

// fakeDevices is a kernel that counts what is taken from it.
type fakeDevices struct {
	port.Kernel
	taken int
}

func (d *fakeDevices) Links(string) ([]device.Link, error)        { return nil, nil }
func (d *fakeDevices) AttachedPorts() ([]string, error)           { return nil, nil }
func (d *fakeDevices) DetachPort(string) error                    { d.taken++; return nil }
func (d *fakeDevices) DeleteLink(string) error                    { d.taken++; return nil }
func (d *fakeDevices) FindLink(string) (device.Link, bool, error) { return device.Link{}, false, nil }

// fakeTable is a kernel table that counts writes.
type fakeTable[K, V comparable] struct {
	have   map[K]V
	writes int
}

func (t *fakeTable[K, V]) All() (map[K]V, error) { return maps.Clone(t.have), nil }
func (t *fakeTable[K, V]) Put(K, V) error        { t.writes++; return nil }
func (t *fakeTable[K, V]) Delete(K) error        { t.writes++; return nil }

// A restarted agent knows its attachments and no rows yet. What is asked of it until they come (attach, detach) must not
// make it take the others for ports that the server took away.
func TestNothingIsSettledBeforeTheFirstStep(t *testing.T) {
	file := filepath.Join(t.TempDir(), "attachments.json")
	if err := os.WriteFile(file, []byte(`[{"id":{"Tenant":"red","Port":"web-1"},"netns":"/run/netns/x","device":"eth0","binding":"b"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	dev := &fakeDevices{}
	locations := &fakeTable[kernel.LocationKey, kernel.Location]{have: map[kernel.LocationKey]kernel.Location{{VNI: 4096}: {}}}
	senders := &fakeTable[kernel.SenderKey, kernel.Sender]{have: map[kernel.SenderKey]kernel.Sender{{VNI: 4096}: {}}}
	ports, err := port.New(port.Config{
		StateFile: file, MTU: 1450, Kernel: dev, Log: slog.New(slog.DiscardHandler),
		Table: &fakeTable[kernel.PortKey, kernel.Port]{},
	})
	if err != nil {
		t.Fatal(err)
	}
	routes := &fakeTable[kernel.RouteKey, kernel.Location]{have: map[kernel.RouteKey]kernel.Location{{VNI: 4096}: {}}}
	sources := &fakeTable[kernel.SourceKey, kernel.Source]{have: map[kernel.SourceKey]kernel.Source{{IfIndex: 3}: {}}}
	a := &Agent{
		cfg: Config{Log: slog.New(slog.DiscardHandler)}, ports: ports, changed: make(chan struct{}), dhcp: dhcp.New(dhcp.Config{}),
		overlay: overlay.New(overlay.Config{Node: "h1", Locations: locations, Senders: senders}),
		routing: routing.New(routing.Config{Node: "h1", Routes: routes, Sources: sources}),
	}
	writes := func() int { return locations.writes + senders.writes + routes.writes + sources.writes }
	a.settle()
	if _, ok := ports.State(port.ID{Tenant: "red", Port: "web-1"}); !ok || dev.taken+writes() != 0 {
		t.Errorf("before the first step: attachment kept %t, %d devices taken, %d writes; want it kept and none",
			ok, dev.taken, writes())
	}
	a.synced = true
	a.settle()
	if _, ok := ports.State(port.ID{Tenant: "red", Port: "web-1"}); ok || dev.taken == 0 || writes() != 4 {
		t.Error("after a step without rows the attachment and its entries are still there")
	}
}

// What is on disk must never take away what a later step has brought: where the path may be ahead, it stays.
func TestRowsAreRecalledOnlyIfNotOlderThanThePath(t *testing.T) {
	rows := map[southbound.Key]southbound.Row{{VNI: 4096}: southbound.VPC{VNI: 4096}}
	for name, c := range map[string]struct {
		recalled southbound.Recalled
		booted   bool
		after    time.Duration
		use      bool
	}{
		"whole_running":   {southbound.Recalled{Rows: rows, Whole: true}, false, 0, true},
		"whole_booted":    {southbound.Recalled{Rows: rows, Whole: true}, true, bootPatience, true},
		"damaged_running": {southbound.Recalled{Rows: rows}, false, 0, false},
		"damaged_booted":  {southbound.Recalled{Rows: rows}, true, bootPatience, true},
		"none":            {southbound.Recalled{Whole: true}, true, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			if after, use := recallAfter(c.recalled, c.booted); use != c.use || use && after != c.after {
				t.Errorf("after %v, used %t", after, use)
			}
		})
	}
}

// fakePath counts how often it is asked to take over.
type fakePath struct {
	waiting  bool
	switched int
}

func (p *fakePath) Waiting() bool { return p.waiting }
func (p *fakePath) Switch() error { p.switched++; p.waiting = false; return nil }

// A build that cannot bring an entry into its tables does not take over.
func TestProgramsTakeOverOnlyWhenEveryTableIsFilled(t *testing.T) {
	path := &fakePath{waiting: true}
	a := &Agent{cfg: Config{Log: slog.New(slog.DiscardHandler)}, upgrade: path}
	if failures := a.switchOver(errors.New("map ovl_locations is full")); len(failures) != 1 || path.switched != 0 ||
		!strings.Contains(failures[0].Message, "is full") {
		t.Errorf("switched %d times, failures %v", path.switched, failures)
	}
	for range 2 {
		if failures := a.switchOver(nil); len(failures) != 0 || path.switched != 1 {
			t.Errorf("switched %d times, failures %v", path.switched, failures)
		}
	}
}

// Rows that cannot be saved are a failure of the node, not of the rows, until they can.
func TestUnsavedRowsAreToldUntilTheyAreSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	journal, _, err := southbound.OpenJournal(dir) // which is not there
	if err != nil {
		t.Fatal(err)
	}
	defer journal.Close()
	row := southbound.VPC{VNI: 4096, Tenant: "red", Name: "main"}
	a := &Agent{cfg: Config{Log: slog.New(slog.DiscardHandler)}, journal: journal, rows: map[southbound.Key]southbound.Row{row.Key(): row}}
	a.keep(southbound.Step{Snapshot: true, Upserts: []southbound.Row{row}})
	if f := a.unkept(); len(f) != 1 || f[0].VNI != 0 || f[0].Key != southbound.NodeFailure {
		t.Errorf("failures %v", f)
	}
	a.keepAgain()
	if len(a.unkept()) != 1 {
		t.Error("it is told no more, and nothing was saved")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a.keepAgain()
	if f := a.unkept(); len(f) != 0 {
		t.Errorf("failures %v", f)
	}
	if _, r, err := southbound.OpenJournal(dir); err != nil || !r.Whole || len(r.Rows) != 1 {
		t.Errorf("saved: %+v, %v", r, err)
	}
}
