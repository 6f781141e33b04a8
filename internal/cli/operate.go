// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/check"
	"weft/internal/cli/term"
)

func newStatusCommand(env *term.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "status", Short: "Show how the system is", Args: cobra.NoArgs,
		Example: "  weft status\n  weft status -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json", "yaml"); err != nil {
				return err
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			st, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			switch format {
			case "json":
				return env.WriteJSON(st)
			case "yaml":
				text, err := term.ToYAML(st)
				fmt.Fprint(env.Out, text)
				return err
			}
			return printStatus(env, target.Name, st)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json, yaml")
	return cmd
}

func printStatus(env *term.Env, name string, st *v1.ClusterStatus) error {
	ready, ports, rows := 0, 0, 0
	var away []string
	for _, n := range st.Nodes {
		ports += n.Status.Ports
		rows += n.Status.Rows
		if n.Status.Ready {
			ready++
		} else {
			away = append(away, n.Name+" "+n.Status.State)
		}
	}
	word := func(ok bool) string {
		if ok {
			return "OK"
		}
		return "Degraded"
	}
	kind := "external"
	if st.Store.Embedded {
		kind = "embedded"
	}
	fmt.Fprintf(env.Out, "CLUSTER  %s    VERSION  %s    UPTIME  %s\n", name, st.Version, (time.Duration(st.UptimeSeconds) * time.Second).String())
	t := env.NewTable()
	members, answering := strconv.Itoa(st.Store.Members), true
	if n := st.Store.Answering; n > 0 && n < st.Store.Members {
		members, answering = fmt.Sprintf("%d of %d", n, st.Store.Members), false
	}
	t.Add("  Store", word(answering && st.Store.LatencyMS > 0), fmt.Sprintf("etcd %s %s, %s member, read in %.1f ms, %.1f MB", st.Store.Version, kind, members, st.Store.LatencyMS, float64(st.Store.SizeBytes)/1e6))
	agents := fmt.Sprintf("%d/%d ready", ready, len(st.Nodes))
	if len(away) > 0 {
		agents += ": " + strings.Join(away, ", ")
	}
	t.Add("  Agents", word(ready == len(st.Nodes)), agents)
	t.Add("  Data plane", word(len(st.Warnings) == 0), fmt.Sprintf("%d ports attached, %d rows, %d packets dropped", ports, rows, st.Drops))
	if err := t.Flush(); err != nil {
		return err
	}
	var counts []string
	for _, k := range v1.Kinds() {
		counts = append(counts, fmt.Sprintf("%s %d", k.Plural, st.Counts[k.Plural]))
	}
	fmt.Fprintf(env.Out, "\n  %s\n", strings.Join(counts, "   "))
	if len(st.Warnings) > 0 {
		fmt.Fprintf(env.Out, "\nWARNINGS (%d)\n", len(st.Warnings))
		for _, w := range st.Warnings {
			fmt.Fprintf(env.Out, "  %s\n", w)
		}
	}
	return nil
}

func newDumpCommand(env *term.Env) *cobra.Command {
	var node string
	cmd := &cobra.Command{
		Use: "dump [TABLE] --node NODE", Short: "Show a table of a node as the kernel has it", Args: cobra.MaximumNArgs(1),
		Example: "  weft dump --node host-1\n  weft dump location --node host-1\n  weft dump drop --node host-2",
		RunE: func(cmd *cobra.Command, args []string) error {
			if node == "" {
				return term.Usagef("name a node with --node; 'weft get nodes' lists them")
			}
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			var in, out struct {
				Function string `json:"function,omitempty"`
				Text     string `json:"text,omitempty"`
			}
			in.Function = strings.Join(args, "")
			if err := c.Ask(cmd.Context(), node, "dump", in, &out); err != nil {
				return err
			}
			_, err = fmt.Fprint(env.Out, out.Text)
			return err
		},
	}
	cmd.Flags().StringVar(&node, "node", "", "name of the node")
	return cmd
}

func newCheckCommand(env *term.Env) *cobra.Command {
	var only, format string
	var groups []string
	var all, list, cleanup bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check with real packets that what must pass passes, and nothing else",
		Long: `Make two throw-away tenants with equal addresses on the running system, send real packets between their workloads on
up to two hosts, and tell what arrived, in both IP versions. Packets that must not pass have to be counted under their
reason, each of them, and nobody may hear them. With --all every attack comes from every workload and goes to every workload of
the other tenant, on up to three hosts. Everything is removed at the end. Exits with 1 if a case fails.`,
		Example: `  weft check
  weft check --all
  weft check --group l2,fragment --test 'VLAN|IPv6'
  weft check --list
  weft check -o json > check.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json"); err != nil {
				return err
			}
			match, err := regexp.Compile(only)
			if err != nil {
				return term.Usagef("--test: %w", err)
			}
			for _, g := range groups {
				if !slices.Contains(check.GroupNames(), g) {
					return term.Usagef("--group: there is no group %q; there are %s", g, strings.Join(check.GroupNames(), ", "))
				}
			}
			cfg := check.Config{All: all, Only: match, Groups: groups, Progress: env.Err}
			if list {
				return listChecks(env, format, cfg)
			}
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			cfg.Client = c
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			if cleanup {
				return cleanUpChecks(ctx, env, c)
			}
			return runCheck(ctx, env, format, cfg)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "try everything from every workload, at every workload of the other tenant")
	f.StringSliceVar(&groups, "group", nil, "run only these groups: "+strings.Join(check.GroupNames(), ", "))
	f.StringVar(&only, "test", "", "run only the cases whose names (GROUP: NAME) match this regular expression")
	f.BoolVar(&list, "list", false, "list the cases, and check nothing")
	f.StringVarP(&format, "output", "o", "table", "table, json")
	f.BoolVar(&cleanup, "cleanup", false, "remove what a check that was cut short left, and check nothing")
	return cmd
}

func runCheck(ctx context.Context, env *term.Env, format string, cfg check.Config) error {
	res, err := check.Run(ctx, cfg)
	if errors.Is(err, check.ErrNoCase) {
		return term.Usagef("--test: %w", err)
	}
	if res == nil {
		return err
	}
	var perr error
	if format == "json" {
		perr = env.WriteJSON(res)
	} else {
		perr = printCheck(env, res)
	}
	if err = errors.Join(err, perr); err == nil && res.Failed > 0 {
		return term.Code(term.ExitFailure)
	}
	return err
}

// printCheck writes the sums by group, what failed once more, after all the lines of progress, and the sum of all.
func printCheck(env *term.Env, res *check.Result) error {
	t := env.NewTable()
	t.Add("GROUP", "CASES", "FAILED", "PACKETS", "TIME")
	for _, g := range res.Groups {
		t.Add(g.Name, strconv.Itoa(g.Cases), strconv.Itoa(g.Failed), strconv.Itoa(g.Packets), fmt.Sprintf("%.1fs", g.Seconds))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range res.Cases {
		if !c.Passed {
			fmt.Fprintf(env.Out, "FAIL  %s: %s\n", c.Group, c.Name)
		}
	}
	_, err := fmt.Fprintf(env.Out, "%d passed, %d failed, %d packets, %d through to another tenant in %.1fs on %s\n",
		res.Passed, res.Failed, res.Packets, res.Through, res.Seconds, strings.Join(res.Nodes, ", "))
	return err
}

// listChecks writes what a check would try.
func listChecks(env *term.Env, format string, cfg check.Config) error {
	cases := check.List(cfg)
	if len(cases) == 0 {
		return term.Usagef("--test: %w: %s", check.ErrNoCase, cfg.Only)
	}
	if format == "json" {
		return env.WriteJSON(map[string]any{"apiVersion": v1.APIVersion, "cases": cases})
	}
	t := env.NewTable()
	t.Add("GROUP", "CASE")
	for _, c := range cases {
		t.Add(c.Group, c.Name)
	}
	return t.Flush()
}

func cleanUpChecks(ctx context.Context, env *term.Env, c *client.Client) error {
	removed, err := check.CleanUp(ctx, c)
	for _, t := range removed {
		fmt.Fprintf(env.Out, "tenant/%s deleted\n", t)
	}
	return err
}
