// SPDX-License-Identifier: Apache-2.0

// Package outcome tells what a write did, and waits until nodes have it in effect.
package outcome

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

// Wait says whether a write waits until nodes have it.
type Wait struct {
	On      bool
	Timeout time.Duration
}

// Register adds --wait and --timeout to a command that writes.
func (f *Wait) Register(env *term.Env, cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.On, "wait", term.IsTerminal(env.Err), "return when every node that is concerned has it in effect")
	cmd.Flags().Lookup("wait").DefValue = "at a terminal" // help and manual are the same everywhere
	cmd.Flags().DurationVar(&f.Timeout, "timeout", time.Minute, "how long --wait waits")
}

// Print writes what was done to each resource.
func Print(env *term.Env, res *v1.Result) {
	suffix := ""
	if res.DryRun {
		suffix = " (dry run)"
	}
	for _, i := range res.Items {
		fmt.Fprintf(env.Out, "%s %s%s\n", ID(i), i.Action, suffix)
	}
}

// ID is what a resource is called: red/port/web-1.
func ID(i v1.ResultItem) string {
	info, _ := v1.KindByWord(string(i.Kind))
	o := info.New()
	o.Meta().Tenant, o.Meta().Name = i.Tenant, i.Name
	return v1.ID(o)
}

// Applied returns how far a resource is in effect; ok is false for kinds that nodes do not know.
func Applied(o v1.Object) (v1.Applied, bool) {
	switch o := o.(type) {
	case *v1.VPC:
		return o.Status.Applied, true
	case *v1.Subnet:
		return o.Status.Applied, true
	case *v1.Port:
		return o.Status.Applied, true
	case *v1.RouteTable:
		return o.Status.Applied, true
	}
	return v1.Applied{}, false
}

// Await waits until every resource is in effect on every node that it concerns.
func (f *Wait) Await(ctx context.Context, env *term.Env, c *client.Client, items []v1.ResultItem) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	nodes, told := 0, time.Now()
	for _, item := range items {
		var a v1.Applied // as last heard
		for {
			o, err := c.Get(ctx, item.Kind, item.Tenant, item.Name)
			if err != nil && ctx.Err() == nil {
				return err
			}
			if err == nil {
				known := false
				a, known = Applied(o)
				if !known || (len(a.Waiting) == 0 && a.Applied >= a.Nodes) {
					nodes = max(nodes, a.Nodes)
					break
				}
			}
			if ctx.Err() != nil {
				return &v1.Error{
					Code: v1.CodeTimeout, Object: ID(item), Message: fmt.Sprintf("in effect on %d of %d nodes after %s, waiting for %s", a.Applied, a.Nodes, f.Timeout, strings.Join(a.Waiting, ", ")),
					Fix: "it stays written, and is put into effect when those nodes can; look at 'weft status'",
				}
			}
			if time.Since(told) > time.Second {
				told = time.Now()
				fmt.Fprintf(env.Err, "applying  %s  %d/%d nodes  %.1fs  waiting for %s\n", ID(item), a.Applied, a.Nodes, time.Since(start).Seconds(), strings.Join(a.Waiting, ", "))
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	fmt.Fprintf(env.Err, "applied   %d/%d nodes in %.1fs\n", nodes, nodes, time.Since(start).Seconds())
	return nil
}
