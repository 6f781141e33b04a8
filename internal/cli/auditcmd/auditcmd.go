// SPDX-License-Identifier: Apache-2.0

// Package auditcmd is the commands of the audit log: who did what, and whether the log is as it was written.
package auditcmd

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"weft/client"
	"weft/internal/audit"
	"weft/internal/cli/term"
)

// followEvery is how often --follow asks.
const followEvery = time.Second

// New makes "weft audit".
func New(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Show who did what, and check that the log was not changed",
		Example: "  weft audit log --since 1h\n  weft audit log -t red --failed\n  weft audit verify /var/lib/weft/server/audit",
	}
	cmd.AddCommand(newLogCommand(env), newVerifyCommand(env))
	return cmd
}

func newLogCommand(env *term.Env) *cobra.Command {
	var q client.AuditQuery
	var since, until, format string
	var follow bool
	cmd := &cobra.Command{
		Use: "log", Short: "Show who did what", Args: cobra.NoArgs,
		Long: `Show who did what: writes and refusals, tokens made and revoked, what nodes claimed, questions to nodes, and who could not prove who it is.
Admins see all of it, a tenant's admins what concerns their tenant. Of what happens often (wrong tokens, questions to nodes) there is a
record each minute.`,
		Example: "  weft audit log\n  weft audit log --since 1h -t red --failed\n  weft audit log --object 'red/port/web-*' --operation delete\n  weft audit log --principal token:k3vq7mab -o json\n  weft audit log --follow",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := term.CheckFormat(format, "table", "json"); err != nil {
				return err
			}
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			q.Tenant = env.Tenant
			for _, t := range []struct {
				flag, text string
				to         *time.Time
			}{{"since", since, &q.Since}, {"until", until, &q.Until}} {
				if *t.to, err = moment(t.text, time.Now()); err != nil {
					return term.Usage(fmt.Errorf("--%s: %w", t.flag, err))
				}
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			return show(ctx, env, c, q, format, follow)
		},
	}
	f := cmd.Flags()
	f.StringVar(&since, "since", "", "not before: a duration such as 1h, or a time such as 2026-01-31T12:00:00Z")
	f.StringVar(&until, "until", "", "before: the same")
	f.StringVar(&q.Principal, "principal", "", "of this one only: admin, token:ID, user:NAME, node:NAME")
	f.StringVar(&q.Operation, "operation", "", "this one only, such as apply, delete, claim, make-token")
	f.StringVar(&q.Object, "object", "", "this one only, such as red/port/web-1; with * at its end those that begin so")
	f.BoolVar(&q.Failed, "failed", false, "what was refused only")
	f.IntVar(&q.Limit, "limit", 1000, "the last so many, at most 10000")
	f.BoolVar(&follow, "follow", false, "go on with what comes")
	f.StringVarP(&format, "output", "o", "table", "table, json (a record a line)")
	return cmd
}

// moment reads a time, or how long ago it was; "" is none.
func moment(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a duration such as 1h nor a time such as 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}

func show(ctx context.Context, env *term.Env, c *client.Client, q client.AuditQuery, format string, follow bool) error {
	tab := tabwriter.NewWriter(env.Out, 0, 0, 2, ' ', 0)
	if format == "table" {
		fmt.Fprintln(tab, "TIME\tPRINCIPAL\tOPERATION\tOBJECT\tOUTCOME\tFROM\tREQUEST")
	}
	for {
		records, err := c.Audit(ctx, q)
		if err != nil {
			if follow && ctx.Err() != nil {
				return nil
			}
			return err
		}
		for _, raw := range records {
			var r audit.Record
			if err := json.Unmarshal(raw, &r); err != nil {
				return fmt.Errorf("read audit record: %w", err)
			}
			q.After = r.Sequence
			if format == "json" {
				fmt.Fprintf(env.Out, "%s\n", raw)
				continue
			}
			fmt.Fprintf(tab, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Time.Local().Format(time.DateTime), cmp.Or(r.Principal, "-"), r.Operation, cmp.Or(r.Object, "-"), r.Outcome, cmp.Or(r.From, "-"), cmp.Or(r.Request, "-"))
		}
		if err := tab.Flush(); err != nil || !follow {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

func newVerifyCommand(env *term.Env) *cobra.Command {
	var format, head string
	cmd := &cobra.Command{
		Use: "verify DIRECTORY | FILE...", Short: "Check that no record was changed, removed or added", Args: cobra.MinimumNArgs(1),
		Long: `Check the chain of the log's records, from its files and without a server: the folder audit of the server's state directory, or copies of its
files in their order. It prints the hash of the last record. Keep that somewhere else: --head checks later that the log still has it.`,
		Example: "  weft audit verify /var/lib/weft/server/audit\n  weft audit verify audit-00000000000000000001.log audit.log\n  weft audit verify /var/lib/weft/server/audit --head 9f2c…",
		RunE: func(_ *cobra.Command, args []string) error {
			if err := term.CheckFormat(format, "table", "json"); err != nil {
				return err
			}
			files := args
			if info, err := os.Stat(args[0]); err == nil && info.IsDir() && len(args) == 1 {
				if files, err = audit.Files(args[0]); err != nil {
					return fmt.Errorf("verify: %w", err)
				}
			}
			v, err := audit.Verify(files...)
			if err == nil && head != "" && !v.Had(head) {
				err = fmt.Errorf("%w: no record has the hash %s: the log was cut, or is another one", audit.ErrBroken, head)
			}
			if format == "json" {
				if werr := env.WriteJSON(v); werr != nil {
					return werr
				}
				return err
			}
			if err != nil {
				return err
			}
			if v.Records == 0 {
				_, err := fmt.Fprintln(env.Out, "there are no records")
				return err
			}
			fmt.Fprintf(env.Out, "%d records, %d to %d, from %s to %s: the chain holds\nhead  %s\n", v.Records, v.From, v.To,
				v.First.Time.Local().Format(time.DateTime), v.Last.Time.Local().Format(time.DateTime), v.Head)
			for _, gap := range v.Gaps {
				fmt.Fprintln(env.Out, "gap   "+gap)
			}
			if v.From > 1 {
				fmt.Fprintf(env.Err, "records before %d are not here\n", v.From)
			}
			if v.Torn {
				fmt.Fprintln(env.Err, "the last line is not whole: it is being written, or its server was killed")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&head, "head", "", "hash that one of the records must have")
	cmd.Flags().StringVarP(&format, "output", "o", "table", "table, json")
	return cmd
}
