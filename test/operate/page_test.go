// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// block is a piece of shell on a page. The words after "sh" say where it runs, and how:
//
//	server node-1       on these machines, one after the other
//	may-exit=1          where this exit code is fine, too
//	print-for=a,b       what it prints is then run on these machines
//	older               with the package that is older than the one installed
type block struct {
	page     string
	line     int
	text     string
	machines []string
	mayExit  int
	printFor []string
	older    bool
}

// machineNames are all that a page can name.
var machineNames = []string{"server", "node-1", "node-2"}

// blocks reads a page. Shell that names no machine is a mistake: nobody would know whether it works.
func blocks(t *testing.T, page string) []block {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/operate", page))
	if err != nil {
		t.Fatal(err)
	}
	var found []block
	var open *block
	fence := false
	for i, line := range strings.Split(string(text), "\n") {
		info, mark := strings.CutPrefix(line, "```")
		switch {
		case mark && fence:
			if open != nil {
				found = append(found, *open)
			}
			fence, open = false, nil
		case mark:
			fence = true
			if words := strings.Fields(info); len(words) > 0 && words[0] == "sh" {
				open = &block{page: page, line: i + 1}
				open.read(t, words[1:])
			}
		case open != nil:
			open.text += line + "\n"
		}
	}
	return found
}

func (b *block) read(t *testing.T, words []string) {
	t.Helper()
	for _, w := range words {
		key, value, _ := strings.Cut(w, "=")
		switch {
		case slices.Contains(machineNames, w):
			b.machines = append(b.machines, w)
		case key == "may-exit":
			b.mayExit, _ = strconv.Atoi(value)
		case key == "print-for":
			b.printFor = strings.Split(value, ",")
		case w == "older":
			b.older = true
		default:
			t.Fatalf("%s:%d: %q is no machine, and no word for how to run it", b.page, b.line, w)
		}
	}
	if len(b.machines) == 0 {
		t.Fatalf("%s:%d: shell that names no machine; write it indented if it is not to be run", b.page, b.line)
	}
}

// TestEveryShellBlockIsRun: pages that have blocks for machines are in the test's list.
func TestEveryShellBlockIsRun(t *testing.T) {
	files, err := filepath.Glob("../../docs/operate/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("no pages", err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		page := filepath.Base(f)
		runs := slices.Contains(pages, page)
		if has := strings.Contains(string(text), "\n```sh "); has != runs {
			t.Errorf("%s: has blocks to run: %v, is run: %v", page, has, runs)
		}
	}
}
