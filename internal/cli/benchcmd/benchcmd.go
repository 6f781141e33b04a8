// SPDX-License-Identifier: Apache-2.0

// Package benchcmd is the commands of weft bench: measurements on this machine.
package benchcmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"weft/bench"
	"weft/bench/overlay"
	"weft/internal/cli/term"
)

// New makes "weft bench".
func New(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure, beside what else would do the same",
		Long: `Measure on this machine, in a lab of the bench's own. Each figure is the median of several rounds, and where there is a yardstick
a ratio to what was measured in the same round. The exit code is 0 if it could be measured, whatever the figures are.`,
		Example: `  weft bench overlay
  weft bench overlay --quick -o json`,
	}
	cmd.AddCommand(newOverlayCommand(env))
	return cmd
}

func newOverlayCommand(env *term.Env) *cobra.Command {
	var quick bool
	var output string
	cmd := &cobra.Command{
		Use:   "overlay",
		Short: "Measure the packet path beside veth, routes, bridge and VXLAN of the kernel",
		Long: `Measure the packet path between workloads of one host and of two, beside a bare veth, bare routes, and the kernel's bridge and VXLAN
on the same hosts and wires: TCP with 1 and 8 streams, processor time per Gbit, latency of a turn, and frames of 64 bytes; wires with
and without the offloads of a network card. As root, on a machine that does nothing else; it takes four minutes, --quick one.`,
		Example: `  weft bench overlay
  weft bench overlay --quick
  weft bench overlay -o json > overlay.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "" && output != "json" {
				return term.Usage(fmt.Errorf("there is no output %q: leave -o away, or use -o json", output))
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("bench overlay: %w", err)
			}
			c := overlay.Config{Binary: binary, Version: env.Version, Progress: env.Err}
			c = c.Full()
			if quick {
				c = c.Quick()
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			report, err := overlay.Run(ctx, c)
			if err != nil {
				return err
			}
			return write(env, report, output)
		},
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "under a minute: fewer and shorter rounds")
	cmd.Flags().StringVarP(&output, "output", "o", "", "json: one object")
	return cmd
}

func write(env *term.Env, report *bench.Report, output string) error {
	if output == "json" {
		return report.WriteJSON(env.Out)
	}
	return report.WriteTable(env.Out)
}
