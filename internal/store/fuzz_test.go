// SPDX-License-Identifier: Apache-2.0

package store

import (
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// FuzzDecode: what lies under a key of etcd is refused by the name of that key, or is a resource that is stored as the same
// bytes again and again, or a number.
func FuzzDecode(f *testing.F) {
	for _, o := range []v1.Object{tenant("red"), vpc("red", "main")} {
		value, err := encode(o)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(objectKey(o.GetKind(), o.Meta().Tenant, o.Meta().Name), []byte(value), int64(7))
	}
	f.Add(counterKey("vni"), []byte("4097"), int64(1))
	f.Add(fenceKey("node/h1"), []byte{}, int64(1))
	f.Add("/weft/o/vpcs/red", []byte("{}"), int64(1))
	f.Add("/weft/o/vpcs/red/main", []byte("null"), int64(1))
	f.Fuzz(func(t *testing.T, key string, value []byte, revision int64) {
		e, err := decode(key, value, revision)
		if e.key != key || e.revision != revision {
			t.Fatalf("%q at %d became %+v", key, revision, e)
		}
		if err != nil {
			if !strings.Contains(err.Error(), key) {
				t.Errorf("%v does not name %q", err, key)
			}
			return
		}
		if e.object == nil {
			return
		}
		if e.number != 0 || v1.ID(e.object) == "" {
			t.Errorf("%q is %+v", key, e)
		}
		stored, err := encode(e.object)
		if err != nil {
			t.Fatalf("%s was read, and cannot be stored: %v", value, err)
		}
		again, err := decode(key, []byte(stored), revision)
		if err != nil {
			t.Fatalf("%s was stored, and cannot be read: %v", stored, err)
		}
		if twice, err := encode(again.object); err != nil || twice != stored {
			t.Errorf("%s is stored as %s and then as %s, error %v", value, stored, twice, err)
		}
		if v := e.object.Meta().ResourceVersion; v != again.object.Meta().ResourceVersion || v == "" {
			t.Errorf("version %q", v)
		}
	})
}
