// SPDX-License-Identifier: Apache-2.0

package labcmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"weft/internal/cli/term"
	"weft/lab"
)

func newLabExecCommand(env *term.Env) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "exec NODE|TENANT/PORT -- COMMAND [ARGUMENT...]",
		Short: "Run a command on a node or in a workload",
		Long: `Run a command in the network namespace of a node or of a workload. Terminal, signals and exit code are the
command's own.`,
		Example: `  weft lab exec red/web-1 -- ping -c 3 10.0.2.4
  weft lab exec host-1 -- ip route
  weft lab exec blue/web-1 -- bash`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: completeTargets(env),
		RunE: func(_ *cobra.Command, args []string) error {
			command := args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 || strings.HasPrefix(command[0], "-") {
				return term.Usagef("no command is named: weft lab exec [--name LAB] NODE|TENANT/PORT -- COMMAND")
			}
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			return l.Exec(args[0], command)
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the target belongs to the command, with or without --
	labFlag(cmd, &name)
	return cmd
}

func newLabGraphCommand(env *term.Env) *cobra.Command {
	var name, format string
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Draw a lab's nodes and links",
		Example: `  weft lab graph
  weft lab graph -o dot | dot -Tsvg >dc1.svg
  weft lab graph -o mermaid`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if !slices.Contains(lab.GraphFormats, format) {
				return term.Usagef("%q is not a way to write a graph: use one of %s", format, strings.Join(lab.GraphFormats, ", "))
			}
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			return l.Graph().Write(env.Out, format)
		},
	}
	labFlag(cmd, &name)
	cmd.Flags().StringVarP(&format, "output", "o", "text", strings.Join(lab.GraphFormats, ", "))
	return cmd
}

func newLabPcapCommand(env *term.Env) *cobra.Command {
	var name, file string
	var count int
	var duration time.Duration
	cmd := &cobra.Command{
		Use:   "pcap NODE[:DEVICE]|TENANT/PORT",
		Short: "Capture packets on a node or in a workload",
		Long: `Capture packets and write them as a pcap file, which tcpdump and Wireshark read. On a node without a device, all
its devices are captured. It ends with --count, --duration or an interrupt.

Between programs of the packet path a packet may go from port to port without passing a device of the host: capture in
the workload to see all of what it sends and receives.`,
		Example: `  weft lab pcap red/web-1 -w web-1.pcap --duration 10s
  weft lab pcap host-1:tor-1 -w - | tcpdump -nr -
  weft lab pcap edge-1 -w edge.pcap --count 100`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeTargets(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			if duration > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, duration)
				defer cancel()
			}
			out, closeOut, err := captureFile(env, file)
			if err != nil {
				return err
			}
			fmt.Fprintf(env.Err, "capturing on %s\n", args[0])
			n, err := l.Capture(ctx, lab.CaptureConfig{Target: args[0], Out: out, Count: count})
			if err := errors.Join(err, closeOut()); err != nil {
				return err
			}
			fmt.Fprintf(env.Err, "%d packets\n", n)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "write", "w", "", "file to write, or - for standard output")
	f.IntVar(&count, "count", 0, "end after so many packets")
	f.DurationVar(&duration, "duration", 0, "end after this time, for example 10s")
	_ = cmd.MarkFlagRequired("write") // fails only for a flag that is not there
	labFlag(cmd, &name)
	return cmd
}

// captureFile opens where a capture goes. To standard output, each packet goes at once, for a reader in a pipe.
func captureFile(env *term.Env, file string) (io.Writer, func() error, error) {
	if file == "-" {
		if term.IsTerminal(env.Out) {
			return nil, nil, term.Usagef("a capture is not for a terminal: write it to a file with -w, or pipe it to a program such as 'tcpdump -nr -'")
		}
		return env.Out, func() error { return nil }, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("write capture: %w", err)
	}
	w := bufio.NewWriter(f)
	return w, func() error { return errors.Join(w.Flush(), f.Close()) }, nil
}
