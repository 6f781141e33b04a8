// SPDX-License-Identifier: Apache-2.0

package thirdparty

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// headerLicences are the licences that a header may name, each with the one it is taken under and the Debian package it is
// from. The kernel's interfaces are for programs under any licence: that is what its note says.
var headerLicences = map[string]struct{ taken, from string }{
	"GPL-2.0 WITH Linux-syscall-note": {"GPL-2.0-only WITH Linux-syscall-note", "linux-libc-dev"},
	"(LGPL-2.1 OR BSD-2-Clause)":      {"BSD-2-Clause", "libbpf-dev"},
}

// unmarked are headers that a program writes and that name no licence: they are under that of the others of their package.
var unmarked = map[string]string{"bpf/bpf_helper_defs.h": "(LGPL-2.1 OR BSD-2-Clause)"}

// Headers returns the packages whose headers are in dir, as its file ORIGIN lists them, with what they say of themselves. A
// header under another licence, or under none, is an error.
func Headers(dir string) ([]Part, error) {
	origin, err := os.ReadFile(filepath.Join(dir, "ORIGIN"))
	if err != nil {
		return nil, err
	}
	parts := map[string]Part{}
	for line := range strings.Lines(string(origin)) {
		if f := strings.Fields(line); len(f) == 2 {
			parts[f[0]] = Part{Name: f[0], Version: f[1]}
		}
	}
	err = fs.WalkDir(os.DirFS(dir), ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(file) != ".h" {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return err
		}
		named := spdx(string(text))
		if named == "" {
			named = unmarked[file]
		}
		l, ok := headerLicences[named]
		if !ok {
			return fmt.Errorf("%s: its licence, %q, is not one that is allowed", file, named)
		}
		p, ok := parts[l.from]
		if !ok {
			return fmt.Errorf("%s: ORIGIN does not say which %s it is from", file, l.from)
		}
		p.Licence = l.taken
		parts[l.from] = p
		return nil
	})
	if err != nil {
		return nil, err
	}
	copyright, err := os.ReadFile(filepath.Join(dir, "COPYRIGHT"))
	if err != nil {
		return nil, err
	}
	var sorted []Part
	for _, name := range sortedKeys(parts) {
		p := parts[name]
		p.Texts = []Text{{"COPYRIGHT", plain(string(copyright))}}
		sorted = append(sorted, p)
	}
	return sorted, nil
}

// headerPackages names the packages that headers are from.
func headerPackages() []string {
	var names []string
	for _, l := range headerLicences {
		names = append(names, l.from)
	}
	slices.Sort(names)
	return names
}

// spdx is the licence that the first line of a file names.
func spdx(text string) string {
	first, _, _ := strings.Cut(text, "\n")
	_, name, _ := strings.Cut(first, "SPDX-License-Identifier:")
	return strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(name), "*/"))
}
