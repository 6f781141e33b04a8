// SPDX-License-Identifier: Apache-2.0

// Package names completes words of the command line, also with the names that the server has.
package names

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/ref"
	"weft/internal/cli/term"
)

// Register gives the flags of every command the values that they can have.
func Register(env *term.Env, root *cobra.Command) {
	values := map[string]cobra.CompletionFunc{
		"context": Contexts, "tenant": OfKind(env, v1.KindTenant), "node": OfKind(env, v1.KindNode),
		"color": cobra.FixedCompletions([]string{"auto", "always", "never"}, cobra.ShellCompDirectiveNoFileComp),
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for flag, values := range values {
			if cmd.LocalFlags().Lookup(flag) != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, values) // fails where the command has brought its own
			}
		}
		if f := cmd.LocalFlags().Lookup("output"); f != nil && f.Shorthand == "o" {
			_ = cmd.RegisterFlagCompletionFunc("output", formats(f.Usage)) // the same
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(root)
}

// OfKind completes any word with the names of a kind.
func OfKind(env *term.Env, kind v1.Kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		return list(cmd.Context(), env, string(kind), begun), cobra.ShellCompDirectiveNoFileComp
	}
}

// formats completes those values of -o that its usage names.
func formats(usage string) cobra.CompletionFunc {
	words := strings.FieldsFunc(usage, func(r rune) bool { return r != '=' && (r < 'a' || r > 'z') })
	return func(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
		var out []string
		for _, known := range []string{"table", "text", "wide", "name", "json", "yaml", "csv", "jsonpath=", "minimal", "dot", "mermaid", "html"} {
			if strings.HasPrefix(known, begun) && slices.Contains(words, known) {
				out = append(out, known)
			}
		}
		if len(out) == 1 && strings.HasSuffix(out[0], "=") {
			return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// Ports completes the first arguments, each a TENANT/PORT.
func Ports(env *term.Env, arguments int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= arguments {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(cmd.Context(), env, string(v1.KindPort), begun), cobra.ShellCompDirectiveNoFileComp
	}
}

// Nodes completes one name of a node.
func Nodes(env *term.Env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(cmd.Context(), env, string(v1.KindNode), begun), cobra.ShellCompDirectiveNoFileComp
	}
}

// Contexts completes one name of a context.
func Contexts(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := client.LoadContexts()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, c := range all.Contexts {
		out = append(out, c.Name)
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeWithin bounds what completion asks the server: with the start of the program, a key is answered within 300 ms.
const completeWithin = 200 * time.Millisecond

// Refs completes kinds, and then names of that kind as the server has them.
func Refs(env *term.Env) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 0 {
			words := []string{"drops"}
			if cmd.Name() != "get" {
				words = nil
			}
			for _, k := range v1.Kinds() {
				words = append(words, k.Singular)
			}
			if kind, rest, ok := strings.Cut(begun, "/"); ok {
				return prefixed(kind+"/", list(cmd.Context(), env, kind, rest)), cobra.ShellCompDirectiveNoFileComp
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		}
		if kind, rest, ok := strings.Cut(begun, "/"); ok && strings.Contains(args[0], "/") {
			return prefixed(kind+"/", list(cmd.Context(), env, kind, rest)), cobra.ShellCompDirectiveNoFileComp
		}
		return list(cmd.Context(), env, args[0], begun), cobra.ShellCompDirectiveNoFileComp
	}
}

func prefixed(with string, names []string) []string {
	for i := range names {
		names[i] = with + names[i]
	}
	return names
}

// list lists the names of a kind that begin with begun; where no tenant is known, as TENANT/NAME. They are as old as cacheFor at most.
func list(ctx context.Context, env *term.Env, word, begun string) []string {
	kind, err := ref.Kind(word)
	if err != nil {
		return nil
	}
	c, target, err := env.Client()
	if err != nil {
		return nil
	}
	tenant, before := "", ""
	if kind.Tenanted {
		tenant = target.Tenant
	}
	if t, rest, ok := strings.Cut(begun, "/"); ok && tenant != "" { // another one than the context's
		tenant, before, begun = t, t+"/", rest
	}
	path := cacheFile(target.Server, target.Name, kind.Plural, tenant)
	all, known := load(path)
	if !known {
		all = ask(ctx, c, kind, tenant)
		keep(path, all) // also none: a server that does not answer is not asked again at the next key
	}
	var out []string
	for _, name := range all {
		if strings.HasPrefix(name, begun) {
			out = append(out, before+name)
		}
	}
	return out
}

// ask asks the server for names, as far as it answers in time.
func ask(ctx context.Context, c *client.Client, kind v1.KindInfo, tenant string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	objects, _, err := c.List(ctx, kind.Kind, tenant)
	if err != nil {
		return nil
	}
	var out []string
	for _, o := range objects {
		name := o.Meta().Name
		if kind.Tenanted && tenant == "" {
			name = o.Meta().Tenant + "/" + name
		}
		out = append(out, name)
	}
	return out
}
