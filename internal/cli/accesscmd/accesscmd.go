// SPDX-License-Identifier: Apache-2.0

// Package accesscmd is the commands of access to the API: tokens, logging in, and who one is.
package accesscmd

import (
	"cmp"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

// New makes the commands "weft token", "weft whoami" and "weft login".
func New(env *term.Env) []*cobra.Command {
	return []*cobra.Command{newTokenCommand(env), newWhoamiCommand(env), newLoginCommand(env)}
}

func newTokenCommand(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Make, list and revoke tokens for the API",
		Long: `A token lets a person or program use the API, in one role:

  admin           everything
  tenant-admin    reads and changes what one tenant has, and makes tokens for it
  tenant-viewer   reads what one tenant has

Its secret is shown once. The server keeps a hash of it only.`,
		Example: "  weft token create --role tenant-admin -t red --for 24h\n  weft token list\n  weft token revoke k3vq7mab",
	}
	cmd.AddCommand(newCreateCommand(env), newListCommand(env), newRevokeCommand(env))
	return cmd
}

func newCreateCommand(env *term.Env) *cobra.Command {
	var r v1.TokenRequest
	var good time.Duration
	var format, contextName string
	cmd := &cobra.Command{
		Use: "create", Short: "Make a token, and print it", Args: cobra.NoArgs,
		Long: `Make a token, and print it. With --as it goes into a new context instead, for 'weft --context NAME' on this machine.

The role is the tenant's viewer where a tenant is named, unless --role says otherwise.`,
		Example: `  weft token create -t red --role tenant-admin
  weft token create -t red --for 24h --description "dashboard"
  weft token create --role admin --for 8h
  weft token create -t red --as red-viewer && weft get ports --context red-viewer`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json", "yaml"); err != nil {
				return err
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			r.ExpiresIn = good.String()
			if r.Role != "admin" {
				r.Tenant = cmp.Or(env.Tenant, target.Tenant)
			}
			if r.Role == "" && r.Tenant == "" {
				return term.Usage(fmt.Errorf("name the tenant (-t), or use --role admin"))
			}
			r.Role = cmp.Or(r.Role, "tenant-viewer")
			t, err := c.CreateToken(cmd.Context(), r)
			if err != nil {
				return err
			}
			if contextName != "" {
				return saveAs(env, target, contextName, *t)
			}
			switch format {
			case "json":
				return env.WriteJSON(t)
			case "yaml":
				text, err := term.ToYAML(t)
				fmt.Fprint(env.Out, text)
				return err
			}
			fmt.Fprintf(env.Err, "%s %s%s, %s; weft token revoke %s ends it before\n", t.ID, t.Role, ofTenant(t.Tenant), ends(t.Expires), t.ID)
			_, err = fmt.Fprintln(env.Out, t.Secret)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Role, "role", "", "admin, tenant-admin, tenant-viewer (default tenant-viewer)")
	f.DurationVar(&good, "for", 30*24*time.Hour, "how long the token is good; 0: it does not end")
	f.StringVar(&r.Description, "description", "", "what it is for")
	f.StringVar(&contextName, "as", "", "make a context of this name with the token, instead of printing it")
	f.StringVarP(&format, "output", "o", "table", "table, json, yaml")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"admin", "tenant-admin", "tenant-viewer"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// saveAs makes a context with a token, for the server of another.
func saveAs(env *term.Env, of client.Context, name string, t v1.Token) error {
	return save(env, client.Context{Name: name, Server: of.Server, CA: of.CA, CAFile: of.CAFile, Token: t.Secret, Tenant: t.Tenant})
}

func save(env *term.Env, x client.Context) error {
	err := client.UpdateContexts(func(c *client.Contexts) error {
		for _, old := range c.Contexts {
			if old.Name == x.Name && old.Lab != "" {
				return &v1.Error{Code: v1.CodeConflict, Message: fmt.Sprintf("context %s is a lab's", x.Name), Fix: "choose another name"}
			}
		}
		current := c.Current
		c.Add(x)
		if current != "" {
			c.Current = current
		}
		return nil
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Err, "context %s is made; weft context use %s\n", x.Name, x.Name)
	return err
}

func ofTenant(tenant string) string {
	if tenant == "" {
		return ""
	}
	return " of " + tenant
}

func ends(t time.Time) string {
	if t.IsZero() {
		return "without end"
	}
	return "good until " + t.Local().Format(time.DateTime)
}

func newListCommand(env *term.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "list", Short: "List tokens, without their secrets", Args: cobra.NoArgs,
		Example: "  weft token list\n  weft token list -t red\n  weft token list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json"); err != nil {
				return err
			}
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			tokens, err := c.Tokens(cmd.Context(), env.Tenant)
			if err != nil {
				return err
			}
			if format == "json" {
				return env.WriteJSON(tokens)
			}
			tab := tabwriter.NewWriter(env.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(tab, "ID\tROLE\tTENANT\tMADE\tBY\tENDS\tFOR")
			for _, t := range tokens {
				end := "never"
				if !t.Expires.IsZero() {
					end = t.Expires.Local().Format(time.DateTime)
				}
				fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.Role, cmp.Or(t.Tenant, "-"), t.Created.Local().Format(time.DateTime), t.CreatedBy, end, cmp.Or(t.Description, "-"))
			}
			return tab.Flush()
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json")
	return cmd
}

func newRevokeCommand(env *term.Env) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "End a token at once, also for watches that are open", Args: cobra.ExactArgs(1),
		Example: "  weft token list\n  weft token revoke k3vq7mab",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			if err := c.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Out, "token %s revoked\n", args[0])
			return err
		},
	}
}

func newWhoamiCommand(env *term.Env) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "whoami", Short: "Show who the server takes one for, and what that allows", Args: cobra.NoArgs,
		Example: "  weft whoami\n  weft whoami --context red-viewer\n  weft whoami -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json"); err != nil {
				return err
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			w, err := c.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			if format == "json" {
				return env.WriteJSON(w)
			}
			may := map[string]string{
				"admin": "everything", "tenant-admin": "reading and changing what the tenant has, and making tokens for it", "tenant-viewer": "reading what the tenant has",
			}
			tab := tabwriter.NewWriter(env.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintf(tab, "Name:\t%s\nServer:\t%s\nRole:\t%s%s\nAllows:\t%s\nToken:\t%s\n", w.Name, target.Server, cmp.Or(w.Role, "none"), ofTenant(w.Tenant), cmp.Or(may[w.Role], "nothing; ask an admin for a role"), ends(w.Expires))
			return tab.Flush()
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json")
	return cmd
}
