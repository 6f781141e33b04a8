// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line: every command is a client of the API, of an agent's local socket, or of the lab.
package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"weft/internal/base/nearest"
	"weft/internal/cli/accesscmd"
	"weft/internal/cli/auditcmd"
	"weft/internal/cli/benchcmd"
	"weft/internal/cli/createcmd"
	"weft/internal/cli/editcmd"
	"weft/internal/cli/explaincmd"
	"weft/internal/cli/labcmd"
	"weft/internal/cli/manual"
	"weft/internal/cli/names"
	"weft/internal/cli/nodecmd"
	"weft/internal/cli/term"
	"weft/internal/cli/tracecmd"
	"weft/internal/cli/waitcmd"
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
	root.SetFlagErrorFunc(wrongFlag)
	root.AddGroup(&cobra.Group{ID: "resources", Title: "Resources:"}, &cobra.Group{ID: "operate", Title: "Operate:"}, &cobra.Group{ID: "run", Title: "Run:"})
	group(root, "resources", newGetCommand(env), newDescribeCommand(env), newApplyCommand(env), createcmd.New(env), newDiffCommand(env), newDeleteCommand(env), editcmd.New(env, names.Refs(env)), waitcmd.New(env, names.Refs(env)), explaincmd.New(env))
	group(root, "operate", newStatusCommand(env), newCheckCommand(env), tracecmd.New(env, names.Ports(env, 2)), newDumpCommand(env), newAttachCommand(env), newDetachCommand(env), nodecmd.New(env, names.Nodes(env)), newContextCommand(env))
	group(root, "operate", append(accesscmd.New(env), auditcmd.New(env))...)
	group(root, "run", append(extra, labcmd.New(env), benchcmd.New(env))...)
	root.AddCommand(&cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs, Example: "  weft version\n  weft --version",
		RunE: func(*cobra.Command, []string) error { _, err := fmt.Fprintln(env.Out, env.Version); return err },
	})
	root.AddCommand(manual.New(env), names.Completion(env))
	wrapArgs(root)
	names.Register(env, root)
	return root
}

// wrongFlag says of a flag that there is not which one it may have meant.
func wrongFlag(cmd *cobra.Command, err error) error {
	if words := cmd.Flags().Args(); cmd.HasSubCommands() && len(words) > 0 {
		return term.Usagef("%w (see '%s --help')", knownCommand(cmd, words), cmd.CommandPath()) // the flag is that command's
	}
	if bad := (*pflag.InvalidValueError)(nil); errors.As(err, &bad) {
		return wrongValue(bad.GetFlag(), bad.GetValue(), err)
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return term.Usage(err)
	}
	like := nearest.Of(unknown.GetSpecifiedName(), func(yield func(string) bool) {
		more := true
		cmd.Flags().VisitAll(func(f *pflag.Flag) { more = more && yield(f.Name) })
	})
	if like == "" {
		return term.Usagef("%w (see '%s --help')", err, cmd.CommandPath())
	}
	return term.Usagef("%w; did you mean --%s?", err, like)
}

// wrongValue says what a flag wants, where its type tells.
func wrongValue(f *pflag.Flag, value string, err error) error {
	want := map[string]string{"duration": "a time such as 90s, 15m or 24h", "int": "a number", "uint": "a number", "float64": "a number", "bool": "true or false"}[f.Value.Type()]
	if want == "" {
		return term.Usage(err)
	}
	return term.Usagef("--%s %s: write %s", f.Name, value, want)
}

// knownCommand refuses a first word that is no command, and tells what it may have meant.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
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
			err := check(c, args)
			switch {
			case err == nil:
				return nil
			case strings.Contains(err.Error(), " arg(s)"), strings.HasPrefix(err.Error(), "unknown command "): // cobra's words
				err = wrongNumber(c, check, args)
			}
			return term.Usagef("%w (see '%s --help')", err, c.CommandPath())
		}
	}
	for _, c := range cmd.Commands() {
		wrapArgs(c)
	}
}

// wrongNumber says of arguments that are too few or too many how the command is called.
func wrongNumber(c *cobra.Command, check cobra.PositionalArgs, args []string) error {
	line := strings.TrimSuffix(c.UseLine(), " [flags]")
	for i := len(args) - 1; i >= 0; i-- {
		if check(c, args[:i]) == nil {
			return fmt.Errorf("%q is one too many; write: %s", args[i], line)
		}
	}
	return fmt.Errorf("something is missing; write: %s", line)
}
