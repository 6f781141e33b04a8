// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"weft/client"
	"weft/internal/cli/names"
	"weft/internal/cli/show"
	"weft/internal/cli/term"
)

func newContextCommand(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "context", Short: "List contexts, or choose the current one",
		Long:    "A context names a server, how to check it, a token and a default tenant. 'weft lab up' makes one of the lab's name.",
		Example: "  weft context list\n  weft context use dc1\n  weft context add prod --server https://weft.example:7443 --ca-file ca.pem --token-file admin.token",
	}
	list := &cobra.Command{
		Use: "list", Short: "List contexts", Args: cobra.NoArgs, Example: "  weft context list",
		RunE: func(*cobra.Command, []string) error {
			all, err := client.LoadContexts()
			if err != nil {
				return err
			}
			t := env.NewTable()
			t.Add("CURRENT", "NAME", "SERVER", "TENANT", "LAB")
			for _, c := range all.Contexts {
				mark := ""
				if c.Name == all.Current {
					mark = "*"
				}
				t.Add(mark, c.Name, c.Server, show.Dash(c.Tenant), show.Dash(c.Lab))
			}
			return t.Flush()
		},
	}
	use := &cobra.Command{
		Use: "use NAME", Short: "Choose the current context", Args: cobra.ExactArgs(1), Example: "  weft context use dc1\n  weft context use prod && weft status",
		ValidArgsFunction: names.Contexts,
		RunE: func(_ *cobra.Command, args []string) error {
			return client.UpdateContexts(func(c *client.Contexts) error { return c.Use(args[0]) })
		},
	}
	current := &cobra.Command{
		Use: "current", Short: "Print the name of the current context", Args: cobra.NoArgs, Example: "  weft context current",
		RunE: func(*cobra.Command, []string) error {
			t, err := env.Target()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(env.Out, t.Name)
			return err
		},
	}
	remove := &cobra.Command{
		Use: "remove NAME", Short: "Remove a context; the token in it stays good", Args: cobra.ExactArgs(1), Example: "  weft context remove red-viewer\n  weft context use prod && weft context remove dc1",
		ValidArgsFunction: names.Contexts,
		RunE: func(_ *cobra.Command, args []string) error {
			return client.UpdateContexts(func(c *client.Contexts) error {
				_, err := c.Get(args[0])
				c.Remove(args[0])
				return err
			})
		},
	}
	var add client.Context
	addCmd := &cobra.Command{
		Use: "add NAME --server URL", Short: "Add a context, or change it, and make it current", Args: cobra.ExactArgs(1),
		Example: "  weft context add prod --server https://weft.example:7443 --ca-file ca.pem --token-file admin.token\n  weft context add prod -t red --server https://weft.example:7443 --ca-file ca.pem --token-file red.token\n  weft context add public --server https://weft.example:7443 --token-file red.token   # its certificate is one that the machine trusts",
		RunE: func(_ *cobra.Command, args []string) error {
			add.Name = args[0]
			add.Tenant = env.Tenant
			if _, err := add.Client(); err != nil {
				return err
			}
			return client.UpdateContexts(func(c *client.Contexts) error { c.Add(add); return nil })
		},
	}
	f := addCmd.Flags()
	f.StringVar(&add.Server, "server", "", "URL of the API, such as https://weft.example:7443")
	f.StringVar(&add.CAFile, "ca-file", "", "certificate of the server's authority (ca.pem)")
	f.StringVar(&add.TokenFile, "token-file", "", "file with the token (admin.token)")
	cmd.AddCommand(list, current, use, addCmd, remove)
	return cmd
}
