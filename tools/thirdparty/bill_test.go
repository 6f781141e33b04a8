// SPDX-License-Identifier: Apache-2.0

package thirdparty

import (
	"bytes"
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is that of CycloneDX, which its module brings.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	for name, file := range map[string]string{"bom-1.6": "bom-1.6.schema.json", "spdx": "spdx.schema.json", "jsf-0.82": "jsf-0.82.schemax.json"} {
		f, err := os.Open(filepath.Join(strings.TrimSpace(string(out)), "schema", file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		doc, err := jsonschema.UnmarshalJSON(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+name+".schema.json", doc); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listed is a program of everything that the listing names, and what is said of it. Test programs know no modules.
func listed(t *testing.T) (*debug.BuildInfo, bill) {
	t.Helper()
	listing, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		t.Fatal(err)
	}
	info := &debug.BuildInfo{GoVersion: "go1.26.8", Path: "weft/cmd/weft", Settings: []debug.BuildSetting{{Key: "GOOS", Value: "linux"}}}
	parts := Parse(string(listing))
	for name, p := range parts {
		if strings.Contains(name, ".") {
			info.Deps = append(info.Deps, &debug.Module{Path: name, Version: p.Version, Sum: "h1:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="})
		}
	}
	return info, bill{"v1.2.3", time.Unix(1e9, 0).UTC(), parts}
}

func TestBillIsValidAndAlwaysTheSame(t *testing.T) {
	info, b := listed(t)
	first, err := b.json(info, sha256.Sum256([]byte("program")))
	if err != nil {
		t.Fatal(err)
	}
	again, err := b.json(info, sha256.Sum256([]byte("program")))
	if err != nil || !bytes.Equal(first, again) {
		t.Errorf("another bill of the same program: %v", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	s := schema(t)
	if err := s.Validate(doc); err != nil {
		t.Errorf("%v\n%s", err, first)
	}
	for _, want := range []string{`"pkg:deb/debian/libbpf-dev@1:1.1.2-0%2Bdeb12u1"`, `"2001-09-09T01:46:40Z"`, `"pkg:golang/std@`, `"v1.2.3"`} {
		if !bytes.Contains(first, []byte(want)) {
			t.Errorf("it has no %s:\n%s", want, first)
		}
	}
	doc.(map[string]any)["components"].([]any)[0].(map[string]any)["type"] = "novel"
	if s.Validate(doc) == nil {
		t.Error("the schema lets anything pass")
	}
}

func TestBillKnowsAllThatIsInTheBinary(t *testing.T) {
	info, b := listed(t)
	m := info.Deps[0]
	for name, spoil := range map[string]func(){
		"module_is_not_listed":  func() { delete(b.parts, m.Path) },
		"module_of_other_age":   func() { b.parts[m.Path] = Part{Name: m.Path, Version: "v0.0.1"} },
		"std_is_not_listed":     func() { delete(b.parts, "std") },
		"headers_not_listed":    func() { delete(b.parts, "libbpf-dev") },
		"module_is_replaced_by": func() { m.Replace = &debug.Module{Path: "../fork"} },
	} {
		t.Run(name, func(t *testing.T) {
			info, b = listed(t)
			m = info.Deps[0]
			spoil()
			if _, err := b.of(info, [32]byte{}); err == nil {
				t.Error("nothing was wrong")
			}
		})
	}
}
