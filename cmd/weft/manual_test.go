// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/internal/cli/manual"
	"weft/internal/cli/term"
)

var update = flag.Bool("update", false, "write the generated pages")

func tree() *cobra.Command {
	return weft(&term.Env{Out: new(bytes.Buffer), Err: new(bytes.Buffer), In: strings.NewReader(""), Version: "test"})
}

// commands visits all commands that people see.
func commands(visit func(*cobra.Command)) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		visit(c)
		for _, s := range c.Commands() {
			walk(s)
		}
	}
	walk(tree())
}

// TestPagesOfCommandsAreFresh keeps docs/cli as the program's help is.
func TestPagesOfCommandsAreFresh(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	dir := filepath.Join("..", "..", "docs", "cli")
	pages := manual.Markdown(tree())
	if *update {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, page := range pages {
		path := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != page {
			t.Errorf("docs/cli/%s is not fresh (%v): make generate", name, err)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := pages[f.Name()]; !ok {
			t.Errorf("docs/cli/%s is of no command: make generate", f.Name())
		}
	}
}

// TestEveryCommandHelps wants a sentence, a meaning for each flag, and examples: the more, the more can be said.
func TestEveryCommandHelps(t *testing.T) {
	commands(func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q is not a sentence without its full stop", c.CommandPath(), c.Short)
		}
		flags := 0
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if flags++; f.Usage == "" {
				t.Errorf("%s: --%s has no meaning", c.CommandPath(), f.Name)
			}
		})
		want := 1
		if flags > 1 {
			want = 3
		} else if flags == 1 || strings.Contains(c.Use, " ") {
			want = 2
		}
		if n := len(strings.Split(strings.TrimSpace(c.Example), "\n")); c.Example == "" || n < want {
			t.Errorf("%s has less than %d examples", c.CommandPath(), want)
		}
		for _, line := range strings.Split(c.Example, "\n") {
			if !strings.HasPrefix(line, "  ") {
				t.Errorf("%s: the example %q is not indented by two", c.CommandPath(), line)
			}
		}
	})
}

// TestExamplesCanBeRun parses each example as the program would.
func TestExamplesCanBeRun(t *testing.T) {
	n := 0
	commands(func(c *cobra.Command) {
		for _, line := range strings.Split(c.Example, "\n") {
			if n++; !strings.Contains(line, "weft") {
				t.Errorf("%s: %q has no weft in it", c.CommandPath(), line)
			}
			if err := manual.Check(line, tree); err != nil {
				t.Errorf("%s: %v", c.CommandPath(), err)
			}
		}
	})
	if n < 150 {
		t.Errorf("only %d examples were found: the test proves little", n)
	}
}

var inCode = regexp.MustCompile("^(    |\t|\\$ |    \\$ )?(weft [^`]*)$")

// TestLinesOfDocumentsCanBeRun parses what pages of the repository tell people to type; what has … in it is not meant so.
func TestLinesOfDocumentsCanBeRun(t *testing.T) {
	n := 0
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "bin" || d.Name() == "testdata") {
			return cmpErr(err)
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fenced := false
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			m := inCode.FindStringSubmatch(line)
			if m == nil || !fenced && !strings.HasPrefix(line, "    ") || strings.Contains(line, "…") || strings.HasSuffix(m[2], "\\") || usage(path) && !fenced {
				continue
			}
			n++
			if err := manual.Check(m[2], tree); err != nil {
				t.Errorf("%s:%d: %v", path, i+1, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 50 {
		t.Errorf("only %d lines were found: the test proves little", n)
	}
}

// cmpErr skips a folder unless there is an error.
func cmpErr(err error) error {
	if err != nil {
		return err
	}
	return fs.SkipDir
}

// usage reports whether the indented lines of a page say how a command is called, with words in place of values.
func usage(path string) bool { return filepath.Base(filepath.Dir(path)) == "cli" }

// TestManPages has groff read them, where it is.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if _, errs, err := run("man", "--dir", dir); err != nil || !strings.Contains(errs, "pages written") {
		t.Fatal(errs, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "weft*.1"))
	if err != nil || len(files) < 50 {
		t.Fatalf("%d pages, error %v", len(files), err)
	}
	one, _, err := run("man", "node", "join")
	file, ferr := os.ReadFile(filepath.Join(dir, "weft-node-join.1"))
	if err != nil || ferr != nil || one != string(file) {
		t.Errorf("the page of one command is another than in the folder: %v, %v", err, ferr)
	}
	if _, _, err := run("man", "nope"); term.ExitCode(err) != term.ExitUsage {
		t.Errorf("a page of no command: %v", err)
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("there is no groff to read them")
		return
	}
	for _, f := range files {
		out, err := exec.Command(groff, "-man", "-Tutf8", "-ww", "-z", f).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(f), err, out)
		}
	}
}
