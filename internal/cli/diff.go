// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

func newDiffCommand(env *term.Env) *cobra.Command {
	var files fileFlags
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long:  `Show what apply would change, as a unified diff. Exits with 0 if nothing would, 1 if something would, more on an error.`,
		Example: `  weft diff -f network.yaml
  weft diff -f examples/ -R && echo nothing to do`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := runDiff(cmd.Context(), env, files)
			if code := term.ExitCode(err); code == term.ExitFailure && !isCode(err) {
				env.PrintError(err)
				return term.Code(term.ExitUsage) // 1 means "differs"
			}
			return err
		},
	}
	files.register(cmd)
	return cmd
}

func isCode(err error) bool {
	var code term.Code
	return errors.As(err, &code)
}

func runDiff(ctx context.Context, env *term.Env, files fileFlags) error {
	c, target, err := env.Client()
	if err != nil {
		return err
	}
	docs, err := files.load(env, target.Tenant)
	if err != nil {
		return err
	}
	if len(docs) <= 5000 { // the server's own checks, as far as one dry run sees all of its documents
		if _, err := c.Apply(ctx, docs, client.ApplyOptions{DryRun: true}); err != nil {
			return err
		}
	}
	differs := false
	for _, d := range docs {
		d.Default()
		old, err := c.Get(ctx, d.GetKind(), d.Meta().Tenant, d.Meta().Name)
		var e *v1.Error
		switch {
		case errors.As(err, &e) && e.Code == v1.CodeNotFound:
			old = nil
		case err != nil:
			return err
		}
		was, err := intent(old)
		if err != nil {
			return err
		}
		will, err := intent(d)
		if err != nil {
			return err
		}
		if was != will {
			differs = true
			text := diff.Diff("stored/"+v1.ID(d), []byte(was), "file/"+v1.ID(d), []byte(will))
			_, rest, _ := strings.Cut(string(text), "\n") // the first line names a program
			fmt.Fprint(env.Out, rest)
		}
	}
	if differs {
		return term.Code(term.ExitFailure)
	}
	return nil
}

// intent is the part of a resource that users write, as YAML.
func intent(o v1.Object) (string, error) {
	if o == nil {
		return "", nil
	}
	c := v1.Clone(o)
	c.ClearStatus()
	m := c.Meta()
	*m = v1.Metadata{Name: m.Name, Tenant: m.Tenant, Labels: m.Labels}
	return term.ToYAML(c)
}
