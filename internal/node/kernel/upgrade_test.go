// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"weft/internal/node/kernel/device"
)

// nextABI makes programs and maps those of a build with the next number and another layout.
func nextABI(spec *ebpf.CollectionSpec) {
	v := spec.Variables["abi_version"]
	n, _ := versionOf(spec)
	if err := v.Set(n + 1); err != nil {
		panic(err)
	}
	spec.Maps[bpfMapPortInfo].MaxEntries *= 2
	spec.Maps[bpfMapOvlLocations].MaxEntries *= 2
}

// builds are the two between which tests go to and fro.
var builds = []func(*ebpf.CollectionSpec){nil, nextABI}

// died is what a step of an upgrade is left with when the agent dies there.
type died struct{ step string }

// upgrade is what the agent of another build does: it opens, fills the tables with what is wanted, and switches.
func (n *node) upgrade(cfg Config, want *contents) (err error) {
	defer func() {
		if d, ok := recover().(died); ok {
			err = fmt.Errorf("died at %s", d.step)
		}
	}()
	if err := n.dp.Close(); err != nil {
		return err
	}
	n.dp = &Datapath{}
	dp, err := openInto(cfg, &n.dp)
	if err != nil {
		return err
	}
	dp.step("fill")
	if err := want.write(dp); err != nil {
		return err
	}
	dp.step("switch")
	return dp.Switch()
}

// openInto is Open that leaves what it has got even if it dies: a process that dies closes all its descriptors.
func openInto(cfg Config, into **Datapath) (*Datapath, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	d := &Datapath{cfg: cfg, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, base: device.Writes()}
	*into = d
	return d, d.open()
}

// contents is what is wanted in the tables.
type contents struct {
	ports     map[PortKey]Port
	locations map[LocationKey]Location
	senders   map[SenderKey]Sender
}

func (n *node) contents(t *testing.T) *contents {
	t.Helper()
	ports, err1 := n.dp.Ports().All()
	locations, err2 := n.dp.Locations().All()
	senders, err3 := n.dp.Senders().All()
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return &contents{ports, locations, senders}
}

func (c *contents) write(d *Datapath) error {
	var errs []error
	for k, v := range c.ports {
		errs = append(errs, d.Ports().Put(k, v))
	}
	for k, v := range c.locations {
		errs = append(errs, d.Locations().Put(k, v))
	}
	for k, v := range c.senders {
		errs = append(errs, d.Senders().Put(k, v))
	}
	return errors.Join(errs...)
}

func (n *node) folders(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(n.pins)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// underTraffic runs f while packets pass, and while a port sends as somebody else. What is good arrives, all of it; what is
// forged does not, and is counted to the last packet.
func (w *twoNodes) underTraffic(t *testing.T, f func()) {
	t.Helper()
	before, err := w.a.dp.TenantDrops(7)
	if err != nil {
		t.Fatal(err)
	}
	flows := []*flow{w.startFlow(t, "10.0.1.4", "10.0.1.5", 2000), w.startFlow(t, "10.0.1.6", "10.0.1.4", 2001), w.startFlow(t, "10.0.2.4", "10.0.2.5", 2002)}
	forged := w.startForged(t, "10.0.1.4", "10.0.1.99", "10.0.1.5", 2003)
	f()
	total := uint64(0)
	for _, f := range flows {
		sent, arrived := f.end(t)
		total += sent
		if arrived != sent {
			t.Errorf("%s: %d of %d packets arrived", f.name, arrived, sent)
		}
	}
	sent, through := forged.end(t)
	if through != 0 {
		t.Errorf("%d of %d forged packets went through", through, sent)
	}
	after, err := w.a.dp.TenantDrops(7)
	if err != nil {
		t.Fatal(err)
	}
	if counted := after[DropSrcIPSpoof] - before[DropSrcIPSpoof]; counted != sent {
		t.Errorf("%d of %d forged packets counted", counted, sent)
	}
	t.Logf("%d packets, %d forged", total, sent)
}

func TestNoPacketIsLostByUpgradesAndDowngrades(t *testing.T) {
	w := newTwoNodes(t)
	want := w.a.contents(t)
	const rounds = 10
	w.underTraffic(t, func() {
		for i := range 2 * rounds {
			cfg := testConfig(w.a.pins, "198.19.0.1")
			cfg.edit = builds[(i+1)%2]
			w.a.do(t, func() error { return w.a.upgrade(cfg, want) })
			if got := w.a.folders(t); !slices.Equal(got, []string{"links", fmt.Sprint("v", w.a.dp.version)}) {
				t.Errorf("after upgrade %d there is %v", i+1, got)
			}
		}
	})
}

// Wherever the agent dies on the way from one build to the next, packets go on, nothing forged passes, and both builds can
// take over from there: the next one goes on, the one before goes back.
func TestAgentMayDieAtAnyStepOfAnUpgrade(t *testing.T) {
	for name, then := range map[string]func(*ebpf.CollectionSpec){"then_on": nextABI, "then_back": nil} {
		t.Run(name, func(t *testing.T) {
			w := newTwoNodes(t)
			want := w.a.contents(t)
			steps := 0
			w.underTraffic(t, func() {
				for at := 1; ; at++ {
					count := 0
					cfg := testConfig(w.a.pins, "198.19.0.1")
					cfg.edit = nextABI
					cfg.step = func(step string) {
						if count++; count == at {
							panic(died{step})
						}
					}
					var death error
					w.a.do(t, func() error { death = w.a.upgrade(cfg, want); return nil })
					cfg.step, cfg.edit = nil, then
					w.a.do(t, func() error { return w.a.upgrade(cfg, want) })
					v := fmt.Sprint("v", w.a.dp.version)
					if got := w.a.folders(t); !slices.Equal(got, []string{"links", v}) {
						t.Errorf("%v, and after it there is %v", death, got)
					}
					if w.a.dp.Waiting() || len(w.a.ports(t)) != 3 {
						t.Errorf("%v, and after it not every port runs the programs", death)
					}
					w.a.reopenAs(t, cfg)
					if w.a.dp.Writes() != 0 {
						t.Errorf("%v, and after all was mended a start wrote %d times", death, w.a.dp.Writes())
					}
					if death == nil {
						return
					}
					steps++
					cfg.edit = nil
					w.a.do(t, func() error { return w.a.upgrade(cfg, want) })
				}
			})
			t.Logf("died at %d steps", steps)
			if steps < 20 {
				t.Errorf("only %d steps", steps)
			}
		})
	}
}

func (n *node) reopenAs(t *testing.T, cfg Config) {
	t.Helper()
	if err := n.dp.Close(); err != nil {
		t.Fatal(err)
	}
	n.do(t, func() (err error) { n.dp, err = Open(cfg); return err })
}

// While the new tables are being filled, a device that nothing ran at gets the new programs, and they know nothing: it can
// neither send nor receive.
func TestUnfilledTablesDropEverything(t *testing.T) {
	w := newTwoNodes(t)
	want := w.a.contents(t)
	cfg := testConfig(w.a.pins, "198.19.0.1")
	cfg.edit = nextABI
	w.a.reopenAs(t, cfg)
	late := newNS(t)
	p := Port{VNI: testVNI, Tenant: 7, Subnet: 1, MTU: 1450, Addr4: testPort.Addr4.Next().Next().Next(), MAC: [6]byte{2, 0, 0, 0, 1, 7}}
	w.workloads[p.Addr4.String()] = late
	w.a.plug(t, "wp1-7", late, p, 24, "10.0.1.1")
	before, err := w.a.dp.Drops()
	if err != nil {
		t.Fatal(err)
	}
	late.do(t, func() error {
		if ping("10.0.1.5", 56, 200e6) == nil {
			return errors.New("an unknown port reaches another")
		}
		return nil
	})
	after, err := w.a.dp.Drops()
	if err != nil || slices.Equal(before, after) {
		t.Errorf("nothing was dropped: %v, %v", after, err)
	}
	w.a.do(t, func() error { return errors.Join(want.write(w.a.dp), w.a.dp.Switch()) })
}

// Other folders and files beside the layouts' are not weft's to remove.
func TestOnlyFoldersOfLayoutsAreRemoved(t *testing.T) {
	n, _ := attached(t)
	for _, name := range []string{"v1", "v01", "vx", "keep"} {
		if err := os.Mkdir(filepath.Join(n.pins, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	n.reopen(t, "198.19.0.1")
	if got := n.folders(t); slices.Contains(got, "v1") || len(got) != 5 {
		t.Errorf("left are %v", got)
	}
}
