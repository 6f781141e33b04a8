// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	v1 "weft/api/v1"
)

// event is a step of a watch, as the server writes it.
func event(kind v1.EventType, version int, name string) string {
	return live(kind, version, version, name)
}

// live is a step about a resource whose own version is written.
func live(kind v1.EventType, version, written int, name string) string {
	object := ""
	if name != "" {
		object = fmt.Sprintf(`,"object":{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":%q,"resourceVersion":"%d"}}`, name, written)
	}
	return fmt.Sprintf("id: %d\nevent: %s\ndata: {\"type\":%q,\"resourceVersion\":\"%d\"%s}\n\n", version, kind, kind, version, object)
}

// TestWatchGoesOnWhereItWasCut wants each write once, and what became of resources each time that it is told.
func TestWatchGoesOnWhereItWasCut(t *testing.T) {
	var asked []string
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query().Get("resourceVersion"))
		switch len(asked) {
		case 1: // cut in the middle of version 7, and in the middle of a line
			fmt.Fprint(w, ": comment\n\n", event(v1.EventBookmark, 5, ""), event(v1.EventAdded, 6, "a"), event(v1.EventAdded, 7, "b"),
				live(v1.EventModified, 7, 6, "a"), event(v1.EventModified, 7, "b"), "data: {")
		case 2:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"code":"UNAVAILABLE","message":"starting"}`)
		case 3:
			fmt.Fprint(w, event(v1.EventBookmark, 6, ""), event(v1.EventAdded, 7, "b"), event(v1.EventAdded, 7, "c"),
				live(v1.EventModified, 7, 6, "a"), event(v1.EventModified, 7, "b"), event(v1.EventBookmark, 7, ""))
		default:
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"code":"EXPIRED","message":"too old"}`)
		}
	}))
	var got []string
	last := 0
	for e, err := range c.Watch(context.Background(), v1.KindTenant, "", "5") {
		if at, _ := strconv.Atoi(e.ResourceVersion); err == nil {
			if at < last {
				t.Errorf("%s at version %d, after %d", e.Type, at, last)
			}
			last = at
		}
		switch {
		case err != nil:
			got = append(got, code(err))
		case e.Object != nil:
			got = append(got, e.Object.Meta().Name+e.ResourceVersion)
		}
	}
	if want := "a6 b7 a7 b7 c7 a7 b7 EXPIRED"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	if want := "5 6 6 7"; strings.Join(asked, " ") != want {
		t.Errorf("asked from versions %v, want %s", asked, want)
	}
}

func TestWatchEnds(t *testing.T) {
	var requests atomic.Int32
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		fmt.Fprint(w, event(v1.EventBookmark, 5, ""), event(v1.EventDeleted, 6, "a"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Run("when_the_reader_stops", func(t *testing.T) {
		for e := range c.Watch(context.Background(), v1.KindTenant, "", "") {
			if e.Type != v1.EventBookmark {
				t.Errorf("first step is %s", e.Type)
			}
			break
		}
	})
	t.Run("when_the_context_does", func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		steps := 0
		for e, err := range c.Watch(ctx, v1.KindTenant, "", "") {
			if err != nil {
				t.Error(err)
			}
			if steps++; e.Type == v1.EventDeleted {
				cancel()
			}
		}
		if steps != 2 {
			t.Errorf("%d steps, want 2", steps)
		}
	})
	if n := requests.Load(); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

func TestWatchSaysWhyItCannotBegin(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"UNAUTHORIZED": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"code":"UNAUTHORIZED","message":"no"}`)
		},
		"UNAVAILABLE": func(http.ResponseWriter, *http.Request) {}, // an empty stream
		"MALFORMED":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: x\n\n") },
	} {
		t.Run(name, func(t *testing.T) {
			var errs []string
			for _, err := range serve(t, h).Watch(context.Background(), v1.KindTenant, "", "") {
				errs = append(errs, code(err))
			}
			if len(errs) != 1 || errs[0] != name {
				t.Errorf("got %v", errs)
			}
		})
	}
}
