// SPDX-License-Identifier: Apache-2.0

package thirdparty

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestListingIsFreshAndAllOfItIsAllowed(t *testing.T) {
	parts, err := Linked(root)
	if err != nil {
		t.Fatal(err)
	}
	want := Listing(parts)
	have, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Errorf("%s is not what is linked now: make generate", File)
	}
	parsed := Parse(want)
	if len(parsed) != len(parts) {
		t.Errorf("%d parts were written and %d are read", len(parts), len(parsed))
	}
	for _, p := range parts {
		if got := parsed[p.Name]; got.Version != p.Version || got.Licence != p.Licence {
			t.Errorf("%s %s, %s is read as %+v", p.Name, p.Version, p.Licence, got)
		}
		for _, text := range p.Texts {
			if !strings.Contains(want, text.Text) {
				t.Errorf("%s of %s is missing", text.Name, p.Name)
			}
		}
	}
}

const mit = `Copyright (c) 2020 Ann Author

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

func TestOnlyWhatIsAllowedAndUnderstoodPasses(t *testing.T) {
	c, err := newClassifier()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	gpl, apache := read("LICENSES/GPL-2.0-only.txt"), read("LICENSE")
	for _, test := range []struct {
		name  string
		texts []Text
		want  string
		wrong string
	}{
		{"one", []Text{{"LICENSE", mit}}, "MIT", ""},
		{"two", []Text{{"LICENSE", mit}, {"third/COPYING", apache}}, "Apache-2.0 AND MIT", ""},
		{"with_a_notice", []Text{{"LICENSE", mit}, {"NOTICE", "made by Ann"}}, "MIT", ""},
		{"gpl", []Text{{"LICENSE", gpl}}, "", "is not allowed"},
		{"gpl_below", []Text{{"LICENSE", mit}, {"parts/LICENSE", gpl}}, "", "parts/LICENSE"},
		{"gpl_after_mit", []Text{{"LICENSE", mit + "\n" + gpl}}, "", "is not allowed"},
		{"own_words", []Text{{"LICENSE", "Do what you like, but not on Sundays.\n"}}, "", "no licence that is known"},
		{"more_words", []Text{{"LICENSE", mit + strings.Repeat("\nBut not for profit.\n", unexplainedMost+1)}}, "", "read them"},
		{"none", nil, "", "there is no licence"},
		{"only_a_notice", []Text{{"NOTICE", "made by Ann"}}, "", "there is no licence"},
		{"only_below", []Text{{"parts/LICENSE", mit}}, "", "there is no licence"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := c.licence(test.texts)
			if got != test.want || (err != nil) != (test.wrong != "") || (err != nil && !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("%q, %v; want %q, %q", got, err, test.want, test.wrong)
			}
		})
	}
}

func TestHeadersOfAnotherLicenceAreRefused(t *testing.T) {
	const origin = "Copied.\nlibbpf-dev 1:1.1.2-0+deb12u1\nlinux-libc-dev 6.1.1\n"
	uapi, libbpf := "/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */\n", "/* SPDX-License-Identifier: (LGPL-2.1 OR BSD-2-Clause) */\n"
	for _, test := range []struct{ name, file, text, origin, wrong string }{
		{"kernel", "linux/a.h", uapi, origin, ""},
		{"libbpf", "bpf/a.h", libbpf, origin, ""},
		{"gpl", "linux/a.h", "/* SPDX-License-Identifier: GPL-2.0 */\n", origin, `its licence, "GPL-2.0"`},
		{"none", "linux/a.h", "#pragma once\n", origin, `its licence, ""`},
		{"from_nowhere", "linux/a.h", uapi, "libbpf-dev 1\n", "ORIGIN does not say which linux-libc-dev"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"ORIGIN": test.origin, "COPYRIGHT": "Ann\n", test.file: test.text} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := Headers(dir); (err != nil) != (test.wrong != "") || (err != nil && !strings.Contains(err.Error(), test.wrong)) {
				t.Errorf("%v, want %q", err, test.wrong)
			}
		})
	}
}
