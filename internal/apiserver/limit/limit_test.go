// SPDX-License-Identifier: Apache-2.0

package limit

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

// many lets nobody run into a rate.
func many() Config {
	return Config{TenantRate: 1e6, TenantBurst: 1e6, OperatorRate: 1e6, OperatorBurst: 1e6, InFlight: 100, Watches: 50, TenantWatches: 20}
}

// take begins until it is refused.
func take(t *testing.T, l *Limits, tenant, name string, kind Kind) (ends []func(), refused *RefusedError) {
	t.Helper()
	for range 10_000 {
		end, err := l.Begin(tenant, name, kind)
		if errors.As(err, &refused) {
			return ends, refused
		}
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	t.Fatal("it is never refused")
	return nil, nil
}

func TestRateOfEach(t *testing.T) {
	c := Default()
	l := New(c)
	done := func(tenant, name string) (n int, after time.Duration) {
		for {
			end, err := l.Begin(tenant, name, Other)
			var refused *RefusedError
			if errors.As(err, &refused) {
				return n, refused.After
			}
			end()
			n++
		}
	}
	for _, tenant := range []string{"red", "blue"} { // what one did is nothing to the other
		if n, after := done(tenant, "token:x"); n < c.TenantBurst || n > c.TenantBurst+20 || after <= 0 || after > 40*time.Millisecond {
			t.Errorf("%s: %d, then in %s", tenant, n, after)
		}
	}
	if n, _ := done("", "admin"); n < c.OperatorBurst {
		t.Errorf("an operator: %d", n)
	}
	time.Sleep(100 * time.Millisecond)
	if n, _ := done("red", "token:y"); n < 3 || n > 30 { // of all tokens of the tenant together
		t.Errorf("after 100 ms: %d", n)
	}
}

func TestStagesOfLoad(t *testing.T) {
	l := New(many())
	_, one := take(t, l, "red", "", Other)
	if l.inFlight != 25 {
		t.Errorf("one tenant has %d in flight (%v), want a quarter", l.inFlight, one)
	}
	take(t, l, "blue", "", List)
	if l.inFlight != 50 {
		t.Errorf("%d in flight, want half: lists end there", l.inFlight)
	}
	if _, err := l.Begin("green", "", Watch); err == nil {
		t.Error("a watch begins where lists do not")
	}
	take(t, l, "green", "", Other)
	if l.inFlight != 75 {
		t.Errorf("%d in flight, want three quarters", l.inFlight)
	}
	if _, err := l.Begin("gray", "", Other); err == nil {
		t.Error("a fourth tenant is taken")
	}
	ends, _ := take(t, l, "", "admin", List)
	if l.inFlight != 100 {
		t.Errorf("%d in flight, want all: operators are last", l.inFlight)
	}
	for _, end := range ends {
		end()
		end() // once more is nothing
	}
	if l.inFlight != 75 {
		t.Errorf("%d in flight after operators ended", l.inFlight)
	}
	if _, err := l.Begin("", "admin", Other); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestWatchesOfEachAndOfAll(t *testing.T) {
	l := New(many())
	red, refused := take(t, l, "red", "", Watch)
	if len(red) != 20 || refused.After < time.Second {
		t.Errorf("red watches %d times, %v", len(red), refused)
	}
	take(t, l, "blue", "", Watch)
	admin, _ := take(t, l, "", "admin", Watch)
	if len(admin) != 10 || l.inFlight != 0 {
		t.Errorf("the rest is %d, %d in flight", len(admin), l.inFlight)
	}
	red[0]()
	if _, err := l.Begin("", "admin", Watch); err != nil {
		t.Error(err)
	}
}

func TestNothingStays(t *testing.T) {
	l := New(many())
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for range 200 {
				if end, err := l.Begin(fmt.Sprint("t", i%7), "", Kind(i%3)); err == nil {
					end()
				}
			}
		})
	}
	all.Wait()
	if l.inFlight != 0 || l.watches != 0 || len(l.each) != 0 {
		t.Errorf("%d in flight, %d watches, %d tenants", l.inFlight, l.watches, len(l.each))
	}
	for i := range keysMost + 100 {
		if end, err := l.Begin(fmt.Sprint("x", i), "", Other); err == nil {
			end()
		}
	}
	if len(l.buckets) > keysMost {
		t.Errorf("%d buckets", len(l.buckets))
	}
}
