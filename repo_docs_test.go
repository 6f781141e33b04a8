// SPDX-License-Identifier: Apache-2.0

package repo_test

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

var (
	appliesTo  = regexp.MustCompile(`(?m)^\*?Applies to:?\*?:?((?:.+\n?)+)`)
	quoted     = regexp.MustCompile("`([^`]+)`")
	adrName    = regexp.MustCompile(`^docs/adr/(\d{4})-[a-z0-9-]+\.md$`)
	adrStatus  = regexp.MustCompile(`(?m)^Status: (proposed|accepted|declined|superseded by \d+)\b`)
	inlineLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeFence  = regexp.MustCompile("(?ms)^\\s*```.*?^\\s*```")
	inlineCode = regexp.MustCompile("`[^`\n]*`")
)

// checkDesignNote: a note that does not say what it is about, or names what is gone, is not updated with the code.
func checkDesignNote(t *tree) []violation {
	var found []violation
	for _, file := range t.files {
		if path.Dir(file) != "docs/design" || path.Ext(file) != ".md" || path.Base(file) == "README.md" {
			continue
		}
		m := appliesTo.FindStringSubmatch(t.read(file))
		if m == nil {
			found = append(found, violation{file, "no line 'Applies to: `path`, ...'"})
			continue
		}
		paths := quoted.FindAllStringSubmatch(m[1], -1)
		if len(paths) == 0 {
			found = append(found, violation{file, "'Applies to' names no `path`"})
		}
		for _, p := range paths {
			if !t.exists(p[1]) {
				found = append(found, violation{file, "applies to " + p[1] + ", which does not exist"})
			}
		}
	}
	return found
}

// checkADR: numbers without gaps, each with its number as title and a known status, all of them in the list.
func checkADR(t *tree) []violation {
	var found []violation
	next := 1
	list := t.read("docs/adr/README.md")
	for _, file := range t.files {
		if path.Dir(file) != "docs/adr" || path.Base(file) == "README.md" {
			continue
		}
		m := adrName.FindStringSubmatch(file)
		if m == nil {
			found = append(found, violation{file, "not named NNNN-words.md"})
			continue
		}
		if want := fmt.Sprintf("%04d", next); m[1] != want {
			found = append(found, violation{file, "decision " + want + " is missing before it, or has a twin"})
		}
		fmt.Sscanf(m[1], "%d", &next)
		text := t.read(file)
		if !strings.HasPrefix(text, fmt.Sprintf("# %d. ", next)) {
			found = append(found, violation{file, fmt.Sprintf("its title must begin with '# %d. '", next)})
		}
		if !adrStatus.MatchString(text) {
			found = append(found, violation{file, "no line 'Status: proposed|accepted|declined|superseded by N'"})
		}
		if !strings.Contains(list, "("+path.Base(file)+")") {
			found = append(found, violation{file, "docs/adr/README.md does not list it"})
		}
		next++
	}
	return found
}

// checkLink: links between files of the repository lead somewhere. What is inside code is no link.
func checkLink(t *tree) []violation {
	var found []violation
	for _, file := range t.files {
		if path.Ext(file) != ".md" {
			continue
		}
		text := inlineCode.ReplaceAllString(codeFence.ReplaceAllString(t.read(file), ""), "")
		for _, m := range inlineLink.FindAllStringSubmatch(text, -1) {
			to, _, _ := strings.Cut(m[1], "#")
			if to == "" || strings.Contains(to, "://") || strings.HasPrefix(to, "mailto:") {
				continue
			}
			if !t.exists(path.Join(path.Dir(file), to)) {
				found = append(found, violation{file, "links to " + to + ", which does not exist"})
			}
		}
	}
	return found
}
