// SPDX-License-Identifier: Apache-2.0

// Package show writes resources: tables, documents, names.
package show

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/internal/cli/jsonpath"
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

// Formats are the values of -o that Objects knows.
const Formats = "table, wide, yaml, json, name, csv, jsonpath=TEMPLATE"

// CheckFormat refuses a value of -o that Objects does not know.
func CheckFormat(format string) error {
	if text, ok := strings.CutPrefix(format, "jsonpath="); ok {
		if _, err := jsonpath.Parse(text); err != nil {
			return term.Usagef("-o %s: %w", format, err)
		}
		return nil
	}
	if format == "jsonpath" {
		return term.Usagef("-o jsonpath needs a template, for example -o jsonpath='{.items[*].metadata.name}'")
	}
	return term.CheckFormat(format, strings.Split(Formats, ", ")...)
}

// Objects writes resources in one of the formats of -o; with several kinds, one table each. one says that a single
// resource was asked for by name.
func Objects(env *term.Env, format string, kinds []v1.KindInfo, byKind map[v1.Kind][]v1.Object, one bool) error {
	var all []v1.Object
	for _, k := range kinds {
		all = append(all, byKind[k.Kind]...)
	}
	if text, ok := strings.CutPrefix(format, "jsonpath="); ok {
		return fill(env, text, all, one)
	}
	switch format {
	case "name":
		for _, o := range all {
			fmt.Fprintln(env.Out, v1.ID(o))
		}
		return nil
	case "json", "yaml":
		if one && format == "json" && len(all) == 1 {
			return env.WriteJSON(all[0])
		}
		return documents(env, format, all)
	case "csv":
		if len(kinds) > 1 {
			return term.Usagef("-o csv is a table of one kind: ask for one after the other")
		}
		return commas(env, Columns(kinds[0].Kind), all)
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

// fill writes a template filled from one resource, or from the list of all.
func fill(env *term.Env, text string, all []v1.Object, one bool) error {
	t, err := jsonpath.Parse(text)
	if err != nil {
		return term.Usage(err)
	}
	from := list(all)
	if one && len(all) == 1 {
		from = all[0]
	}
	doc, err := jsonpath.Document(from)
	if err != nil {
		return err
	}
	out := t.Text(doc)
	if !strings.HasSuffix(out, "\n") {
		out += "\n"
	}
	_, err = io.WriteString(env.Out, out)
	return err
}

// commas writes all columns as RFC 4180 has it.
func commas(env *term.Env, cols []Column, all []v1.Object) error {
	w := csv.NewWriter(env.Out)
	rows := [][]string{Heads(cols, true)}
	for _, o := range all {
		rows = append(rows, Cells(cols, true, o))
	}
	return w.WriteAll(rows)
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

// list is what -o json makes of several resources.
func list(objects []v1.Object) any {
	if objects == nil {
		objects = []v1.Object{}
	}
	return map[string]any{"apiVersion": v1.APIVersion, "kind": "List", "items": objects}
}

// documents writes one JSON list, or YAML documents that apply reads again.
func documents(env *term.Env, format string, objects []v1.Object) error {
	if format == "json" {
		return env.WriteJSON(list(objects))
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

// Intent is the part of a resource that users write, as YAML; "" of none.
func Intent(o v1.Object) (string, error) {
	if o == nil {
		return "", nil
	}
	c := v1.Clone(o)
	c.ClearStatus()
	m := c.Meta()
	*m = v1.Metadata{Name: m.Name, Tenant: m.Tenant, Labels: m.Labels}
	return term.ToYAML(c)
}
