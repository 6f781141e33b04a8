// SPDX-License-Identifier: Apache-2.0

package jsonpath

import (
	"encoding/json"
	"strings"
	"testing"
)

const document = `{"kind": "List", "items": [
 {"metadata": {"name": "web-1", "labels": {"app.io/x": "web"}}, "status": {"state": "Attached", "vni": 4096, "addresses": ["10.0.1.4", "fd00::4"], "ready": true}},
 {"metadata": {"name": "web-2"}, "status": {"state": "Detached", "vni": 4097, "addresses": ["10.0.1.5"], "ready": false}},
 {"metadata": {"name": "db-1"}, "status": {"vni": 12345678901234567890}}]}`

func parsed(t *testing.T) any {
	t.Helper()
	doc, err := Document(json.RawMessage(document))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestTemplates(t *testing.T) {
	doc := parsed(t)
	for template, want := range map[string]string{
		"kind": "List", "{.kind}": "List", "{$.kind}": "List", "{ .kind }": "List", `{.kind}: {"a\tb"}`: "List: a\tb",
		"{.items[*].metadata.name}":  "web-1 web-2 db-1",
		"items[0].metadata.name":     "web-1",
		"{.items[-1].metadata.name}": "db-1",
		"{.items[7].metadata.name}":  "", "{.items[-7:1].metadata.name}": "web-1", "{.items[1:].metadata.name}": "web-2 db-1", "{.items[:2].metadata.name}": "web-1 web-2", "{.items[-2].metadata.name}": "web-2",
		"{.items[2].status.vni}":                  "12345678901234567890",
		"{.items[0].status.addresses}":            `["10.0.1.4","fd00::4"]`,
		"{.items[0].metadata.labels['app.io/x']}": "web",
		"{..name}":                        "web-1 web-2 db-1",
		"{.items[*].status.addresses[*]}": "10.0.1.4 fd00::4 10.0.1.5",
		`{.items[?(@.status.state=="Attached")].status.vni}`:                                       "4096",
		`{.items[?(@.status.state!='Attached')].metadata.name}`:                                    "web-2 db-1",
		`{.items[?(@.status.ready==true)].metadata.name}`:                                          "web-1",
		`{.items[?(@.status.vni > 4096)].metadata.name}`:                                           "web-2 db-1",
		`{.items[?(@.status.state)].metadata.name}`:                                                "web-1 web-2",
		`{range .items[*]}{.metadata.name}{"\t"}{.status.state}{"\n"}{end}`:                        "web-1\tAttached\nweb-2\tDetached\ndb-1\t\n",
		`{range .items[*]}{range .status.addresses[*]}{.}{","}{end}{end}`:                          "10.0.1.4,fd00::4,10.0.1.5,",
		`{range .items[?(@.metadata.name=="web-2")]}name {.metadata.name} and {"{braces}"} {end}!`: "name web-2 and {braces} !",
		"{.nothing.at.all}": "",
	} {
		tmpl, err := Parse(template)
		if err != nil {
			t.Errorf("%s: %v", template, err)
			continue
		}
		if got := tmpl.Text(doc); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
}

func TestWrongTemplatesAreRefused(t *testing.T) {
	for _, text := range []string{
		"{.kind", "{range .items[*]}{.kind}", "{end}", "{.items[}", "{.items[x]}", "{.items['a]}", "{.items[?(@.a=b)]}", "{.items[?(@.a==\"b\"}", "{.a..}", "{.a b}", `{"a}`,
		"a b", ".a}", strings.Repeat("{range .items}", 9) + strings.Repeat("{end}", 9), strings.Repeat("a", templateMost+1),
	} {
		if _, err := Parse(text); err == nil {
			t.Errorf("%.60q is taken", text)
		}
	}
}

// FuzzTemplate: whatever is taken can be filled, twice to the same.
func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"{range .items[*]}{.metadata.name}{end}", "{..a[?(@.b<=1.5)]['x'][-1:]}", "a.b.*", `{"x"}y`} {
		f.Add(s)
	}
	var doc any
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "..") > 3 || strings.Count(text, "range") > 3 {
			return // each multiplies what is found
		}
		tmpl, err := Parse(text)
		if err != nil {
			return
		}
		if a, b := tmpl.Text(doc), tmpl.Text(doc); a != b {
			t.Errorf("%q: %q and then %q", text, a, b)
		}
	})
}
