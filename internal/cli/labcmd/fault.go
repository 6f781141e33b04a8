// SPDX-License-Identifier: Apache-2.0

package labcmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weft/internal/cli/term"
	"weft/lab"
	"weft/lab/fault"
)

func newLabFaultCommand(env *term.Env) *cobra.Command {
	var kinds strings.Builder
	for _, k := range fault.Kinds() {
		heals := "; heal " + k.Heals
		if k.Heals == "" {
			heals = ""
		}
		fmt.Fprintf(&kinds, "  %-10s %s%s\n", k.Name, k.Short, heals)
	}
	cmd := &cobra.Command{
		Use:   "fault",
		Short: "Break parts of a lab on purpose, and mend them",
		Long: `Break parts of a lab on purpose, and mend them. A fault lasts until 'weft lab fault heal', or for as long as --for
says, or until the lab goes. 'weft lab traffic' tells meanwhile what is lost.

` + kinds.String() + `
A ToR that dies is 'node-dead tor-1'; a server and its store that go away are 'kill server-1'.`,
		Example: `  weft lab fault kill host-1 --for 10s
  weft lab fault link-cut host-1:tor-1
  weft lab fault list
  weft lab fault heal --all`,
	}
	for _, k := range fault.Kinds() {
		cmd.AddCommand(newFaultKindCommand(env, k))
	}
	cmd.AddCommand(newFaultListCommand(env), newFaultHealCommand(env), newRelayCommand())
	for _, c := range cmd.Commands() {
		run := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error { return labError(run(cmd, args)) }
	}
	return cmd
}

// examples has one for each kind, without the commands before it.
var faultExamples = map[string][]string{
	"kill":      {"kill host-1", "kill host-1:agent --for 10s", "kill server-1 --for 1m"},
	"pause":     {"pause host-1 --for 10s", "pause server-1", "pause host-2:agent"},
	"node-dead": {"node-dead host-2", "node-dead tor-1 --for 10s", "node-dead edge-1 --name dc2"},
	"reboot":    {"reboot host-1", "reboot edge-1 --name dc2"},
	"link-cut":  {"link-cut host-1:tor-1", "link-cut edge-1:tor-2 --for 5s", "link-cut host-1:tor-1 --name dc2"},
	"loss":      {"loss host-1:tor-1 --percent 5 --seed 7", "loss host-1:tor-2 --percent 100 --for 3s", "loss host-2:tor-1 --percent 1 --both"},
	"delay":     {"delay host-1:tor-1 --by 20ms", "delay host-1:tor-1 --by 5ms --both --for 10s", "delay edge-1:tor-2 --by 80ms --for 1m"},
	"partition": {"partition host-1,host-2 server-1", "partition server-1 --for 1m", "partition host-3 --name dc2"},
	"disk-full": {"disk-full server-1 --for 1m", "disk-full host-1", "disk-full host-1 --name dc2"},
	"clock":     {"clock server-1 --by 1h", "clock host-1 --by -36h --for 30s", "clock host-2 --by 5m --for 10s"},
	"rehash":    {"rehash all", "rehash host-1 --seed 7", "rehash tor-1 --name dc2"},
}

func newFaultKindCommand(env *term.Env, k fault.Kind) *cobra.Command {
	var name string
	var lasts time.Duration
	cfg := fault.Config{What: k.Name}
	var examples []string
	for _, e := range faultExamples[k.Name] {
		examples = append(examples, "  weft lab fault "+e)
	}
	cmd := &cobra.Command{
		Use:               k.Name + " " + k.Where,
		Short:             strings.ToUpper(k.Short[:1]) + k.Short[1:],
		Example:           strings.Join(examples, "\n"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFault(env, k),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Where = args[0]
			if len(args) > 1 {
				cfg.From = args[1]
			}
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			f, err := fault.Begin(ctx, l, cfg)
			if err != nil {
				return err
			}
			return afterFault(ctx, env, l, f, k, lasts)
		},
	}
	flags := cmd.Flags()
	if k.Heals != "" {
		flags.DurationVar(&lasts, "for", 0, "heal it after this time, for example 10s; without it, 'weft lab fault heal' does")
	}
	switch k.Name {
	case "loss":
		flags.Float64Var(&cfg.Percent, "percent", 100, "how much of the packets is lost")
		flags.BoolVar(&cfg.Both, "both", false, "in both directions, not only from NODE to PEER")
		flags.Uint64Var(&cfg.Seed, "seed", 0, "the same packets of a row are lost with the same seed; 0: another each time")
	case "delay":
		flags.DurationVar(&cfg.By, "by", 0, "how much longer, for example 20ms")
		flags.BoolVar(&cfg.Both, "both", false, "in both directions, not only from NODE to PEER")
		_ = cmd.MarkFlagRequired("by") // fails only for a flag that is not there
	case "clock":
		flags.DurationVar(&cfg.By, "by", 0, "how far ahead, or with a minus behind, for example 1h or -36h")
		cmd.Long = "A server or agent starts again with a clock that is ahead or behind. The machine's own clock is never touched."
		_ = cmd.MarkFlagRequired("by") // fails only for a flag that is not there
	case "partition":
		cmd.Args = cobra.RangeArgs(1, 2)
		cmd.Long = "Packets between two sets of nodes are lost, whichever way they go. Without a second set, it is all other nodes."
	case "rehash":
		flags.Uint64Var(&cfg.Seed, "seed", 0, "the same seed spreads flows in the same way; 0: another each time")
	}
	labFlag(cmd, &name)
	return cmd
}

// afterFault says what is broken, and with a time waits for it and heals.
func afterFault(ctx context.Context, env *term.Env, l *lab.Lab, f *fault.Fault, k fault.Kind, lasts time.Duration) error {
	switch {
	case k.Heals == "":
		fmt.Fprintf(env.Err, "%s: done\n", f)
		return nil
	case lasts == 0:
		fmt.Fprintf(env.Err, "%s: in effect; 'weft lab fault heal %d' ends it\n", f, f.ID)
		return nil
	}
	fmt.Fprintf(env.Err, "%s: in effect for %s\n", f, lasts)
	select {
	case <-ctx.Done(): // interrupted: heal at once
	case <-time.After(lasts):
	}
	if _, err := fault.Heal(context.WithoutCancel(ctx), l, fmt.Sprint(f.ID)); err != nil && !errors.Is(err, fault.ErrNone) {
		return err
	}
	fmt.Fprintf(env.Err, "%s: healed\n", f)
	return nil
}

func newFaultListCommand(env *term.Env) *cobra.Command {
	var name, output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the faults that are in effect",
		Example: `  weft lab fault list
  weft lab fault list -o json
  weft lab fault list --name dc2`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			active, err := fault.Active(l)
			if err != nil {
				return err
			}
			if output == "json" {
				return env.WriteJSON(append([]fault.Fault{}, active...))
			}
			if len(active) == 0 {
				fmt.Fprintf(env.Err, "no fault is in effect in lab %s; 'weft lab fault --help' lists the kinds\n", l.Name)
				return nil
			}
			w := tabwriter.NewWriter(env.Out, 0, 8, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tFAULT\tSINCE\tPACKETS\tDROPPED")
			for _, f := range active {
				seen, dropped := "-", "-"
				if t, err := f.Count(); err != nil {
					return err
				} else if len(f.Pins) > 0 {
					seen, dropped = fmt.Sprint(t.Seen), fmt.Sprint(t.Dropped)
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\n", f.ID, f, f.Since.Local().Format(time.TimeOnly), seen, dropped)
			}
			return w.Flush()
		},
	}
	labFlag(cmd, &name)
	outputFlag(cmd, &output)
	return cmd
}

func newFaultHealCommand(env *term.Env) *cobra.Command {
	var name string
	var all bool
	cmd := &cobra.Command{
		Use:   "heal [ID|WHAT WHERE]",
		Short: "End a fault, and put back what it took",
		Example: `  weft lab fault heal 2
  weft lab fault heal link-cut host-1:tor-1
  weft lab fault heal --all`,
		ValidArgsFunction: completeFaults(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return term.Usagef("say which fault, by number or as it was made ('weft lab fault list'), or --all")
			}
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			var healed []fault.Fault
			if all {
				healed, err = fault.HealAll(ctx, l)
			} else {
				var f *fault.Fault
				if f, err = fault.Heal(ctx, l, strings.Join(args, " ")); err == nil {
					healed = append(healed, *f)
				}
			}
			for _, f := range healed {
				fmt.Fprintf(env.Err, "%s: healed\n", f)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "end all faults, the last one first")
	labFlag(cmd, &name)
	return cmd
}

// newRelayCommand is the process that a delay starts; nobody calls it by hand.
func newRelayCommand() *cobra.Command {
	return &cobra.Command{
		Use: "relay DEVICE TAP DELAY", Short: "Delay what leaves by a device (started by 'weft lab fault delay')", Hidden: true, Args: cobra.ExactArgs(3),
		Example: "  weft lab fault relay tor-1 delay-1 20ms",
		RunE: func(cmd *cobra.Command, args []string) error {
			by, err := time.ParseDuration(args[2])
			if err != nil {
				return term.Usage(err)
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			return fault.RelayFrames(ctx, args[0], args[1], by)
		},
	}
}

// completeFault offers what a kind can be done to.
func completeFault(env *term.Env, k fault.Kind) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		name, _ := cmd.Flags().GetString("name") // "" if there is no such flag
		l, err := openLab(env, name)
		if err != nil || len(args) > strings.Count(k.Where, " ") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return k.Places(l), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFaults offers the numbers of those in effect, with what they are.
func completeFaults(env *term.Env) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		name, _ := cmd.Flags().GetString("name") // "" if there is no such flag
		l, err := openLab(env, name)
		if err != nil || len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		active, err := fault.Active(l)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, f := range active {
			names = append(names, fmt.Sprintf("%d\t%s", f.ID, f))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
