// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line: every command is a client of the API, of an agent's local socket, or of the lab.
package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"

	"weft/internal/cli/labcmd"
	"weft/internal/cli/nodecmd"
	"weft/internal/cli/term"
	"weft/internal/cli/tracecmd"
)

// New returns the command weft with all its subcommands; extra are those that run processes.
func New(env *term.Env, extra ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:   "weft",
		Short: "The network of a cloud, on plain Linux machines",
		Long: `weft turns Linux machines into the network of a cloud: tenants get virtual private clouds, operators get one program,
one API and one picture. 'weft lab up' shows all of it on one machine.`,
		Example: `  weft lab up
  weft get vpc,subnet,port -o wide
  weft apply -f examples/two-tenants.yaml --wait
  weft check`,
		Version:       env.Version,
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,

		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return env.CheckColor()
		},
	}
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	root.SetIn(env.In)
	f := root.PersistentFlags()
	f.StringVar(&env.Context, "context", "", "context to use (weft context list); default: the current one")
	f.StringVarP(&env.Tenant, "tenant", "t", "", "tenant to look at; default: the context's")
	f.StringVar(&env.Color, "color", "auto", "colours: auto, always, never")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return term.Usage(err) })
	root.AddGroup(&cobra.Group{ID: "resources", Title: "Resources:"}, &cobra.Group{ID: "operate", Title: "Operate:"}, &cobra.Group{ID: "run", Title: "Run:"})
	group(root, "resources", newGetCommand(env), newDescribeCommand(env), newApplyCommand(env), newCreateCommand(env), newDiffCommand(env), newDeleteCommand(env), newExplainCommand(env))
	group(root, "operate", newStatusCommand(env), newCheckCommand(env), tracecmd.New(env, completePorts(env, 2)), newDumpCommand(env), newAttachCommand(env), newDetachCommand(env), nodecmd.New(env, completeNodes(env)), newContextCommand(env))
	group(root, "run", append(extra, labcmd.New(env))...)
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs, Example: "  weft version\n  weft --version",
		RunE: func(*cobra.Command, []string) error { _, err := fmt.Fprintln(env.Out, env.Version); return err },
	})
	wrapArgs(root)
	complete(env, root)
	return root
}

// knownCommand refuses a first word that is no command, and tells what it may have meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		hint = "; did you mean " + strings.Join(like, " or ") + "?"
	}
	return fmt.Errorf("there is no command %q%s", args[0], hint)
}

func group(root *cobra.Command, id string, cmds ...*cobra.Command) {
	for _, c := range cmds {
		c.GroupID = id
		root.AddCommand(c)
	}
}

// wrapArgs makes wrong arguments of any command a usage error.
func wrapArgs(cmd *cobra.Command) {
	if cmd.HasSubCommands() && !cmd.Runnable() {
		cmd.Args = knownCommand
		cmd.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return term.Usagef("%w (see '%s --help')", err, c.CommandPath())
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		wrapArgs(c)
	}
}

// ref names resources on the command line.
type ref struct {
	kind   v1.KindInfo
	tenant string // "": the default
	name   string // "": all
}

// parseRefs reads what follows a verb: "port", "vpc,port", "port web-1 web-2", "port red/web-1", "port/web-1".
func parseRefs(args []string) ([]ref, error) {
	if len(args) == 0 {
		return nil, term.Usagef("no kind is named; the kinds are %s", kindWords())
	}
	if strings.Contains(args[0], "/") {
		var refs []ref
		for _, a := range args {
			word, name, ok := strings.Cut(a, "/")
			if !ok {
				return nil, term.Usagef("%q is not KIND/NAME", a)
			}
			kind, err := parseKind(word)
			if err != nil {
				return nil, err
			}
			r, err := named(kind, name)
			if err != nil {
				return nil, err
			}
			refs = append(refs, r)
		}
		return refs, nil
	}
	var kinds []v1.KindInfo
	for _, w := range strings.Split(args[0], ",") {
		kind, err := parseKind(w)
		if err != nil {
			return nil, err
		}
		kinds = append(kinds, kind)
	}
	if len(args) > 1 && len(kinds) > 1 {
		return nil, term.Usagef("names can follow one kind only")
	}
	var refs []ref
	for _, k := range kinds {
		if len(args) == 1 {
			refs = append(refs, ref{kind: k})
		}
		for _, name := range args[1:] {
			r, err := named(k, name)
			if err != nil {
				return nil, err
			}
			refs = append(refs, r)
		}
	}
	return refs, nil
}

// named reads NAME or TENANT/NAME. Without a name it would mean all.
func named(kind v1.KindInfo, text string) (ref, error) {
	r := ref{kind: kind, name: text}
	tenant, name, ok := strings.Cut(text, "/")
	if ok {
		r.tenant, r.name = tenant, name
	}
	if r.name == "" || ok && r.tenant == "" {
		return ref{}, term.Usagef("%q names no %s: write NAME or TENANT/NAME", text, kind.Singular)
	}
	return r, nil
}

func parseKind(word string) (v1.KindInfo, error) {
	if k, ok := v1.KindByWord(strings.ToLower(word)); ok {
		return k, nil
	}
	return v1.KindInfo{}, term.Usagef("there is no kind %q; the kinds are %s", word, kindWords())
}

func kindWords() string {
	var words []string
	for _, k := range v1.Kinds() {
		words = append(words, k.Singular)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// tenantOf returns the tenant that a reference is in.
func tenantOf(r ref, def string) (string, error) {
	if !r.kind.Tenanted {
		return "", nil
	}
	if r.tenant != "" {
		return r.tenant, nil
	}
	if def == "" {
		return "", term.Usagef("no tenant is named: add -t TENANT, or write TENANT/%s", strings.ToUpper(r.kind.Singular))
	}
	return def, nil
}
