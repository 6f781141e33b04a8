// SPDX-License-Identifier: Apache-2.0

// Package reconcile makes a table of the kernel equal to a table of what is wanted, writing only where they differ. It
// can be interrupted and repeated at any point, and needs no memory of an earlier run.
package reconcile

import (
	"errors"
	"fmt"
)

// Target is a table of the kernel, for example a BPF map.
type Target[K, V comparable] interface {
	// All returns the whole content.
	All() (map[K]V, error)
	// Put writes one entry, new or not.
	Put(K, V) error
	// Delete removes one entry; an absent one is fine.
	Delete(K) error
}

// Table holds what is wanted beside what the kernel is known to have:
//
//	Update, Delete, Reset --> wanted --+
//	                                   +-- Apply --> Target
//	Rescan: forget ---------> actual --+
//
// The first Apply, and each after a Rescan, reads the whole target and removes what is not wanted; those between look
// only at keys that changed. A write that failed is tried again by the next Apply. A Table belongs to one goroutine.
type Table[K, V comparable] struct {
	name   string
	target Target[K, V]
	wanted map[K]V
	actual map[K]V // nil: not known
	dirty  map[K]struct{}
	drift  func(what string) // nil: nobody asks
	read   bool              // the target was read before, so what differs now was changed by somebody else
}

// Drift is what somebody else's change of an entry is, in the words that Tell gets.
const (
	driftMissing = "was missing"
	driftChanged = "was changed"
	driftAlien   = "was not ours"
)

// Tell lets f know of every entry that somebody else has changed, as it is mended.
func (t *Table[K, V]) Tell(f func(what string)) { t.drift = f }

// New returns a table that wants nothing; name begins its errors.
func New[K, V comparable](name string, target Target[K, V]) *Table[K, V] {
	return &Table[K, V]{name: name, target: target, wanted: make(map[K]V), dirty: make(map[K]struct{})}
}

// Update wants key to have value.
func (t *Table[K, V]) Update(key K, value V) {
	if old, ok := t.wanted[key]; ok && old == value {
		return
	}
	t.wanted[key] = value
	t.dirty[key] = struct{}{}
}

// Delete wants key to be absent.
func (t *Table[K, V]) Delete(key K) {
	if _, ok := t.wanted[key]; !ok {
		return
	}
	delete(t.wanted, key)
	t.dirty[key] = struct{}{}
}

// Reset wants nothing any more. What is not wanted again before the next Apply is removed by it.
func (t *Table[K, V]) Reset() {
	for k := range t.wanted {
		t.dirty[k] = struct{}{}
	}
	clear(t.wanted)
}

// Rescan forgets what the kernel is believed to have, so that the next Apply finds and mends any drift.
func (t *Table[K, V]) Rescan() { t.actual = nil }

// Get returns what is wanted of key.
func (t *Table[K, V]) Get(key K) (V, bool) {
	v, ok := t.wanted[key]
	return v, ok
}

// Len returns how many entries are wanted.
func (t *Table[K, V]) Len() int { return len(t.wanted) }

// Apply writes the differences: first what is wanted, then the removals. The errors of single entries are joined; each
// is an *EntryError[K].
func (t *Table[K, V]) Apply() error {
	if t.actual == nil {
		actual, err := t.target.All()
		if err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
		t.actual = actual
		t.tell()
		for k := range actual {
			t.dirty[k] = struct{}{}
		}
		for k := range t.wanted {
			t.dirty[k] = struct{}{}
		}
	}
	var errs []error
	for k := range t.dirty {
		if want, ok := t.wanted[k]; ok {
			errs = append(errs, t.put(k, want))
		}
	}
	for k := range t.dirty {
		if _, ok := t.wanted[k]; !ok {
			errs = append(errs, t.remove(k))
		}
	}
	return errors.Join(errs...)
}

// tell tells how the target differs from what an earlier Apply had made of it.
func (t *Table[K, V]) tell() {
	again := t.read
	t.read = true
	if !again || t.drift == nil {
		return
	}
	say := func(k K, what string) {
		if _, ok := t.dirty[k]; !ok { // otherwise it is to change, whatever it is
			t.drift(fmt.Sprintf("%s %v %s", t.name, k, what))
		}
	}
	for k, want := range t.wanted {
		if have, ok := t.actual[k]; !ok {
			say(k, driftMissing)
		} else if have != want {
			say(k, driftChanged)
		}
	}
	for k := range t.actual {
		if _, ok := t.wanted[k]; !ok {
			say(k, driftAlien)
		}
	}
}

func (t *Table[K, V]) put(key K, want V) error {
	if have, ok := t.actual[key]; !ok || have != want {
		if err := t.target.Put(key, want); err != nil {
			return &EntryError[K]{Table: t.name, Key: key, Err: err}
		}
		t.actual[key] = want
	}
	delete(t.dirty, key)
	return nil
}

func (t *Table[K, V]) remove(key K) error {
	if _, ok := t.actual[key]; ok {
		if err := t.target.Delete(key); err != nil {
			return &EntryError[K]{Table: t.name, Key: key, Err: err}
		}
		delete(t.actual, key)
	}
	delete(t.dirty, key)
	return nil
}

// EntryError says which entry of which table could not be written.
type EntryError[K comparable] struct {
	Table string
	Key   K
	Err   error
}

// Error names table, key and cause.
func (e *EntryError[K]) Error() string { return fmt.Sprintf("write %s %v: %v", e.Table, e.Key, e.Err) }

// Unwrap returns the cause.
func (e *EntryError[K]) Unwrap() error { return e.Err }

// Failed returns the errors of single entries that are joined in err, by key.
func Failed[K comparable](err error) map[K]error {
	failed := make(map[K]error)
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) { //nolint:errorlint // the tree of joined errors is walked by hand
		case *EntryError[K]:
			failed[e.Key] = e
		case interface{ Unwrap() []error }:
			for _, e := range e.Unwrap() {
				walk(e)
			}
		}
	}
	walk(err)
	return failed
}
