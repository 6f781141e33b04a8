// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/names"
	"weft/internal/cli/outcome"
	"weft/internal/cli/ref"
	"weft/internal/cli/show"
	"weft/internal/cli/term"
)

func newDescribeCommand(env *term.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "describe KIND NAME",
		Short: "Show one resource with all that belongs to it",
		Example: `  weft describe port red/web-1
  weft describe node host-1
  weft describe routetable red/out
  weft describe vpc main -t red`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: names.Refs(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			refs, err := ref.Parse(args)
			if err != nil {
				return err
			}
			c, target, err := env.Client()
			if err != nil {
				return err
			}
			first := true
			for _, r := range refs {
				objects, err := fetch(cmd.Context(), c, r, false, target.Tenant)
				if err != nil {
					return err
				}
				for _, o := range objects {
					if !first {
						fmt.Fprintln(env.Out)
					}
					first = false
					if err := describe(cmd.Context(), env, c, o); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// describe writes sections of "Name: value" lines.
func describe(ctx context.Context, env *term.Env, c *client.Client, o v1.Object) error {
	m := o.Meta()
	t := env.NewTable()
	t.Add("Name:", m.Name)
	t.Add("Kind:", string(o.GetKind()))
	if m.Tenant != "" {
		t.Add("Tenant:", m.Tenant)
	}
	t.Add("Labels:", show.Labels(o))
	t.Add("Created:", fmt.Sprintf("%s (%s ago)", m.CreatedAt.Format(time.RFC3339), show.Age(m.CreatedAt)))
	t.Add("Version:", fmt.Sprintf("%s, generation %d", m.ResourceVersion, m.Generation))
	switch o := o.(type) {
	case *v1.Tenant:
		q := o.Spec.Quota.Effective()
		t.Add("Number:", fmt.Sprint(o.Status.Number))
		t.Add("Quota:", fmt.Sprintf("%d VPCs, %d subnets, %d ports, %d route tables with %d entries", q.VPCs, q.Subnets, q.Ports, q.RouteTables, q.Routes))
	case *v1.Node:
		t.Add("Address:", o.Spec.Address.String())
		t.Add("Roles:", strings.Join(o.Spec.Roles, ", "))
		t.Add("Site:", show.Dash(o.Spec.Site))
		t.Add("State:", strings.TrimSuffix(show.NodeState(o)+": "+o.Status.Reason, ": "))
		t.Add("Last heard:", show.Age(o.Status.LastSeen)+" ago")
		if end := o.Status.CertificateEnds; !end.IsZero() {
			t.Add("Certificate:", "ends "+end.UTC().Format(time.RFC3339))
		}
		t.Add("Number:", fmt.Sprint(o.Status.Number))
		t.Add("Ports:", fmt.Sprint(o.Status.Ports))
		t.Add("Rows:", fmt.Sprint(o.Status.Rows))
		t.Add("Kernel:", show.Dash(o.Status.Kernel))
		t.Add("Agent:", show.Dash(o.Status.Version))
	case *v1.VPC:
		t.Add("Prefixes:", show.Joined(o.Spec.Prefixes))
		t.Add("VNI:", fmt.Sprint(o.Status.VNI))
	case *v1.Subnet:
		t.Add("VPC:", o.Spec.VPC)
		t.Add("Prefixes:", show.Joined(o.Spec.Prefixes))
		t.Add("Router:", show.Joined(show.Routers(o)))
		t.Add("DNS:", show.Joined(o.Spec.DNS))
		table, err := tableOf(ctx, c, o)
		if err != nil {
			return err
		}
		t.Add("Routes:", table)
	case *v1.Port:
		t.Add("VPC:", fmt.Sprintf("%s (VNI %d)", o.Status.VPC, o.Status.VNI))
		t.Add("Subnet:", o.Spec.Subnet)
		t.Add("Address:", show.Joined(o.Status.Addresses))
		t.Add("MAC:", o.Status.MAC.String())
		t.Add("Sends also:", show.Joined(o.Spec.AllowedSources))
		t.Add("May be at:", strings.TrimPrefix(show.Dash(o.Spec.Node), "-")+map[bool]string{true: "any node"}[o.Spec.Node == ""])
		t.Add("State:", o.Status.State)
		t.Add("Node:", show.Dash(o.Status.Node))
		t.Add("Binding:", show.Dash(o.Status.Binding))
	}
	if rt, ok := o.(*v1.RouteTable); ok {
		t.Add("VPC:", rt.Spec.VPC)
		t.Add("Subnets:", show.Dash(strings.Join(rt.Spec.Subnets, ",")))
		t.Add("Number:", fmt.Sprint(rt.Status.Number))
	}
	if a, ok := outcome.Applied(o); ok {
		text := fmt.Sprintf("on %d of %d nodes", a.Applied, a.Nodes)
		if len(a.Waiting) > 0 {
			text += ", waiting for " + strings.Join(a.Waiting, ", ")
		}
		t.Add("In effect:", text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return describeMore(ctx, env, c, o)
}

// tableOf names the route table of a subnet.
func tableOf(ctx context.Context, c *client.Client, s *v1.Subnet) (string, error) {
	all, _, err := c.List(ctx, v1.KindRouteTable, s.Tenant)
	if err != nil {
		return "", err
	}
	for _, o := range all {
		if rt := o.(*v1.RouteTable); rt.Spec.VPC == s.Spec.VPC && slices.Contains(rt.Spec.Subnets, s.Name) {
			return "by routetable/" + rt.Name, nil
		}
	}
	return "straight to their destination", nil
}

// describeMore writes what refers to a resource.
func describeMore(ctx context.Context, env *term.Env, c *client.Client, o v1.Object) error {
	var kind v1.Kind
	tenant, keep := o.Meta().Tenant, func(v1.Object) bool { return true }
	switch o := o.(type) {
	case *v1.Tenant:
		kind, tenant = v1.KindVPC, o.Name
	case *v1.VPC:
		kind, keep = v1.KindSubnet, func(s v1.Object) bool { return s.(*v1.Subnet).Spec.VPC == o.Name }
	case *v1.Subnet:
		kind, keep = v1.KindPort, func(p v1.Object) bool { return p.(*v1.Port).Spec.Subnet == o.Name }
	case *v1.Node:
		kind, keep = v1.KindPort, func(p v1.Object) bool { return p.(*v1.Port).Status.Node == o.Name }
	case *v1.RouteTable:
		return describeRoutes(ctx, env, c, o)
	case *v1.Port:
		return describeHint(env, o)
	}
	all, _, err := c.List(ctx, kind, tenant)
	if err != nil {
		return err
	}
	t, cols := env.NewTable(), show.Columns(kind)
	for _, u := range all {
		if keep(u) {
			t.Add(show.Cells(cols, false, u)...)
		}
	}
	info, _ := v1.KindByWord(string(kind))
	if len(t.Rows) == 0 {
		_, err := fmt.Fprintf(env.Out, "\nNo %s.\n", info.Plural)
		return err
	}
	t.Rows = append([][]string{show.Heads(cols, false)}, t.Rows...)
	fmt.Fprintf(env.Out, "\n%s:\n", strings.ToUpper(info.Plural[:1])+info.Plural[1:])
	return t.Flush()
}

// describeRoutes lists the routes of a table, with the ports that they lead to.
func describeRoutes(ctx context.Context, env *term.Env, c *client.Client, rt *v1.RouteTable) error {
	if len(rt.Spec.Routes) == 0 {
		_, err := fmt.Fprintf(env.Out, "\nNo routes.\n")
		return err
	}
	all, _, err := c.List(ctx, v1.KindPort, rt.Tenant)
	if err != nil {
		return err
	}
	ports := make(map[string]*v1.Port, len(all))
	for _, o := range all {
		ports[o.Meta().Name] = o.(*v1.Port)
	}
	t := env.NewTable()
	t.Add("TO", "VIA", "ADDRESS", "NODE", "STATE")
	for _, r := range rt.Spec.Routes {
		row := []string{r.To.String(), r.Via, "-", "-", "-"}
		if name, isPort := r.Port(); isPort && ports[name] != nil {
			p := ports[name]
			row = []string{r.To.String(), r.Via, show.Joined(p.Status.Addresses), show.Dash(p.Status.Node), p.Status.State}
		}
		t.Add(row...)
	}
	fmt.Fprintf(env.Out, "\nRoutes:\n")
	return t.Flush()
}

// describeHint says what to do about a port that is not in effect.
func describeHint(env *term.Env, p *v1.Port) error {
	hint := map[string]string{
		"Detached": fmt.Sprintf("attach it on a node: weft attach %s/%s --netns NAME", p.Tenant, p.Name),
		"Pending":  fmt.Sprintf("its node has it not in effect: weft describe node %s, weft status", p.Status.Node),
		"NodeGone": fmt.Sprintf("its node's agent is not heard: weft describe node %s", p.Status.Node),
	}[p.Status.State]
	if hint == "" {
		return nil
	}
	_, err := fmt.Fprintf(env.Out, "\nHint: %s\n", hint)
	return err
}
