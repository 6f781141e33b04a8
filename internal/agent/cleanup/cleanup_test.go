// SPDX-License-Identifier: Apache-2.0

package cleanup

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"weft/internal/agent/rundir"
	"weft/internal/base/privtest"
	"weft/internal/netns"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/node/kernel/fib"
)

// machine is one that an agent has left, with a port, and routes of a speaker that is gone.
type machine struct {
	node, workload string // namespaces
	cfg            Config
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	privtest.Require(t)
	id := fmt.Sprintf("wefttest-%d", os.Getpid())
	dir := t.TempDir()
	m := &machine{
		node: id + "-node", workload: id + "-work",
		cfg: Config{StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, id), BPFFS: "/sys/fs/bpf/weft-test/cleanup-" + id},
	}
	for _, ns := range []string{m.node, m.workload, id + "-check-1"} {
		if err := netns.Create(ns); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netns.Delete(ns) }) // absent, if the test has passed
	}
	t.Cleanup(func() { os.RemoveAll(m.cfg.BPFFS); os.Remove(filepath.Dir(m.cfg.BPFFS)) })
	if err := errors.Join(os.MkdirAll(m.cfg.StateDir, 0o700), os.MkdirAll(m.cfg.RunDir, 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := netns.CreateVeth(netns.End{NetNS: m.node, Name: "up0"}, netns.End{NetNS: m.workload, Name: "up0"}, 1500); err != nil {
		t.Fatal(err)
	}
	n, err := netns.Open(m.node)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := errors.Join(n.AddAddress("up0", netip.MustParsePrefix("198.18.0.1/31")), n.SetUp("up0")); err != nil {
		t.Fatal(err)
	}
	m.do(t, func() error { return m.fill() })
	return m
}

func (m *machine) do(t *testing.T, f func() error) {
	t.Helper()
	if err := netns.Do(m.node, f); err != nil {
		t.Fatal(err)
	}
}

func (m *machine) fill() error {
	path, err := kernel.Open(kernel.Config{PinDir: m.cfg.BPFFS, Tunnel: netip.MustParseAddr("198.18.0.1"), RouterMAC: [6]byte{2, 1}, UnderlayMTU: 1500})
	if err != nil {
		return err
	}
	defer path.Close()
	const pair = "wp0123456789ab"
	index, err := device.CreateVeth(device.Veth{HostName: pair, NetNS: netns.Path(m.workload), PeerName: "eth0", MAC: [6]byte{2, 2}, MTU: 1450, Alias: "weft red/web-1"})
	if err != nil {
		return err
	}
	table, err := fib.Open()
	if err != nil {
		return err
	}
	defer table.Close()
	return errors.Join(path.AttachPort(index, pair),
		table.Put(fib.Route{To: netip.MustParsePrefix("198.19.0.0/24"), By: []fib.NextHop{{Gateway: netip.MustParseAddr("198.18.0.0"), Device: "up0"}}}))
}

// yes notes what was asked, and agrees.
func yes(to **Found) func(*Found) error {
	return func(f *Found) error { *to = f; return nil }
}

func TestNothingIsLeft(t *testing.T) {
	m := newMachine(t)
	var found *Found
	m.do(t, func() error {
		_, err := Do(t.Context(), m.cfg, yes(&found))
		return err
	})
	if got := found.Dark(); !slices.Equal(got, []string{"red/web-1 (wp0123456789ab)"}) {
		t.Errorf("goes dark: %v", got)
	}
	if len(found.Devices) != 2 || len(found.Routes) != 1 || len(found.Namespaces) != 1 || found.Pins == "" || found.Speaker {
		t.Errorf("found %+v", found)
	}
	if _, err := os.Stat(m.cfg.BPFFS); err == nil {
		t.Error("pins are left")
	}
	if netns.Exists(found.Namespaces[0]) {
		t.Error("a probe's namespace is left")
	}
	m.do(t, func() error {
		links, err := device.Links("")
		if names := fmt.Sprint(links); len(links) != 2 { // lo, up0
			t.Errorf("devices are left: %s", names)
		}
		return err
	})
	m.do(t, func() error { // again
		f, err := Do(t.Context(), m.cfg, yes(&found))
		if err == nil && !f.Empty() {
			t.Errorf("the second time, found %+v", f)
		}
		return err
	})
}

func TestWhoseProgramsLostTheirPinsIsFoundToo(t *testing.T) {
	m := newMachine(t)
	if err := os.RemoveAll(m.cfg.BPFFS); err != nil { // its ports run unchecked now
		t.Fatal(err)
	}
	var found *Found
	m.do(t, func() error {
		_, err := Do(t.Context(), m.cfg, yes(&found))
		if _, there, _ := device.FindLink("wp0123456789ab"); there {
			t.Error("the port's device is left")
		}
		return err
	})
	if len(found.Dark()) != 1 {
		t.Errorf("goes dark: %v", found.Dark())
	}
}

func TestNobodyIsCleanedUpAfterWhoRuns(t *testing.T) {
	m := newMachine(t)
	unlock, err := rundir.Lock(m.cfg.RunDir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	m.do(t, func() error {
		_, err := Do(t.Context(), m.cfg, func(*Found) error { t.Error("asked"); return nil })
		if !errors.Is(err, ErrAgentRuns) {
			t.Errorf("error %v", err)
		}
		return nil
	})
}

func TestRefusalTouchesNothing(t *testing.T) {
	m := newMachine(t)
	no := errors.New("no")
	m.do(t, func() error {
		if _, err := Do(t.Context(), m.cfg, func(*Found) error { return no }); !errors.Is(err, no) {
			t.Errorf("error %v", err)
		}
		link, there, err := device.FindLink("wp0123456789ab")
		if !there || !link.Up {
			t.Errorf("the port is not as it was: %+v", link)
		}
		return err
	})
}
