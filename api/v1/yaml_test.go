// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const (
	tenantYAML = "apiVersion: weft/v1\nkind: Tenant\nmetadata: {name: red}\n"
	portYAML   = "apiVersion: weft/v1\nkind: Port\nmetadata:\n  tenant: red\n  name: web-1\nspec:\n  subnet: web\n"
)

func TestYAMLErrorsNameThePlace(t *testing.T) {
	for name, c := range map[string]struct{ doc, code, field, at, fix string }{
		"bad_value":     {tenantYAML + "---\n" + portYAML + "  addresses:\n    - 10.0.1\n", CodeInvalid, "spec.addresses[0]", "document 2, line 13, column 7", "10.0.1.4"},
		"host_bits":     {"apiVersion: weft/v1\nkind: VPC\nmetadata: {tenant: red, name: main}\nspec:\n  prefixes:\n    - 10.0.0.0/16\n    - 10.1.0.1/16\n", CodeHostBits, "spec.prefixes[1]", "document 1, line 7, column 7", "write 10.1.0.0/16"},
		"unknown_field": {portYAML + "  adresses: [10.0.1.4]\n", CodeUnknownField, "spec.adresses", "document 1, line 8", "did you mean spec.addresses?"},
		"after_empty":   {"---\n# nothing\n---\n" + portYAML + "  x: 1\n", CodeUnknownField, "spec.x", "document 1, line 11", "remove it"},
		"syntax":        {tenantYAML + "---\na: b: c\n", CodeMalformed, "", "document 2, line 5, column 4", "indentation"},
		"tab":           {"metadata:\n\tname: x\n", CodeMalformed, "", "line 2, column 1", "indentation"},
		"duplicate":     {tenantYAML + "metadata: {name: blue}\n", CodeDuplicate, "", "line 4, column 1", "remove one"},
		"kind":          {"apiVersion: weft/v1\nkind: Prot\n", CodeUnknownKind, "kind", "line 2, column 7", "Subnet, Port"},
		"version":       {"apiVersion: weft/v9\nkind: Port\n", CodeUnknownKind, "apiVersion", "line 1", "weft/v1"},
		"number":        {"apiVersion: weft/v1\nkind: Tenant\nmetadata: {name: 007}\n", CodeInvalid, "metadata.name", "line 3", "quote"},
		"alias":         {"a: &a [x]\nb: *a\n", CodeUnsupported, "", "line 1, column 4", "write the value out"},
		"deep_flow":     {"a: " + strings.Repeat("[", 100_000), CodeTooLarge, "", "line 1", "no kind"},
		"deep_block":    {strings.Repeat("- ", 100_000), CodeTooLarge, "", "line 1", "no kind"},
		"scalar":        {"hello\n", CodeMalformed, "", "line 1", "apiVersion"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeYAML([]byte(c.doc))
			var list ErrorList
			if !errors.As(err, &list) || len(list) != 1 {
				t.Fatalf("got %v, want one error", err)
			}
			e := list[0]
			if e.Code != c.code || e.Field != c.field || !strings.Contains(e.Message, c.at) || !strings.Contains(e.Fix, c.fix) {
				t.Errorf("got %s at %q: %s (%s); want %s at %q, %s (%s)", e.Code, e.Field, e.Message, e.Fix, c.code, c.field, c.at, c.fix)
			}
		})
	}
}

func TestYAMLFindsErrorsInEveryDocument(t *testing.T) {
	objects, err := DecodeYAML([]byte("kind: A\n---\n" + tenantYAML + "---\nkind: B\n"))
	var list ErrorList
	var one *Error
	if !errors.As(err, &list) || len(list) != 2 || !errors.As(err, &one) || len(objects) != 1 {
		t.Errorf("%d documents, error %v", len(objects), err)
	}
}

func TestYAMLReadsSeveralDocuments(t *testing.T) {
	docs, err := DecodeYAML([]byte("# nothing\n--- # first\n" + tenantYAML + "...\n---\n---\r\n" + goodPort + "\n"))
	if err != nil || len(docs) != 2 || docs[1].Meta().Name != "web-1" {
		t.Errorf("got %v, error %v", docs, err)
	}
}

func TestAnswersCanBeAppliedAgain(t *testing.T) {
	docs, err := DecodeYAML([]byte(portYAML + "  mac: 02:00:00:00:00:01\nstatus: {vni: 4096, node: host-1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := docs[0].(*Port)
	p.UID, p.ResourceVersion, p.Generation = "u", "7", 3
	answer, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeYAML(answer) // JSON is YAML
	if err != nil || !SameSpec(p, again[0]) || again[0].(*Port).Status.VNI != 4096 || again[0].Meta().UID != "u" {
		t.Errorf("%s came back as %v, error %v", answer, again, err)
	}
}

func TestNewKnowsEveryKind(t *testing.T) {
	for _, k := range Kinds() {
		o, ok := New(k.Kind)
		if !ok || o.GetKind() != k.Kind || o.Type().Kind != k.Kind || o.Type().APIVersion != APIVersion {
			t.Errorf("%s: got %v, %v", k.Kind, o, ok)
		}
		if c := Clone(o); !SameSpec(o, c) {
			t.Errorf("%s: clone differs", k.Kind)
		}
	}
	if o, ok := New("port"); ok || o != nil {
		t.Errorf("port is a word for a kind, not a kind; got %v", o)
	}
}

func FuzzDecodeYAML(f *testing.F) {
	f.Add([]byte(tenantYAML + "---\n" + goodPort))
	f.Add([]byte(portYAML + "  addresses:\n  - 10.0.1.4\n...\n--- # x\n"))
	f.Add([]byte("apiVersion: weft/v1\nkind: RouteTable\nmetadata: {tenant: red, name: rt}\nspec:\n  vpc: main\n  subnets: [web]\n  routes:\n    - {to: ::/0, via: port/fw}\n    - to: 10.0.0.0/8\n      via: blackhole\n"))
	f.Add([]byte("? a\n: - - !!str &a [b, {c: *a}]\n<<: *a\n"))
	f.Add([]byte("a: |\n  b\n---\n\"\\x00\": 'x'\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := DecodeYAML(data)
		if err != nil {
			var list ErrorList
			if !errors.As(err, &list) || len(list) == 0 || list[0].Code == "" || list[0].Fix == "" {
				t.Fatalf("error %#v", err)
			}
		}
		for _, o := range objects {
			o.Default()
			o.Validate()
			back, err := json.Marshal(o)
			if err != nil {
				t.Fatalf("%s was read, but cannot be written: %v", data, err)
			}
			again, err := DecodeYAML(back) // JSON is YAML
			if err != nil || len(again) != 1 || !SameSpec(o, again[0]) {
				t.Fatalf("%s became %s: %v, error %v", data, back, again, err)
			}
		}
	})
}
