// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/names"
	"weft/internal/cli/outcome"
	"weft/internal/cli/ref"
	"weft/internal/cli/term"
)

// deleteFlags are the flags of delete.
type deleteFlags struct {
	files   fileFlags
	cascade bool
	yes     bool
	dryRun  bool
}

func newDeleteCommand(env *term.Env) *cobra.Command {
	var f deleteFlags
	cmd := &cobra.Command{
		Use:   "delete KIND NAME... | -f FILE",
		Short: "Delete resources",
		Long: `Delete resources. What other resources use is refused, and the error names them; --cascade deletes those, too. It shows
what will go and asks; without a terminal it needs --yes.`,
		Example: `  weft delete port red/web-1
  weft delete tenant red --cascade
  weft delete -f network.yaml --yes`,
		ValidArgsFunction: names.Refs(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			refs, err := f.refs(env, args, target.Tenant)
			if err != nil {
				return err
			}
			return remove(cmd.Context(), env, c, refs, f)
		},
	}
	f.files.register(cmd)
	fl := cmd.Flags()
	fl.BoolVar(&f.cascade, "cascade", false, "delete what uses them, too")
	fl.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what would go, and delete nothing")
	return cmd
}

// refs lists what to delete, the users before the used.
func (f *deleteFlags) refs(env *term.Env, args []string, def string) ([]ref.Ref, error) {
	if len(f.files.files) > 0 {
		docs, err := f.files.load(env, def)
		if err != nil {
			return nil, err
		}
		var refs []ref.Ref
		for _, d := range docs {
			info, _ := v1.KindByWord(string(d.GetKind()))
			refs = append(refs, ref.Ref{Kind: info, Tenant: d.Meta().Tenant, Name: d.Meta().Name})
		}
		order := func(k v1.Kind) int {
			return slices.IndexFunc(v1.Kinds(), func(i v1.KindInfo) bool { return i.Kind == k })
		}
		slices.SortStableFunc(refs, func(a, b ref.Ref) int { return order(b.Kind.Kind) - order(a.Kind.Kind) })
		return refs, nil
	}
	refs, err := ref.Parse(args)
	if err != nil {
		return nil, err
	}
	for i, r := range refs {
		if r.Name == "" {
			return nil, term.Usagef("name what to delete: weft delete %s NAME", r.Kind.Singular)
		}
		if refs[i].Tenant, err = r.In(def); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

func remove(ctx context.Context, env *term.Env, c *client.Client, refs []ref.Ref, f deleteFlags) error {
	if !f.yes || f.dryRun {
		preview, err := f.preview(ctx, c, refs)
		if err != nil {
			return err
		}
		if f.dryRun {
			outcome.Print(env, preview)
			return nil
		}
		showBlast(env, preview)
		if err := confirm(env, len(preview.Items)); err != nil {
			return err
		}
	}
	for _, r := range refs {
		res, err := c.Delete(ctx, r.Kind.Kind, r.Tenant, r.Name, client.DeleteOptions{Cascade: f.cascade})
		if f.fromFile() && isNotFound(err) {
			continue // the file may name more than there is
		}
		if err != nil {
			return err
		}
		outcome.Print(env, res)
	}
	return nil
}

func (f *deleteFlags) fromFile() bool { return len(f.files.files) > 0 }

func isNotFound(err error) bool {
	var e *v1.Error
	return errors.As(err, &e) && e.Code == v1.CodeNotFound
}

// preview asks the server what would go. The documents of a file may use one another: what they take along has to be in
// the file too, unless it cascades.
func (f *deleteFlags) preview(ctx context.Context, c *client.Client, refs []ref.Ref) (*v1.Result, error) {
	named, seen := make(map[string]bool), make(map[string]bool)
	for _, r := range refs {
		named[outcome.ID(v1.ResultItem{Kind: r.Kind.Kind, Tenant: r.Tenant, Name: r.Name})] = true
	}
	all := &v1.Result{DryRun: true}
	for _, r := range refs {
		res, err := c.Delete(ctx, r.Kind.Kind, r.Tenant, r.Name, client.DeleteOptions{Cascade: f.cascade || f.fromFile(), DryRun: true})
		if f.fromFile() && isNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, i := range res.Items {
			id := outcome.ID(i)
			if !named[id] && !f.cascade {
				return nil, &v1.Error{
					Code: v1.CodeInUse, Object: outcome.ID(v1.ResultItem{Kind: r.Kind.Kind, Tenant: r.Tenant, Name: r.Name}),
					Message: "it is in use by " + id + ", which the file does not name", Fix: "delete that first, or delete all of it with --cascade",
				}
			}
			if !seen[id] {
				seen[id] = true
				all.Items = append(all.Items, i)
			}
		}
	}
	return all, nil
}

// showBlast lists what would go, ten lines at most.
func showBlast(env *term.Env, res *v1.Result) {
	for i, item := range res.Items {
		if i == 10 {
			fmt.Fprintf(env.Err, "  and %d more\n", len(res.Items)-10)
			return
		}
		fmt.Fprintf(env.Err, "  %s will be %s\n", outcome.ID(item), item.Action)
	}
}

func confirm(env *term.Env, n int) error {
	if !term.IsTerminal(env.In) {
		return term.Usagef("there is no terminal to ask at whether to delete %s: add --yes", counted(n, "resource"))
	}
	fmt.Fprintf(env.Err, "delete %s? [y/N] ", counted(n, "resource"))
	line, _ := bufio.NewReader(env.In).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		fmt.Fprintln(env.Err, "nothing was deleted")
		return term.Code(term.ExitFailure)
	}
	return nil
}

// counted writes "1 resource", "2 resources".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
