// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	v1 "weft/api/v1"
)

// Tx is what a function of Update sees: a view, and its own writes on top.
type Tx struct {
	view     *View
	count    func() error         // called before a number is drawn
	objects  map[string]v1.Object // by key; nil: deleted
	records  map[string][]byte    // by key; nil: deleted
	order    []string             // keys of objects and records, as first written
	counters map[string]uint64
}

// Bounds of an update.
const (
	bytesMost = requestBytes - 64<<10 // of all values of one transaction; the rest is for keys and frames
	tries     = 40                    // runs of the function. Writers of one process take turns: a conflict needs a second server
)

// Update runs fn and commits what it wrote, if nothing in the scopes (names of tenants; NodeScope; "" for the cluster)
// changed since fn's view; else fn runs again on a newer view. When Update returns, View holds the write. An error of fn is
// returned as it is, and nothing is written; it, too, is one of a view that nothing had changed since. The revision is that of the
// write, or of the view where there was nothing to write. A write that took too long may have been done all the same.
func (s *Store) Update(ctx context.Context, scopes []string, fn func(tx *Tx) error) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	scopes = slices.Compact(slices.Sorted(slices.Values(scopes)))
	unlock, err := s.lock(ctx, scopes)
	if err != nil {
		return 0, err
	}
	defer unlock()
	counting := false
	defer func() {
		if counting {
			<-s.counting
		}
	}()
	count := func() error {
		if counting { // kept for further tries: at most the first one meets a number that has moved on
			return nil
		}
		select {
		case s.counting <- struct{}{}:
			counting = true
			return nil
		case <-ctx.Done():
			return fmt.Errorf("%w: those who draw numbers wait for it", ErrUnavailable)
		}
	}
	for range tries {
		tx := &Tx{view: s.View(), count: count, objects: make(map[string]v1.Object), records: make(map[string][]byte), counters: make(map[string]uint64)}
		revision, done, err := s.step(ctx, tx, scopes, fn)
		if done || err != nil {
			return revision, err
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: others write as well", ErrUnavailable)
		case <-time.After(rand.N(5 * time.Millisecond)):
		}
	}
	return 0, ErrConflict
}

// step runs fn once and writes what it wrote. It is not done where the view was not the newest.
func (s *Store) step(ctx context.Context, tx *Tx, scopes []string, fn func(tx *Tx) error) (revision int64, done bool, err error) {
	refusal := fn(tx)
	if refusal == nil && len(tx.order) > 0 {
		return s.write(ctx, tx, scopes)
	}
	if current, err := s.confirm(ctx, tx.view, scopes); err != nil || !current {
		return 0, false, err
	}
	if refusal != nil {
		return 0, true, refusal
	}
	return tx.view.revision, true, nil
}

// lock takes the scopes' locks in order of name and returns what gives them back.
func (s *Store) lock(ctx context.Context, scopes []string) (unlock func(), err error) {
	var held []chan struct{}
	unlock = func() {
		for _, l := range held {
			<-l
		}
	}
	for _, name := range scopes {
		l, _ := s.scopes.LoadOrStore(name, make(chan struct{}, 1))
		select {
		case l.(chan struct{}) <- struct{}{}:
			held = append(held, l.(chan struct{}))
		case <-ctx.Done():
			unlock()
			return nil, fmt.Errorf("%w: those who write in the same place wait for it", ErrUnavailable)
		}
	}
	return unlock, nil
}

// Revision returns the revision of the view below the transaction's own writes.
func (tx *Tx) Revision() int64 { return tx.view.revision }

// Get returns one resource, as written by the transaction or as in the view. Nobody may change it: write a clone.
func (tx *Tx) Get(kind v1.Kind, tenant, name string) (v1.Object, bool) {
	if o, ok := tx.objects[objectKey(kind, tenant, name)]; ok {
		return o, o != nil
	}
	return tx.view.Get(kind, tenant, name)
}

// List returns the resources of a kind by tenant and name, with the transaction's own writes.
func (tx *Tx) List(kind v1.Kind, tenant string) []v1.Object {
	from := listKey(kind)
	if tenant != "" {
		from += tenant + "/"
	}
	list := tx.view.List(kind, tenant)
	if len(tx.order) == 0 {
		return list
	}
	out := make([]v1.Object, 0, len(list))
	for _, o := range list {
		if _, ok := tx.objects[objectKey(kind, o.Meta().Tenant, o.Meta().Name)]; !ok {
			out = append(out, o)
		}
	}
	for _, key := range tx.order {
		if o := tx.objects[key]; o != nil && strings.HasPrefix(key, from) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b v1.Object) int {
		if c := strings.Compare(a.Meta().Tenant, b.Meta().Tenant); c != 0 {
			return c
		}
		return strings.Compare(a.Meta().Name, b.Meta().Name)
	})
	return out
}

// Put writes a resource. The transaction owns it from now on.
func (tx *Tx) Put(o v1.Object) {
	tx.write(objectKey(o.GetKind(), o.Meta().Tenant, o.Meta().Name), o)
}

// Delete removes a resource; an absent one is fine.
func (tx *Tx) Delete(kind v1.Kind, tenant, name string) {
	if _, ok := tx.Get(kind, tenant, name); ok {
		tx.write(objectKey(kind, tenant, name), nil)
	}
}

func (tx *Tx) write(key string, o v1.Object) {
	if _, ok := tx.objects[key]; !ok {
		tx.order = append(tx.order, key)
	}
	tx.objects[key] = o
}

// Record returns a record by its folder and name, as written by the transaction or as in the view; nil: there is none.
func (tx *Tx) Record(name string) []byte {
	if r, ok := tx.records[recordKey(name)]; ok {
		return r
	}
	return tx.view.Record(name)
}

// PutRecord writes a record. Who reads it to decide on a write, and who writes it, share a scope.
func (tx *Tx) PutRecord(name string, data []byte) {
	key := recordKey(name)
	if _, ok := tx.records[key]; !ok {
		tx.order = append(tx.order, key)
	}
	tx.records[key] = data
}

// DeleteRecord removes a record; an absent one is fine.
func (tx *Tx) DeleteRecord(name string) {
	if tx.Record(name) != nil {
		tx.PutRecord(name, nil)
	}
}

// Counter returns the last number of a counter; 0: it has given none.
func (tx *Tx) Counter(counter string) uint64 {
	if n, ok := tx.counters[counter]; ok {
		return n
	}
	return tx.view.Counter(counter)
}

// ErrUsedUp says that a counter has given its last number.
var ErrUsedUp = errors.New("no number is left")

// Next returns the next number of a counter: the least at first, then one more each time, never one twice.
func (tx *Tx) Next(counter string, least, most uint64) (uint64, error) {
	if err := tx.count(); err != nil {
		return 0, err
	}
	n := max(least, tx.Counter(counter)+1)
	if n > most {
		return 0, fmt.Errorf("%s: %w", counter, ErrUsedUp)
	}
	tx.counters[counter] = n
	return n, nil
}
