// SPDX-License-Identifier: Apache-2.0

package linear

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/client"
)

// replica is what a watch makes of the list that it began with. It must always be what a list at its version would have been.
type replica struct {
	mu       sync.Mutex // guards all below
	version  int64
	objects  map[string]int64 // version by resource
	seen     map[write]bool   // steps that came, and no acknowledged write was told for yet
	wanted   map[write]bool   // acknowledged writes whose steps have not come yet
	gaps     [][2]int64       // versions between which steps were not told: it was listed again
	wrong    []string
	steps    int
	expired  int
	unsettle int // times that the server was away for too long
}

// write is one write of one resource.
type write struct {
	id      string
	version int64
}

func newReplica() *replica {
	return &replica{seen: make(map[write]bool), wanted: make(map[write]bool)}
}

// list takes over a list.
func (r *replica) list(version int64, objects map[string]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version < r.version {
		r.wrongly("listed at %d, after %d", version, r.version)
	}
	r.gaps = append(r.gaps, [2]int64{r.version, version})
	r.version, r.objects = version, objects
}

func (r *replica) wrongly(format string, args ...any) {
	if len(r.wrong) < 20 {
		r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
	}
}

// take applies a step.
func (r *replica) take(e v1.EventType, at int64, id string, version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps++
	if at < r.version {
		r.wrongly("%s %s at %d, after %d", e, id, at, r.version)
	}
	r.version = at
	have, there := r.objects[id]
	switch e {
	case v1.EventBookmark:
		return
	case v1.EventAdded:
		if there {
			r.wrongly("ADDED %s at %d, which was there of %d", id, at, have)
		}
	case v1.EventModified:
		switch {
		case !there:
			r.wrongly("MODIFIED %s at %d, which was not there", id, at)
		case version < have:
			r.wrongly("MODIFIED %s at %d: its version goes from %d back to %d", id, at, have, version)
		case version == have:
			return // what became of it on the nodes
		}
	case v1.EventDeleted:
		if !there {
			r.wrongly("DELETED %s at %d, which was not there", id, at)
		}
		delete(r.objects, id)
		r.meet(r.wanted, r.seen, write{id, at})
		return
	}
	r.objects[id] = version
	r.meet(r.wanted, r.seen, write{id, version})
}

// meet strikes a step off one list, or puts it on the other.
func (r *replica) meet(off, on map[write]bool, s write) {
	if off[s] {
		delete(off, s)
	} else {
		on[s] = true
	}
}

// acknowledged notes a write that a client was told is done. Its step must come.
func (r *replica) acknowledged(id string, version int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.meet(r.seen, r.wanted, write{id, version})
}

// end compares with the last list, and returns what is wrong.
func (r *replica) end(version int64, objects map[string]int64) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !maps.Equal(r.objects, objects) {
		r.wrongly("it has %d resources at %d, the list at %d has %d", len(r.objects), r.version, version, len(objects))
		for id, v := range objects {
			if r.objects[id] != v {
				r.wrongly("%s is at %d, in the list at %d", id, r.objects[id], v)
			}
		}
	}
	for s := range r.wanted {
		told := true
		for _, g := range r.gaps {
			told = told && (s.version <= g[0] || s.version > g[1])
		}
		if told {
			r.wrongly("no step for the acknowledged write of %s at %d", s.id, s.version)
		}
	}
	return r.wrong
}

// same reports whether the replica is what a list has.
func (r *replica) same(objects map[string]int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Equal(r.objects, objects)
}

// follow keeps the replica up to date until ctx ends: list, watch, and list again where the watch says that it has to be.
func (r *replica) follow(ctx context.Context, c *client.Client, kind v1.Kind) {
	for ctx.Err() == nil {
		version, objects, err := versions(ctx, c, kind)
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		r.list(version, objects)
		for e, err := range c.Watch(ctx, kind, "", strconv.FormatInt(version, 10)) {
			if err != nil {
				r.ended(err)
				break
			}
			at, _ := strconv.ParseInt(e.ResourceVersion, 10, 64)
			if e.Type == v1.EventBookmark {
				r.take(e.Type, at, "", 0)
				continue
			}
			r.take(e.Type, at, v1.ID(e.Object), versionOf(e.Object))
		}
	}
}

// ended notes why a watch ended.
func (r *replica) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch code(err) {
	case v1.CodeExpired:
		r.expired++
	case v1.CodeUnavailable:
		r.unsettle++
	default:
		r.wrongly("the watch ended with %v", err)
	}
}

// versions lists a kind.
func versions(ctx context.Context, c *client.Client, kind v1.Kind) (int64, map[string]int64, error) {
	list, text, err := c.List(ctx, kind, "")
	if err != nil {
		return 0, nil, err
	}
	version, err := strconv.ParseInt(text, 10, 64)
	objects := make(map[string]int64, len(list))
	for _, o := range list {
		objects[v1.ID(o)] = versionOf(o)
	}
	return version, objects, err
}

func versionOf(o v1.Object) int64 {
	n, _ := strconv.ParseInt(o.Meta().ResourceVersion, 10, 64) // 0: none
	return n
}

func code(err error) string {
	var e *v1.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// TestReplicaSeesWhatIsWrong gives the validator of watches steps with one fault each.
func TestReplicaSeesWhatIsWrong(t *testing.T) {
	type at struct {
		e           v1.EventType
		at, version int64
	}
	added, changed, deleted := at{v1.EventAdded, 11, 11}, at{v1.EventModified, 12, 12}, at{v1.EventDeleted, 13, 12}
	for name, c := range map[string]struct {
		steps []at
		last  map[string]int64
		fine  bool
	}{
		"all":                  {[]at{added, changed}, map[string]int64{"a": 12}, true},
		"deleted":              {[]at{added, changed, deleted}, map[string]int64{}, true},
		"lost":                 {[]at{added}, map[string]int64{"a": 12}, false},
		"lost_and_passed_over": {[]at{added, {v1.EventModified, 14, 14}}, map[string]int64{"a": 14}, false},
		"doubled":              {[]at{added, added, changed}, map[string]int64{"a": 12}, false},
		"backward":             {[]at{changed, added}, map[string]int64{"a": 12}, false},
		"unknown":              {[]at{added, changed, deleted, deleted}, map[string]int64{}, false},
		"on_nodes":             {[]at{added, changed, {v1.EventModified, 13, 12}}, map[string]int64{"a": 12}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReplica()
			r.list(10, map[string]int64{})
			r.acknowledged("a", 12)
			for _, s := range c.steps {
				r.take(s.e, s.at, "a", s.version)
			}
			if wrong := r.end(14, c.last); (len(wrong) == 0) != c.fine {
				t.Errorf("%q", wrong)
			}
		})
	}
}
