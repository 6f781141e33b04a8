// SPDX-License-Identifier: Apache-2.0

package linear

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// verb is what a client asks for.
type verb int

const (
	get     verb = iota
	put          // whatever is there
	putIf        // if the version is still that one
	drop         // delete
	claim        // create a port that is to have the address
	release      // delete that port
)

// question is one operation on one key. A claim's key is the address, its value who wants it.
type question struct {
	verb  verb
	key   string
	value string
	when  int64 // putIf: the version that must be there
}

// result is how an operation ended.
type result int

const (
	done      result = iota
	unchanged        // done, and there was nothing to change
	made             // done, and nothing was there before
	absent           // there is no such resource
	refused          // another version is there; or: somebody else has the address
	unknown          // no answer, or one that leaves it open
)

// answer is what a client was told.
type answer struct {
	result  result
	value   string
	version int64
}

// state is one key between two operations.
type state struct {
	there   bool
	value   string
	version int64 // 0: the write that made it was never answered, and nobody has read it yet
	least   int64 // the newest version that the key ever had, as far as is known
}

// model says what one resource, or one address, may do. A write without an answer takes place in the model: the checker may put it as
// late as it likes, behind everything that anybody saw.
var model = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) {
		ok, next := step(s.(state), in.(question), out.(answer))
		return ok, next
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
}

func step(s state, q question, a answer) (bool, state) {
	switch q.verb {
	case get:
		if a.result == absent {
			return !s.there, s
		}
		return s.there && s.value == a.value && s.mayBe(a.version), s.seen(a.version)
	case put, putIf:
		return s.put(q, a)
	case drop, release:
		mine := s.there && (q.verb == drop || s.value == q.value)
		if a.result == unknown {
			s.there = s.there && !mine
			return true, s
		}
		s.there = s.there && !mine
		return mine == (a.result == done), s
	case claim:
		switch {
		case a.result == unknown && !s.there, a.result == made:
			return !s.there, state{there: true, value: q.value}
		case a.result == unchanged:
			return s.there && s.value == q.value, s
		}
		return a.result == unknown || s.there && s.value != q.value, s
	}
	return false, s
}

// put is a write of a value.
func (s state) put(q question, a answer) (bool, state) {
	mismatch := q.verb == putIf && (!s.there || s.version != q.when)
	same := s.there && s.value == q.value
	next := state{there: true, value: q.value, version: a.version, least: max(s.least, a.version)}
	switch a.result {
	case unknown:
		if mismatch || same {
			return true, s
		}
		next.version = 0
		return true, next
	case refused:
		return mismatch, s
	case unchanged:
		return !mismatch && same, s
	case made:
		return q.verb == put && !s.there && a.version > s.least, next
	}
	return !mismatch && s.there && !same && a.version > s.least, next
}

// mayBe reports whether a version is that of the state.
func (s state) mayBe(version int64) bool {
	return s.version == version || s.version == 0 && version > s.least
}

// seen notes the version that the state turned out to have.
func (s state) seen(version int64) state {
	s.version, s.least = version, max(s.least, version)
	return s
}

// never is the return of an operation that is open to the end.
const never = math.MaxInt64

// checkWithin bounds the check of one key. It takes milliseconds where few operations are open.
const checkWithin = 2 * time.Minute

// violation looks for an order of a key's operations that explains all answers, and returns a sentence where there is none.
func violation(key string, ops []porcupine.Operation) string {
	switch porcupine.CheckOperationsTimeout(model, ops, checkWithin) {
	case porcupine.Ok:
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("%s: %d operations could not be checked within %s", key, len(ops), checkWithin)
	}
	text := fmt.Sprintf("%s: no order explains its %d operations:", key, len(ops))
	for _, o := range ops {
		text += fmt.Sprintf("\n  %12d %20d client %d %s", o.Call, o.Return, o.ClientId, model.DescribeOperation(o.Input, o.Output))
	}
	return text
}

// TestCheckerSeesWhatIsWrong gives the checker histories with one fault each, and their like without it.
func TestCheckerSeesWhatIsWrong(t *testing.T) {
	at := func(from, to int64, q question, a answer) porcupine.Operation {
		return porcupine.Operation{Call: from, Return: to, Input: q, Output: a}
	}
	write := func(from, to int64, value string, r result, version int64) porcupine.Operation {
		return at(from, to, question{verb: put, value: value}, answer{result: r, version: version})
	}
	read := func(from, to int64, value string, version int64) porcupine.Operation {
		return at(from, to, question{verb: get}, answer{value: value, version: version})
	}
	gone := func(from, to int64) porcupine.Operation {
		return at(from, to, question{verb: get}, answer{result: absent})
	}
	a, b := write(1, 2, "a", made, 10), write(3, 4, "b", done, 11)
	open := write(3, never, "b", unknown, 0)
	for name, c := range map[string]struct {
		ops  []porcupine.Operation
		fine bool
	}{
		"read_after_write":              {[]porcupine.Operation{a, b, read(5, 6, "b", 11)}, true},
		"stale_read":                    {[]porcupine.Operation{a, b, read(5, 6, "a", 10)}, false},
		"stale_read_while_it_is_put":    {[]porcupine.Operation{a, b, read(3, 6, "a", 10)}, true},
		"lost_write":                    {[]porcupine.Operation{a, gone(5, 6)}, false},
		"lost_update":                   {[]porcupine.Operation{a, b, write(5, 6, "c", done, 12), read(7, 8, "b", 11)}, false},
		"back_and_forth":                {[]porcupine.Operation{a, b, read(3, 4, "b", 11), read(5, 6, "a", 10), read(7, 8, "b", 11)}, false},
		"open_write_happens_late":       {[]porcupine.Operation{a, open, read(5, 6, "a", 10), read(7, 8, "b", 11)}, true},
		"open_write_never_happens":      {[]porcupine.Operation{a, open, read(5, 6, "a", 10)}, true},
		"open_write_undone":             {[]porcupine.Operation{a, open, read(5, 6, "b", 11), read(7, 8, "a", 10)}, false},
		"open_write_happens_twice":      {[]porcupine.Operation{a, open, read(5, 6, "b", 11), write(7, 8, "c", done, 12), read(9, 10, "b", 13)}, false},
		"unchanged_by_an_old_view":      {[]porcupine.Operation{a, b, write(5, 6, "a", unchanged, 0)}, false},
		"unchanged":                     {[]porcupine.Operation{a, b, write(5, 6, "b", unchanged, 0)}, true},
		"created_twice":                 {[]porcupine.Operation{a, write(3, 4, "b", made, 11)}, false},
		"version_goes_back":             {[]porcupine.Operation{a, write(3, 4, "b", done, 9)}, false},
		"deleted_and_there":             {[]porcupine.Operation{a, at(3, 4, question{verb: drop}, answer{}), read(5, 6, "a", 10)}, false},
		"deleted_and_gone":              {[]porcupine.Operation{a, at(3, 4, question{verb: drop}, answer{}), gone(5, 6)}, true},
		"refused_by_an_old_view":        {[]porcupine.Operation{a, b, at(5, 6, question{verb: putIf, value: "c", when: 11}, answer{result: refused})}, false},
		"refused":                       {[]porcupine.Operation{a, b, at(5, 6, question{verb: putIf, value: "c", when: 10}, answer{result: refused})}, true},
		"taken_for_an_old_version":      {[]porcupine.Operation{a, b, at(5, 6, question{verb: putIf, value: "c", when: 10}, answer{version: 12})}, false},
		"absent_by_an_old_view":         {[]porcupine.Operation{a, at(3, 4, question{verb: drop}, answer{result: absent})}, false},
		"address_given_twice":           {[]porcupine.Operation{at(1, 2, question{verb: claim, value: "p"}, answer{result: made}), at(3, 4, question{verb: claim, value: "q"}, answer{result: made})}, false},
		"address_given_after_release":   {[]porcupine.Operation{at(1, 2, question{verb: claim, value: "p"}, answer{result: made}), at(3, 4, question{verb: release, value: "p"}, answer{}), at(5, 6, question{verb: claim, value: "q"}, answer{result: made})}, true},
		"address_refused_that_was_free": {[]porcupine.Operation{at(1, 2, question{verb: claim, value: "p"}, answer{result: refused})}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if text := violation("k", c.ops); (text == "") != c.fine {
				t.Errorf("taken for fine: %v\n%s", text == "", text)
			}
		})
	}
}
