// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/google/btree"
	clientv3 "go.etcd.io/etcd/client/v3"

	v1 "weft/api/v1"
)

// Bounds of what is read at the start of what was before.
const (
	recallMost   = historyMost / 2 // revisions
	recallBytes  = 64 << 20
	recallWithin = 5 * time.Second
)

// recall reads the latest changes before the first list, as far as etcd still has them: readers of changes outlive a restart of the server. What
// cannot be read is as if it had been compacted.
func (i *image) recall(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recallWithin)
	defer cancel()
	i.mu.Lock()
	tree, revision := i.tree.Clone(), i.revision
	i.mu.Unlock()
	last := lastChange(tree)
	from := max(1, revision-recallMost) + 1
	p := past{base: from - 1}
	for tries := 0; tries < 2 && p.base < last; tries++ {
		member, _ := i.members.now()
		compacted := p.read(ctx, member, last)
		if compacted <= p.base {
			break
		}
		p = past{base: compacted} // what was before each change is known for those behind it
	}
	if p.base >= last || len(p.batches) == 0 || p.batches[len(p.batches)-1].revision < last {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.history.base, i.history.batches = p.base, p.batches
}

// lastChange is the revision of the last transaction: each one writes a fence, and fences stay.
func lastChange(tree *btree.BTreeG[entry]) (revision int64) {
	tree.Ascend(func(e entry) bool {
		revision = max(revision, e.revision)
		return true
	})
	return revision
}

// past is changes as they are read.
type past struct {
	base    int64
	batches []batch
	sizes   []int // in bytes, of each batch
	bytes   int
}

// read takes the changes up to and with revision last. Where etcd has compacted the first of them, it returns until where.
func (p *past) read(ctx context.Context, client *clientv3.Client, last int64) (compacted int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for resp := range client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(p.base+1), clientv3.WithPrevKV()) {
		if resp.Err() != nil {
			return resp.CompactRevision
		}
		for _, c := range resp.Events {
			if c.Kv.ModRevision > last {
				return 0
			}
			p.add(c)
		}
		if n := len(resp.Events); n > 0 && resp.Events[n-1].Kv.ModRevision == last {
			return 0
		}
	}
	return 0
}

// add takes one change.
func (p *past) add(c *clientv3.Event) {
	revision := c.Kv.ModRevision
	if n := len(p.batches); n == 0 || p.batches[n-1].revision != revision {
		p.batches, p.sizes = append(p.batches, batch{revision: revision}), append(p.sizes, 0)
	}
	n := len(p.batches) - 1
	if e, ok := recalled(c); ok {
		p.batches[n].events = append(p.batches[n].events, e)
	}
	size := len(c.Kv.Value)
	if c.PrevKv != nil {
		size += len(c.PrevKv.Value)
	}
	p.sizes[n] += size
	p.bytes += size
	for p.bytes > recallBytes && len(p.batches) > 1 {
		p.bytes -= p.sizes[0]
		p.base = p.batches[0].revision
		p.batches, p.sizes = p.batches[1:], p.sizes[1:]
	}
}

// recalled makes the event of a change; ok is false where no resource is concerned.
func recalled(c *clientv3.Event) (e Event, ok bool) {
	key := string(c.Kv.Key)
	e = Event{Type: v1.EventAdded, Revision: c.Kv.ModRevision}
	if c.PrevKv != nil {
		if old, err := decode(key, c.PrevKv.Value, c.PrevKv.ModRevision); err == nil && old.object != nil {
			e.Type, e.Old = v1.EventModified, old.object
		}
	}
	if c.Type == clientv3.EventTypeDelete {
		e.Type = v1.EventDeleted
		return e, e.Old != nil
	}
	now, err := decode(key, c.Kv.Value, c.Kv.ModRevision)
	e.Object = now.object
	return e, err == nil && now.object != nil
}
