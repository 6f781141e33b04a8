// SPDX-License-Identifier: Apache-2.0

package repo_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	licenseGo = "// SPDX-License-Identifier: Apache-2.0\n"
	licenseC  = "/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */\n"
)

// planted is small repositories that break a rule, each with a part of the sentence that says so.
var planted = []struct {
	rule, name, want string
	files            map[string]string
}{
	{"layers", "api_imports_store", "must not import internal/store", goFile("api/v1", `import _ "weft/internal/store"`)},
	{"layers", "function_imports_api", "must not import api/v1", goFile("internal/control/vpc", `import _ "weft/api/v1"`)},
	{"layers", "function_imports_sibling", "must not import internal/node/overlay", goFile("internal/node/port", `import _ "weft/internal/node/overlay"`)},
	{"layers", "server_imports_node", "must not import internal/node/kernel", goFile("internal/server", `import _ "weft/internal/node/kernel"`)},
	{"layers", "below_imports_above", "must not import internal/control/graph", goFile("internal/control/state", `import _ "weft/internal/control/graph"`)},
	{"layers", "no_layer", "is in no layer", goFile("internal/novel")},
	{"owners", "etcd", "must not import go.etcd.io", goFile("internal/server", `import _ "go.etcd.io/etcd/client/v3"`)},
	{"owners", "ebpf", "must not import github.com/cilium/ebpf", goFile("internal/agent", `import _ "github.com/cilium/ebpf/link"`)},
	{"owners", "netlink_in_a_test", "must not import github.com/vishvananda/netlink", map[string]string{
		"internal/cli/a_test.go": licenseGo + "\npackage cli\n\nimport _ \"github.com/vishvananda/netlink\"\n",
	}},
	{"pure", "clock", "must not import time", goFile("internal/control/vpc", `import _ "time"`)},
	{"package-name", "util", "a package named util", goFile("internal/base/util")},
	{"package-name", "of_another_folder", "a package named helpers", map[string]string{"lab/a.go": "package helpers\n"}},
	{"package-doc", "none", "has no package comment", map[string]string{"lab/a.go": licenseGo + "\npackage lab\n"}},
	{"package-doc", "two", "a second package comment", merge(goFile("lab"), map[string]string{"lab/b.go": goFile("lab")["lab/a.go"]})},
	{"package-doc", "other_words", `must begin with "Package lab "`, map[string]string{"lab/a.go": licenseGo + "\n// A lab.\npackage lab\n"}},
	{"exported-doc", "function", "Open is exported", goFile("lab", "func Open() {}")},
	{"exported-doc", "method", "Close is exported", goFile("lab", "// T is.\ntype T[K any] struct{}", "func (t *T[K]) Close() {}")},
	{"exported-doc", "type", "T is exported", goFile("lab", "type T int")},
	{"exported-doc", "value", "V is exported", goFile("lab", "var V = 1")},
	{"license", "go", "the first line must be", map[string]string{"lab/a.go": "package lab\n"}},
	{"license", "c", "the first line must be", map[string]string{"bpf/lib/a.h": "#pragma once\n"}},
	{"license", "proto", "the first line must be", map[string]string{"internal/southbound/pb/a.proto": "syntax = \"proto3\";\n"}},
	{"size", "function", "f has 101 lines", goFile("lab", "func f() {"+strings.Repeat("\n", 100)+"}")},
	{"size", "file", "one idea for each file", goFile("lab", strings.Repeat("\n", 800))},
	{"size", "package", "the package has", merge(goFile("lab", strings.Repeat("\n", 2000)), map[string]string{
		"lab/b.go": "package lab\n" + strings.Repeat("\n", 600),
	})},
	{"init", "init", "nothing registers itself", goFile("lab", "func init() {}")},
	{"state", "written", "count is written to", goFile("lab", "var count int", "func f() { count++ }")},
	{"state", "mutex", "mu is made to change", goFile("lab", "import \"sync\"", "var mu sync.Mutex")},
	{"skip", "skip", "privtest.Require", map[string]string{"lab/a_test.go": "package lab\n\nfunc f(t *testing.T) { t.Skipf(\"no\") }\n"}},
	{"machine-path", "home", "is on one machine only", map[string]string{"docs/a.md": "put it into " + "/" + "home/ann/weft\n"}},
	{"design-note", "no_line", "no line 'Applies to", map[string]string{"docs/design/a.md": "# A\n"}},
	{"design-note", "no_path", "names no `path`", map[string]string{"docs/design/a.md": "Applies to: all of it\n"}},
	{"design-note", "gone", "applies to lab/gone.go", map[string]string{"docs/design/a.md": "*Applies to* `lab/gone.go`\n"}},
	{"adr", "gap", "decision 0002 is missing", map[string]string{"docs/adr/0001-a.md": adr(1), "docs/adr/0003-b.md": adr(3)}},
	{"adr", "twins", "or has a twin", map[string]string{"docs/adr/0001-a.md": adr(1), "docs/adr/0001-b.md": adr(1)}},
	{"adr", "no_number", "not named NNNN-words.md", map[string]string{"docs/adr/idea.md": ""}},
	{"adr", "not_listed", "does not list it", map[string]string{"docs/adr/0001-a.md": adr(1)}},
	{"adr", "no_status", "no line 'Status:", map[string]string{"docs/adr/0001-a.md": "# 1. A\n"}},
	{"pins", "newest", "whatever there is that day", map[string]string{"Makefile": "tool:\n\tgo install example.org/tool@" + "latest\n"}},
	{"pins", "beside_go_mod", "outside go.mod", map[string]string{".ci/run": "go run example.org/tool@v1.2.3 ./...\n"}},
	{"pins", "of_a_generator", "outside go.mod", goFile("lab", "//go:generate go run example.org/tool@v1.2.3 .")},
	{"pins", "download", "no checksum guards", map[string]string{"tools/a": "#!/bin/sh\ncurl -sL https://example.org/a | sh\n"}},
	{"pins", "package", "no checksum guards", map[string]string{"Makefile": "lint:\n\tnpx lint\n"}},
	{"pins", "unverified", "pass unverified", map[string]string{".ci/run": "export GOSUMDB=off\n"}},
	{"pins", "compiler", "clang-20 is called", map[string]string{"Makefile": "a:\n\tclang-20 -c a.c\n", "tools/pins": "\nclang-19 --version: 19\n"}},
	{"pins", "compiler_of_a_generator", "clang is called", goFile("lab", "//go:generate go run weft/x -cc clang .")},
	{"pins", "replaced", "what is published", map[string]string{"go.mod": "module weft\n\nreplace a => ../a\n"}},
	{"link", "nowhere", "links to b.md, which does not exist", map[string]string{"docs/a.md": "see [b](b.md#c)\n"}},
}

// goFile is the file a.go of a package, which breaks no rule by itself.
func goFile(dir string, declarations ...string) map[string]string {
	name := dir[strings.LastIndex(dir, "/")+1:]
	text := licenseGo + "\n// Package " + name + " is planted.\npackage " + name + "\n\n" + strings.Join(declarations, "\n\n") + "\n"
	return map[string]string{dir + "/a.go": text}
}

func adr(number int) string { return fmt.Sprintf("# %d. A decision\n\nStatus: accepted\n", number) }

func merge(all ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, files := range all {
		for name, text := range files {
			out[name] = text
		}
	}
	return out
}

func TestRulesFire(t *testing.T) {
	for _, p := range planted {
		t.Run(p.rule+"/"+p.name, func(t *testing.T) {
			repo := plant(t, p.files)
			for _, r := range rules {
				if r.name != p.rule {
					continue
				}
				found := r.check(repo)
				if !slices.ContainsFunc(found, func(v violation) bool { return strings.Contains(v.text, p.want) }) {
					t.Errorf("found %q, want one with %q", found, p.want)
				}
			}
		})
	}
	for _, r := range rules {
		tried := 0
		for _, p := range planted {
			if p.rule == r.name {
				tried++
			}
		}
		if tried == 0 {
			t.Errorf("rule %s has no planted violation", r.name)
		}
	}
}

// TestRulesAreQuiet: what is allowed is no violation.
func TestRulesAreQuiet(t *testing.T) {
	repo := plant(t, merge(
		goFile("api/v1"),
		goFile("internal/base/clock"),
		goFile("internal/control/graph", `import ( _ "weft/api/v1"; _ "weft/internal/control/vpc"; _ "weft/internal/base/clock" )`),
		goFile("internal/control/vpc", `import _ "weft/internal/control/state"`),
		goFile("internal/cli/check", `import ( _ "weft/lab"; _ "weft/client"; _ "weft/internal/cli" )`),
		goFile("internal/store", `import _ "go.etcd.io/etcd/client/v3"`),
		goFile("lab", "const most = 3", "// Open opens.\nfunc Open() int { n := most; n++; return n }"),
		map[string]string{
			"internal/southbound/pb/a.pb.go": "// Code generated by a test. DO NOT EDIT.\n\npackage pb\n\nfunc Open() {}\n",
			"bpf/include/linux/bpf.h":        "not ours\n",
			"bpf/lib/a.h":                    licenseC,
			"docs/design/a.md":               "# A\n\nApplies to: `bpf/lib/*.h`, `api/v1/`\n\n[one](../adr/0001-a.md) [two](https://example.com/x) `[no](link)`\n",
			"docs/adr/README.md":             "[1](0001-a.md) [2](0002-b.md)\n",
			"docs/adr/0001-a.md":             adr(1),
			"docs/adr/0002-b.md":             adr(2),
		}))
	for _, r := range rules {
		for _, v := range r.check(repo) {
			t.Errorf("%s: %s: %s", r.name, v.file, v.text)
		}
	}
}

func plant(t *testing.T, files map[string]string) *tree {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	repo, err := readTree(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}
