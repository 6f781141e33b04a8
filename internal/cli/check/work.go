// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"weft/internal/cli/check/attack"
)

// work is a group of cases that run together: all packets first, then one question to each ear.
type work struct {
	name  string
	tests []*test
}

// test is a case, and how its packets come to be.
type test struct {
	Case
	make func() ([]shot, []probe)
	also func(ctx context.Context, t *test) error // after the packets: what is not a packet of a workload
}

// shot is frames that a workload sends, and what must come of them.
type shot struct {
	from    *actor
	path    string
	packets []attack.Packet
	want    want
	canary  string
	test    *test
}

// want is what must come of frames: a drop that counts, once for each frame, or a workload that hears them. With neither,
// nobody may hear them and nothing is counted.
type want struct {
	reason string
	least  int // so many drops at least; 0: as many as frames
	to     *actor
}

// probe is a question that a workload asks, and must get an answer to.
type probe struct {
	from     *actor
	to       *actor // who must hear it; nil: nobody but the sender
	q        request
	identity string   // what the answer must say; "": nothing
	hops     []string // trace: who must answer
	test     *test
}

// sending is what is known of a canary.
type sending struct {
	test  *test
	from  *actor
	to    *actor // who must hear it, or nobody
	path  string
	heard bool
	want  want
}

// work runs a group.
func (r *run) work(ctx context.Context, w *work) error {
	var shots []shot
	var probes []probe
	began := len(r.sent)
	for _, t := range w.tests {
		t.Passed = true
		if t.make == nil {
			continue
		}
		s, p := t.make()
		for i := range s {
			s[i].test = t
			t.Packets += len(s[i].packets)
			if s[i].want.reason != "" {
				t.Note = s[i].want.reason
			}
		}
		for i := range p {
			p[i].test = t
			t.Packets++
		}
		if t.Packets == 0 {
			t.Note = "there is nothing here to try it at"
		}
		shots, probes = append(shots, s...), append(probes, p...)
	}
	if err := errors.Join(r.ask1by1(ctx, probes), r.fire(ctx, shots)); err != nil {
		return err
	}
	for _, t := range w.tests {
		if t.also != nil {
			if err := t.also(ctx, t); err != nil {
				return err
			}
		}
	}
	if len(r.sent) == began {
		return ctx.Err()
	}
	return r.listen(ctx, w)
}

// lane is a tenant on a node: what it sends is sent in one row, for its drops are counted together.
type lane struct{ tenant, node string }

// lanes runs f for each lane at the same time, with what is in it.
func lanes[T any](all []T, from func(T) *actor, f func([]T) error) error {
	rows := make(map[lane][]T)
	for _, one := range all {
		l := lane{from(one).tenant, from(one).node}
		rows[l] = append(rows[l], one)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards errs
	var errs []error
	for _, row := range rows {
		slices.SortStableFunc(row, func(a, b T) int { return strings.Compare(from(a).port, from(b).port) })
		wg.Go(func() {
			if err := f(row); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Bounds of one request to a node.
const (
	stepsMost = 500
	bytesMost = 800_000
	manyMost  = 40
)

// fire sends every shot and compares what the nodes counted.
func (r *run) fire(ctx context.Context, shots []shot) error {
	for i := range shots {
		s := &shots[i]
		s.canary = r.canary(s.test, s.from, s.want, s.path)
	}
	return lanes(shots, func(s shot) *actor { return s.from }, func(row []shot) error {
		for len(row) > 0 {
			n, err := r.volley(ctx, row)
			if err != nil {
				return err
			}
			row = row[n:]
		}
		return nil
	})
}

// volley sends the first shots of one actor in one request, as many as go in.
func (r *run) volley(ctx context.Context, row []shot) (n int, err error) {
	q, size := request{Do: "volley"}, 0
	for _, s := range row {
		if s.from != row[0].from || n == stepsMost || size > bytesMost {
			break
		}
		st := step{Drops: uint64(s.want.least)}
		if s.want.reason != "" && s.want.least == 0 {
			st.Drops = uint64(len(s.packets))
		}
		for _, p := range s.packets {
			f := p.Frame(s.canary)
			st.Frames, size = append(st.Frames, f), size+len(f)
		}
		q.Steps = append(q.Steps, st)
		n++
	}
	if r.cfg.fires != nil {
		r.cfg.fires(r.workload(row[0].from), row[:n])
	}
	a, err := r.ask(ctx, row[0].from, q)
	switch {
	case err != nil:
		return 0, err
	case !a.OK || len(a.Outcomes) != n:
		return 0, fmt.Errorf("%s: %d of %d steps: %s", row[0].from, len(a.Outcomes), n, a.Detail)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, o := range a.Outcomes {
		if s := row[i]; !s.want.met(o.Drops, len(s.packets)) {
			s.test.fail(s.path, s.want.say(len(s.packets)), counted(o.Drops))
		}
	}
	return n, nil
}

// met tells whether drops are those that a shot of n frames must cause, and no others.
func (w want) met(drops map[string]uint64, n int) bool {
	if w.reason == "" {
		return len(drops) == 0
	}
	if w.least > 0 {
		return len(drops) == 1 && drops[w.reason] >= uint64(w.least)
	}
	return len(drops) == 1 && drops[w.reason] == uint64(n)
}

func (w want) say(n int) string {
	switch {
	case w.least > 0:
		return fmt.Sprintf("at least %d drops for %s", w.least, w.reason)
	case w.reason != "":
		return counted(map[string]uint64{w.reason: uint64(n)})
	}
	return "no drop"
}

func counted(drops map[string]uint64) string {
	if len(drops) == 0 {
		return "no drop"
	}
	var out []string
	for _, reason := range slices.Sorted(maps.Keys(drops)) {
		out = append(out, fmt.Sprintf("%d for %s", drops[reason], reason))
	}
	return "drops: " + strings.Join(out, ", ")
}

// ask1by1 asks every probe and compares the answers.
func (r *run) ask1by1(ctx context.Context, probes []probe) error {
	for i := range probes {
		p := &probes[i]
		p.q.Canary = r.canary(p.test, p.from, want{to: p.to}, p.path())
		if p.q.pieces != nil {
			p.q.Frames = p.q.pieces(p.q.Canary)
		}
	}
	return lanes(probes, func(p probe) *actor { return p.from }, func(row []probe) error {
		for len(row) > 0 {
			n, err := r.many(ctx, row)
			if err != nil {
				return err
			}
			row = row[n:]
		}
		return nil
	})
}

func (p *probe) path() string { return fmt.Sprintf("%s -> %s", p.from, p.q.To) }

// many asks some probes of one node in one request.
func (r *run) many(ctx context.Context, row []probe) (n int, err error) {
	n = min(len(row), manyMost)
	q := request{Do: "many"}
	for _, p := range row[:n] {
		p.q.Name = r.workload(p.from)
		q.Many = append(q.Many, p.q)
	}
	a, err := r.ask(ctx, row[0].from, q)
	if err != nil {
		return 0, err
	}
	if len(a.Answers) != n {
		return 0, fmt.Errorf("%s: %d answers to %d probes", row[0].from, len(a.Answers), n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, got := range a.Answers {
		p := row[i]
		switch {
		case !got.OK:
			p.test.fail(p.path(), "an answer", got.Detail)
		case p.identity != "" && got.Identity != p.identity:
			p.test.fail(p.path(), p.identity, got.Identity)
		case !slices.Equal(got.Hops, p.hops):
			p.test.fail(p.path(), "hops "+strings.Join(p.hops, ", "), strings.Join(got.Hops, ", "))
		}
		if !got.OK || (p.identity != "" && got.Identity != p.identity) {
			r.sent[p.q.Canary].heard = true // it has failed already
		}
	}
	return n, nil
}

// listen asks every ear what came in, and wants to hear of what must be heard, and of nothing else.
func (r *run) listen(ctx context.Context, w *work) error {
	if err := pause(ctx, r.cfg.earWithin); err != nil {
		return err
	}
	for deadline := time.Now().Add(r.cfg.countWithin); ; {
		if err := r.hear(ctx, w); err != nil {
			return err
		}
		missing := r.missing(w)
		if len(missing) == 0 || time.Now().After(deadline) {
			for _, s := range missing {
				s.test.fail(s.path, s.to.String()+" to hear it", "it did not: the packet went elsewhere, or the ear is deaf")
			}
			return nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// missing lists what the group sent and nobody heard yet who must.
func (r *run) missing(w *work) []*sending {
	var out []*sending
	for _, canary := range slices.Sorted(maps.Keys(r.sent)) {
		if s := r.sent[canary]; s.to != nil && !s.heard && slices.Contains(w.tests, s.test) {
			out = append(out, s)
		}
	}
	return out
}

// hear asks every ear once.
func (r *run) hear(ctx context.Context, w *work) error {
	return r.each(func(a *actor) error {
		out, err := r.ask(ctx, a, request{Do: "seen", After: a.known})
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if !out.OK {
			for _, t := range w.tests {
				t.fail(a.String(), "to know all that it received", out.Detail)
			}
		}
		a.known += len(out.Seen)
		for _, canary := range out.Seen {
			r.heard(a, canary)
		}
		return nil
	})
}

// heard notes that an actor heard a canary.
func (r *run) heard(a *actor, canary string) {
	s := r.sent[canary]
	switch {
	case s == nil || a == s.from: // an answer, or an error, brings a packet back to its sender
		return
	case a == s.to:
		s.heard = true
		return
	}
	if s.from == nil || a.tenant != s.from.tenant {
		r.through++
	}
	s.test.fail(s.path, "silence elsewhere", fmt.Sprintf("%s heard a packet that was not for it: %s", a, canary))
}

// canary returns a text that no other packet carries.
func (r *run) canary(t *test, from *actor, w want, path string) string {
	c := fmt.Sprintf("weft-canary-%s%06x", r.id, len(r.sent)+1)
	r.sent[c] = &sending{test: t, from: from, to: w.to, path: path, want: w}
	return c
}

// pause waits, or ends with the context.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
