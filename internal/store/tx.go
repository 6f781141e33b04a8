// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	v1 "weft/api/v1"
)

// Tx is what a function of Update sees: a view, and its own writes on top.
type Tx struct {
	view     *View
	count    func()               // called before a number is drawn
	objects  map[string]v1.Object // by key; nil: deleted
	records  map[string][]byte    // by key; nil: deleted
	order    []string             // keys of objects and records, as first written
	counters map[string]uint64
}

// Bounds of an update.
const (
	bytesMost   = requestBytes - 64<<10 // of all values of one transaction; the rest is for keys and frames
	tries       = 40                    // runs of the function. Writers of one process take turns: a conflict needs a second server
	writeWithin = 10 * time.Second      // one transaction, until the image holds it
)

// Update runs fn and commits what it wrote, if nothing in the scopes (names of tenants; NodeScope; "" for the cluster)
// changed since fn's view; else fn runs again on a newer view. When Update returns, View holds the write. An error of fn is
// returned as it is, and nothing is written. The revision is that of the write, or of the view where there was nothing to
// write. A write that took too long may have been done all the same.
func (s *Store) Update(ctx context.Context, scopes []string, fn func(tx *Tx) error) (int64, error) {
	scopes = slices.Compact(slices.Sorted(slices.Values(scopes)))
	defer s.lock(scopes)()
	counting := false
	defer func() {
		if counting {
			s.counting.Unlock()
		}
	}()
	count := func() {
		if !counting {
			s.counting.Lock() // kept for further tries: at most the first one meets a number that has moved on
			counting = true
		}
	}
	for range tries {
		tx := &Tx{view: s.View(), count: count, objects: make(map[string]v1.Object), records: make(map[string][]byte), counters: make(map[string]uint64)}
		if err := fn(tx); err != nil {
			return 0, err
		}
		if len(tx.order) == 0 {
			return tx.view.revision, nil
		}
		revision, done, err := s.write(ctx, tx, scopes)
		if err != nil {
			return 0, err
		}
		if done {
			return revision, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(rand.N(5 * time.Millisecond)):
		}
	}
	return 0, ErrConflict
}

// lock takes the scopes' locks in order of name and returns what gives them back.
func (s *Store) lock(scopes []string) (unlock func()) {
	var held []*sync.Mutex
	for _, name := range scopes {
		m, _ := s.scopes.LoadOrStore(name, &sync.Mutex{})
		held = append(held, m.(*sync.Mutex))
		held[len(held)-1].Lock()
	}
	return func() {
		for _, m := range held {
			m.Unlock()
		}
	}
}

// write commits the transaction and waits until the image holds it, or what it met.
func (s *Store) write(ctx context.Context, tx *Tx, scopes []string) (revision int64, done bool, err error) {
	if err := s.room(); err != nil {
		return 0, false, err
	}
	if state := s.client.ActiveConnection().GetState(); state == connectivity.TransientFailure { // each would wait to the end, one after the other
		return 0, false, fmt.Errorf("%w: there is no connection to %v", ErrUnavailable, s.client.Endpoints())
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	revision, done, err = s.commit(ctx, tx, scopes)
	switch {
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return 0, false, fmt.Errorf("%w: %v", ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return 0, false, fmt.Errorf("%w: %v", ErrFull, err)
	case errors.Is(err, ErrTooLarge):
		return 0, false, err
	case err != nil:
		return 0, false, fmt.Errorf("%w: %v", ErrUnavailable, err)
	}
	if err := s.image.reached(ctx, revision); err != nil {
		return 0, false, fmt.Errorf("%w: wait for revision %d: %v", ErrUnavailable, revision, err)
	}
	return revision, done, nil
}

// commit sends the transaction. Where it did not go through, revision is the newest among what it compared.
func (s *Store) commit(ctx context.Context, tx *Tx, scopes []string) (revision int64, done bool, err error) {
	var guards []clientv3.Cmp
	var writes, reads []clientv3.Op
	guard := func(key string) {
		e, _ := tx.view.tree.Get(entry{key: key})
		guards = append(guards, clientv3.Compare(clientv3.ModRevision(key), "=", e.revision))
		reads = append(reads, clientv3.OpGet(key, clientv3.WithKeysOnly()))
	}
	for _, scope := range scopes {
		guard(fenceKey(scope))
		writes = append(writes, clientv3.OpPut(fenceKey(scope), ""))
	}
	for name, n := range tx.counters {
		guard(counterKey(name))
		writes = append(writes, clientv3.OpPut(counterKey(name), strconv.FormatUint(n, 10)))
	}
	size := 0
	for _, key := range tx.order {
		value, err := tx.value(key)
		if err != nil {
			return 0, false, err
		}
		if value == "" {
			writes = append(writes, clientv3.OpDelete(key))
			continue
		}
		if size += len(value); size > bytesMost {
			return 0, false, fmt.Errorf("%w: its values have more than %d bytes", ErrTooLarge, bytesMost)
		}
		writes = append(writes, clientv3.OpPut(key, value))
	}
	resp, err := s.client.Txn(ctx).If(guards...).Then(writes...).Else(reads...).Commit()
	if err != nil {
		return 0, false, err
	}
	if resp.Succeeded {
		return resp.Header.Revision, true, nil
	}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			revision = max(revision, kv.ModRevision)
		}
	}
	return revision, false, nil
}

// value is what the transaction writes at a key; "": the key is deleted.
func (tx *Tx) value(key string) (string, error) {
	if r, ok := tx.records[key]; ok {
		return string(r), nil
	}
	if o := tx.objects[key]; o != nil {
		return encode(o)
	}
	return "", nil
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
	tx.count()
	n := max(least, tx.Counter(counter)+1)
	if n > most {
		return 0, fmt.Errorf("%s: %w", counter, ErrUsedUp)
	}
	tx.counters[counter] = n
	return n, nil
}
