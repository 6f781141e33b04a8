// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/show"
	"weft/internal/cli/term"
)

func newDiffCommand(env *term.Env) *cobra.Command {
	var files fileFlags
	cmd := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change",
		Long: `Show what apply would change, as a unified diff of what is stored and what the server would store. Exits with 0 if nothing would
change, 1 if something would, more than 1 on an error.`,
		Example: `  weft diff -f network.yaml
  weft diff -f examples/ -R && echo nothing to do
  weft get port red/web-1 -o yaml | sed s/host-1/host-2/ | weft diff -f -`,
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
	res, err := c.Apply(ctx, docs, client.ApplyOptions{DryRun: true})
	if err != nil {
		return err
	}
	differs := false
	for i, d := range docs {
		if d, err = after(d, res.Items[i]); err != nil {
			return err
		}
		old, err := c.Get(ctx, d.GetKind(), d.Meta().Tenant, d.Meta().Name)
		var e *v1.Error
		switch {
		case errors.As(err, &e) && e.Code == v1.CodeNotFound:
			old = nil
		case err != nil:
			return err
		}
		was, err := show.Intent(old)
		if err != nil {
			return err
		}
		will, err := show.Intent(d)
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

// after is a document as the server would store it.
func after(d v1.Object, item v1.ResultItem) (v1.Object, error) {
	if len(item.Object) == 0 { // an older server does not say
		d.Default()
		return d, nil
	}
	out, _ := v1.New(d.GetKind())
	return out, json.Unmarshal(item.Object, out)
}
