// SPDX-License-Identifier: Apache-2.0

// Package explaincmd tells what kinds, fields, errors and drop reasons mean. It asks no server.
package explaincmd

import (
	"fmt"
	"net/netip"
	"reflect"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/internal/base/nearest"
	"weft/internal/cli/ref"
	"weft/internal/cli/term"
)

// New returns the command.
func New(env *term.Env) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "explain [KIND[.FIELD...]]",
		Short: "Tell what kinds, fields, error codes and drop reasons mean",
		Long: `Tell what a kind is for, and what its fields mean: type, default, what a value must be, and an example. Without a kind, list
the kinds. 'weft explain error' and 'weft explain drop' do the same for what goes wrong. It asks no server.`,
		Example: `  weft explain
  weft explain routetable
  weft explain port -R
  weft explain port.spec.allowedSources
  weft explain error IN_USE
  weft explain drop src-ip-spoof`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeFields(begun), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return explainKinds(env)
			}
			return explain(env, args[0], all)
		},
	}
	cmd.Flags().BoolVarP(&all, "recursive", "R", false, "the fields inside fields, too")
	cmd.AddCommand(newErrorCommand(env), newDropCommand(env))
	return cmd
}

// explainKinds lists the kinds in the order in which they build on each other.
func explainKinds(env *term.Env) error {
	t := env.NewTable()
	t.Add("KIND", "WORDS", "MEANING")
	for _, k := range v1.Kinds() {
		t.Add(string(k.Kind), strings.Join(append([]string{k.Singular, k.Plural}, k.Short...), ","), k.Doc)
	}
	return t.Flush()
}

// explain writes what a path such as port.spec.addresses means, and what is below it.
func explain(env *term.Env, path string, all bool) error {
	words := strings.Split(path, ".")
	kind, err := ref.Kind(words[0])
	if err != nil {
		return err
	}
	at := field{kind: reflect.TypeOf(kind.New()).Elem(), doc: kind.Doc}
	for i, w := range words[1:] {
		next, ok := find(below(at), w)
		if !ok {
			so := strings.Join(append([]string{kind.Singular}, words[1:i+1]...), ".")
			return term.Usagef("%s has no field %q%s 'weft explain %s' lists those it has", so, w, meant(so, w, at), so)
		}
		at = next
	}
	t := env.NewTable()
	t.Add("Kind:", fmt.Sprintf("%s (%s)", kind.Kind, v1.APIVersion))
	if len(words) > 1 {
		t.Add("Field:", strings.Join(words[1:], "."))
		t.Add("Type:", at.word())
	}
	for _, line := range [][2]string{{"Default:", at.fallback()}, {"Must be:", at.must}, {"Meaning:", at.doc}, {"Example:", at.example}} {
		if line[1] != "" {
			t.Add(line[0], line[1])
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	inside := below(at)
	if len(inside) == 0 {
		return nil
	}
	t = env.NewTable()
	t.Add("FIELD", "TYPE", "MEANING")
	list(t, inside, "", all)
	fmt.Fprintln(env.Out)
	return t.Flush()
}

// below lists the fields of a field. What only the system writes, it writes whole.
func below(at field) []field {
	out := fieldsOf(at.kind)
	for i := range out {
		out[i].readOnly = out[i].readOnly || at.readOnly
	}
	return out
}

// list adds a line for each field, and with all for those inside it, too.
func list(t *term.Table, fields []field, indent string, all bool) {
	for _, f := range fields {
		t.Add(indent+f.name, f.word(), f.doc)
		if all {
			list(t, below(f), indent+"  ", all)
		}
	}
}

// field is one field of a kind as documents write it.
type field struct {
	name, doc, must, example string
	kind                     reflect.Type
	required, readOnly       bool
}

// settable reports whether a user writes the field and no other field is inside.
func (f field) settable() bool { return !f.readOnly && len(fieldsOf(f.kind)) == 0 }

var defaultOf = regexp.MustCompile(`Default:? ([^.]+)\.`)

// fallback is what holds where a document leaves the field out, as its meaning says it.
func (f field) fallback() string {
	switch m := defaultOf.FindStringSubmatch(f.doc); {
	case f.name == "" || !f.settable() || f.required:
		return ""
	case m != nil:
		return m[1]
	}
	return "none"
}

// meant says which field of at a slip may have meant; so is the path to it.
func meant(so, word string, at field) string {
	like := nearest.Of(word, func(yield func(string) bool) {
		for _, f := range fieldsOf(at.kind) {
			if !yield(f.name) {
				return
			}
		}
	})
	if like == "" {
		return ";"
	}
	return fmt.Sprintf("; did you mean %s.%s?", so, like)
}

// word is the field's type as people say it.
func (f field) word() string {
	out := typeWord(f.kind)
	switch {
	case f.readOnly:
		out += ", read only"
	case f.required:
		out += ", required"
	}
	return out
}

func typeWord(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return "address"
	case reflect.TypeFor[netip.Prefix]():
		return "range"
	case reflect.TypeFor[v1.MAC]():
		return "Ethernet address"
	case reflect.TypeFor[time.Time]():
		return "time"
	}
	switch t.Kind() {
	case reflect.Slice:
		one := typeWord(t.Elem())
		switch {
		case strings.HasSuffix(one, "ss"):
			return "list of " + one + "es"
		case strings.HasSuffix(one, "s"):
			return "list of " + one
		}
		return "list of " + one + "s"
	case reflect.Map, reflect.Struct:
		return "fields"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true or false"
	}
	return "number"
}

// fieldsOf lists the fields of a type, or of what a list of it holds, in the order in which documents have them.
func fieldsOf(t reflect.Type) []field {
	if t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || typeWord(t) != "fields" {
		return nil
	}
	var out []field
	for i := range t.NumField() {
		f := t.Field(i)
		name, rest, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			out = append(out, fieldsOf(f.Type)...)
			continue
		}
		if name == "" || name == "-" {
			continue
		}
		out = append(out, field{
			name: name, doc: f.Tag.Get("doc"), must: f.Tag.Get("must"), example: f.Tag.Get("example"), kind: f.Type,
			required: !strings.Contains(rest, "omit"), readOnly: f.Tag.Get("readOnly") == "true",
		})
	}
	return out
}

func find(fields []field, name string) (field, bool) {
	for _, f := range fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

// completeFields completes a path such as port.spec.addr.
func completeFields(begun string) []string {
	path, last := "", begun
	if i := strings.LastIndexByte(begun, '.'); i >= 0 {
		path, last = begun[:i], begun[i+1:]
	}
	var out []string
	if path == "" {
		for _, k := range v1.Kinds() {
			if strings.HasPrefix(k.Singular, last) {
				out = append(out, k.Singular)
			}
		}
		return out
	}
	words := strings.Split(path, ".")
	kind, err := ref.Kind(words[0])
	if err != nil {
		return nil
	}
	at := reflect.TypeOf(kind.New()).Elem()
	for _, w := range words[1:] {
		f, ok := find(fieldsOf(at), w)
		if !ok {
			return nil
		}
		at = f.kind
	}
	for _, f := range fieldsOf(at) {
		if strings.HasPrefix(f.name, last) {
			out = append(out, path+"."+f.name)
		}
	}
	return out
}
