// SPDX-License-Identifier: Apache-2.0

package thirdparty

import (
	"fmt"
	"strings"
)

// File is where the listing is, below the folder of the repository.
const File = "LICENSES/THIRD-PARTY.txt"

const (
	beginning = `What weft is made of that others wrote: the modules that are linked into the program, the standard library of Go, and the
headers that the packet path is compiled with. First a line for each with its licence, then the texts, once each.
Written by "make generate", which refuses what is not allowed; not edited by hand.
`
	rule = "--------------------------------------------------------------------------------"
)

// Listing writes what a binary has to bring along: a line for each part, then all texts. Equal texts stand there once.
func Listing(parts []Part) string {
	var b strings.Builder
	b.WriteString(beginning + "\n")
	for _, p := range parts {
		fmt.Fprintf(&b, "%s\n", strings.Join(strings.Fields(p.Name+" "+p.Version), " ")+": "+p.Licence)
	}
	var order []string
	of := map[string][]string{}
	for _, p := range parts {
		for _, t := range p.Texts {
			if of[t.Text] == nil {
				order = append(order, t.Text)
			}
			of[t.Text] = append(of[t.Text], p.Name+", "+t.Name)
		}
	}
	for _, text := range order {
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s", rule, strings.Join(of[text], "\n"), rule, text)
	}
	return b.String()
}

// Parse returns the parts that a listing begins with, without their texts, by name.
func Parse(listing string) map[string]Part {
	parts := map[string]Part{}
	head, _, _ := strings.Cut(listing, rule)
	_, head, _ = strings.Cut(head, "\n\n")
	for line := range strings.Lines(head) {
		what, licence, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if f := strings.Fields(what); ok && len(f) > 0 {
			p := Part{Name: f[0], Licence: licence}
			if len(f) > 1 {
				p.Version = f[1]
			}
			parts[p.Name] = p
		}
	}
	return parts
}
