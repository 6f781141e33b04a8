// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weft/internal/base/notify"
	"weft/internal/bgp"
	"weft/internal/cli/term"
)

func bgpCommand(version string) *cobra.Command {
	var config, socket string
	var verbose, check bool
	cmd := &cobra.Command{
		Use:   "bgp",
		Short: "Run the BGP speaker: routes of the underlay, in the kernel by all ways",
		Long: `Run the BGP (and BFD) speaker of this machine. It is a process of its own: agent and server come and go without it. Its end
stops no packet: routes stay in the kernel, and neighbours keep theirs for the time that the configuration says. A speaker that
starts takes over the routes it finds.`,
		Example: `  weft bgp --config /etc/weft/bgp.yaml
  weft bgp --config /etc/weft/bgp.yaml --check-config
  weft bgp show
  weft bgp configure /etc/weft/bgp.yaml     # sessions that stay are not touched
  weft bgp drain                            # withdraw everything, before maintenance`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := bgp.LoadConfig(config)
			if err != nil {
				return term.Usage(err)
			}
			if check {
				fmt.Fprintln(cmd.ErrOrStderr(), "the configuration is good")
				return nil
			}
			ctx, stop := notifyContext(cmd.Context())
			defer stop()
			return bgp.Run(ctx, bgp.Options{Config: cfg, Socket: socket, Version: version, Log: newLog(verbose), Manager: notify.Find()})
		},
	}
	cmd.PersistentFlags().StringVar(&socket, "socket", "/run/weft/bgp.sock", "local socket of the speaker")
	cmd.Flags().StringVar(&config, "config", "/etc/weft/bgp.yaml", "configuration: own AS, prefixes to announce, peers")
	cmd.Flags().BoolVar(&check, "check-config", false, "say what is wrong with --config, and end")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what a developer wants to know")
	cmd.AddCommand(bgpShowCommand(&socket), bgpConfigureCommand(&socket), bgpDrainCommand(&socket, true), bgpDrainCommand(&socket, false))
	return cmd
}

func bgpShowCommand(socket *string) *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show sessions and routes", Args: cobra.NoArgs,
		Example: "  weft bgp show\n  weft bgp show --socket /run/weft/dc1-host-1/bgp.sock",
		RunE: func(cmd *cobra.Command, _ []string) error {
			st, err := bgp.NewClient(*socket).State(cmd.Context())
			if err != nil {
				return err
			}
			return printState(cmd.OutOrStdout(), st)
		},
	}
}

func printState(out io.Writer, st *bgp.State) error {
	fmt.Fprintf(out, "AS %d, router ID %s, process %d since %s, %s; %d writes to the kernel\n", st.AS, st.RouterID, st.PID, st.Since.Local().Format(time.DateTime), st.Version, st.Writes)
	if st.Drained {
		fmt.Fprintln(out, "Drained: nothing is announced")
	}
	if !st.Ready {
		fmt.Fprintln(out, "Waits for neighbours to tell all; routes found at the start stay until then")
	}
	tab := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "\nPEER\tADDRESS\tAS\tRELATION\tDEVICE\tLINK\tSTATE\tBFD\tROUTES\tSINCE")
	for _, p := range st.Peers {
		link, since := "down", "-"
		if p.Link {
			link = "up"
		}
		if !p.Since.IsZero() {
			since = p.Since.Local().Format(time.DateTime)
		}
		fmt.Fprintf(tab, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", or(p.Name), p.Address, p.AS, p.Relation, or(p.Device), link, p.State, or(p.BFD), p.Received, since)
	}
	fmt.Fprintln(tab, "\nTO\tBY")
	for _, r := range st.Routes {
		fmt.Fprintf(tab, "%s\t%s\n", r.To, strings.Join(r.By, ", "))
	}
	return tab.Flush()
}

func or(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func bgpConfigureCommand(socket *string) *cobra.Command {
	return &cobra.Command{
		Use: "configure FILE", Short: "Give the running speaker a configuration", Args: cobra.ExactArgs(1),
		Example: "  weft bgp configure /etc/weft/bgp.yaml\n  weft bgp configure new.yaml && weft bgp show",
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := bgp.LoadConfig(args[0]); err != nil {
				return err
			}
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			return bgp.NewClient(*socket).Configure(cmd.Context(), data)
		},
	}
}

func bgpDrainCommand(socket *string, drained bool) *cobra.Command {
	use, short := "drain", "Withdraw all that this machine announces; sessions and routes stay"
	if !drained {
		use, short = "resume", "Announce again"
	}
	return &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		Example: "  weft bgp " + use,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bgp.NewClient(*socket).Drain(cmd.Context(), drained)
		},
	}
}
