// SPDX-License-Identifier: Apache-2.0

package repo_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// unpinned is what brings in, while building or testing, something that is another thing tomorrow, or that no checksum guards.
var unpinned = []struct {
	what *regexp.Regexp
	why  string
}{
	{regexp.MustCompile(`[\w/]@(latest|upgrade|patch|master|main|HEAD)\b`), "is whatever there is that day: name a version in go.mod"},
	{regexp.MustCompile(`\bgo (run|install|get) [^\n;&|]*\w@`), "is outside go.mod and go.sum: make it a tool of tools/go.mod"},
	{regexp.MustCompile(`\b(curl|wget)\b[^\n]*\bhttps?://`), "fetches what no checksum guards"},
	{regexp.MustCompile(`\b(npx|npm (install|exec)|pip3? install|cargo install|gem install|docker (run|pull|build))\b`), "fetches what no checksum guards"},
	{regexp.MustCompile(`\b(GONOSUMDB|GONOSUMCHECK|GONOVERIFY|GOINSECURE|GOFLAGS=-insecure|GOSUMDB=off)\b`), "lets modules pass unverified"},
}

// versioned are tools of Debian whose output or verdict depends on their version, by the name of their command without it.
var versioned = []string{"clang", "clang-format", "llvm-strip", "llvm-objcopy", "protoc"}

// checkPins: whoever builds a commit gets the tools that its author had.
func checkPins(t *tree) []violation {
	var found []violation
	for _, file := range t.files {
		if !builds(t, file) {
			continue
		}
		for i, line := range strings.Split(t.read(file), "\n") {
			if path.Ext(file) == ".go" && !strings.HasPrefix(line, "//go:generate ") {
				continue
			}
			for _, u := range unpinned {
				if m := u.what.FindString(line); m != "" {
					found = append(found, violation{file, fmt.Sprintf("line %d: %q %s", i+1, m, u.why)})
				}
			}
		}
	}
	pins := t.read("tools/pins")
	for _, line := range strings.Split(t.read("Makefile")+generateLines(t), "\n") {
		for _, word := range strings.FieldsFunc(line, func(r rune) bool { return !strings.ContainsRune("-_./", r) && !isWordRune(r) }) {
			name := strings.TrimRight(word, "-0123456789")
			if slices.Contains(versioned, name) && !strings.Contains(pins, "\n"+word+" ") {
				found = append(found, violation{"tools/pins", word + " is called, and has no version here"})
			}
		}
	}
	for _, file := range []string{"go.mod", "tools/go.mod"} {
		if m := regexp.MustCompile(`(?m)^\s*(replace|exclude)\b.*`).FindString(t.read(file)); m != "" {
			found = append(found, violation{file, strings.TrimSpace(m) + ": what is built must be what is published"})
		}
	}
	return inOrder(found)
}

// builds reports whether a file says how something is built, generated or tested.
func builds(t *tree, file string) bool {
	switch {
	case strings.HasSuffix(file, "_test.go"):
		return false
	case file == "Makefile", within(file, ".ci"), path.Ext(file) == ".go":
		return true
	}
	return within(file, "tools") && strings.HasPrefix(t.read(file), "#!")
}

// generateLines are the calls of go generate.
func generateLines(t *tree) string {
	var b strings.Builder
	for _, s := range t.sources {
		for line := range strings.Lines(s.text) {
			if strings.HasPrefix(line, "//go:generate ") {
				b.WriteString("\n" + line)
			}
		}
	}
	return b.String()
}

func isWordRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}
