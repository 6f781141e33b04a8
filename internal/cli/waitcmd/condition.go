// SPDX-License-Identifier: Apache-2.0

package waitcmd

import (
	"fmt"
	"strings"

	v1 "weft/api/v1"
	"weft/internal/cli/jsonpath"
	"weft/internal/cli/outcome"
	"weft/internal/cli/term"
)

// attached is a port's state in which its node has it in effect.
const attached = "Attached"

// condition is what somebody waits for.
type condition struct {
	text    string // as written
	done    string // what is told once it holds
	absent  bool   // holds for what is not there
	present bool   // holds for all that is there
	ready   bool
	field   *jsonpath.Template
	want    *string // value of field; nil: any
}

// parse reads the value of --for.
func parse(text string) (*condition, error) {
	c := &condition{text: text, done: "condition met"}
	kind, rest, _ := strings.Cut(text, "=")
	switch kind {
	case "delete":
		c.absent, c.done = true, "deleted"
		return c, none(text, rest)
	case "create":
		c.present, c.done = true, "created"
		return c, none(text, rest)
	case "condition":
		switch strings.ToLower(strings.TrimSuffix(rest, "=true")) {
		case "ready":
			c.ready = true
			return c, nil
		case "applied":
			return c, nil
		}
		return nil, term.Usagef("--for %s: there is no condition %q; use Ready or Applied", text, rest)
	case "field", "jsonpath":
		path, value, compares := cutValue(rest)
		t, err := jsonpath.Path(path)
		if err != nil || path == "" {
			return nil, term.Usagef("--for %s: %q is no path such as status.node", text, path)
		}
		if c.field = t; compares {
			c.want = &value
		}
		return c, nil
	case "":
		return nil, term.Usagef("say what to wait for, for example --for condition=Ready")
	}
	return nil, term.Usagef("--for %s is not possible; use condition=Ready, condition=Applied, create, delete or field=PATH=VALUE", text)
}

func none(text, rest string) error {
	if rest != "" {
		return term.Usagef("--for %s: nothing may follow", text)
	}
	return nil
}

// cutValue parts PATH=VALUE at the first = that stands in no brackets.
func cutValue(text string) (path, value string, ok bool) {
	depth := 0
	for i, r := range text {
		switch {
		case r == '[' || r == '{':
			depth++
		case r == ']' || r == '}':
			depth--
		case r == '=' && depth == 0:
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// holds reports whether the condition holds for a resource, nil if it is not there; if not, how it is instead.
func (c *condition) holds(o v1.Object) (state string, ok bool, err error) {
	switch {
	case c.absent:
		return "it is there", o == nil, nil
	case c.present:
		return "it is not there", o != nil, nil
	case c.field != nil:
		doc, err := jsonpath.Document(o)
		if err != nil {
			return "", false, err
		}
		values := c.field.Values(doc)
		have := strings.Join(values, " ")
		if c.want == nil {
			return "it has no value", have != "", nil
		}
		return fmt.Sprintf("it is %q", have), have == *c.want, nil
	}
	if c.ready {
		switch o := o.(type) {
		case *v1.Node:
			return o.Status.State, o.Status.Ready, nil
		case *v1.Port:
			if o.Status.State != attached {
				return o.Status.State, false, nil
			}
		}
	}
	a, known := outcome.Applied(o)
	return fmt.Sprintf("in effect on %d of %d nodes", a.Applied, a.Nodes), !known || len(a.Waiting) == 0 && a.Applied >= a.Nodes, nil
}
