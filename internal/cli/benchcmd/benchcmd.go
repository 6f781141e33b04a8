// SPDX-License-Identifier: Apache-2.0

// Package benchcmd is the commands of weft bench: measurements on this machine.
package benchcmd

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"weft/bench"
	"weft/bench/control"
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
  weft bench control --quick -o json`,
	}
	cmd.AddCommand(newOverlayCommand(env), newControlCommand(env))
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
			return measure(cmd, env, output, func(ctx context.Context, binary string) (*bench.Report, error) {
				c := overlay.Config{Binary: binary, Version: env.Version, Progress: env.Err}
				if quick {
					return overlay.Run(ctx, c.Quick())
				}
				return overlay.Run(ctx, c.Full())
			})
		},
	}
	flags(cmd, &quick, &output)
	return cmd
}

func newControlCommand(env *term.Env) *cobra.Command {
	var quick bool
	var output string
	cmd := &cobra.Command{
		Use:   "control",
		Short: "Measure how fast changes come into effect on many nodes, and what that costs",
		Long: `Measure the control plane: how long a change takes from its write at the API until it is in effect on all nodes that it concerns, how a
VPC of 60,000 ports grows, 4,096 tenants with the same addresses on 1,000 nodes, a quiet VPC beside a noisy one, and what server and
stream need for it. A server is started with an empty store on loopback; the nodes are simulated: certificates, stream and handling of
rows are the agent's own, and nothing is written to a kernel. It needs no privileges; it takes some minutes, --quick less than one.`,
		Example: `  weft bench control
  weft bench control --quick
  weft bench control -o json > control.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return measure(cmd, env, output, func(ctx context.Context, binary string) (*bench.Report, error) {
				c := control.Config{Binary: binary, Version: env.Version, Progress: env.Err, Size: control.Full}
				if quick {
					c.Size = control.Quick
				}
				return control.Run(ctx, c)
			})
		},
	}
	flags(cmd, &quick, &output)
	return cmd
}

func flags(cmd *cobra.Command, quick *bool, output *string) {
	cmd.Flags().BoolVar(quick, "quick", false, "under a minute: fewer and shorter rounds")
	cmd.Flags().StringVarP(output, "output", "o", "", "json: one object")
}

// measure runs a bench with this program until a signal ends it, and writes its report.
func measure(cmd *cobra.Command, env *term.Env, output string, run func(ctx context.Context, binary string) (*bench.Report, error)) error {
	if output != "" && output != "json" {
		return term.Usage(fmt.Errorf("there is no output %q: leave -o away, or use -o json", output))
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	ctx, stop := term.WithSignals(cmd.Context())
	defer stop()
	report, err := run(ctx, binary)
	if err != nil {
		return err
	}
	if output == "json" {
		return report.WriteJSON(env.Out)
	}
	return report.WriteTable(env.Out)
}
