// SPDX-License-Identifier: Apache-2.0

package repo_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Sizes that fail. What to aim at is in CONTRIBUTING.md: 60, 400, 2500.
const (
	functionMost = 100
	fileMost     = 800
	packageMost  = 2500
)

// emptyNames say nothing about what is in a package.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "manager", "types", "misc", "shared", "lib"}

// machinePath finds what only one developer's machine has.
var machinePath = regexp.MustCompile(`(^|[\s"'=(:\x60])(/(home|Users|work|root)/[\w.-]+|[A-Z]:\\Users\\)`)

func checkPackageName(t *tree) []violation {
	var found []violation
	for _, s := range t.sources {
		if name := strings.TrimSuffix(s.ast.Name.Name, "_test"); slices.Contains(emptyNames, name) {
			found = append(found, violation{s.file, fmt.Sprintf("a package named %s: say what it is", name)})
		}
	}
	return found
}

func checkPackageDoc(t *tree) []violation {
	var found []violation
	for _, sources := range t.packages() {
		first := sources[0]
		name := first.ast.Name.Name
		inside := func(s *source) bool { return s.dir == first.dir && s.ast.Name.Name+"_test" == name }
		if slices.ContainsFunc(t.sources, inside) {
			continue // the outside tests of a package that has its own
		}
		begin := "Package " + name + " "
		if name == "main" {
			begin = "Command " + path.Base(first.dir) + " "
		}
		var docs []string
		for _, s := range sources {
			if s.ast.Doc == nil || s.generated {
				continue
			}
			docs = append(docs, s.file)
			if text := s.ast.Doc.Text(); !strings.HasPrefix(text, begin) {
				found = append(found, s.at(s.ast.Doc, "the package comment must begin with %q", begin))
			}
		}
		switch generated := func(s *source) bool { return s.generated }; {
		case len(docs) == 0 && slices.ContainsFunc(sources, generated):
		case len(docs) == 0:
			found = append(found, violation{first.file, "package " + name + " has no package comment: say what it promises"})
		case len(docs) > 1:
			found = append(found, violation{docs[1], "a second package comment; the first is in " + docs[0]})
		}
	}
	return inOrder(found)
}

func checkExportedDoc(t *tree) []violation {
	var found []violation
	for _, s := range t.sources {
		if s.test || s.generated || s.ast.Name.Name == "main" {
			continue
		}
		for _, d := range s.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
					found = append(found, s.at(d, "%s is exported and has no comment", d.Name.Name))
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if name := undocumented(d, spec); name != "" {
						found = append(found, s.at(spec, "%s is exported and has no comment", name))
					}
				}
			}
		}
	}
	return found
}

// exportedReceiver reports whether a function is no method, or one of a type that others see.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	expr := d.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.IsExported()
		default:
			return true
		}
	}
}

// undocumented returns the exported name of a spec that neither has a comment nor stands in a group that has one.
func undocumented(d *ast.GenDecl, spec ast.Spec) string {
	if d.Doc != nil {
		return ""
	}
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc == nil {
			return spec.Name.Name
		}
	case *ast.ValueSpec:
		for _, n := range spec.Names {
			if n.IsExported() && spec.Doc == nil && spec.Comment == nil {
				return n.Name
			}
		}
	}
	return ""
}

func checkLicense(t *tree) []violation {
	var found []violation
	generated := map[string]bool{}
	for _, s := range t.sources {
		generated[s.file] = s.generated
	}
	for _, file := range t.files {
		want := "SPDX-License-Identifier: Apache-2.0"
		switch path.Ext(file) {
		case ".go", ".proto":
		case ".c", ".h":
			want = "SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)"
		default:
			continue
		}
		first, _, _ := strings.Cut(t.read(file), "\n")
		first = strings.TrimSuffix(strings.TrimLeft(first, "/* "), " */")
		if !generated[file] && first != want {
			found = append(found, violation{file, "the first line must be the comment " + want})
		}
	}
	return found
}

func checkSize(t *tree) []violation {
	var found []violation
	packages := map[string]int{}
	for _, s := range t.sources {
		if s.generated {
			continue
		}
		lines := strings.Count(s.text, "\n")
		if lines > fileMost {
			found = append(found, violation{s.file, fmt.Sprintf("%d lines; at most %d: one idea for each file", lines, fileMost)})
		}
		if !s.test && s.dir != "api/v1" {
			packages[s.dir] += lines
		}
		for _, d := range s.ast.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1; n > functionMost {
				found = append(found, s.at(f, "%s has %d lines; at most %d", f.Name.Name, n, functionMost))
			}
		}
	}
	for dir, lines := range packages {
		if lines > packageMost {
			found = append(found, violation{dir, fmt.Sprintf("the package has %d lines; at most %d: divide it by what it does", lines, packageMost)})
		}
	}
	return inOrder(found)
}

func checkInit(t *tree) []violation {
	var found []violation
	for _, s := range t.sources {
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" && !s.generated {
				found = append(found, s.at(f, "nothing registers itself in init(): wire it in cmd"))
			}
		}
	}
	return found
}

// checkState finds package variables that change: those written to, and those of sync and atomic types. One that changes
// through a pointer escapes it.
// Packages are type-checked without what they import, which is enough to know what a name stands for.
func checkState(t *tree) []violation {
	var found []violation
	for _, sources := range t.packages() {
		if sources[0].generated {
			continue
		}
		fset, files := token.NewFileSet(), []*ast.File{}
		var own []*source
		for _, s := range sources {
			if s.test {
				continue
			}
			again, err := parser.ParseFile(fset, s.file, s.text, parser.SkipObjectResolution)
			if err != nil {
				return []violation{{s.file, err.Error()}}
			}
			own, files = append(own, &source{file: s.file, fset: fset, ast: again, generated: s.generated}), append(files, again)
		}
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}}
		cfg := types.Config{Importer: noImporter{}, Error: func(error) {}}
		_, _ = cfg.Check(sources[0].dir, fset, files, info) // imports are missing on purpose
		for _, s := range own {
			if !s.generated {
				found = append(found, stateIn(s, info)...)
			}
		}
	}
	return inOrder(found)
}

type noImporter struct{}

func (noImporter) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

func stateIn(s *source, info *types.Info) []violation {
	var found []violation
	changed := func(e ast.Expr) {
		if id := root(e); id != nil {
			if v, ok := info.Uses[id].(*types.Var); ok && v.Pkg() != nil && v.Parent() == v.Pkg().Scope() {
				found = append(found, s.at(id, "package variable %s is written to: give the state an owner", id.Name))
			}
		}
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				changed(e)
			}
		case *ast.IncDecStmt:
			changed(n.X)
		}
		return true
	})
	for _, d := range s.ast.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			if pkg := selected(v.Type); pkg == "sync" || pkg == "atomic" {
				found = append(found, s.at(v, "package variable %s is made to change: give the state an owner", v.Names[0].Name))
			}
		}
	}
	return found
}

// root returns the variable that an expression is part of.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// selected returns the package of a type written as package.Type.
func selected(e ast.Expr) string {
	if star, ok := e.(*ast.IndexExpr); ok { // atomic.Pointer[T]
		e = star.X
	}
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	id, _ := sel.X.(*ast.Ident)
	if id == nil {
		return ""
	}
	return id.Name
}

func checkSkip(t *tree) []violation {
	var found []violation
	for _, s := range t.sources {
		if within(s.dir, "internal/base/privtest") {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) && s.test {
				found = append(found, s.at(call, "a test that skips proves nothing in CI: use privtest.Require, or make it run"))
			}
			return true
		})
	}
	return found
}

func checkMachinePath(t *tree) []violation {
	var found []violation
	for _, file := range t.files {
		if slices.Contains([]string{".o", ".sum", ".png", ".pcap"}, path.Ext(file)) {
			continue
		}
		for i, line := range strings.Split(t.read(file), "\n") {
			if m := machinePath.FindStringSubmatch(line); m != nil {
				found = append(found, violation{file, fmt.Sprintf("line %d: %s is on one machine only", i+1, m[2])})
			}
		}
	}
	return found
}
