// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/internal/netns"
)

const prefix = "probetest-"

// newProber returns a prober whose ports are the two ends of one wire: red/a at 10.9.0.1 and blue/b at 10.9.0.2.
func newProber(t *testing.T) *Prober {
	t.Helper()
	privtest.Require(t)
	p := New(Config{
		Prefix: prefix, Log: slog.New(slog.DiscardHandler),
		Attach: func(_ context.Context, _, port, ns string) error {
			switch port {
			case "a":
				return configure("a", "10.9.0.1/24")
			case "b":
				if err := netns.CreateVeth(netns.End{NetNS: prefix + "b", Name: device}, netns.End{NetNS: prefix + "a", Name: device}, 1450); err != nil {
					return err
				}
				return errors.Join(configure("a", "10.9.0.1/24"), configure("b", "10.9.0.2/24"))
			}
			return fmt.Errorf("no port %s for %s", port, ns)
		},
		Detach: func(context.Context, string, string) error { return nil },
	})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if names, err := netns.List(); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) }) {
			t.Errorf("left %v, %v", names, err)
		}
	})
	return p
}

// configure brings the device of a workload up, once it is there.
func configure(name, addr string) error {
	n, err := netns.Open(prefix + name)
	if err != nil {
		return err
	}
	defer n.Close()
	links, err := n.Links()
	if err != nil || len(links) < 2 {
		return err
	}
	return errors.Join(n.AddAddress(device, netip.MustParsePrefix(addr)), n.SetUp(device))
}

func do(t *testing.T, p *Prober, r Request) (Answer, error) {
	t.Helper()
	in, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Handle(t.Context(), in)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatal(err)
	}
	return a, nil
}

// pair makes both workloads. The first has no device before the second comes, so it is made bare.
func pair(t *testing.T) *Prober {
	t.Helper()
	p := newProber(t)
	if err := netns.Create(prefix + "a"); err != nil {
		t.Fatal(err)
	}
	if a, err := do(t, p, Request{Do: "create", Name: "b", Tenant: "blue", Port: "b"}); err != nil || a.MTU != 1450 {
		t.Fatal(a, err)
	}
	if _, err := do(t, p, Request{Do: "create", Name: "a", Tenant: "red", Port: "a"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProbesTellWhoAnswers(t *testing.T) {
	p := pair(t)
	for _, r := range []Request{
		{Do: "tcp", Name: "a", To: "10.9.0.2:7007", Size: 1 << 20},
		{Do: "udp", Name: "a", To: "10.9.0.2:7007", Size: 100},
		{Do: "ping", Name: "a", To: "10.9.0.2", Size: 1422},
	} {
		r.Canary = "weft-canary-000000000001"
		a, err := do(t, p, r)
		if err != nil || !a.OK || (r.Do != "ping" && a.Identity != "blue/b") {
			t.Errorf("%s: %+v, %v", r.Do, a, err)
		}
	}
	if a, err := do(t, p, Request{Do: "arp", Name: "a", To: "10.9.0.2"}); err != nil || !a.OK || a.Identity != macOf(t, "b") {
		t.Errorf("b is at %+v, %v", a, err)
	}
	if a, err := do(t, p, Request{Do: "ping", Name: "a", To: "10.9.0.2", Size: 1423}); err != nil || a.OK {
		t.Errorf("a ping larger than the MTU: %+v, %v", a, err)
	}
	start := time.Now()
	if a, err := do(t, p, Request{Do: "udp", Name: "a", To: "10.9.0.77:7007"}); err != nil || a.OK || time.Since(start) > 2*within {
		t.Errorf("nobody answered with %+v, %v, after %s", a, err, time.Since(start))
	}
}

func TestFramesAreHeardWhereTheyArrive(t *testing.T) {
	p := pair(t)
	canary := CanaryPrefix + "0123456789ab"
	frame := append(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 2, 0, 0, 0, 0, 9, 0x88, 0xb5)
	if a, err := do(t, p, Request{Do: "inject", Name: "a", Frame: append(frame, canary...)}); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a, err := do(t, p, Request{Do: "seen", Name: "b"})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("b heard %v, %v", a.Seen, err)
		}
		if slices.Contains(a.Seen, canary) {
			break
		}
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "a"}); err != nil || len(a.Seen) != 0 {
		t.Errorf("the sender heard itself: %v, %v", a.Seen, err)
	}
}

func TestWrongRequestsMakeNothing(t *testing.T) {
	p := newProber(t)
	for _, r := range []Request{
		{Do: "create", Name: "../x", Port: "a"},
		{Do: "create", Name: "c", Port: "none"},
		{Do: "ping", Name: "nobody", To: "10.9.0.1"},
		{Do: "fly"},
		{Do: "tcp", Name: "nobody", To: "10.9.0.1:7007", Size: 1 << 40},
		{Do: "ping", Name: "nobody", To: "10.9.0.1", Size: -1},
	} {
		if a, err := do(t, p, r); err == nil {
			t.Errorf("%+v was done: %+v", r, a)
		}
	}
}

func TestEarlierLeftoversAreRemoved(t *testing.T) {
	privtest.Require(t)
	if err := netns.Create(prefix + "old"); err != nil {
		t.Fatal(err)
	}
	newProber(t)
	if netns.Exists(prefix + "old") {
		t.Error("the namespace of an earlier run is still there")
	}
}

// macOf returns the MAC of a workload.
func macOf(t *testing.T, name string) string {
	t.Helper()
	mac, _, err := ownAddress(prefix + name)
	if err != nil {
		t.Fatal(err)
	}
	return mac.String()
}

// TestADeafEarSaysSo: silence proves nothing where a frame can have been missed.
func TestADeafEarSaysSo(t *testing.T) {
	p := pair(t)
	if a, err := do(t, p, Request{Do: "tcp", Name: "a", To: "10.9.0.2:7007", Size: 4 << 20, Canary: CanaryPrefix + "000000000001"}); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err != nil || !a.OK || !slices.Contains(a.Seen, CanaryPrefix+"000000000001") {
		t.Errorf("after a bulk transfer: %+v, %v", a, err)
	}
	e := p.workloads["b"].ear
	for i := range heardMost + 1 {
		e.note(fmt.Appendf(nil, "%s%012x", CanaryPrefix, i+2))
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err != nil || a.OK || !strings.Contains(a.Detail, "canaries") {
		t.Errorf("after too many canaries: OK %t, %q, %v", a.OK, a.Detail, err)
	}
	if err := p.remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.heard(); err == nil {
		t.Error("an ear that is closed reports silence")
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err == nil {
		t.Errorf("a workload that is gone reports %+v", a)
	}
}

func TestAnEarWhoseDeviceGoesIsDeaf(t *testing.T) {
	p := pair(t)
	n, err := netns.Open(prefix + "b")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Delete(device); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a, err := do(t, p, Request{Do: "seen", Name: "b"})
		if err == nil && !a.OK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("reports silence: %+v, %v", a, err)
		}
	}
}

// TestCleanupBesideCreate: whatever meets whatever, nothing is left, and after Close nothing is made.
func TestCleanupBesideCreate(t *testing.T) {
	privtest.Require(t)
	p := New(Config{
		Prefix: prefix, Log: slog.New(slog.DiscardHandler),
		Attach: func(_ context.Context, _, _, ns string) error {
			return netns.CreateVeth(netns.End{NetNS: filepath.Base(ns), Name: device}, netns.End{NetNS: filepath.Base(ns), Name: "peer"}, 1450)
		},
		Detach: func(context.Context, string, string) error { return nil },
	})
	var wg sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("w%d", i)
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "create", Name: name}) })
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "seen", Name: name}) })
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "remove", Name: name}) })
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "cleanup"}) })
	}
	wg.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if a, err := do(t, p, Request{Do: "create", Name: "late"}); err == nil {
		t.Errorf("made after Close: %+v", a)
	}
	if names, err := netns.List(); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) }) {
		t.Errorf("left %v, %v", names, err)
	}
}

// TestWhatNobodyAsksForGoes: a check that was killed leaves nothing for longer than a lifetime, and a probe prolongs it.
func TestWhatNobodyAsksForGoes(t *testing.T) {
	p := pair(t)
	b := p.workloads["b"]
	b.expire.Reset(time.Hour)
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	if !b.expire.Reset(time.Millisecond) {
		t.Fatal("a workload that was just asked has no end")
	}
	for deadline := time.Now().Add(2 * time.Second); netns.Exists(prefix + "b"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its namespace is still there")
		}
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err == nil {
		t.Errorf("a workload that is gone reports %+v", a)
	}
}
