// SPDX-License-Identifier: Apache-2.0

package jsonpath

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// valuesMost bounds what one path finds, so that .. and * cannot multiply without end.
const valuesMost = 1 << 20

// Document makes of a value what templates walk through: that which its JSON says.
func Document(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var out any
	err = d.Decode(&out)
	return out, err
}

// Text fills the template from a document; values of one path are parted by spaces.
func (t *Template) Text(doc any) string {
	var b strings.Builder
	write(&b, t.parts, doc)
	return b.String()
}

// Values lists what the template's first path finds, as text.
func (t *Template) Values(doc any) []string {
	var out []string
	for _, v := range find(t.parts[0].path, doc) {
		out = append(out, text(v))
	}
	return out
}

func write(b *strings.Builder, parts []part, doc any) {
	for _, p := range parts {
		switch {
		case p.loop:
			for _, v := range find(p.path, doc) {
				write(b, p.body, v)
			}
		case p.text != "":
			b.WriteString(p.text)
		default:
			for i, v := range find(p.path, doc) {
				if i > 0 {
					b.WriteByte(' ')
				}
				b.WriteString(text(v))
			}
		}
	}
}

// text writes a value as a person would; lists and fields as JSON.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case nil:
		return ""
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

// find goes all steps of a path.
func find(path []step, doc any) []any {
	at := []any{doc}
	for _, s := range path {
		var next []any
		for _, v := range at {
			if next = s.take(v, next); len(next) > valuesMost {
				break
			}
		}
		at = next
	}
	return at
}

// take appends what one step finds in a value.
func (s step) take(v any, out []any) []any {
	if s.deep {
		plain := s
		plain.deep = false
		out = plain.take(v, out)
		for _, c := range children(v) {
			out = s.take(c, out)
		}
		return out
	}
	switch {
	case s.all:
		return append(out, children(v)...)
	case s.filter != nil:
		for _, c := range children(v) {
			if s.filter.keeps(c) {
				out = append(out, c)
			}
		}
		return out
	case s.list:
		list, _ := v.([]any)
		from, to := bound(s.from, 0, len(list)), bound(s.to, len(list), len(list))
		if from < to {
			out = append(out, list[from:to]...)
		}
		return out
	}
	if fields, ok := v.(map[string]any); ok {
		if c, ok := fields[s.name]; ok {
			out = append(out, c)
		}
	}
	return out
}

// bound is an index in a list of n; one below 0 counts from its end.
func bound(at *int, otherwise, n int) int {
	if at == nil {
		return otherwise
	}
	i := *at
	if i < 0 {
		i += n
		if i < 0 {
			return 0
		}
	}
	return min(i, n)
}

func children(v any) []any {
	switch v := v.(type) {
	case []any:
		return v
	case map[string]any:
		var out []any
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, v[k])
		}
		return out
	}
	return nil
}

// keeps reports whether an element passes the filter.
func (f *filter) keeps(v any) bool {
	found := find(f.path, v)
	if f.op == "" {
		return len(found) > 0
	}
	for _, have := range found {
		if compare(have, f.op, f.want) {
			return true
		}
	}
	return f.op == "!=" && len(found) == 0
}

func compare(have any, op string, want any) bool {
	switch want := want.(type) {
	case float64:
		n, ok := have.(json.Number)
		if !ok {
			return op == "!="
		}
		f, err := n.Float64()
		return err == nil && ordered(f, op, want)
	case bool:
		b, ok := have.(bool)
		return ok && (op == "==" && b == want || op == "!=" && b != want) || !ok && op == "!="
	case string:
		return ordered(text(have), op, want)
	}
	return false
}

func ordered[T float64 | string](have T, op string, want T) bool {
	switch op {
	case "==":
		return have == want
	case "!=":
		return have != want
	case "<":
		return have < want
	case "<=":
		return have <= want
	case ">":
		return have > want
	}
	return have >= want
}
