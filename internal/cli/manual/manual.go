// SPDX-License-Identifier: Apache-2.0

// Package manual writes the manual from the tree of commands: what --help says, as pages of Markdown and for man(1).
package manual

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/internal/cli/term"
)

// New returns the command that writes man pages.
func New(env *term.Env) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "man [COMMAND...]",
		Short: "Write manual pages for man(1)",
		Long:  "Write the manual page of a command to standard output; or, with --dir, the pages of all commands into a folder. They say what --help says.",
		Example: `  weft man get | man -l -
  weft man node join | man -l -
  weft man --dir /usr/share/man/man1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return one(env, cmd.Root(), args)
			}
			if len(args) > 0 {
				return term.Usagef("--dir writes the pages of all commands: name none")
			}
			pages := Man(cmd.Root(), env.Version)
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			for _, name := range slices.Sorted(maps.Keys(pages)) {
				if err := os.WriteFile(filepath.Join(dir, name), pages[name], 0o644); err != nil {
					return fmt.Errorf("write manual pages: %w", err)
				}
			}
			fmt.Fprintf(env.Err, "%d pages written to %s\n", len(pages), dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder to write the pages of all commands to, such as weft-get.1")
	return cmd
}

// one writes the page of one command.
func one(env *term.Env, root *cobra.Command, args []string) error {
	cmd, rest, err := root.Find(args)
	if err == nil && len(rest) > 0 {
		err = errors.New("unknown command")
	}
	if err != nil {
		return term.Usagef("there is no command 'weft %s'", strings.Join(args, " "))
	}
	var page bytes.Buffer
	man(&page, cmd, env.Version)
	_, err = io.Copy(env.Out, &page)
	return err
}

// listed reports whether a command is in the manual.
func listed(cmd *cobra.Command) bool {
	return !cmd.Hidden && cmd.Name() != "help"
}

// walk visits a command and all below it that are in the manual.
func walk(cmd *cobra.Command, visit func(*cobra.Command)) {
	if !listed(cmd) {
		return
	}
	visit(cmd)
	for _, c := range cmd.Commands() {
		walk(c, visit)
	}
}

// option is a flag as the manual shows it.
type option struct{ name, fallback, usage string }

// options lists the flags that a command itself has.
func options(flags *pflag.FlagSet) []option {
	var out []option
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		o := option{name: "--" + f.Name}
		if f.Shorthand != "" {
			o.name = "-" + f.Shorthand + ", " + o.name
		}
		word, usage := pflag.UnquoteUsage(f)
		if word != "" {
			o.name += " " + word
		}
		o.usage = usage
		switch f.DefValue {
		case "", "false", "0", "0s", "[]":
		default:
			o.fallback = strings.Trim(f.DefValue, "[]")
		}
		out = append(out, o)
	})
	return out
}

// own are the flags of a command that its parents do not have.
func own(cmd *cobra.Command) *pflag.FlagSet {
	cmd.InitDefaultHelpFlag()
	return cmd.LocalFlags()
}

// paragraph is a part of a long text; one that is laid out keeps its lines.
type paragraph struct {
	text    string
	laidOut bool
}

func paragraphs(text string) []paragraph {
	var out []paragraph
	for _, p := range strings.Split(strings.TrimSpace(text), "\n\n") {
		laidOut := false
		for _, line := range strings.Split(p, "\n") {
			laidOut = laidOut || strings.HasPrefix(line, "  ")
		}
		if p = strings.Trim(p, "\n"); p != "" {
			out = append(out, paragraph{p, laidOut})
		}
	}
	return out
}

// about is what a command says of itself at length.
func about(cmd *cobra.Command) string {
	if cmd.Long != "" {
		return cmd.Long
	}
	return cmd.Short + "."
}

// examples are the lines of a command's examples, without what they are indented by.
func examples(cmd *cobra.Command) []string {
	var out []string
	for _, line := range strings.Split(cmd.Example, "\n") {
		if line = strings.TrimPrefix(line, "  "); strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return out
}
