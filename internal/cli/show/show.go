// SPDX-License-Identifier: Apache-2.0

// Package show writes resources: tables, documents, names.
package show

import (
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/internal/cli/term"
)

// Column is one column of a kind's table. Order is a promise; wide ones come last.
type Column struct {
	head string
	wide bool
	cell func(o v1.Object) string
}

// NodeState is a node's state, and whether it is drained.
func NodeState(n *v1.Node) string {
	if n.Spec.Drained {
		return n.Status.State + ",Drained"
	}
	return n.Status.State
}

// Columns lists the columns of the table of a kind.
func Columns(kind v1.Kind) []Column {
	name := Column{"NAME", false, func(o v1.Object) string { return o.Meta().Name }}
	tenant := Column{"TENANT", false, func(o v1.Object) string { return o.Meta().Tenant }}
	age := Column{"AGE", false, func(o v1.Object) string { return Age(o.Meta().CreatedAt) }}
	labels := Column{"LABELS", true, func(o v1.Object) string { return Labels(o) }}
	switch kind {
	case v1.KindTenant:
		return []Column{name, age, {"NUMBER", true, func(o v1.Object) string { return fmt.Sprint(o.(*v1.Tenant).Status.Number) }}, labels}
	case v1.KindNode:
		return []Column{
			name,
			{"ROLES", false, func(o v1.Object) string { return strings.Join(o.(*v1.Node).Spec.Roles, ",") }},
			{"ADDRESS", false, func(o v1.Object) string { return o.(*v1.Node).Spec.Address.String() }},
			{"STATE", false, func(o v1.Object) string { return NodeState(o.(*v1.Node)) }},
			{"PORTS", false, func(o v1.Object) string { return fmt.Sprint(o.(*v1.Node).Status.Ports) }},
			age,
			{"NUMBER", true, func(o v1.Object) string { return fmt.Sprint(o.(*v1.Node).Status.Number) }},
			{"ROWS", true, func(o v1.Object) string { return fmt.Sprint(o.(*v1.Node).Status.Rows) }},
			{"KERNEL", true, func(o v1.Object) string { return Dash(o.(*v1.Node).Status.Kernel) }},
			{"VERSION", true, func(o v1.Object) string { return Dash(o.(*v1.Node).Status.Version) }},
			labels,
		}
	case v1.KindVPC:
		return []Column{
			name, tenant,
			{"PREFIXES", false, func(o v1.Object) string { return Joined(o.(*v1.VPC).Spec.Prefixes) }},
			{"VNI", false, func(o v1.Object) string { return fmt.Sprint(o.(*v1.VPC).Status.VNI) }},
			{"APPLIED", false, func(o v1.Object) string { return applied(o.(*v1.VPC).Status.Applied) }},
			age, labels,
		}
	case v1.KindRouteTable:
		return []Column{
			name, tenant,
			{"VPC", false, func(o v1.Object) string { return o.(*v1.RouteTable).Spec.VPC }},
			{"SUBNETS", false, func(o v1.Object) string { return Dash(strings.Join(o.(*v1.RouteTable).Spec.Subnets, ",")) }},
			{"ROUTES", false, func(o v1.Object) string { return fmt.Sprint(len(o.(*v1.RouteTable).Spec.Routes)) }},
			{"APPLIED", false, func(o v1.Object) string { return applied(o.(*v1.RouteTable).Status.Applied) }},
			age, labels,
			{"NUMBER", true, func(o v1.Object) string { return fmt.Sprint(o.(*v1.RouteTable).Status.Number) }},
		}
	case v1.KindSubnet:
		return []Column{
			name, tenant,
			{"VPC", false, func(o v1.Object) string { return o.(*v1.Subnet).Spec.VPC }},
			{"PREFIXES", false, func(o v1.Object) string { return Joined(o.(*v1.Subnet).Spec.Prefixes) }},
			{"GATEWAY", false, func(o v1.Object) string { return Joined(Routers(o.(*v1.Subnet))) }},
			{"APPLIED", false, func(o v1.Object) string { return applied(o.(*v1.Subnet).Status.Applied) }},
			age, labels,
		}
	}
	return []Column{
		name, tenant,
		{"SUBNET", false, func(o v1.Object) string { return o.(*v1.Port).Spec.Subnet }},
		{"ADDRESS", false, func(o v1.Object) string { return Joined(o.(*v1.Port).Status.Addresses) }},
		{"NODE", false, func(o v1.Object) string { return Dash(o.(*v1.Port).Status.Node) }},
		{"STATE", false, func(o v1.Object) string { return o.(*v1.Port).Status.State }},
		{"APPLIED", false, func(o v1.Object) string { return applied(o.(*v1.Port).Status.Applied) }},
		age,
		{"MAC", true, func(o v1.Object) string { return o.(*v1.Port).Status.MAC.String() }},
		{"VPC", true, func(o v1.Object) string { return o.(*v1.Port).Status.VPC }},
		{"VNI", true, func(o v1.Object) string { return fmt.Sprint(o.(*v1.Port).Status.VNI) }},
		labels,
		{"SOURCES", true, func(o v1.Object) string { return Joined(o.(*v1.Port).Spec.AllowedSources) }},
	}
}

// Routers lists the addresses of the router in a subnet, one for each of its ranges.
func Routers(s *v1.Subnet) []netip.Addr {
	var out []netip.Addr
	for _, p := range s.Spec.Prefixes {
		out = append(out, s.Gateway(p))
	}
	return out
}

// Dash writes - for nothing.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Joined writes a list with commas between.
func Joined[T fmt.Stringer](list []T) string {
	var out []string
	for _, e := range list {
		out = append(out, e.String())
	}
	return Dash(strings.Join(out, ","))
}

func applied(a v1.Applied) string { return fmt.Sprintf("%d/%d", a.Applied, a.Nodes) }

// Labels writes labels as key=value.
func Labels(o v1.Object) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(o.Meta().Labels)) {
		out = append(out, k+"="+o.Meta().Labels[k])
	}
	return Dash(strings.Join(out, ","))
}

// Age is the time since t in its two largest units at most.
func Age(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Objects writes resources in one of the formats of -o; with several kinds, one table each. one says that a single
// resource was asked for by name.
func Objects(env *term.Env, format string, kinds []v1.KindInfo, byKind map[v1.Kind][]v1.Object, one bool) error {
	switch format {
	case "name":
		for _, k := range kinds {
			for _, o := range byKind[k.Kind] {
				fmt.Fprintln(env.Out, v1.ID(o))
			}
		}
		return nil
	case "json", "yaml":
		var all []v1.Object
		for _, k := range kinds {
			all = append(all, byKind[k.Kind]...)
		}
		if one && format == "json" && len(all) == 1 {
			return env.WriteJSON(all[0])
		}
		return documents(env, format, all)
	}
	for i, k := range kinds {
		if i > 0 {
			fmt.Fprintln(env.Out)
		}
		t := env.NewTable()
		cols := Columns(k.Kind)
		t.Add(Heads(cols, format == "wide")...)
		for _, o := range byKind[k.Kind] {
			t.Add(Cells(cols, format == "wide", o)...)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// Heads lists the heads of columns.
func Heads(cols []Column, wide bool) []string {
	var out []string
	for _, c := range cols {
		if wide || !c.wide {
			out = append(out, c.head)
		}
	}
	return out
}

// Cells lists what a resource has in columns.
func Cells(cols []Column, wide bool, o v1.Object) []string {
	var out []string
	for _, c := range cols {
		if wide || !c.wide {
			out = append(out, c.cell(o))
		}
	}
	return out
}

// documents writes one JSON list, or YAML documents that apply reads again.
func documents(env *term.Env, format string, objects []v1.Object) error {
	if format == "json" {
		if objects == nil {
			objects = []v1.Object{}
		}
		return env.WriteJSON(map[string]any{"apiVersion": v1.APIVersion, "kind": "List", "items": objects})
	}
	for i, o := range objects {
		text, err := term.ToYAML(o)
		if err != nil {
			return err
		}
		if i > 0 {
			text = "---\n" + text
		}
		if _, err := io.WriteString(env.Out, text); err != nil {
			return err
		}
	}
	return nil
}
