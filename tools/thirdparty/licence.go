// SPDX-License-Identifier: Apache-2.0

package thirdparty

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	licenses "github.com/google/licenseclassifier/v2"
	"github.com/google/licenseclassifier/v2/assets"
)

// allowed are the licences of modules: they let anybody use, change and pass on a program that is linked with them, and ask
// no more than that their text goes along. One more is a decision.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}

// alongside are files that have to go along and grant nothing by themselves.
var alongside = regexp.MustCompile(`(?i)^(notice|patents|copyright)`)

// unexplainedMost is how many lines of a licence may be outside the text that was recognized: titles and who holds the rights.
const unexplainedMost = 20

// classifier recognizes licences by their text.
type classifier struct{ known *licenses.Classifier }

func newClassifier() (*classifier, error) {
	known, err := assets.DefaultClassifier()
	if err != nil {
		return nil, fmt.Errorf("read the known licences: %w", err)
	}
	return &classifier{known}, nil
}

// licence returns what texts grant, as an SPDX expression; all of it has to be allowed.
func (c *classifier) licence(texts []Text) (string, error) {
	var names []string
	own := false
	for _, t := range texts {
		if alongside.MatchString(filepath.Base(t.Name)) {
			continue
		}
		found, err := c.recognize(t.Text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", t.Name, err)
		}
		own = own || !strings.Contains(t.Name, "/")
		names = append(names, found...)
	}
	if !own {
		return "", errors.New("there is no licence")
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " AND "), nil
}

// recognize names the licences in a text. A text that is more than them is refused: somebody has to read it.
func (c *classifier) recognize(text string) ([]string, error) {
	lines := strings.Split(text, "\n")
	var names []string
	for _, m := range c.known.Match([]byte(text)).Matches {
		if m.MatchType != "License" && m.MatchType != "Header" {
			continue
		}
		if !slices.Contains(allowed, m.Name) {
			return nil, fmt.Errorf("%s is not allowed (%s are)", m.Name, strings.Join(allowed, ", "))
		}
		names = append(names, m.Name)
		for i := m.StartLine; i <= m.EndLine && i <= len(lines); i++ {
			lines[i-1] = ""
		}
	}
	if len(names) == 0 {
		return nil, errors.New("its text is no licence that is known")
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.TrimSpace(l) == "" })
	if len(lines) > unexplainedMost {
		return nil, fmt.Errorf("%s, and %d lines that are not: read them\n%s", strings.Join(names, " and "), len(lines), strings.Join(lines, "\n"))
	}
	return names, nil
}

// standardLibrary is what the compiler brings: its licence is in its folder.
func (c *classifier) standardLibrary() (Part, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return Part{}, fmt.Errorf("go env GOROOT: %w", err)
	}
	p := Part{Name: "std"}
	root := strings.TrimSpace(string(out))
	for _, name := range []string{"LICENSE", "PATENTS"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return Part{}, err
		}
		p.Texts = append(p.Texts, Text{name, plain(string(data))})
	}
	if p.Licence, err = c.licence(p.Texts); err != nil {
		return Part{}, fmt.Errorf("the standard library: %w", err)
	}
	return p, nil
}
