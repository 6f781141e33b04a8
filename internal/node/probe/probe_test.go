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
	"slices"
	"strings"
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
