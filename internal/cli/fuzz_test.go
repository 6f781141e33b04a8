// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/cli/ref"
	"weft/internal/cli/term"
)

// FuzzArguments: what stands behind a verb is refused as a mistake of the user's, or names kinds that there are and, where
// it names anything, no less than that; and it means the same when it is written as KIND/TENANT/NAME.
func FuzzArguments(f *testing.F) {
	for _, line := range []string{"port", "vpc,port", "port web-1 web-2", "port red/web-1", "port/web-1 vpc/red/main", "ports/", "port /a", "Node,rt x", "port a/b/c", "red/port/web-1", "vpc/port/x"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		refs, err := ref.Parse(args)
		if err != nil {
			if term.ExitCode(err) != term.ExitUsage {
				t.Errorf("%q is refused as %v", line, err)
			}
			return
		}
		listed := len(args) == 1 && !strings.Contains(line, "/")
		var again []string
		for _, r := range refs {
			if kind, ok := v1.KindByWord(r.Kind.Singular); !ok || kind.Kind != r.Kind.Kind {
				t.Fatalf("%q is of kind %q", line, r.Kind.Singular)
			}
			if (r.Name == "") != listed {
				t.Fatalf("%q names %q", line, r.Name)
			}
			if other, isKind := v1.KindByWord(r.Tenant); isKind && other.Kind != r.Kind.Kind {
				return // KIND/TENANT/NAME could be TENANT/KIND/NAME, and is refused
			}
			if r.Tenant != "" {
				r.Name = r.Tenant + "/" + r.Name
			}
			again = append(again, r.Kind.Singular+"/"+r.Name)
		}
		if listed {
			return
		}
		if same, err := ref.Parse(again); err != nil || !slices.EqualFunc(same, refs, func(a, b ref.Ref) bool {
			return a.Kind.Kind == b.Kind.Kind && a.Tenant == b.Tenant && a.Name == b.Name
		}) {
			t.Errorf("%q is %v, written %q and then %v, error %v", line, refs, again, same, err)
		}
	})
}

// FuzzSelector: a selector is refused, or chooses just what has each label that it names.
func FuzzSelector(f *testing.F) {
	f.Add("app=web,tier=front", "app", "web")
	f.Add(",a=b=c", "a", "b=c")
	f.Add("app", "app", "")
	f.Fuzz(func(t *testing.T, selector, key, value string) {
		match, err := parseSelector(selector)
		if err != nil {
			if term.ExitCode(err) != term.ExitUsage {
				t.Errorf("%q is refused as %v", selector, err)
			}
			return
		}
		o, _ := v1.New(v1.KindPort)
		wanted := map[string]string{}
		for _, part := range strings.Split(selector, ",") {
			if k, v, ok := strings.Cut(part, "="); ok {
				wanted[k] = v
			}
		}
		o.Meta().Labels = wanted
		if !match(o) {
			t.Errorf("%q does not choose labels %v", selector, wanted)
		}
		o.Meta().Labels = map[string]string{key: value}
		v, named := wanted[key]
		if want := len(wanted) == 0 || len(wanted) == 1 && named && v == value; match(o) != want {
			t.Errorf("%q chooses %s=%s: %t", selector, key, value, !want)
		}
	})
}
