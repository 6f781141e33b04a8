// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"weft/internal/node/kernel/fib"
)

// A further way waits until it has settled; one that is the only one, one that was there, and one that goes do not.
func TestFreshWaysWait(t *testing.T) {
	to := netip.MustParsePrefix("198.19.0.9/32")
	hop := func(name string) fib.NextHop {
		return fib.NextHop{Gateway: netip.AddrFrom4([4]byte{198, 18, 0, name[0]}), Device: name}
	}
	known := make(map[way]time.Time)
	start := time.Unix(1_000_000, 0)
	var have []string
	step := func(after time.Duration, want, written []string, wait time.Duration) {
		t.Helper()
		table := func(names []string) map[netip.Prefix]fib.Route {
			m := make(map[netip.Prefix]fib.Route)
			for _, n := range names {
				m[to] = fib.Route{To: to, By: append(m[to].By, hop(n))}
			}
			return m
		}
		wanted := table(want)
		got := fresh(wanted, table(have), known, start.Add(after))
		var by []string
		for _, h := range wanted[to].By {
			by = append(by, h.Device)
		}
		if !slices.Equal(by, written) || got != wait {
			t.Errorf("after %v: by %v, wait %v; want %v, %v", after, by, got, written, wait)
		}
		have = by
	}
	ms := time.Millisecond
	step(0, []string{"a"}, []string{"a"}, 0)                               // the first
	step(10*ms, []string{"a", "b"}, []string{"a"}, 300*ms)                 // a further one
	step(110*ms, []string{"a", "b", "c"}, []string{"a"}, 200*ms)           // and another
	step(310*ms, []string{"a", "b", "c"}, []string{"a", "b"}, 100*ms)      // the time of one is over
	step(320*ms, []string{"b", "c"}, []string{"b"}, 90*ms)                 // one goes: at once
	step(330*ms, []string{"c", "d"}, []string{"c", "d"}, 0)                // nothing stays: whatever there is
	step(340*ms, []string{"d"}, []string{"d"}, 0)                          //
	step(350*ms, []string{"c", "d"}, []string{"d"}, 300*ms)                // one that was away is new
	step(650*ms, []string{"c", "d"}, []string{"c", "d"}, 0)                //
	step(651*ms, nil, nil, 0)                                              // all go
	step(652*ms, []string{"c", "d"}, []string{"c", "d"}, 0)                // and come
	clear(known)                                                           // another speaker starts
	step(653*ms, []string{"c", "d"}, []string{"c", "d"}, 0)                // and finds them
	step(654*ms, []string{"c", "d", "e"}, []string{"c", "d"}, settleAfter) //
}
