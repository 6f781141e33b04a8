// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Man returns the pages for man(1) by file name: weft.1, weft-get.1, weft-node-join.1.
func Man(root *cobra.Command, version string) map[string][]byte {
	pages := make(map[string][]byte)
	walk(root, func(cmd *cobra.Command) {
		var b bytes.Buffer
		man(&b, cmd, version)
		pages[manName(cmd)+".1"] = b.Bytes()
	})
	return pages
}

func manName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// man writes one page. It has no date: the same program writes the same page.
func man(b *bytes.Buffer, cmd *cobra.Command, version string) {
	fmt.Fprintf(b, ".TH %q 1 \"\" %q \"weft manual\"\n", strings.ToUpper(manName(cmd)), "weft "+version)
	fmt.Fprintf(b, ".nh\n.ad l\n.SH NAME\n%s \\- %s\n", roff(manName(cmd)), roff(lower(cmd.Short)))
	fmt.Fprintf(b, ".SH SYNOPSIS\n\\fB%s\\fR\n", roff(strings.TrimSuffix(cmd.UseLine(), " [flags]")))
	b.WriteString(".SH DESCRIPTION\n")
	for i, p := range paragraphs(about(cmd)) {
		switch {
		case p.laidOut:
			fmt.Fprintf(b, ".PP\n.nf\n%s\n.fi\n", roff(p.text))
		case i == 0:
			fmt.Fprintf(b, "%s\n", roff(p.text))
		default:
			fmt.Fprintf(b, ".PP\n%s\n", roff(p.text))
		}
	}
	if cmd.HasAvailableSubCommands() {
		b.WriteString(".SH COMMANDS\n")
		for _, c := range cmd.Commands() {
			if listed(c) {
				fmt.Fprintf(b, ".TP\n\\fB%s\\fR(1)\n%s.\n", roff(manName(c)), roff(c.Short))
			}
		}
	}
	manOptions(b, "OPTIONS", options(own(cmd)))
	if cmd.HasParent() {
		manOptions(b, "OPTIONS OF EVERY COMMAND", options(cmd.InheritedFlags()))
	}
	if lines := examples(cmd); len(lines) > 0 {
		fmt.Fprintf(b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(strings.Join(lines, "\n")))
	}
	b.WriteString(".SH EXIT STATUS\n0 done, 1 failed, 2 called in a wrong way, 3 there is no such thing, 4 in conflict with what there is,\n5 not allowed, 6 no answer, or not in time.\n")
	if cmd.HasParent() {
		fmt.Fprintf(b, ".SH SEE ALSO\n\\fB%s\\fR(1)\n", roff(manName(cmd.Parent())))
	}
}

func manOptions(b *bytes.Buffer, title string, flags []option) {
	if len(flags) == 0 {
		return
	}
	fmt.Fprintf(b, ".SH %q\n", title)
	for _, o := range flags {
		text := upper(o.usage) + "."
		if o.fallback != "" {
			text += " Default: " + o.fallback + "."
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(o.name), roff(text))
	}
}

// roff keeps what man(7) would take for its own.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	var plain strings.Builder
	for _, r := range text {
		if r < 128 {
			plain.WriteRune(r)
		} else {
			fmt.Fprintf(&plain, `\[u%04X]`, r)
		}
	}
	text = plain.String()
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

func lower(s string) string {
	if len(s) < 2 || strings.ToUpper(s[:2]) == s[:2] { // an abbreviation
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
