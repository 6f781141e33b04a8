// SPDX-License-Identifier: Apache-2.0

package nodecmd

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/internal/cli/term"
)

func newTokenCommand(env *term.Env, nodes cobra.CompletionFunc) *cobra.Command {
	var format string
	var want v1.JoinRequest
	var good time.Duration
	cmd := &cobra.Command{
		Use: "token", Short: "Make a join token, and print the command that makes a machine a node", Args: cobra.NoArgs,
		Long: `Make a join token, and print the command that makes a machine a node, to be run there as root. The token is a secret: until
it ends, who has it can let machines join that are not nodes yet. It lets nobody do anything else. To set up a machine anew
under the name of a node that is there, name that node with --node.`,
		Example: "  weft node token\n  weft node token --for 10m --uses 1\n  weft node token --node host-3     # host-3 has a new disk\n  weft node token list\n  weft node token revoke 3f9ab1c05d7e",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json", "yaml"); err != nil {
				return err
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			want.For = good.String()
			j, err := c.Join(cmd.Context(), want)
			if err != nil {
				return err
			}
			j.Server = serverOf(j.Server, target.Server)
			if host, _, _ := net.SplitHostPort(j.Server); isLoopback(host) {
				fmt.Fprintf(env.Err, "warning: %s is reached from this machine only; start the server with --southbound-listen and an address that the nodes reach\n", j.Server)
			}
			switch format {
			case "json":
				return env.WriteJSON(j)
			case "yaml":
				text, err := term.ToYAML(j)
				fmt.Fprint(env.Out, text)
				return err
			}
			fmt.Fprintf(env.Err, "good until %s; weft node token revoke %s ends it before\n", j.Ends.Local().Format(time.DateTime), j.ID)
			name := ""
			if want.Node != "" {
				name = " --name " + want.Node
			}
			_, err = fmt.Fprintf(env.Out, "weft node join %s --token %s --ca-hash %s%s\n", j.Server, j.Token, j.CAHash, name)
			return err
		},
	}
	f := cmd.Flags()
	f.DurationVar(&good, "for", time.Hour, "how long the token is good, at most 720h")
	f.StringVar(&want.Node, "node", "", "the only node that may be joined with it, also if there is one of that name that is not heard any more")
	f.IntVar(&want.Uses, "uses", 0, "how many machines may use it; 0: any number")
	f.StringVarP(&format, "output", "o", "table", "table, json, yaml")
	_ = cmd.RegisterFlagCompletionFunc("node", nodes) // fails only for a flag that is not there
	cmd.AddCommand(newTokenListCommand(env), newTokenRevokeCommand(env))
	return cmd
}

func newTokenListCommand(env *term.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "list", Short: "List the join tokens, without their secrets", Args: cobra.NoArgs,
		Example: "  weft node token list\n  weft node token list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json"); err != nil {
				return err
			}
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			tokens, err := c.JoinTokens(cmd.Context())
			if err != nil {
				return err
			}
			if format == "json" {
				return env.WriteJSON(tokens)
			}
			tab := tabwriter.NewWriter(env.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(tab, "ID\tSTATE\tNODE\tUSED\tMADE\tENDS")
			for _, t := range tokens {
				used := strconv.Itoa(t.Used)
				if t.Uses > 0 {
					used += "/" + strconv.Itoa(t.Uses)
				}
				fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.State, cmp.Or(t.Node, "-"), used,
					t.Made.Local().Format(time.DateTime), t.Ends.Local().Format(time.DateTime))
			}
			return tab.Flush()
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json")
	return cmd
}

func newTokenRevokeCommand(env *term.Env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a join token; nodes that joined by it stay", Args: cobra.ExactArgs(1),
		Example: "  weft node token list\n  weft node token revoke 3f9ab1c05d7e",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			if err := c.RevokeJoinToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Out, "join token %s revoked\n", args[0])
			return err
		},
	}
}

// serverOf completes the stream's address where the server listens on all of its own: nodes reach it as this client does.
func serverOf(stream, api string) string {
	host, port, err := net.SplitHostPort(stream)
	if err != nil || host != "" {
		return stream
	}
	if u, err := url.Parse(api); err == nil {
		host = u.Hostname()
	}
	return net.JoinHostPort(host, port)
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
