// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	v1 "weft/api/v1"
	"weft/internal/identity"
	"weft/internal/store"
)

// Times of a watch.
const (
	pulseEvery    = 250 * time.Millisecond // how often the live part of status is looked at
	bookmarkEvery = 15 * time.Second
	writeWithin   = 10 * time.Second // a client that takes nothing for so long is cut off
)

// watch streams the changes of one kind as server-sent events: what is written, and what becomes of it on the nodes. It begins with a bookmark, so that a client knows that it
// is heard, and ends when the client is too slow; the client resumes by the last version it saw.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, kind v1.KindInfo, tenant string) {
	who := identity.Of(r.Context())
	if err := s.may(who, readerOf(kind), tenant); err != nil {
		s.fail(w, r, err)
		return
	}
	tenant = scopeOf(who, kind.Tenanted, tenant)
	since := s.cfg.Store.View().Revision()
	if q := r.URL.Query().Get("resourceVersion"); q != "" {
		n, err := strconv.ParseInt(q, 10, 64)
		if err != nil || n < 0 {
			s.fail(w, r, &v1.Error{Status: http.StatusBadRequest, Code: v1.CodeInvalid, Field: "resourceVersion", Message: fmt.Sprintf("%q is not a version", q), Fix: "use the resourceVersion of a list or of an event"})
			return
		}
		since = n
	}
	changes, err := s.cfg.Store.Changes(r.Context(), since)
	if errors.Is(err, store.ErrCompacted) {
		s.fail(w, r, &v1.Error{Status: http.StatusGone, Code: v1.CodeExpired, Field: "resourceVersion", Message: fmt.Sprintf("version %d is too old to go on from", since), Fix: "list again, and watch from the list's resourceVersion"})
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	out := &eventWriter{w: w, c: http.NewResponseController(w), within: s.watchWithin}
	defer func() {
		if errors.Is(out.err, os.ErrDeadlineExceeded) {
			s.cfg.Log.Warn("watch ended: its client has read nothing for too long", "within", s.watchWithin, "client", r.RemoteAddr, "request", requestID(r.Context()))
		}
	}()
	out.send(v1.Event{Type: v1.EventBookmark, ResourceVersion: strconv.FormatInt(since, 10)})
	alive := s.newPulse(who, kind.Kind, tenant)
	tick, beat := time.NewTicker(bookmarkEvery), time.NewTicker(pulseEvery)
	defer tick.Stop()
	defer beat.Stop()
	for out.err == nil {
		if err := s.cfg.Gate.Still(who); err != nil {
			s.cfg.Log.Info("watch ended: who watches may not any more", "principal", who.Name, "why", err, "request", requestID(r.Context()))
			return
		}
		select {
		case batch, ok := <-changes:
			if !ok {
				return
			}
			for _, e := range batch {
				since = e.Revision
				alive.note(e)
				if ev, ok := s.event(who, e, kind.Kind, tenant); ok {
					out.send(ev)
				}
			}
		case <-beat.C:
			for _, ev := range alive.changes(since) {
				out.send(ev)
			}
		case <-tick.C:
			out.send(v1.Event{Type: v1.EventBookmark, ResourceVersion: strconv.FormatInt(since, 10)})
		}
	}
}

// event makes the event for the wire; ok is false where the watch is not for it.
func (s *Server) event(who identity.Principal, e store.Event, kind v1.Kind, tenant string) (v1.Event, bool) {
	o := e.Object
	if o == nil {
		o = e.Old
	}
	if o.GetKind() != kind || (tenant != "" && o.Meta().Tenant != tenant) || !visible(who, o) {
		return v1.Event{}, false
	}
	body, err := s.filled(o)
	if err != nil {
		s.cfg.Log.Error("encode event", "err", err)
		return v1.Event{}, false
	}
	return v1.Event{Type: e.Type, ResourceVersion: strconv.FormatInt(e.Revision, 10), Object: body}, true
}

// eventWriter writes events until the first error.
type eventWriter struct {
	w      http.ResponseWriter
	c      *http.ResponseController
	within time.Duration // for one event
	err    error
}

func (e *eventWriter) send(ev v1.Event) {
	if e.err != nil {
		return
	}
	data, err := json.Marshal(ev)
	if err != nil {
		e.err = err
		return
	}
	if e.err = e.c.SetWriteDeadline(time.Now().Add(e.within)); errors.Is(e.err, http.ErrNotSupported) {
		e.err = nil
	}
	if _, err := fmt.Fprintf(e.w, "id: %s\nevent: %s\ndata: %s\n\n", ev.ResourceVersion, ev.Type, data); err != nil {
		e.err = err
		return
	}
	e.err = e.c.Flush()
}
