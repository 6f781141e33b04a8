// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/names"
	"weft/internal/cli/ref"
	"weft/internal/cli/show"
	"weft/internal/cli/term"
)

// getFlags are the flags of get.
type getFlags struct {
	all      bool
	format   string
	selector string
	watch    bool
}

func newGetCommand(env *term.Env) *cobra.Command {
	var f getFlags
	cmd := &cobra.Command{
		Use:   "get KIND[,KIND] [NAME...]",
		Short: "List resources, or drop counters",
		Long: `List resources of one or several kinds: ` + ref.Words() + `. 'weft get drops' lists what the packet path dropped, by node,
tenant and reason. Where neither -t nor the context names a tenant, it lists those of all.`,
		Example: `  weft get vpc,subnet,port -o wide
  weft get port -t red
  weft get port red/web-1 -o yaml
  weft get port -A -o csv > ports.csv
  weft get port -t red -o jsonpath='{range .items[*]}{.metadata.name} {.status.addresses[0]}{"\n"}{end}'
  weft get port -t red --watch
  weft get drops`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: names.Refs(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := show.CheckFormat(f.format); err != nil {
				return err
			}
			drops := args[0] == "drops" || args[0] == "drop"
			var refs []ref.Ref
			if !drops {
				var err error
				if refs, err = ref.Parse(args); err != nil {
					return err
				}
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			if drops {
				return getDrops(cmd.Context(), env, c, f, target.Tenant)
			}
			if f.watch {
				return watch(cmd.Context(), env, c, refs, f, target.Tenant)
			}
			return get(cmd.Context(), env, c, refs, f, target.Tenant)
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&f.all, "all-tenants", "A", false, "of all tenants")
	fl.StringVarP(&f.format, "output", "o", "table", show.Formats)
	fl.StringVarP(&f.selector, "selector", "l", "", "only with these labels: key=value[,key=value]")
	fl.BoolVarP(&f.watch, "watch", "w", false, "go on with what changes")
	return cmd
}

func get(ctx context.Context, env *term.Env, c *client.Client, refs []ref.Ref, f getFlags, def string) error {
	match, err := parseSelector(f.selector)
	if err != nil {
		return err
	}
	var kinds []v1.KindInfo
	byKind := make(map[v1.Kind][]v1.Object)
	for _, r := range refs {
		objects, err := fetch(ctx, c, r, f.all, def)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(kinds, func(k v1.KindInfo) bool { return k.Kind == r.Kind.Kind }) {
			kinds = append(kinds, r.Kind)
		}
		for _, o := range objects {
			if match(o) {
				byKind[r.Kind.Kind] = append(byKind[r.Kind.Kind], o)
			}
		}
	}
	return show.Objects(env, f.format, kinds, byKind, len(refs) == 1 && refs[0].Name != "")
}

// fetch gets what a reference names; without any tenant, of all of them.
func fetch(ctx context.Context, c *client.Client, r ref.Ref, all bool, def string) ([]v1.Object, error) {
	if r.Name == "" && r.Tenant == "" && def == "" {
		all = true
	}
	tenant := ""
	if !all || r.Name != "" {
		var err error
		if tenant, err = r.In(def); err != nil {
			return nil, err
		}
	}
	if r.Name != "" {
		o, err := c.Get(ctx, r.Kind.Kind, tenant, r.Name)
		return []v1.Object{o}, err
	}
	objects, _, err := c.List(ctx, r.Kind.Kind, tenant)
	return objects, err
}

// parseSelector reads key=value[,key=value].
func parseSelector(s string) (func(v1.Object) bool, error) {
	want := make(map[string]string)
	for _, part := range strings.Split(s, ",") {
		if part == "" {
			continue
		}
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			return nil, term.Usagef("-l %s: %q is not key=value", s, part)
		}
		want[k] = v
	}
	return func(o v1.Object) bool {
		for k, v := range want {
			if have, ok := o.Meta().Labels[k]; !ok || have != v {
				return false
			}
		}
		return true
	}, nil
}

// watch prints what there is, and then a line for each change, with what happened in front.
func watch(ctx context.Context, env *term.Env, c *client.Client, refs []ref.Ref, f getFlags, def string) error {
	if len(refs) != 1 || term.CheckFormat(f.format, "table", "wide", "name", "json") != nil {
		return term.Usagef("--watch follows one kind, as a table, -o wide, -o name or -o json")
	}
	match, err := parseSelector(f.selector)
	if err != nil {
		return err
	}
	r := refs[0]
	tenant := ""
	if !f.all && (r.Name != "" || r.Tenant != "" || def != "") {
		if tenant, err = r.In(def); err != nil {
			return err
		}
	}
	ctx, stop := term.WithSignals(ctx)
	defer stop()
	step := watchPrinter(env, r.Kind.Kind, f.format)
	for {
		err := watchOnce(ctx, c, r, tenant, func(t v1.EventType, o v1.Object) error {
			if !match(o) || (r.Name != "" && r.Name != o.Meta().Name) {
				return nil
			}
			return step(t, o)
		})
		var e *v1.Error
		if !errors.As(err, &e) || e.Code != v1.CodeExpired {
			return err
		}
		fmt.Fprintln(env.Err, "the server no longer knows what came in between: all that there is, once more")
	}
}

// watchOnce shows what there is, and then what changes, until the server no longer knows where it was.
func watchOnce(ctx context.Context, c *client.Client, r ref.Ref, tenant string, show func(v1.EventType, v1.Object) error) error {
	objects, version, err := c.List(ctx, r.Kind.Kind, tenant)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := show(v1.EventAdded, o); err != nil {
			return err
		}
	}
	for e, err := range c.Watch(ctx, r.Kind.Kind, tenant, version) {
		if err != nil {
			return err
		}
		if e.Object == nil {
			continue
		}
		if err := show(e.Type, e.Object); err != nil {
			return err
		}
	}
	return nil
}

// watchPrinter returns what prints one step; columns are wide enough for most, as later rows are not known.
func watchPrinter(env *term.Env, kind v1.Kind, format string) func(v1.EventType, v1.Object) error {
	cols, first := show.Columns(kind), true
	line := func(event string, cells []string) error {
		_, err := fmt.Fprintf(env.Out, "%-9s%s\n", event, strings.TrimRight(padded(cells), " "))
		return err
	}
	return func(t v1.EventType, o v1.Object) error {
		switch format {
		case "json":
			return env.WriteJSON(map[string]any{"type": t, "object": o})
		case "name":
			_, err := fmt.Fprintf(env.Out, "%-9s%s\n", t, v1.ID(o))
			return err
		}
		if first {
			first = false
			if err := line("EVENT", show.Heads(cols, format == "wide")); err != nil {
				return err
			}
		}
		return line(string(t), show.Cells(cols, format == "wide", o))
	}
}

func padded(cells []string) string {
	var b strings.Builder
	for _, c := range cells {
		fmt.Fprintf(&b, "%-14s ", c)
	}
	return b.String()
}

func getDrops(ctx context.Context, env *term.Env, c *client.Client, f getFlags, tenant string) error {
	if f.all {
		tenant = ""
	}
	drops, warnings, err := c.Drops(ctx, tenant)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(env.Err, "warning:", w)
	}
	switch f.format {
	case "json":
		return env.WriteJSON(map[string]any{"apiVersion": v1.APIVersion, "kind": "DropList", "items": drops})
	case "table", "wide":
	default:
		return term.CheckFormat(f.format, "table", "wide", "json")
	}
	t := env.NewTable()
	head := []string{"NODE", "TENANT", "REASON", "PACKETS", "BYTES"}
	if f.format == "wide" {
		head = append(head, "MEANING")
	}
	t.Add(head...)
	for _, d := range drops {
		row := []string{d.Node, show.Dash(d.Tenant), d.Reason, fmt.Sprint(d.Packets), fmt.Sprint(d.Bytes)}
		if f.format == "wide" {
			row = append(row, d.Meaning)
		}
		t.Add(row...)
	}
	return t.Flush()
}
