// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"weft/internal/base/nearest"
)

// Bounds of what is read.
const (
	documentMost = 1 << 20 // bytes of one JSON document
	depthMost    = 32      // nesting of one document
	errorsMost   = 20      // told of one document
)

// problem makes an error of a document.
func problem(code, field, fix, format string, args ...any) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Code: code, Field: field, Message: fmt.Sprintf(format, args...), Fix: fix}
}

// DecodeJSON reads one document strictly: a field that the kind does not have, a field twice, or a value that cannot be one
// is an error. Several of them are an ErrorList.
func DecodeJSON(data []byte) (Object, error) {
	if len(data) > documentMost {
		return nil, problem(CodeTooLarge, "", "split it", "the document has %d bytes; at most %d are possible", len(data), documentMost)
	}
	tree, err := readTree(data)
	if err != nil {
		return nil, err
	}
	root, ok := tree.(map[string]any)
	if !ok {
		return nil, problem(CodeMalformed, "", "write apiVersion, kind, metadata and spec", "the document is not an object with fields")
	}
	kind, _ := root["kind"].(string)
	info, ok := KindByWord(kind)
	if !ok || string(info.Kind) != kind {
		return nil, problem(CodeUnknownKind, "kind", "use one of "+kindNames(), "there is no kind %q", kind)
	}
	if v, _ := root["apiVersion"].(string); v != APIVersion {
		return nil, problem(CodeUnknownKind, "apiVersion", "write apiVersion: "+APIVersion, "there is no apiVersion %q", v)
	}
	o := info.New()
	if errs := checkFields(root, reflect.TypeOf(o).Elem(), ""); len(errs) > 0 {
		for _, e := range errs {
			named(e, root, info)
		}
		if len(errs) == 1 {
			return nil, errs[0]
		}
		return nil, errs[:min(len(errs), errorsMost)]
	}
	if err := json.Unmarshal(data, o); err != nil {
		return nil, named(problem(CodeInvalid, "", "compare with 'weft explain' or docs/api", "%v", err), root, info)
	}
	return o, nil
}

// named says in an error which resource it is about, as far as the document tells.
func named(e *Error, root map[string]any, info KindInfo) *Error {
	meta, _ := root["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	tenant, _ := meta["tenant"].(string)
	e.Object = strings.Trim(tenant+"/"+info.Singular+"/"+name, "/")
	return e
}

func kindNames() string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k.Kind))
	}
	return strings.Join(names, ", ")
}

// readTree reads JSON into maps, lists and values, and refuses a key that is there twice.
func readTree(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := readValue(d, "", 0)
	if err != nil {
		var e *Error
		if errors.As(err, &e) {
			return nil, e
		}
		return nil, problem(CodeMalformed, "", "look at brackets, commas and quotes", "not readable as JSON at byte %d: %v", d.InputOffset(), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, problem(CodeMalformed, "", "send one document", "something follows the document at byte %d", d.InputOffset())
	}
	return v, nil
}

func readValue(d *json.Decoder, path string, depth int) (any, error) {
	if depth > depthMost {
		return nil, problem(CodeTooLarge, path, "no kind needs that", "the document is nested more than %d deep", depthMost)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return readObject(d, path, depth)
	case json.Delim('['):
		var list []any
		for d.More() {
			v, err := readValue(d, fmt.Sprintf("%s[%d]", path, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return t, nil
}

func readObject(d *json.Decoder, path string, depth int) (any, error) {
	m := make(map[string]any)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		key := t.(string) // the decoder refuses other keys
		if _, twice := m[key]; twice {
			return nil, problem(CodeDuplicate, join(path, key), "remove one", "the field is there twice")
		}
		if m[key], err = readValue(d, join(path, key), depth+1); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// checkFields compares a tree with a Go type: every field must exist there, in the same case, and hold what its type can.
func checkFields(v any, t reflect.Type, path string) ErrorList {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if v == nil {
		return nil
	}
	if t.Kind() != reflect.String && reflect.PointerTo(t).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
		return list(checkText(v, t, path))
	}
	var errs ErrorList
	switch t.Kind() {
	case reflect.Struct:
		return checkStruct(v, t, path)
	case reflect.Slice:
		elements, ok := v.([]any)
		if !ok {
			return list(wrongType(path, "a list, for example [a, b]", v))
		}
		for i, e := range elements {
			errs = append(errs, checkFields(e, t.Elem(), fmt.Sprintf("%s[%d]", path, i))...)
		}
	case reflect.Map:
		m, ok := v.(map[string]any)
		if !ok {
			return list(wrongType(path, "fields with values, for example {app: web}", v))
		}
		for _, k := range slices.Sorted(maps.Keys(m)) { // always the same order
			errs = append(errs, checkFields(m[k], t.Elem(), join(path, k))...)
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			return list(wrongType(path, "a text (quote it if it looks like a number)", v))
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			return list(wrongType(path, "true or false", v))
		}
	default:
		return list(checkNumber(v, t, path))
	}
	return errs
}

// list makes a list of one error or none.
func list(e *Error) ErrorList {
	if e == nil {
		return nil
	}
	return ErrorList{e}
}

func checkStruct(v any, t reflect.Type, path string) ErrorList {
	m, ok := v.(map[string]any)
	if !ok {
		return list(wrongType(path, "fields with values", v))
	}
	var errs ErrorList
	fields := jsonFields(t)
	for _, k := range slices.Sorted(maps.Keys(m)) {
		f, ok := fields[k]
		if !ok {
			fix := "remove it"
			if near := nearest.Of(k, maps.Keys(fields)); near != "" {
				fix = fmt.Sprintf("did you mean %s?", join(path, near))
			}
			errs = append(errs, problem(CodeUnknownField, join(path, k), fix, "there is no such field"))
			continue
		}
		errs = append(errs, checkFields(m[k], f, join(path, k))...)
	}
	return errs
}

// jsonFields maps the names of a struct's fields to their types.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	out := make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			for k, v := range jsonFields(f.Type) {
				out[k] = v
			}
			continue
		}
		if name != "" && name != "-" {
			out[name] = f.Type
		}
	}
	return out
}

// checkText tries the value on its type, so that the error can say what is expected there.
func checkText(v any, t reflect.Type, path string) *Error {
	s, ok := v.(string)
	if !ok {
		return wrongType(path, example(t), v)
	}
	switch t {
	case reflect.TypeFor[netip.Addr]():
		if _, err := netip.ParseAddr(s); err != nil && s != "" {
			if p, perr := netip.ParsePrefix(s); perr == nil {
				return problem(CodeInvalid, path, "write "+p.Addr().String(), "%q is a range; an address is expected", s)
			}
			return problem(CodeInvalid, path, "write "+example(t), "%q is not an address", s)
		}
	case reflect.TypeFor[netip.Prefix]():
		p, err := netip.ParsePrefix(s)
		if err == nil && p != p.Masked() {
			return hostBits(path, p)
		}
		if err != nil && s != "" {
			if a, aerr := netip.ParseAddr(s); aerr == nil {
				return problem(CodeInvalid, path, fmt.Sprintf("write %s/%d, or a shorter length", a, a.BitLen()), "%q has no length", s)
			}
			return problem(CodeInvalid, path, "write "+example(t), "%q is not a range of addresses", s)
		}
	default:
		u := reflect.New(t).Interface().(interface{ UnmarshalText([]byte) error })
		if err := u.UnmarshalText([]byte(s)); err != nil {
			return problem(CodeInvalid, path, "write "+example(t), "%v", err)
		}
	}
	return nil
}

func hostBits(path string, p netip.Prefix) *Error {
	return problem(CodeHostBits, path, "write "+p.Masked().String(), "%s has bits set beyond its length", p)
}

// example says what a value of the type looks like.
func example(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[netip.Addr]():
		return "an address such as 10.0.1.4 or fd00::4"
	case reflect.TypeFor[netip.Prefix]():
		return "a range such as 10.0.1.0/24 or fd00:0:0:1::/64"
	case reflect.TypeFor[MAC]():
		return "an Ethernet address such as 02:00:00:00:00:01"
	}
	return "a time such as 2026-01-02T15:04:05Z"
}

func checkNumber(v any, t reflect.Type, path string) *Error {
	n, ok := v.(json.Number)
	if !ok {
		return wrongType(path, "a number", v)
	}
	var err error
	switch t.Kind() {
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uint:
		_, err = strconv.ParseUint(n.String(), 10, t.Bits())
	case reflect.Float32, reflect.Float64:
		_, err = n.Float64()
	default:
		_, err = strconv.ParseInt(n.String(), 10, t.Bits())
	}
	if err != nil {
		return problem(CodeInvalid, path, "write a whole number within its bounds", "%s is not possible here", n)
	}
	return nil
}

func wrongType(path, want string, got any) *Error {
	text, _ := json.Marshal(got)
	if len(text) > 40 {
		text = append(text[:40], "..."...)
	}
	return problem(CodeInvalid, path, "write "+want, "%s is not what belongs here", text)
}
