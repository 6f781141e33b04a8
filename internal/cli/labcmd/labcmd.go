// SPDX-License-Identifier: Apache-2.0

// Package labcmd is the commands of weft lab: a data centre on this machine.
package labcmd

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/internal/cli/term"
	"weft/lab"
	"weft/lab/bgp"
	"weft/lab/fault"
)

// New makes "weft lab": a data centre on this machine.
func New(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Run a data centre on this machine, in network namespaces",
		Long: `A lab is a data centre of network namespaces: routers, hosts, edges, a server and workloads of several tenants. It
runs the same programs as a real one. Several labs can be up at the same time, by name; 'weft lab down' leaves nothing.

Commands that need a lab take the one of the current context, or the only one there is, or --name.`,
		Example: `  weft lab up
  weft lab exec red/web-1 -- ping 10.0.2.4
  weft lab down`,
	}
	cmd.AddCommand(newLabUpCommand(env), newLabDownCommand(env), newLabListCommand(env), newLabStatusCommand(env),
		newLabExecCommand(env), newLabPingCommand(env), newLabGraphCommand(env), newLabPcapCommand(env), newLabTrafficCommand(env), newLabNodeCommand(env))
	commands := cmd.Commands()
	for _, c := range commands {
		commands = append(commands, c.Commands()...)
	}
	for _, c := range commands {
		run := c.RunE
		if run == nil {
			continue
		}
		c.RunE = func(cmd *cobra.Command, args []string) error { return labError(run(cmd, args)) }
	}
	cmd.AddCommand(newLabFaultCommand(env))
	return cmd
}

// labError gives errors of the lab the code that decides the exit code.
func labError(err error) error {
	switch {
	case errors.Is(err, fault.ErrArgument):
		return term.Usage(err)
	case errors.Is(err, lab.ErrUnknown), errors.Is(err, lab.ErrTarget), errors.Is(err, fault.ErrNone):
		return &v1.Error{Code: v1.CodeNotFound, Message: err.Error()}
	case errors.Is(err, lab.ErrExists), errors.Is(err, lab.ErrBusy), errors.Is(err, fault.ErrActive):
		return &v1.Error{Code: v1.CodeConflict, Message: err.Error()}
	}
	return err
}

func newLabUpCommand(env *term.Env) *cobra.Command {
	var name, file, routing string
	var underlayOnly bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring a lab up, with tenants and workloads",
		Long: `Bring a lab up: namespaces, links, routes, server, agents, and what the tenants have. It makes a context of the lab's
name and makes it the current one. Without --topology it is the built-in data centre: two ToRs, three hosts, two
edges, a server, an outside client, and the tenants red, blue and green.

If something fails, what was made stays for a look, and 'weft lab down' removes it.`,
		Example: `  weft lab up
  weft lab up --name dc2
  weft lab up --name mine --topology mine.yaml
  weft lab up --routing frr          # FRR on the ToRs
  weft lab up --underlay-only`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			topology, err := lab.LoadTopology(file)
			if err != nil {
				return err
			}
			if routing != "" {
				topology.Routing = bgp.Program(routing)
				if err := topology.Check(); err != nil {
					return term.Usage(err)
				}
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find this program: %w", err)
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			_, err = lab.Up(ctx, lab.UpConfig{Name: name, Topology: topology, Binary: binary, UnderlayOnly: underlayOnly, Progress: env.Err})
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", lab.DefaultTopology, "name of the lab: lower-case letters and digits")
	f.StringVar(&file, "topology", "", "file that says what the lab consists of (YAML); the built-in one if not given")
	f.StringVar(&routing, "routing", "", "what the routers run: weft, bird, frr, static; default: what the topology says")
	f.BoolVar(&underlayOnly, "underlay-only", false, "make nodes, links and routes, and nothing that runs on them")
	return cmd
}

func newLabDownCommand(env *term.Env) *cobra.Command {
	var name string
	var all bool
	cmd := &cobra.Command{
		Use:   "down [NAME]",
		Short: "Remove a lab and all that belongs to it",
		Long: `Remove a lab: its processes, namespaces, pinned programs and tables, folders and context. It works after a crash at any
moment, and may be repeated.`,
		Example: `  weft lab down
  weft lab down dc2
  weft lab down --all`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeLabs,
		RunE: func(_ *cobra.Command, args []string) error {
			if all {
				if len(args) > 0 || name != "" {
					return term.Usagef("--all removes every lab: name none beside it")
				}
				n, err := lab.DownAll(env.Err)
				if err == nil && n == 0 {
					fmt.Fprintln(env.Err, "there is no lab")
				}
				return err
			}
			if len(args) > 0 {
				name = args[0]
			}
			name, err := labName(env, name)
			if err != nil {
				return err
			}
			return lab.Down(name, env.Err)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "remove every lab of this machine")
	labFlag(cmd, &name)
	return cmd
}

func newLabListCommand(env *term.Env) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the labs of this machine",
		Example: `  weft lab list
  weft lab list -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			labs, err := lab.List()
			if err != nil {
				return err
			}
			if output == "json" {
				return env.WriteJSON(labs)
			}
			if len(labs) == 0 {
				fmt.Fprintln(env.Err, "there is no lab; 'weft lab up' makes one")
				return nil
			}
			w := tabwriter.NewWriter(env.Out, 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "NAME\tSTATE\tNODES\tWORKLOADS\tAPI\tCREATED")
			for _, l := range labs {
				state := "complete"
				if !l.Complete {
					state = "incomplete"
				}
				fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", l.Name, state, len(l.Topology.Nodes), len(l.Workloads), l.API, l.Created.Local().Format("2006-01-02 15:04:05"))
			}
			return w.Flush()
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

func newLabStatusCommand(env *term.Env) *cobra.Command {
	var name, output string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how a lab's nodes and workloads are",
		Long:  "Show how a lab's nodes and workloads are. The exit code is 1 if something that should be there is not, or does not work.",
		Example: `  weft lab status
  weft lab status -o json
  weft lab status --name dc2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			s := l.Status(cmd.Context())
			if output == "json" {
				err = env.WriteJSON(s)
			} else {
				err = printLabStatus(env, s)
			}
			if err == nil && !s.Healthy {
				err = fmt.Errorf("lab %s is not as it should be", l.Name)
			}
			return err
		},
	}
	labFlag(cmd, &name)
	outputFlag(cmd, &output)
	return cmd
}

func printLabStatus(env *term.Env, s *lab.Status) error {
	w := tabwriter.NewWriter(env.Out, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "NODE\tROLE\tADDRESS\tNAMESPACE\tPID\tSTATE\tDETAIL")
	for _, n := range s.Nodes {
		pid := "-"
		if n.PID != 0 {
			pid = fmt.Sprint(n.PID)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, n.Role, n.Address, n.NetNS, pid, n.State, n.Detail)
	}
	if len(s.Workloads) > 0 {
		fmt.Fprintln(w, "\t\t\t\t\t\t\nPORT\tNODE\tADDRESS\tNAMESPACE\t\tSTATE\tDETAIL")
	}
	for _, p := range s.Workloads {
		address := "-"
		if len(p.Address) > 0 {
			address = p.Address[0]
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\t%s\t%s\n", p.Port, p.Node, address, p.NetNS, p.State, p.Detail)
	}
	return w.Flush()
}

// labName finds the lab that is meant: the one named, the context's, or the only one.
func labName(env *term.Env, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	if x, err := env.Target(); err == nil && x.Lab != "" {
		return x.Lab, nil
	}
	labs, err := lab.List()
	switch {
	case err != nil:
		return "", err
	case len(labs) == 0:
		return "", fmt.Errorf("%w: there is none; 'weft lab up' makes one", lab.ErrUnknown)
	case len(labs) > 1:
		return "", term.Usagef("there are several labs ('weft lab list'): say which with --name")
	}
	return labs[0].Name, nil
}

func openLab(env *term.Env, name string) (*lab.Lab, error) {
	name, err := labName(env, name)
	if err != nil {
		return nil, err
	}
	return lab.Open(name)
}

// labFlag adds the flag that names the lab.
func labFlag(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "name", "", "name of the lab; default: the context's, or the only one")
	_ = cmd.RegisterFlagCompletionFunc("name", completeLabs) // fails only for a flag that is not there
}

func outputFlag(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "", "json, or a table if not given")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if *output != "" && *output != "json" {
			return term.Usagef("%q is not a way to write the answer: use -o json, or nothing for a table", *output)
		}
		return nil
	}
}

func completeLabs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	labs, err := lab.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, l := range labs {
		names = append(names, l.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeTargets offers the lab's nodes and workloads for the first argument.
func completeTargets(env *term.Env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		name, _ := cmd.Flags().GetString("name") // "" if there is no such flag
		l, err := openLab(env, name)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return l.Targets(), cobra.ShellCompDirectiveNoFileComp
	}
}
