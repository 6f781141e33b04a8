// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestVersionsAreOrderedAsCommitsCome(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 5, 0, 0, time.UTC)
	for git, want := range map[string]string{
		"v1.2.3": "1.2.3", "v1.2.3-4-gabc1234": "1.2.3+4.gabc1234", "v1.2.3-dirty": "1.2.3+dirty",
		"abc1234": "0.0~git20261123090500.abc1234", "abc1234-dirty": "0.0~git20261123090500.abc1234+dirty",
	} {
		if got := debianVersion(git, at); got != want {
			t.Errorf("%s: %s, want %s", git, got, want)
		}
	}
}

// noBill stands for what a program is made of: the program of these tests is a script.
func noBill(string, string, string, time.Time) ([]byte, error) { return []byte("{}"), nil }

func TestPackageIsTheSameEachTime(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "weft")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n[ \"$1\" = man ] && echo .TH WEFT >\"$3\"/weft.1\necho completion\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	var first []byte
	for range 2 {
		p := &pack{root: "../..", version: "1.0", arch: "amd64", time: time.Unix(1e9, 0).UTC(), bill: noBill}
		name := filepath.Join(dir, "weft.deb")
		if err := p.build(program, name); err != nil {
			t.Fatal(err)
		}
		deb, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, deb) {
			t.Error("another package from the same files")
		}
		first = deb
	}
	if !bytes.HasPrefix(first, []byte("!<arch>\ndebian-binary   1000000000  0     0     100644  4         `\n2.0\n")) {
		t.Errorf("it begins with %q", first[:80])
	}
}
