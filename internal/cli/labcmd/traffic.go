// SPDX-License-Identifier: Apache-2.0

package labcmd

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"weft/internal/cli/term"
	"weft/lab/traffic"
)

// flowsMost bounds what one command sends.
const flowsMost = 64

func newLabTrafficCommand(env *term.Env) *cobra.Command {
	var name, format string
	var rate, flows int
	var ipv6 bool
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "traffic FROM TO",
		Short: "Send numbered packets both ways, and count what is lost",
		Long: `Send numbered UDP packets between two workloads or nodes, in both directions at once, and tell to the packet what became
of them. Exit code 1 says that some were lost. Several flows have ports of their own, and so ways of their own.`,
		Example: `  weft lab traffic red/web-1 red/db-1
  weft lab traffic red/web-1 red/db-1 --rate 10000 --for 30s
  weft lab traffic red/web-1 red/db-1 --flows 8 & weft lab exec tor-1 -- ip link set host-1 down`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeTargets(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := term.CheckFormat(format, "table", "json", "yaml"); err != nil {
				return err
			}
			if flows < 1 || flows > flowsMost {
				return term.Usagef("--flows: between 1 and %d are possible", flowsMost)
			}
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			var ends [2]traffic.End
			for i, target := range args {
				if ends[i], err = l.End(target, ipv6); err != nil {
					return err
				}
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			var running []*traffic.Flow
			for range flows {
				f, err := traffic.Start(ends[0], ends[1], max(1, rate/flows))
				if err != nil {
					return err
				}
				running = append(running, f)
			}
			select {
			case <-ctx.Done():
			case <-time.After(length):
			}
			return printTraffic(env, format, args, traffic.Stop(running))
		},
	}
	cmd.Flags().IntVar(&rate, "rate", 1000, "packets a second in each direction, over all flows")
	cmd.Flags().IntVar(&flows, "flows", 1, "flows, each with ports of its own")
	cmd.Flags().DurationVar(&length, "for", 10*time.Second, "how long; Ctrl-C ends it, too")
	cmd.Flags().BoolVarP(&ipv6, "ipv6", "6", false, "by IPv6")
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json, yaml")
	labFlag(cmd, &name)
	return cmd
}

func printTraffic(env *term.Env, format string, ends []string, results []traffic.Result) error {
	lost := uint64(0)
	for _, r := range results {
		lost += r.There.Lost + r.Back.Lost
	}
	switch format {
	case "json":
		e := json.NewEncoder(env.Out)
		e.SetIndent("", "  ")
		if err := e.Encode(results); err != nil {
			return err
		}
	case "yaml":
		text, err := term.ToYAML(results)
		if err != nil {
			return err
		}
		fmt.Fprint(env.Out, text)
	default:
		tab := env.NewTable()
		tab.Add("FLOW", "FROM", "TO", "SENT", "RECEIVED", "LOST", "TWICE", "LATE", "LONGEST GAP")
		for i, r := range results {
			for j, c := range []traffic.Count{r.There, r.Back} {
				tab.Add(fmt.Sprint(i+1), ends[j], ends[1-j], fmt.Sprint(c.Sent), fmt.Sprint(c.Received), fmt.Sprint(c.Lost), fmt.Sprint(c.Duplicated), fmt.Sprint(c.Reordered), c.LongestGap.Round(time.Millisecond).String())
			}
		}
		if err := tab.Flush(); err != nil {
			return err
		}
	}
	if lost > 0 {
		fmt.Fprintf(env.Err, "%d packets were lost\n", lost)
		return term.Code(term.ExitFailure)
	}
	return nil
}
