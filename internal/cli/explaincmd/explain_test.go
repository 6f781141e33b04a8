// SPDX-License-Identifier: Apache-2.0

package explaincmd

import (
	"reflect"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

func TestCompletionOfFields(t *testing.T) {
	for begun, want := range map[string]string{
		"rout": "routetable", "port.spec.add": "port.spec.addresses", "routetable.spec.routes.": "routetable.spec.routes.to routetable.spec.routes.via",
		"port.nope.": "", "nope.": "", "tenant.spec.quota.routeT": "tenant.spec.quota.routeTables",
	} {
		if got := strings.Join(completeFields(begun), " "); got != want {
			t.Errorf("%s completes to %q, want %q", begun, got, want)
		}
	}
}

// TestEveryFieldIsExplained: what a document may hold has a meaning, except where its own fields say it.
func TestEveryFieldIsExplained(t *testing.T) {
	for _, k := range v1.Kinds() {
		if k.Doc == "" {
			t.Errorf("%s has no meaning", k.Kind)
		}
		var walk func(path string, at reflect.Type)
		walk = func(path string, at reflect.Type) {
			for _, f := range fieldsOf(at) {
				if below := fieldsOf(f.kind); f.doc == "" && len(below) == 0 {
					t.Errorf("%s.%s has no meaning", path, f.name)
				}
				walk(path+"."+f.name, f.kind)
			}
		}
		walk(k.Singular, reflect.TypeOf(k.New()).Elem())
	}
}
