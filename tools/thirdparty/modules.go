// SPDX-License-Identifier: Apache-2.0

// Package thirdparty knows what weft is made of that others wrote, and under which licences: what of it is not allowed,
// or not understood, is an error.
package thirdparty

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// architectures are those that packages are built for: what is linked may differ.
var architectures = []string{"amd64", "arm64"}

// program is the package whose binary is shipped.
const program = "./cmd/weft"

// Part is something of others that is in the binary: a module, the standard library, or headers of a Debian package.
type Part struct {
	Name    string
	Version string // "" for the standard library: it is that of the compiler
	Licence string // an SPDX expression
	Texts   []Text
}

// Text is a file that has to go along.
type Text struct {
	Name string // as its part names it
	Text string
}

// textName is how files are called that say who may do what.
var textName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)([-._].*)?$`)

// Linked returns what is linked into the program in the folder root of the repository: the standard library first, then
// the modules by name, then the headers that its packet path was compiled with.
func Linked(root string) ([]Part, error) {
	modules, folders := map[string]Part{}, map[string][]string{}
	for _, arch := range architectures {
		if err := list(root, arch, modules, folders); err != nil {
			return nil, err
		}
	}
	c, err := newClassifier()
	if err != nil {
		return nil, err
	}
	std, err := c.standardLibrary()
	if err != nil {
		return nil, err
	}
	parts := []Part{std}
	for _, path := range sortedKeys(modules) {
		p := modules[path]
		if p.Texts, err = texts(folders[path]); err != nil {
			return nil, err
		}
		if p.Licence, err = c.licence(p.Texts); err != nil {
			return nil, fmt.Errorf("%s %s: %w", p.Name, p.Version, err)
		}
		parts = append(parts, p)
	}
	headers, err := Headers(filepath.Join(root, "bpf/include"))
	return append(parts, headers...), err
}

// list adds the modules of one architecture, and of each the folders that are linked, the module's own first.
func list(root, arch string, modules map[string]Part, folders map[string][]string) error {
	const format = `{{with .Module}}{{if not .Main}}{{.Path}}|{{.Version}}|{{.Dir}}|{{with .Replace}}{{.Path}}{{end}}|{{$.Dir}}{{end}}{{end}}`
	cmd := exec.Command("go", "list", "-deps", "-f", format, program)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list for %s: %w: %s", arch, err, said.String())
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 5 {
			continue // the standard library, and weft itself
		}
		if f[3] != "" {
			return fmt.Errorf("%s is replaced by %s: what is linked must be what go.mod names", f[0], f[3])
		}
		modules[f[0]] = Part{Name: f[0], Version: f[1]}
		for dir := f[4]; len(dir) >= len(f[2]); dir = filepath.Dir(dir) {
			if !slices.Contains(folders[f[0]], dir) {
				folders[f[0]] = append(folders[f[0]], dir)
			}
		}
	}
	for _, dirs := range folders {
		slices.Sort(dirs)
	}
	return nil
}

// texts reads the licences and notices in folders; the first of them is the module's own.
func texts(folders []string) ([]Text, error) {
	var found []Text
	for _, dir := range folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.IsDir() || !textName.MatchString(e.Name()) || filepath.Ext(e.Name()) == ".go" {
				continue
			}
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			name, err := filepath.Rel(folders[0], filepath.Join(dir, e.Name()))
			if err != nil {
				return nil, err
			}
			found = append(found, Text{filepath.ToSlash(name), plain(string(data))})
		}
	}
	return found, nil
}

// plain is a text with the line ends and the end that all texts have here.
func plain(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t\f")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n") + "\n"
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
