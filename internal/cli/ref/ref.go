// SPDX-License-Identifier: Apache-2.0

// Package ref is how a command line names resources: kinds, names, tenants.
package ref

import (
	"cmp"
	"slices"
	"strings"

	v1 "weft/api/v1"
	"weft/internal/base/nearest"
	"weft/internal/cli/term"
)

// Ref names a resource, or all of a kind.
type Ref struct {
	Kind   v1.KindInfo
	Tenant string // "": the default
	Name   string // "": all
}

// Parse reads what follows a verb: "port", "vpc,port", "port web-1 web-2", "port red/web-1", "port/web-1", "red/port/web-1".
func Parse(args []string) ([]Ref, error) {
	if len(args) == 0 {
		return nil, term.Usagef("no kind is named; the kinds are %s", Words())
	}
	if strings.Contains(args[0], "/") {
		var refs []Ref
		for _, a := range args {
			r, err := whole(a)
			if err != nil {
				return nil, err
			}
			refs = append(refs, r)
		}
		return refs, nil
	}
	var kinds []v1.KindInfo
	for _, w := range strings.Split(args[0], ",") {
		kind, err := Kind(w)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	if len(args) > 1 && len(kinds) > 1 {
		return nil, term.Usagef("names can follow one kind only")
	}
	var refs []Ref
	for _, k := range kinds {
		if len(args) == 1 {
			refs = append(refs, Ref{Kind: k})
		}
		for _, name := range args[1:] {
			r, err := named(k, name)
			if err != nil {
				return nil, err
			}
			refs = append(refs, r)
		}
	}
	return refs, nil
}

// whole reads KIND/NAME, KIND/TENANT/NAME, or TENANT/KIND/NAME as -o name and errors write it.
func whole(text string) (Ref, error) {
	word, name, ok := strings.Cut(text, "/")
	if !ok {
		return Ref{}, term.Usagef("%q is not KIND/NAME", text)
	}
	first, begins := v1.KindByWord(strings.ToLower(word))
	if middle, last, three := strings.Cut(name, "/"); three {
		second, isKind := v1.KindByWord(middle)
		switch {
		case isKind && begins && first.Kind != second.Kind:
			return Ref{}, term.Usagef("%q may be a %s of tenant %s, or a %s of tenant %s: write '%s %s -t %s', or the other", text, first.Singular, middle, second.Singular, word, first.Singular, last, middle)
		case isKind && !begins && second.Tenanted:
			return named(second, word+"/"+last)
		}
	}
	kind, err := Kind(word)
	if err != nil {
		return Ref{}, err
	}
	return named(kind, name)
}

// named reads NAME or TENANT/NAME. Without a name it would mean all.
func named(kind v1.KindInfo, text string) (Ref, error) {
	r := Ref{Kind: kind, Name: text}
	tenant, name, ok := strings.Cut(text, "/")
	if ok {
		r.Tenant, r.Name = tenant, name
	}
	if r.Name == "" || ok && r.Tenant == "" {
		return Ref{}, term.Usagef("%q names no %s: write NAME or TENANT/NAME", text, kind.Singular)
	}
	return r, nil
}

// Kind finds a kind by its name in any accepted spelling.
func Kind(word string) (v1.KindInfo, error) {
	if k, ok := v1.KindByWord(strings.ToLower(word)); ok {
		return k, nil
	}
	hint := ""
	if like := nearest.Of(word, strings.FieldsFuncSeq(Words(), func(r rune) bool { return r == ',' || r == ' ' })); like != "" {
		hint = "; did you mean " + like + "?"
	}
	return v1.KindInfo{}, term.Usagef("there is no kind %q%s The kinds are %s", word, cmp.Or(hint, "."), Words())
}

// Words lists the kinds as one writes them.
func Words() string {
	var words []string
	for _, k := range v1.Kinds() {
		words = append(words, k.Singular)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// In returns the tenant that the resource is in; def is that of who names none.
func (r Ref) In(def string) (string, error) {
	if !r.Kind.Tenanted {
		return "", nil
	}
	if r.Tenant != "" {
		return r.Tenant, nil
	}
	if def == "" {
		return "", term.Usagef("no tenant is named: add -t TENANT, or write TENANT/%s", strings.ToUpper(r.Kind.Singular))
	}
	return def, nil
}
