// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/btree"

	v1 "weft/api/v1"
)

// View is everything as it was at one revision. Its objects are shared: nobody may change them.
type View struct {
	tree     *btree.BTreeG[entry]
	revision int64
}

// Revision returns the revision of the last change that the view holds.
func (v *View) Revision() int64 { return v.revision }

// revisionOf returns the revision of the last write of a key; 0: it is not there.
func (v *View) revisionOf(key string) int64 {
	e, _ := v.tree.Get(entry{key: key})
	return e.revision
}

// Get returns one resource; the tenant of a cluster kind is empty.
func (v *View) Get(kind v1.Kind, tenant, name string) (v1.Object, bool) {
	e, ok := v.tree.Get(entry{key: objectKey(kind, tenant, name)})
	return e.object, ok
}

// List returns the resources of a kind by tenant and name; an empty tenant means all.
func (v *View) List(kind v1.Kind, tenant string) []v1.Object {
	var out []v1.Object
	from := listKey(kind)
	if tenant != "" {
		from += tenant + "/"
	}
	v.tree.AscendGreaterOrEqual(entry{key: from}, func(e entry) bool {
		if !strings.HasPrefix(e.key, from) {
			return false
		}
		out = append(out, e.object)
		return true
	})
	if tenant == "" { // keys sort "a-b/" before "a/"
		slices.SortFunc(out, func(a, b v1.Object) int {
			return cmp.Or(strings.Compare(a.Meta().Tenant, b.Meta().Tenant), strings.Compare(a.Meta().Name, b.Meta().Name))
		})
	}
	return out
}

// Counter returns the last number that a counter gave; 0: it has given none.
func (v *View) Counter(counter string) uint64 {
	e, _ := v.tree.Get(entry{key: counterKey(counter)})
	return e.number
}

// Record returns a record by its folder and name; nil: there is none. Nobody may change it.
func (v *View) Record(name string) []byte {
	e, _ := v.tree.Get(entry{key: recordKey(name)})
	return e.record
}

// Records returns the records of a folder by name.
func (v *View) Records(folder string) map[string][]byte {
	out, from := make(map[string][]byte), recordKey(folder)+"/"
	v.tree.AscendGreaterOrEqual(entry{key: from}, func(e entry) bool {
		name, ok := strings.CutPrefix(e.key, from)
		if ok {
			out[name] = e.record
		}
		return ok
	})
	return out
}

// Count returns how many resources of a kind there are.
func (v *View) Count(kind v1.Kind) int {
	n, from := 0, listKey(kind)
	v.tree.AscendGreaterOrEqual(entry{key: from}, func(e entry) bool {
		if !strings.HasPrefix(e.key, from) {
			return false
		}
		n++
		return true
	})
	return n
}
