// SPDX-License-Identifier: Apache-2.0

package v1_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// TestErrorCatalogueIsComplete: every code has an entry, every entry its words, and each is what some code returns.
func TestErrorCatalogueIsComplete(t *testing.T) {
	codes, uses := codesOfSource(t)
	if len(codes) < 30 {
		t.Fatalf("only %d codes found: the test would prove nothing", len(codes))
	}
	listed := make(map[string]bool)
	for _, e := range v1.ErrorCodes() {
		if listed[e.Code] {
			t.Errorf("%s is listed twice", e.Code)
		}
		listed[e.Code] = true
		for _, text := range []string{e.What, e.Why, e.Mend} {
			if !strings.HasSuffix(text, ".") || strings.Contains(text, "  ") {
				t.Errorf("%s: %q is no sentence", e.Code, text)
			}
		}
		if e.Exit < v1.ExitFailure || e.Exit > v1.ExitUnavailable || e.Exit == v1.ExitUsage {
			t.Errorf("%s ends a command with %d", e.Code, e.Exit)
		}
	}
	for name, code := range codes {
		if !listed[code] {
			t.Errorf("%s (%s) is not in the catalogue: api/v1/catalogue.go", name, code)
		}
		if uses[name] == 0 {
			t.Errorf("%s (%s) is what nothing returns: remove it with its entry", name, code)
		}
		delete(listed, code)
	}
	for code := range listed {
		t.Errorf("%s has an entry, and is no code", code)
	}
}

// codesOfSource lists the constants Code… of this package with their values, and how often the program names each where it is
// neither declared, listed nor compared.
func codesOfSource(t *testing.T) (codes map[string]string, uses map[string]int) {
	t.Helper()
	codes, uses = make(map[string]string), make(map[string]int)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "catalogue.go":
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(text), "Code") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if filepath.Base(path) == "error.go" && filepath.Dir(path) == filepath.Join(root, "api", "v1") {
			for _, d := range file.Decls {
				if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.CONST {
					declared(t, d, codes)
				}
			}
			return nil
		}
		count(t, path, file, uses)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return codes, uses
}

func declared(t *testing.T, d *ast.GenDecl, codes map[string]string) {
	t.Helper()
	for _, spec := range d.Specs {
		spec := spec.(*ast.ValueSpec)
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		codes[spec.Names[0].Name] = value
	}
}

// count notes each name of a code in a file where it is not only compared.
func count(t *testing.T, path string, file *ast.File, uses map[string]int) {
	t.Helper()
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BinaryExpr:
			return n.Op != token.EQL && n.Op != token.NEQ
		case *ast.CaseClause:
			for _, s := range n.Body {
				ast.Inspect(s, func(n ast.Node) bool { return tally(t, path, n, uses) })
			}
			return false
		}
		return tally(t, path, n, uses)
	})
}

func tally(t *testing.T, path string, n ast.Node, uses map[string]int) bool {
	t.Helper()
	switch n := n.(type) {
	case *ast.KeyValueExpr: // a code that is no constant would be in no catalogue
		key, isName := n.Key.(*ast.Ident)
		lit, isText := n.Value.(*ast.BasicLit)
		if isName && isText && key.Name == "Code" && lit.Kind == token.STRING && lit.Value != `""` {
			t.Errorf("%s has the code %s, which is no constant of api/v1", path, lit.Value)
		}
	case *ast.Ident:
		uses[n.Name]++
	}
	return true
}
