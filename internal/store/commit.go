// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Times of a write. A member of etcd that stands still, or has lost the others, keeps nobody for long: the next try goes to another.
const (
	writeWithin    = 10 * time.Second       // one update, until the image holds it
	strainedWithin = 2 * time.Second        // the same, while no write gets through
	tryWithin      = 2 * time.Second        // one try of a transaction
	tryAgain       = 100 * time.Millisecond // pause before the next one
	silentMost     = time.Second            // that the watch may be behind what is written, before another member is asked
)

// pending is a transaction whose end is not known yet. Its id stands in the fence of its first scope, which every write in that scope
// compares and changes: so the first change of the fence after the revision that the transaction compared tells what became of it, and a
// second try of the same transaction does nothing where the first was done.
type pending struct {
	key     string // of the fence; "": the transaction has no scope, and is tried once
	id      string // the fence's value, if the transaction was done
	guarded int64  // the fence's revision that the transaction compares
	ended   chan outcome
}

// outcome is what became of a transaction.
type outcome struct {
	revision int64
	done     bool
}

// tell notes a change of the pending's fence.
func (p *pending) tell(value string, revision int64) {
	select {
	case p.ended <- outcome{revision, value == p.id}:
	default: // it is known already
	}
}

// expect lets the image look for what becomes of a transaction. It returns false where the fence has changed already.
func (i *image) expect(p *pending) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if e, _ := i.tree.Get(entry{key: p.key}); e.revision != p.guarded {
		return false
	}
	i.pending[p.key] = p
	return true
}

func (i *image) forget(p *pending) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pending[p.key] == p {
		delete(i.pending, p.key)
	}
}

// patience is how long a write is tried.
func (s *Store) patience() time.Duration {
	if s.strained.Load() {
		return strainedWithin
	}
	return s.within
}

// write commits the transaction and waits until the image holds it, or what it met.
func (s *Store) write(ctx context.Context, tx *Tx, scopes []string) (revision int64, done bool, err error) {
	if err := s.room(); err != nil {
		return 0, false, err
	}
	if s.members.gone() { // each would wait to the end, one after the other
		return 0, false, fmt.Errorf("%w: there is no connection to %v", ErrUnavailable, s.members.endpoints())
	}
	revision, done, err = s.commit(ctx, tx, scopes)
	if err == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		s.strained.Store(err != nil)
	}
	if err != nil {
		return 0, false, err
	}
	if err := s.image.reached(ctx, revision); err != nil {
		return 0, false, fmt.Errorf("%w: wait for revision %d: %v", ErrUnavailable, revision, err)
	}
	return revision, done, nil
}

// commit sends the transaction until it is known what became of it. Where it did not go through, revision is the newest among what it
// compared.
func (s *Store) commit(ctx context.Context, tx *Tx, scopes []string) (revision int64, done bool, err error) {
	p := &pending{id: s.name + strconv.FormatUint(s.writes.Add(1), 36), ended: make(chan outcome, 1)}
	if len(scopes) > 0 {
		p.key = fenceKey(scopes[0])
		p.guarded = tx.view.revisionOf(p.key)
		if !s.image.expect(p) {
			return s.View().revisionOf(p.key), false, nil
		}
		defer s.image.forget(p)
	}
	guards, writes, reads, err := tx.operations(scopes, p.id)
	if err != nil {
		return 0, false, err
	}
	for again := false; ; again = true {
		try, cancel := context.WithTimeout(ctx, tryWithin)
		member, at := s.members.now()
		resp, err := member.Txn(clientv3.WithRequireLeader(try)).If(guards...).Then(writes...).Else(reads...).Commit()
		cancel()
		switch {
		case err == nil && resp.Succeeded:
			return resp.Header.Revision, true, nil
		case err == nil && !again:
			return newest(resp), false, nil
		case err == nil:
			return s.settle(ctx, p, newest(resp))
		case !again && refused(err) != nil:
			return 0, false, fmt.Errorf("%w: %v", refused(err), err)
		case p.key == "":
			return 0, false, fmt.Errorf("%w: %v", ErrUnavailable, err)
		}
		s.members.leave(at)
		select {
		case o := <-p.ended:
			return o.revision, o.done, nil
		case <-ctx.Done():
			return 0, false, fmt.Errorf("%w: %v", ErrUnavailable, err)
		case <-time.After(tryAgain):
		}
	}
}

// settle finds out which of several tries of a transaction it was that the last one met: one of its own, or another's write.
func (s *Store) settle(ctx context.Context, p *pending, met int64) (revision int64, done bool, err error) {
	if err := s.image.reached(ctx, met); err != nil {
		return 0, false, fmt.Errorf("%w: wait for revision %d: %v", ErrUnavailable, met, err)
	}
	select {
	case o := <-p.ended:
		return o.revision, o.done, nil
	default: // the image was listed meanwhile, and the changes between are not known
		return 0, false, fmt.Errorf("%w: what became of a write that was tried twice is not known", ErrUnavailable)
	}
}

// newest is the newest revision among the keys that a transaction read.
func newest(resp *clientv3.TxnResponse) (revision int64) {
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			revision = max(revision, kv.ModRevision)
		}
	}
	return revision
}

// refused returns the error for a transaction that etcd does not take for what it is; nil: it may take it another time.
func refused(err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge):
		return ErrTooLarge
	case errors.Is(err, rpctypes.ErrNoSpace):
		return ErrFull
	}
	return nil
}

// operations are what a transaction compares, what it writes then, and what it reads else.
func (tx *Tx) operations(scopes []string, id string) (guards []clientv3.Cmp, writes, reads []clientv3.Op, err error) {
	guard := func(key string) {
		guards = append(guards, clientv3.Compare(clientv3.ModRevision(key), "=", tx.view.revisionOf(key)))
		reads = append(reads, clientv3.OpGet(key, clientv3.WithKeysOnly()))
	}
	for _, scope := range scopes {
		guard(fenceKey(scope))
		writes = append(writes, clientv3.OpPut(fenceKey(scope), id))
	}
	for name, n := range tx.counters {
		guard(counterKey(name))
		writes = append(writes, clientv3.OpPut(counterKey(name), strconv.FormatUint(n, 10)))
	}
	size := 0
	for _, key := range tx.order {
		value, err := tx.value(key)
		if err != nil {
			return nil, nil, nil, err
		}
		if value == "" {
			writes = append(writes, clientv3.OpDelete(key))
			continue
		}
		if size += len(value); size > bytesMost {
			return nil, nil, nil, fmt.Errorf("%w: its values have more than %d bytes", ErrTooLarge, bytesMost)
		}
		writes = append(writes, clientv3.OpPut(key, value))
	}
	return guards, writes, reads, nil
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

// confirm asks etcd whether a view is what the scopes hold now, or waits until the image has what is newer. With the embedded etcd
// there is nobody else who writes. What an update refuses, or leaves as it is, goes by its view as much as what it writes.
func (s *Store) confirm(ctx context.Context, view *View, scopes []string) (current bool, err error) {
	if s.etcd != nil || len(scopes) == 0 {
		return true, nil
	}
	tx := &Tx{view: view}
	guards, _, reads, err := tx.operations(scopes, "")
	if err != nil {
		return false, err
	}
	for {
		try, cancel := context.WithTimeout(ctx, tryWithin)
		member, at := s.members.now()
		resp, err := member.Txn(clientv3.WithRequireLeader(try)).If(guards...).Else(reads...).Commit()
		cancel()
		switch {
		case err == nil && resp.Succeeded:
			return true, nil
		case err == nil:
			if err := s.image.reached(ctx, newest(resp)); err != nil {
				return false, fmt.Errorf("%w: wait for revision %d: %v", ErrUnavailable, newest(resp), err)
			}
			return false, nil
		}
		s.members.leave(at)
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("%w: %v", ErrUnavailable, err)
		case <-time.After(tryAgain):
		}
	}
}
