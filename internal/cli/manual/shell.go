// SPDX-License-Identifier: Apache-2.0

package manual

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

var assignment = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// Check reads a line of an example as a shell would, and reports what weft would refuse of it without running it: a command or a
// flag that does not exist, a wrong value, a wrong number of arguments. fresh makes the tree of commands anew.
func Check(line string, fresh func() *cobra.Command) error {
	calls, err := split(line)
	if err != nil {
		return err
	}
	for _, words := range calls {
		for len(words) > 0 && (assignment.MatchString(words[0]) || words[0] == "sudo" || words[0] == "!") {
			words = words[1:]
		}
		if len(words) == 0 || words[0] != "weft" {
			continue
		}
		if err := check(fresh(), words[1:]); err != nil {
			return fmt.Errorf("weft %s: %w", strings.Join(words[1:], " "), err)
		}
	}
	return nil
}

func check(root *cobra.Command, args []string) error {
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	root.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if help, err := cmd.Flags().GetBool("help"); err == nil && help {
		return nil
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags()
}

// split parts a line at |, &&, || and ; into calls of words. Quotes are taken off; what follows # is left out; where output goes is, too.
func split(line string) (calls [][]string, err error) {
	var words []string
	var word strings.Builder
	quote, inWord, skip := rune(0), false, false
	end := func() {
		if inWord && !skip {
			words = append(words, word.String())
		}
		if inWord {
			skip = false
		}
		word.Reset()
		inWord = false
	}
	for i, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == '#' && !inWord && (i == 0 || line[i-1] == ' '):
			end()
			return append(calls, words), nil
		case r == ' ' || r == '\t':
			end()
		case r == '|' || r == ';' || r == '&':
			end()
			calls, words = append(calls, words), nil
		case r == '>' || r == '<':
			if text := word.String(); text == "2" || text == "1" || text == "" {
				word.Reset()
				inWord = false
			}
			end()
			skip = true
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%s: a quote is not closed", line)
	}
	end()
	return append(calls, words), nil
}
