// SPDX-License-Identifier: Apache-2.0

package labcmd

import (
	"net/netip"

	"github.com/spf13/cobra"

	"weft/internal/cli/term"
)

func newLabPingCommand(env *term.Env) *cobra.Command {
	var name string
	var count int
	cmd := &cobra.Command{
		Use:   "ping NODE|TENANT/PORT ADDRESS",
		Short: "Ping an address from a node or a workload",
		Long:  `Send echo requests from the network namespace of a node or of a workload. It needs no ping program.`,
		Example: `  weft lab ping red/web-1 10.0.2.4
  weft lab ping -c 10 host-1 198.19.0.4
  weft lab ping --name dc2 red/web-1 fd00:0:0:2::4`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: completeTargets(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := netip.ParseAddr(args[1])
			if err != nil || !to.Is4() {
				return term.Usagef("%q is not an IPv4 address such as 10.0.2.4", args[1])
			}
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			return l.Ping(ctx, args[0], to, count, env.Out)
		},
	}
	cmd.Flags().IntVarP(&count, "count", "c", 3, "number of requests")
	labFlag(cmd, &name)
	return cmd
}
