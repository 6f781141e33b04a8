// SPDX-License-Identifier: Apache-2.0

package explaincmd

import (
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/internal/base/dropreason"
	"weft/internal/base/nearest"
	"weft/internal/cli/term"
)

func newErrorCommand(env *term.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "error [CODE]",
		Short: "Tell what an error code means, and how to mend it",
		Long: `Tell what the code of an error means, when it comes, how to mend it, and with which exit code a command ends that meets it. Without a
code, list all.`,
		Example: `  weft explain error
  weft explain error IN_USE
  weft explain error no_reference`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeWords(codes()),
		RunE: func(_ *cobra.Command, args []string) error {
			t := env.NewTable()
			if len(args) == 0 {
				t.Add("CODE", "EXIT", "MEANING")
				for _, e := range v1.ErrorCodes() {
					t.Add(e.Code, fmt.Sprint(e.Exit), e.What)
				}
				return t.Flush()
			}
			e, ok := v1.ErrorByCode(strings.ReplaceAll(strings.ToUpper(args[0]), "-", "_"))
			if !ok {
				return unknown("error code", args[0], "weft explain error", codes())
			}
			t.Add("Code:", e.Code)
			t.Add("Meaning:", e.What)
			t.Add("Why:", e.Why)
			t.Add("Mend:", e.Mend)
			t.Add("Exit code:", fmt.Sprint(e.Exit))
			return t.Flush()
		},
	}
}

func newDropCommand(env *term.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "drop [REASON]",
		Short: "Tell what a drop reason means, and what to do",
		Long:  "Tell what a reason of 'weft get drops' and 'weft trace' means, what is usually behind it, and what to do. Without a reason, list all.",
		Example: `  weft explain drop
  weft explain drop src-ip-spoof
  weft explain drop 6`,
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completeWords(reasons()),
		RunE: func(_ *cobra.Command, args []string) error {
			t := env.NewTable()
			if len(args) == 0 {
				t.Add("NUMBER", "REASON", "MEANING")
				for word := range reasons() {
					n, r, _ := dropreason.ByWord(word)
					t.Add(fmt.Sprint(n), word, r.Meaning)
				}
				return t.Flush()
			}
			n, r, ok := findReason(args[0])
			if !ok {
				return unknown("drop reason", args[0], "weft explain drop", reasons())
			}
			t.Add("Reason:", fmt.Sprintf("%s (%d)", r.Word, n))
			t.Add("Meaning:", r.Meaning)
			t.Add("Why:", r.Why)
			t.Add("Mend:", r.Mend)
			return t.Flush()
		},
	}
}

// findReason finds a reason by word, by its name in C, or by number.
func findReason(text string) (int, dropreason.Reason, bool) {
	word := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(text), "drop_"), "_", "-")
	for known := range reasons() {
		n, r, _ := dropreason.ByWord(known)
		if known == word || fmt.Sprint(n) == text {
			return n, r, true
		}
	}
	return 0, dropreason.Reason{}, false
}

func codes() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, e := range v1.ErrorCodes() {
			if !yield(e.Code) {
				return
			}
		}
	}
}

// reasons lists the words of drop reasons in the order of their numbers.
func reasons() iter.Seq[string] {
	return func(yield func(string) bool) {
		for n := 1; n < dropreason.Count(); n++ {
			if r, _ := dropreason.ByNumber(n); !yield(r.Word) {
				return
			}
		}
	}
}

func unknown(what, word, list string, known iter.Seq[string]) error {
	hint := ""
	if like := nearest.Of(word, known); like != "" {
		hint = "; did you mean " + like + "?"
	}
	return term.Usagef("there is no %s %q%s ('%s' lists them)", what, word, hint, list)
}

func completeWords(words iter.Seq[string]) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for w := range words {
			if len(args) == 0 && strings.HasPrefix(strings.ToLower(w), strings.ToLower(begun)) {
				out = append(out, w)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}
