// SPDX-License-Identifier: Apache-2.0

package store

import "context"

// Bounds of what is kept for readers of changes.
const (
	historyMost = 8192 // batches
	readerMost  = 1024 // batches that a reader may be behind
)

// history is the latest batches of events and those who read them. The image's lock guards it.
type history struct {
	batches []batch
	base    int64 // batches up to and with this revision are no longer kept
	readers map[*reader]struct{}
}

type batch struct {
	revision int64
	events   []Event
	merged   bool // the difference of two lists: steps between are not known
}

// reader is one subscription.
type reader struct {
	out   chan []Event
	each  bool // it wants each step, and ends where one is not known
	ended bool
}

// add keeps a batch and hands it to the readers; one that is too far behind is ended.
func (h *history) add(revision int64, events []Event, merged bool) {
	if h.base == 0 && len(h.batches) == 0 {
		h.base = revision // the first list: what was before is not known
		return
	}
	if len(events) == 0 && !merged {
		return
	}
	h.batches = append(h.batches, batch{revision, events, merged})
	if len(h.batches) > historyMost {
		cut := historyMost / 4
		h.base = h.batches[cut-1].revision
		h.batches = append([]batch(nil), h.batches[cut:]...)
	}
	for r := range h.readers {
		if merged && r.each {
			h.end(r)
			continue
		}
		select {
		case r.out <- events:
		default:
			h.end(r)
		}
	}
}

func (h *history) end(r *reader) {
	if !r.ended {
		r.ended = true
		close(r.out)
		delete(h.readers, r)
	}
}

func (h *history) endAll() {
	for r := range h.readers {
		h.end(r)
	}
}

// subscribe makes a reader that begins after revision since.
func (i *image) subscribe(ctx context.Context, since int64, each bool) (<-chan []Event, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, ErrClosed
	}
	if since < i.history.base || since > i.revision { // a revision to come is one of another life of the store
		return nil, ErrCompacted
	}
	r := &reader{each: each}
	var missed [][]Event
	for _, b := range i.history.batches {
		if b.revision > since {
			if b.merged && each {
				return nil, ErrCompacted
			}
			missed = append(missed, b.events)
		}
	}
	r.out = make(chan []Event, len(missed)+readerMost)
	for _, events := range missed {
		r.out <- events
	}
	if i.history.readers == nil {
		i.history.readers = make(map[*reader]struct{})
	}
	i.history.readers[r] = struct{}{}
	context.AfterFunc(ctx, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.history.end(r)
	})
	return r.out, nil
}
