// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter says which records are wanted. What is empty wants all.
type Filter struct {
	After        uint64 // a sequence: those behind it
	Since, Until time.Time
	Principal    string
	Tenant       string
	Operation    string
	Object       string // or what it begins with, with a "*" at the end
	Failed       bool   // those alone
	Limit        int    // the last so many; 0: all
}

func (f Filter) wants(r Record) bool {
	object, begins := strings.CutSuffix(f.Object, "*")
	return r.Sequence > f.After && (f.Since.IsZero() || !r.Time.Before(f.Since)) && (f.Until.IsZero() || r.Time.Before(f.Until)) &&
		(f.Principal == "" || r.Principal == f.Principal) && (f.Tenant == "" || r.Tenant == f.Tenant) &&
		(f.Operation == "" || r.Operation == f.Operation) && (!f.Failed || r.Failed) &&
		(f.Object == "" || r.Object == object || (begins && strings.HasPrefix(r.Object, object)))
}

// Read returns the records of the log that a filter wants, the oldest first.
func (l *Log) Read(f Filter) ([]Record, error) { return Read(l.dir, f) }

// Read returns the records of the log in dir that a filter wants, the oldest first. One that cannot be read is passed over: Verify tells of it.
func Read(dir string, f Filter) ([]Record, error) {
	files, err := Files(dir)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	var out []Record
	for _, path := range slices.Backward(files) { // the newest first: it may be enough
		var found []Record
		oldest := time.Time{}
		err := scan(path, func(line []byte, torn bool) error {
			r, err := open(line)
			if torn || err != nil {
				return nil //nolint:nilerr // see above
			}
			if oldest.IsZero() {
				oldest = r.Time
				if r.Sequence <= f.After {
					oldest = time.Time{}.Add(1) // what is wanted is not before this file
				}
			}
			if f.wants(r) {
				found = append(found, r)
			}
			if f.Limit > 0 && len(found) > f.Limit {
				found = found[1:]
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read audit log: %w", err)
		}
		out = append(found, out...)
		if f.Limit > 0 && len(out) >= f.Limit {
			return out[len(out)-f.Limit:], nil
		}
		if !oldest.IsZero() && oldest.Before(f.Since) || oldest.Equal(time.Time{}.Add(1)) {
			break
		}
	}
	return out, nil
}

// Verdict is what a look at the chain found.
type Verdict struct {
	Records     uint64   `json:"records"`
	First, Last Record   `json:"-"`
	From        uint64   `json:"from"` // sequence of the first record; more than 1: those before it are not here
	To          uint64   `json:"to"`
	Head        string   `json:"head"`             // hash of the last record: who keeps it elsewhere can show that nothing before was changed
	Gaps        []string `json:"gaps,omitempty"`   // what the server itself could not record
	Torn        bool     `json:"torn,omitempty"`   // the last line is not whole
	Broken      string   `json:"broken,omitempty"` // the first place at which the chain does not hold

	hashes map[string]bool
}

// Had reports whether one of the records has a hash.
func (v *Verdict) Had(hash string) bool { return v.hashes[hash] }

// Verify looks at every record of files, which are one chain, the oldest first. A broken chain is ErrBroken; the verdict is what was good before.
func Verify(files ...string) (*Verdict, error) {
	v := &Verdict{hashes: make(map[string]bool)}
	var before *Record
	for i, path := range files {
		number := 0
		err := scan(path, func(line []byte, torn bool) error {
			number++
			if torn && i == len(files)-1 {
				v.Torn = true
				return nil
			}
			r, err := open(line)
			if err == nil && before != nil {
				err = r.follows(*before)
			}
			if err == nil && before == nil && r.Sequence == 1 && r.Previous != begin {
				err = fmt.Errorf("%w: the first record follows another one", ErrBroken)
			}
			if errors.Is(err, errTorn) || torn {
				err = fmt.Errorf("%w: %v", ErrBroken, errTorn)
			}
			if err != nil {
				return fmt.Errorf("%s, line %d: %w", path, number, err)
			}
			if before == nil {
				v.First, v.From = r, r.Sequence
			}
			if before != nil && r.Operation == OpStart && r.Revision > before.Revision && before.Revision > 0 {
				v.Gaps = append(v.Gaps, fmt.Sprintf("record %d: the store went from revision %d to %d while the server ended: what was not acknowledged may have no record", r.Sequence, before.Revision, r.Revision))
			}
			if r.Revision == 0 && before != nil {
				r.Revision = before.Revision // the last that is known
			}
			before = &r
			v.hashes[r.Hash] = true
			v.Records++
			v.Last, v.To, v.Head = r, r.Sequence, r.Hash
			return nil
		})
		if err != nil {
			v.Broken = err.Error()
			return v, err
		}
	}
	return v, nil
}

// OpStart is the operation of the record with which a server begins: it names the store's revision.
const OpStart = "start"
