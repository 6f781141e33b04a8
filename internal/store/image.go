// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/btree"
	clientv3 "go.etcd.io/etcd/client/v3"

	v1 "weft/api/v1"
)

// image is what etcd holds below the prefix, kept up to date by one watch. Where the watch was cut and etcd has compacted
// what came since, everything is listed again and the difference becomes events, so that nobody above notices.
type image struct {
	client *clientv3.Client
	log    *slog.Logger

	mu       sync.Mutex // guards all below
	tree     *btree.BTreeG[entry]
	revision int64
	view     *View         // of this revision; nil: not asked for yet
	moved    chan struct{} // closed, and replaced, when revision grows
	history  history
	closed   bool
}

// Event is one step in the life of a resource.
type Event struct {
	Type     v1.EventType // added, modified or deleted
	Object   v1.Object    // as it is now; nil: deleted
	Old      v1.Object    // as it was before; nil: added
	Revision int64
}

const treeDegree = 32

func newImage(client *clientv3.Client, log *slog.Logger) *image {
	return &image{client: client, log: log, tree: btree.NewG(treeDegree, less), moved: make(chan struct{})}
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
	resp, err := i.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
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
	i.advance(resp.Header.Revision, events)
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

// follow keeps the image up to date until ctx ends.
func (i *image) follow(ctx context.Context) {
	for ctx.Err() == nil {
		err := i.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		i.log.Warn("watch of etcd was cut; listing again", "err", err)
		for ctx.Err() == nil {
			attempt, cancel := context.WithTimeout(ctx, dialTimeout)
			err := i.list(attempt)
			cancel()
			if err == nil {
				break
			}
			i.log.Error("list etcd", "err", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// watch applies changes until the watch ends.
func (i *image) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	i.mu.Lock()
	next := i.revision + 1
	i.mu.Unlock()
	for resp := range i.client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(next)) {
		if err := resp.Err(); err != nil {
			return fmt.Errorf("watch from revision %d: %w", next, err)
		}
		i.take(resp.Events)
	}
	return ctx.Err()
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
		i.advance(revision, events)
		changes = changes[n:]
	}
}

// change applies one change; ok is false where no resource is concerned.
func (i *image) change(c *clientv3.Event) (Event, bool) {
	key, revision := string(c.Kv.Key), c.Kv.ModRevision
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
func (i *image) advance(revision int64, events []Event) {
	i.revision, i.view = revision, nil
	close(i.moved)
	i.moved = make(chan struct{})
	i.history.add(revision, events)
}

// reached waits until the image holds revision.
func (i *image) reached(ctx context.Context, revision int64) error {
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
		case <-ctx.Done():
			return ctx.Err()
		}
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
