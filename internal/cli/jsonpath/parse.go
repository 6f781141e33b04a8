// SPDX-License-Identifier: Apache-2.0

// Package jsonpath takes values out of documents by templates such as {range .items[*]}{.metadata.name}{"\n"}{end}, as kubectl
// knows them: names, indices and slices, *, .., filters such as [?(@.state=="Ready")], range, and text. A path that leads nowhere
// yields nothing.
package jsonpath

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a template: it comes from a command line.
const (
	templateMost = 4096 // bytes
	depthMost    = 8    // ranges inside ranges
)

// Template is a parsed template.
type Template struct{ parts []part }

// part is text, a path, or a range over a path.
type part struct {
	text string
	path []step // of {path} and {range path}
	body []part // of a range
	loop bool
}

// step goes from a value to some of those in it.
type step struct {
	name   string // .name
	all    bool   // * of a list or of fields
	deep   bool   // ..name
	list   bool   // [from:to]
	from   *int
	to     *int
	filter *filter
}

// filter keeps the elements of a list of which a path has a value, or one that compares so.
type filter struct {
	path []step
	op   string // "": is there
	want any
}

// Parse reads a template. A path may stand without braces, and without its first dot.
func Parse(text string) (*Template, error) {
	if len(text) > templateMost {
		return nil, fmt.Errorf("the template has %d bytes; at most %d are possible", len(text), templateMost)
	}
	if !strings.Contains(text, "{") {
		path, err := Path(text)
		if err != nil {
			return nil, err
		}
		return &Template{[]part{{path: path.parts[0].path}}}, nil
	}
	p := parser{rest: text}
	parts, err := p.parts(0)
	if err != nil {
		return nil, err
	}
	return &Template{parts}, nil
}

// Path reads one path, in braces or not: {.status.state} or status.state.
func Path(text string) (*Template, error) {
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		if inner, ok = strings.CutSuffix(inner, "}"); !ok {
			return nil, fmt.Errorf("%q has no closing brace", text)
		}
		text = inner
	}
	path, rest, err := steps(strings.TrimSpace(text), "")
	if err == nil && rest != "" {
		err = fmt.Errorf("%q is no path", text)
	}
	if err == nil && len(path) == 0 && strings.Trim(text, "$. ") != "" {
		err = fmt.Errorf("%q is no path", text)
	}
	if err != nil {
		return nil, err
	}
	return &Template{[]part{{path: path}}}, nil
}

type parser struct{ rest string }

// parts reads until {end}, or the end of the text where it is not in a range.
func (p *parser) parts(depth int) ([]part, error) {
	var out []part
	for p.rest != "" {
		text, after, ok := strings.Cut(p.rest, "{")
		if text != "" {
			out = append(out, part{text: text})
		}
		if p.rest = after; !ok {
			break
		}
		inner, err := p.braces()
		if err != nil {
			return nil, err
		}
		switch word, path, _ := strings.Cut(inner, " "); {
		case inner == "end":
			if depth == 0 {
				return nil, errors.New("{end} without {range}")
			}
			return out, nil
		case word == "range":
			if depth++; depth > depthMost {
				return nil, fmt.Errorf("more than %d ranges inside each other", depthMost)
			}
			loop, err := p.loop(strings.TrimSpace(path), depth)
			if err != nil {
				return nil, err
			}
			depth--
			out = append(out, loop)
		case strings.HasPrefix(inner, `"`):
			text, err := strconv.Unquote(inner)
			if err != nil {
				return nil, fmt.Errorf("%s is no text in quotes", inner)
			}
			out = append(out, part{text: text})
		default:
			path, err := Path(inner)
			if err != nil {
				return nil, err
			}
			out = append(out, path.parts...)
		}
	}
	if depth > 0 {
		return nil, errors.New("{range} without {end}")
	}
	return out, nil
}

func (p *parser) loop(text string, depth int) (part, error) {
	path, err := Path(text)
	if err != nil {
		return part{}, err
	}
	body, err := p.parts(depth)
	return part{path: path.parts[0].path, body: body, loop: true}, err
}

// braces reads to the closing brace, which may stand in quotes before.
func (p *parser) braces() (string, error) {
	quote := byte(0)
	for i := 0; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
		case c == '"' || c == '\'':
			quote = c
		case c == '}':
			inner := strings.TrimSpace(p.rest[:i])
			p.rest = p.rest[i+1:]
			return inner, nil
		}
	}
	return "", errors.New("an opening brace has no closing one")
}

// steps reads a path until one of the letters in end, or its end.
func steps(text, end string) ([]step, string, error) {
	text = strings.TrimPrefix(strings.TrimPrefix(text, "$"), "@")
	var out []step
	for first := true; text != "" && !strings.ContainsRune(end, rune(text[0])); first = false {
		var s step
		var err error
		switch {
		case strings.HasPrefix(text, ".."):
			s, text, err = named(text[2:])
			s.deep = true
		case text == "." && first:
			return nil, "", nil
		case text[0] == '.' && len(text) > 1 && text[1] == '[':
			s, text, err = bracket(text[2:])
		case text[0] == '.':
			s, text, err = named(text[1:])
		case text[0] == '[':
			s, text, err = bracket(text[1:])
		case first:
			s, text, err = named(text)
		default:
			err = fmt.Errorf("%q is no step of a path", text)
		}
		if err != nil {
			return nil, "", err
		}
		out = append(out, s)
	}
	return out, text, nil
}

// named reads a name, or *.
func named(text string) (step, string, error) {
	i := strings.IndexAny(text, ".[]()=!<>*{}\"' ,?@$")
	switch {
	case strings.HasPrefix(text, "*"):
		return step{all: true}, text[1:], nil
	case i < 0:
		i = len(text)
	}
	if i == 0 {
		return step{}, "", fmt.Errorf("a name is missing before %q", text)
	}
	return step{name: text[:i]}, text[i:], nil
}

// bracket reads what stands in [ ]: *, an index, from:to, 'name', or ?(filter).
func bracket(text string) (step, string, error) {
	if inner, ok := strings.CutPrefix(text, "?("); ok {
		return filtered(inner)
	}
	if text != "" && (text[0] == '\'' || text[0] == '"') {
		name, rest, ok := strings.Cut(text[1:], text[:1]+"]")
		if !ok || name == "" {
			return step{}, "", fmt.Errorf("[%s is no name in quotes", text)
		}
		return step{name: name}, rest, nil
	}
	inner, rest, ok := strings.Cut(text, "]")
	if !ok {
		return step{}, "", fmt.Errorf("[%s has no closing bracket", text)
	}
	if inner == "*" {
		return step{all: true}, rest, nil
	}
	from, to, slice := strings.Cut(inner, ":")
	s := step{list: true}
	var err error
	if s.from, err = number(from, slice); err == nil && slice {
		s.to, err = number(to, true)
	}
	if err == nil && !slice {
		if *s.from != -1 {
			next := *s.from + 1
			s.to = &next
		}
	}
	return s, rest, err
}

// number reads an index; nil where there may be none and is none.
func number(text string, optional bool) (*int, error) {
	if text == "" && optional {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n > 1<<30 || n < -1<<30 {
		return nil, fmt.Errorf("[%s] is no index", text)
	}
	return &n, nil
}

// filtered reads @.path, or @.path OP VALUE, up to )].
func filtered(text string) (step, string, error) {
	path, rest, err := steps(strings.TrimSpace(text), " =!<>)")
	if err != nil {
		return step{}, "", err
	}
	f := &filter{path: path}
	rest = strings.TrimSpace(rest)
	for _, op := range []string{"==", "!=", "<=", ">=", "<", ">"} {
		if after, ok := strings.CutPrefix(rest, op); ok {
			f.op, rest = op, strings.TrimSpace(after)
			break
		}
	}
	if f.op != "" {
		if f.want, rest, err = literal(rest); err != nil {
			return step{}, "", err
		}
	}
	after, ok := strings.CutPrefix(strings.TrimSpace(rest), ")]")
	if !ok {
		return step{}, "", fmt.Errorf("a filter ends with )], and not with %q", rest)
	}
	return step{filter: f}, after, nil
}

// literal reads a text in quotes, a number, true or false.
func literal(text string) (any, string, error) {
	if text != "" && (text[0] == '\'' || text[0] == '"') {
		value, rest, ok := strings.Cut(text[1:], text[:1])
		if !ok {
			return nil, "", fmt.Errorf("%s has no closing quote", text)
		}
		return value, rest, nil
	}
	i := strings.IndexAny(text, " )")
	if i < 0 {
		i = len(text)
	}
	switch word := text[:i]; word {
	case "true", "false":
		return word == "true", text[i:], nil
	default:
		n, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, "", fmt.Errorf("%q is neither a number, nor true or false, nor text in quotes", word)
		}
		return n, text[i:], nil
	}
}
