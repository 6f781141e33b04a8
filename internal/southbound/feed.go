// SPDX-License-Identifier: Apache-2.0

package southbound

import "sort"

// feed is a table of rows with the log of its latest changes:
//
//	          base                               last
//	 forgotten |  rev 7   rev 7   rev 9   rev 12  |
//	-----------+----------------------------------+
//	           |  +a      +b      -a      +b'     |   rows = {b'}
//
// A reader that has heard everything up to a revision >= base gets the changes after it; any other gets all rows.
type feed struct {
	rows map[Key]*feedRow
	log  []change // ascending by revision
	base uint64   // changes up to and with this revision are no longer in the log
	last uint64   // revision of the latest change
	mark uint64   // counts calls of replace
}

type feedRow struct {
	row  Row
	mark uint64 // the latest call of replace that had the row
}

// change is one row that came, changed or (row is nil) went.
type change struct {
	rev uint64
	key Key
	row Row
}

func newFeed() *feed { return &feed{rows: make(map[Key]*feedRow)} }

// replace makes rows the whole content and logs the difference under rev. It reports whether there was any.
func (f *feed) replace(rows []Row, rev uint64) bool {
	f.mark++
	before := len(f.log)
	f.put(rows, rev)
	f.sweep(rev)
	return f.logged(before, rev)
}

// change puts some rows and removes others, and logs the difference under rev. It reports whether there was any.
func (f *feed) change(c Changes, rev uint64) bool {
	before := len(f.log)
	for _, k := range c.Deletes {
		if _, ok := f.rows[k]; ok {
			delete(f.rows, k)
			f.log = append(f.log, change{rev, k, nil})
		}
	}
	f.put(c.Upserts, rev)
	return f.logged(before, rev)
}

// put adds rows, or puts them in the place of others.
func (f *feed) put(rows []Row, rev uint64) {
	for _, r := range rows {
		k := r.Key()
		old, ok := f.rows[k]
		switch {
		case !ok:
			f.rows[k] = &feedRow{row: r, mark: f.mark}
			f.log = append(f.log, change{rev, k, r})
		case !old.row.Equal(r):
			old.row, old.mark = r, f.mark
			f.log = append(f.log, change{rev, k, r})
		default:
			old.mark = f.mark
		}
	}
}

// logged ends a change under rev, before which the log had so many entries, and reports whether it has more.
func (f *feed) logged(before int, rev uint64) bool {
	if len(f.log) == before {
		return false
	}
	f.last = rev
	f.trim()
	return true
}

// sweep removes the rows that the latest replace did not have.
func (f *feed) sweep(rev uint64) {
	for k, r := range f.rows {
		if r.mark != f.mark {
			delete(f.rows, k)
			f.log = append(f.log, change{rev, k, nil})
		}
	}
}

// absorb logs that everything a reader of other may hold is gone: its rows, and the rows whose end the reader may not
// have heard of yet.
func (f *feed) absorb(other *feed, rev uint64) {
	for k := range other.rows {
		f.log = append(f.log, change{rev, k, nil})
	}
	for _, c := range other.log {
		if _, ok := other.rows[c.key]; !ok {
			f.log = append(f.log, change{rev, c.key, nil})
		}
	}
	f.base, f.last = max(f.base, other.base), rev
}

// trim bounds the log: above four times the rows (and 4096) the older half is forgotten, at the edge of a revision.
func (f *feed) trim() {
	if len(f.log) <= 4*len(f.rows)+4096 {
		return
	}
	cut := len(f.log) / 2
	for cut < len(f.log) && f.log[cut].rev == f.log[cut-1].rev {
		cut++
	}
	f.base = f.log[cut-1].rev
	f.log = append([]change(nil), f.log[cut:]...)
}

// since returns the changes after rev, or false if the log does not reach back that far.
func (f *feed) since(rev uint64) ([]change, bool) {
	if rev < f.base {
		return nil, false
	}
	i := sort.Search(len(f.log), func(i int) bool { return f.log[i].rev > rev })
	return f.log[i:], true
}
