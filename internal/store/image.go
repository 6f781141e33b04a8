// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/btree"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	v1 "weft/api/v1"
)

// image is what etcd holds below the prefix, kept up to date by one watch. Where the watch was cut and etcd has compacted
// what came since, everything is listed again, and the difference becomes one batch of events.
type image struct {
	members *members // set before anything is asked of it
	log     *slog.Logger

	mu       sync.Mutex // guards all below
	tree     *btree.BTreeG[entry]
	revision int64
	view     *View         // of this revision; nil: not asked for yet
	moved    chan struct{} // closed, and replaced, when revision grows
	history  history
	pending  map[string]*pending // by the key of their fence: whose end is looked for
	closed   bool

	behind chan struct{} // asks for another watch: this one does not tell what is written
}

// Event is one step in the life of a resource.
type Event struct {
	Type     v1.EventType // added, modified or deleted
	Object   v1.Object    // as it is now; nil: deleted
	Old      v1.Object    // as it was before; nil: added
	Revision int64
}

const treeDegree = 32

func newImage(log *slog.Logger) *image {
	return &image{
		log: log, tree: btree.NewG(treeDegree, less), moved: make(chan struct{}), pending: make(map[string]*pending),
		behind: make(chan struct{}, 1),
	}
}

// current returns the view of the present revision.
func (i *image) current() *View {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.view == nil {
		i.view = &View{tree: i.tree.Clone(), revision: i.revision}
	}
	return i.view
}

// list reads everything and turns the difference to the image into events.
func (i *image) list(ctx context.Context) error {
	member, at := i.members.now()
	resp, err := member.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		i.members.leave(at)
		return err
	}
	fresh := btree.NewG(treeDegree, less)
	for _, kv := range resp.Kvs {
		e, err := decode(string(kv.Key), kv.Value, kv.ModRevision)
		if err != nil {
			i.log.Error("passed over a key that cannot be read", "err", err)
			continue
		}
		fresh.ReplaceOrInsert(e)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	events := difference(i.tree, fresh, resp.Header.Revision)
	i.tree = fresh
	for key, p := range i.pending {
		now, _ := fresh.Get(entry{key: key})
		if string(now.record) == p.id {
			p.tell(p.id, now.revision)
		} else if now.revision != p.guarded {
			delete(i.pending, key) // what the first change was will never be known
		}
	}
	i.advance(resp.Header.Revision, events, true)
	return nil
}

// difference returns the events that lead from one tree to another.
func difference(from, to *btree.BTreeG[entry], revision int64) []Event {
	var events []Event
	from.Ascend(func(old entry) bool {
		if now, ok := to.Get(old); old.object != nil && (!ok || now.object == nil) {
			events = append(events, Event{Type: v1.EventDeleted, Old: old.object, Revision: revision})
		}
		return true
	})
	to.Ascend(func(now entry) bool {
		old, ok := from.Get(now)
		switch {
		case now.object == nil || (ok && old.revision == now.revision):
		case !ok || old.object == nil:
			events = append(events, Event{Type: v1.EventAdded, Object: now.object, Revision: revision})
		default:
			events = append(events, Event{Type: v1.EventModified, Object: now.object, Old: old.object, Revision: revision})
		}
		return true
	})
	return events
}

// errBehind ends a watch that does not tell what is written.
var errBehind = errors.New("it told nothing of what was written")

// follow keeps the image up to date until ctx ends. A watch that was cut goes on from where it was, so that each step is told; only where
// etcd does not know the steps any more, everything is listed, and who wants each step has to do so as well.
func (i *image) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := i.watch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, errOtherLife):
			i.log.Warn("watch of etcd was cut; listing again", "err", err)
			attempt, cancel := context.WithTimeout(ctx, dialTimeout)
			if err := i.list(attempt); err != nil {
				i.log.Error("list etcd", "err", err)
			}
			cancel()
		case !errors.Is(err, errBehind):
			i.log.Warn("watch of etcd was cut; going on from there", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(tryAgain):
		}
	}
}

// errOtherLife says that etcd is behind what it told before: it was restored from a copy, or it is another one.
var errOtherLife = errors.New("etcd has lost what it told before")

// watch applies changes until the watch ends.
func (i *image) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	i.mu.Lock()
	next := i.revision + 1
	i.mu.Unlock()
	member, at := i.members.now()
	changes := member.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(next), clientv3.WithCreatedNotify())
	select {
	case <-i.behind: // of the watch before
	default:
	}
	for {
		select {
		case <-i.behind:
			i.members.leave(at)
			return errBehind
		case resp, ok := <-changes:
			if !ok {
				return ctx.Err()
			}
			if err := resp.Err(); err != nil {
				i.members.leave(at)
				return fmt.Errorf("watch from revision %d: %w", next, err)
			}
			if resp.Created && resp.Header.Revision < next-1 {
				if err := i.sameLife(ctx, next-1); err != nil {
					return err
				}
			}
			i.take(resp.Events)
		}
	}
}

// sameLife asks a majority of etcd whether it still has a revision. One member may be behind it, and will catch up.
func (i *image) sameLife(ctx context.Context, revision int64) error {
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	member, at := i.members.now()
	resp, err := member.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		i.members.leave(at)
		return err
	}
	if resp.Header.Revision < revision {
		return fmt.Errorf("%w: revision %d, and now %d", errOtherLife, revision, resp.Header.Revision)
	}
	return nil
}

// take applies the changes of a response, one batch of events for each revision.
func (i *image) take(changes []*clientv3.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for len(changes) > 0 {
		n, revision := 1, changes[0].Kv.ModRevision
		for n < len(changes) && changes[n].Kv.ModRevision == revision {
			n++
		}
		var events []Event
		for _, c := range changes[:n] {
			if e, ok := i.change(c); ok {
				events = append(events, e)
			}
		}
		i.advance(revision, events, false)
		changes = changes[n:]
	}
}

// change applies one change; ok is false where no resource is concerned.
func (i *image) change(c *clientv3.Event) (Event, bool) {
	key, revision := string(c.Kv.Key), c.Kv.ModRevision
	if p := i.pending[key]; p != nil && revision > p.guarded {
		p.tell(string(c.Kv.Value), revision)
	}
	if c.Type == clientv3.EventTypeDelete {
		old, had := i.tree.Delete(entry{key: key})
		return Event{Type: v1.EventDeleted, Old: old.object, Revision: revision}, had && old.object != nil
	}
	now, err := decode(key, c.Kv.Value, revision)
	if err != nil {
		i.log.Error("passed over a key that cannot be read", "err", err)
		return Event{}, false
	}
	old, had := i.tree.ReplaceOrInsert(now)
	e := Event{Type: v1.EventAdded, Object: now.object, Revision: revision}
	if had && old.object != nil {
		e.Type, e.Old = v1.EventModified, old.object
	}
	return e, now.object != nil
}

// advance moves the image to a revision and tells everybody.
func (i *image) advance(revision int64, events []Event, merged bool) {
	i.revision, i.view = revision, nil
	close(i.moved)
	i.moved = make(chan struct{})
	i.history.add(revision, events, merged)
}

// reached waits until the image holds revision. Where nothing comes for a while, the watch is at a member that stands still or is cut
// off, and another one is asked.
func (i *image) reached(ctx context.Context, revision int64) error {
	silent := time.NewTimer(silentMost)
	defer silent.Stop()
	for {
		i.mu.Lock()
		now, moved, closed := i.revision, i.moved, i.closed
		i.mu.Unlock()
		switch {
		case now >= revision:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-moved:
			silent.Reset(silentMost)
		case <-silent.C:
			i.hurry()
			silent.Reset(silentMost)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hurry asks for another watch.
func (i *image) hurry() {
	select {
	case i.behind <- struct{}{}:
	default: // somebody asked already
	}
}

// close ends all subscriptions and waits.
func (i *image) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	close(i.moved)
	i.moved = make(chan struct{})
	i.history.endAll()
}
