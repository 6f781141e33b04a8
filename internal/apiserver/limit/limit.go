// SPDX-License-Identifier: Apache-2.0

// Package limit decides which requests a server takes when there are too many: nobody's flood takes what others need.
package limit

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Config is how much is taken.
type Config struct {
	TenantRate, OperatorRate   float64 // requests a second, of each tenant and of each operator
	TenantBurst, OperatorBurst int     // at once
	InFlight                   int     // requests that are being answered, but for watches
	Watches                    int     // of all
	TenantWatches              int     // of each tenant
}

// Default is what a server of two cores takes easily.
func Default() Config {
	return Config{TenantRate: 50, TenantBurst: 100, OperatorRate: 5000, OperatorBurst: 10_000, InFlight: 256, Watches: 4000, TenantWatches: 200}
}

// Kind is what a request asks for. Where the server is busy, kinds are refused in this order.
type Kind int

// The kinds.
const (
	List  Kind = iota // of many things
	Watch             // counts by itself, and begins like a list
	Other
)

// Stages of load: how much of InFlight may be taken when a tenant's request of the kind comes. An operator's is taken up to all of it.
const (
	listStage  = 0.5
	otherStage = 0.75
	eachMost   = 0.25 // of InFlight, for one tenant
)

// keysMost bounds what is remembered of who asked.
const keysMost = 10_000

// RefusedError says why a request is not taken, and when to come again.
type RefusedError struct {
	Why   string
	After time.Duration
}

// Error says why.
func (e *RefusedError) Error() string { return e.Why }

// Limits counts.
type Limits struct {
	Config
	mu       sync.Mutex // guards below
	buckets  map[string]*rate.Limiter
	inFlight int
	watches  int
	each     map[string]*use
}

// use is what a tenant takes at the moment.
type use struct{ inFlight, watches int }

// New returns limits.
func New(c Config) *Limits {
	return &Limits{Config: c, buckets: make(map[string]*rate.Limiter), each: make(map[string]*use)}
}

// Begin takes a request of a tenant, or with the tenant "" of the operator of a name, or refuses it with a *RefusedError. end is called when it is
// answered.
func (l *Limits) Begin(tenant, name string, kind Kind) (end func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := "t/" + tenant
	if tenant == "" {
		key = "o/" + name
	}
	if err := l.paced(key, tenant != ""); err != nil {
		return nil, err
	}
	u := l.each[key]
	if u == nil {
		u = &use{}
		l.each[key] = u
	}
	if err := l.room(tenant, kind, u); err != nil {
		l.forget(key, u)
		return nil, err
	}
	mine, all := &u.inFlight, &l.inFlight
	if kind == Watch {
		mine, all = &u.watches, &l.watches
	}
	*mine++
	*all++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		*mine--
		*all--
		l.forget(key, u)
	}), nil
}

func (l *Limits) forget(key string, u *use) {
	if *u == (use{}) {
		delete(l.each, key)
	}
}

// paced takes one from the bucket of a key.
func (l *Limits) paced(key string, tenant bool) error {
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= keysMost {
			clear(l.buckets) // all begin anew: it is a bound of memory
		}
		b = rate.NewLimiter(rate.Limit(l.OperatorRate), l.OperatorBurst)
		if tenant {
			b = rate.NewLimiter(rate.Limit(l.TenantRate), l.TenantBurst)
		}
		l.buckets[key] = b
	}
	r := b.Reserve()
	wait := r.Delay()
	if wait == 0 {
		return nil
	}
	r.Cancel()
	return &RefusedError{fmt.Sprintf("more than %g requests a second", float64(b.Limit())), wait}
}

// room looks whether the server has room for one more.
func (l *Limits) room(tenant string, kind Kind, u *use) error {
	busy := &RefusedError{"the server is busy", time.Second}
	switch {
	case kind == Watch && l.watches >= l.Watches:
		return &RefusedError{fmt.Sprintf("there are %d watches already", l.watches), 10 * time.Second}
	case kind == Watch && tenant != "" && u.watches >= l.TenantWatches:
		return &RefusedError{fmt.Sprintf("the tenant has %d watches already", u.watches), 10 * time.Second}
	case l.inFlight >= l.InFlight:
		return busy
	case tenant == "":
		return nil
	case float64(u.inFlight) >= eachMost*float64(l.InFlight):
		return &RefusedError{fmt.Sprintf("the tenant has %d requests that are being answered", u.inFlight), time.Second}
	case kind != Other && float64(l.inFlight) >= listStage*float64(l.InFlight), float64(l.inFlight) >= otherStage*float64(l.InFlight):
		return busy
	}
	return nil
}
