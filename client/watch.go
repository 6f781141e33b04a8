// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"time"

	v1 "weft/api/v1"
)

// Times and bounds of a watch.
const (
	silenceMost  = 45 * time.Second // three bookmarks missed: the connection is dead
	resumeWithin = 30 * time.Second // how long a server may be away before the watch gives up
	resumeFirst  = 100 * time.Millisecond
	resumeMost   = 2 * time.Second
	eventMost    = 4 << 20 // bytes of one event
)

// WatchEvent is one step of a watch. A bookmark has no object.
type WatchEvent struct {
	Type            v1.EventType
	Object          v1.Object
	ResourceVersion string
}

// Watch yields what happens to the resources of a kind after resourceVersion, usually that of a List; "" means from now
// on. The first step is a bookmark: from there on nothing is missed. A watch outlives a lost connection or a restart of
// the server: it goes on from the last step. It ends with its context, which yields nothing, or with one error: EXPIRED
// where the server no longer knows the version (list again), UNAVAILABLE where the server stays away.
func (c *Client) Watch(ctx context.Context, kind v1.Kind, tenant, resourceVersion string) iter.Seq2[WatchEvent, error] {
	return func(yield func(WatchEvent, error) bool) {
		w := watch{client: c, kind: kind, done: resourceVersion, yield: yield}
		path, err := listPath(kind, tenant)
		if err == nil {
			err = w.run(ctx, path)
		}
		if err != nil && ctx.Err() == nil && !w.stopped {
			yield(WatchEvent{}, err)
		}
	}
}

// watch is one running Watch.
type watch struct {
	client  *Client
	kind    v1.Kind
	done    string          // version whose steps all came: the next connection starts there
	current string          // version of the last steps; a transaction's steps share one, so more of it may come
	seen    map[string]bool // resources whose write at current was yielded
	skip    map[string]bool // those of them that the present connection has yet to repeat
	heard   bool            // a step came over the present connection
	stopped bool            // the reader wants no more
	yield   func(WatchEvent, error) bool
}

// run connects again and again until the watch ends.
func (w *watch) run(ctx context.Context, path string) error {
	var deadline time.Time // zero: never connected yet
	pause := resumeFirst
	for {
		w.heard = false
		err := w.connect(ctx, path)
		if w.heard {
			deadline, pause = time.Now().Add(resumeWithin), resumeFirst
		}
		if w.stopped || ctx.Err() != nil || !passing(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
			pause = min(2*pause, resumeMost)
		}
	}
}

// passing reports whether an error may be gone on the next try. A stream that the server closed has none.
func passing(err error) bool {
	var e *v1.Error
	return err == nil || (errors.As(err, &e) && (e.Code == v1.CodeUnavailable || e.Code == v1.CodeTooMany))
}

// connect makes one request and yields its steps until the stream ends.
func (w *watch) connect(ctx context.Context, path string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q := url.Values{"watch": {"true"}}
	if w.done != "" {
		q.Set("resourceVersion", w.done)
	}
	w.skip = maps.Clone(w.seen)
	resp, err := w.client.send(ctx, http.MethodGet, path, q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	silence := time.AfterFunc(silenceMost, func() { cancel(errors.New("silent")) })
	defer silence.Stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, eventMost)
	var data []byte
	for lines.Scan() {
		silence.Reset(silenceMost)
		line := lines.Bytes()
		if text, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			data = append(append(data, bytes.TrimPrefix(text, []byte(" "))...), '\n')
		}
		if len(line) > 0 || len(data) == 0 {
			continue // an event ends with an empty line
		}
		if err := w.step(data); err != nil || w.stopped {
			return err
		}
		data = data[:0]
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return unreadable(fmt.Errorf("an event has more than %d bytes", eventMost))
	}
	if !w.heard {
		return w.client.unreachable(ctx, errors.New("the stream ended before its first event"))
	}
	return nil // a broken or silent stream is resumed
}

// step yields one event.
func (w *watch) step(data []byte) error {
	var e v1.Event
	if err := json.Unmarshal(data, &e); err != nil {
		return unreadable(err)
	}
	out := WatchEvent{Type: e.Type, ResourceVersion: e.ResourceVersion}
	if len(e.Object) > 0 {
		o, err := decode(w.kind, e.Object)
		if err != nil {
			return err
		}
		out.Object = o
	}
	w.heard = true
	if w.fresh(out) {
		w.stopped = !w.yield(out, nil)
	}
	return nil
}

// fresh notes a step and reports whether it was not yielded before. Only writes are repeated by a new connection; a step
// that tells what became of a resource on the nodes has the version of the last write, and is never repeated.
func (w *watch) fresh(e WatchEvent) bool {
	if e.Type == v1.EventBookmark {
		if e.ResourceVersion == w.done && w.current != "" {
			return false // a new connection begins where this one was sure of; more was yielded since
		}
		if e.ResourceVersion != w.done {
			w.done, w.current, w.seen, w.skip = e.ResourceVersion, "", nil, nil
		}
		return true
	}
	if e.ResourceVersion != w.current || w.seen == nil { // none yet: a step may come without a version
		if w.current != "" {
			w.done = w.current
		}
		w.current, w.seen, w.skip = e.ResourceVersion, make(map[string]bool), nil
	}
	if e.Object == nil || (e.Type != v1.EventDeleted && e.Object.Meta().ResourceVersion != e.ResourceVersion) {
		return true
	}
	id := v1.ID(e.Object)
	if w.skip[id] {
		delete(w.skip, id)
		return false
	}
	w.seen[id] = true
	return true
}
