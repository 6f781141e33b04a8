// SPDX-License-Identifier: Apache-2.0

// Package repo_test holds the rules of the repository about itself: who may import whom, what is documented, how large
// things get, and that documents do not point to nowhere.
package repo_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

// rules are all rules. Each returns one sentence for each violation; repo_planted_test.go shows an example of each.
var rules = []struct {
	name  string
	check func(*tree) []violation
}{
	{"layers", checkLayers},
	{"owners", checkOwners},
	{"pure", checkPure},
	{"package-name", checkPackageName},
	{"package-doc", checkPackageDoc},
	{"exported-doc", checkExportedDoc},
	{"license", checkLicense},
	{"size", checkSize},
	{"init", checkInit},
	{"state", checkState},
	{"skip", checkSkip},
	{"machine-path", checkMachinePath},
	{"design-note", checkDesignNote},
	{"adr", checkADR},
	{"link", checkLink},
	{"pins", checkPins},
}

// debts are violations that stand for now, as "rule file". One that is paid must leave the list. CONTRIBUTING.md says
// what becomes of each.
var debts = []string{
	"state internal/node/kernel/device/own.go",
}

// violation is one place that breaks a rule.
type violation struct{ file, text string }

func TestRules(t *testing.T) {
	repo, err := readTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	if len(repo.sources) < 50 {
		t.Fatalf("only %d Go files found: the rules would prove nothing", len(repo.sources))
	}
	owed := map[string]bool{}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, v := range r.check(repo) {
				if debt := r.name + " " + v.file; slices.Contains(debts, debt) {
					owed[debt] = true
					continue
				}
				t.Errorf("%s: %s", v.file, v.text)
			}
		})
	}
	for _, debt := range debts {
		if !owed[debt] {
			t.Errorf("%q is paid: take it out of debts", debt)
		}
	}
}

// tree is the repository as the rules see it.
type tree struct {
	fsys    fs.FS
	files   []string // all of them, by path
	sources []*source
}

// source is one Go file. They are parsed here and not by 'go list', so that the test cache knows which files the
// result rests on.
type source struct {
	file      string
	dir       string
	text      string
	ast       *ast.File
	fset      *token.FileSet
	test      bool
	generated bool
}

// skipped are folders that are not the repository's own text.
var skipped = []string{".git", "bin", "bpf/include", "testdata/fuzz"}

func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{fsys: fsys}
	err := fs.WalkDir(fsys, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains(skipped, file) || strings.HasSuffix(file, "/testdata/fuzz") {
				return fs.SkipDir
			}
			return nil
		}
		if file == ".git" { // of a worktree: it says where the repository is
			return nil
		}
		t.files = append(t.files, file)
		if path.Ext(file) != ".go" {
			return nil
		}
		s, err := parse(fsys, file)
		t.sources = append(t.sources, s)
		return err
	})
	return t, err
}

func parse(fsys fs.FS, file string) (*source, error) {
	text, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, file, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &source{
		file: file, dir: path.Dir(file), text: string(text), ast: f, fset: fset,
		test: strings.HasSuffix(file, "_test.go"), generated: ast.IsGenerated(f),
	}, nil
}

// read returns a file's text, or "" where it cannot be read.
func (t *tree) read(file string) string {
	text, _ := fs.ReadFile(t.fsys, file)
	return string(text)
}

// exists reports whether a file, a folder, or something that a pattern matches is there.
func (t *tree) exists(file string) bool {
	found, err := fs.Glob(t.fsys, strings.TrimSuffix(file, "/"))
	return err == nil && len(found) > 0
}

// packages groups sources by folder and package clause.
func (t *tree) packages() map[string][]*source {
	all := map[string][]*source{}
	for _, s := range t.sources {
		key := s.dir + " " + s.ast.Name.Name
		all[key] = append(all[key], s)
	}
	return all
}

// at names the line of a node.
func (s *source) at(n ast.Node, format string, args ...any) violation {
	return violation{s.file, fmt.Sprintf("line %d: ", s.fset.Position(n.Pos()).Line) + fmt.Sprintf(format, args...)}
}

func inOrder(v []violation) []violation {
	slices.SortFunc(v, func(a, b violation) int {
		return cmp.Or(strings.Compare(a.file, b.file), strings.Compare(a.text, b.text))
	})
	return v
}
