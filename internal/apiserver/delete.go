// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"

	v1 "weft/api/v1"
	"weft/internal/apiserver/admission"
	"weft/internal/store"
)

// deletion is what a delete is asked to do.
type deletion struct {
	kind         v1.Kind
	tenant, name string
	cascade      bool
	dryRun       bool
}

// errOtherScopes ends a transaction that would write in a scope which it did not name.
var errOtherScopes = errors.New("other scopes are concerned by now")

// remove deletes a resource, and with cascade all that refers to it, the users before the used. More than one transaction
// takes is deleted in several; if one of them fails, what is left is whole in itself and the delete can be repeated.
func (s *Server) remove(ctx context.Context, d deletion) (*v1.Result, error) {
	res := &v1.Result{DryRun: d.dryRun}
	for {
		items, revision, more, err := s.removeSome(ctx, d)
		if errors.Is(err, errOtherScopes) && ctx.Err() == nil {
			continue
		}
		if err != nil && !errors.Is(err, errDryRun) {
			return nil, err
		}
		res.Items = append(res.Items, items...)
		if !more {
			res.ResourceVersion = strconv.FormatInt(cmp.Or(revision, s.cfg.Store.View().Revision()), 10)
			return res, nil
		}
	}
}

// removeSome deletes as much as one transaction takes; more says that something is left.
func (s *Server) removeSome(ctx context.Context, d deletion) (items []v1.ResultItem, revision int64, more bool, err error) {
	scopes := s.deletionScopes(d)
	revision, err = s.cfg.Store.Update(ctx, scopes, func(tx *store.Tx) error {
		items, more = nil, false
		o, ok := tx.Get(d.kind, d.tenant, d.name)
		if !ok {
			return notFound(d.kind, d.tenant, d.name)
		}
		users := usersOf(tx, o)
		if len(users) > 0 && !d.cascade {
			return inUse(o, users)
		}
		all := append(users, o)
		if !d.dryRun && len(all) > documentsMost {
			all, more = all[:documentsMost], true
		}
		for _, u := range all {
			if !d.dryRun && !slices.Contains(scopes, u.Meta().Tenant) {
				return errOtherScopes
			}
			item, err := drop(tx, u, o)
			if err != nil {
				return err
			}
			items = append(items, item)
		}
		if d.dryRun {
			return errDryRun
		}
		return nil
	})
	return items, revision, more, err
}

// drop deletes a resource, or changes it so that it no longer refers to what goes: a port of a node is detached, and may be
// attached anywhere then; a route table loses the subnet, and the routes to the ports that go. Its other subnets and routes,
// black holes among them, stay. A node that goes leaves word that its machine was removed.
func drop(tx *store.Tx, o, root v1.Object) (v1.ResultItem, error) {
	m := o.Meta()
	item := v1.ResultItem{Action: v1.ActionConfigured, Kind: o.GetKind(), Tenant: m.Tenant, Name: m.Name}
	switch u := o.(type) {
	case *v1.Port:
		if root.GetKind() == v1.KindNode {
			tx.Put(freePort(u))
			return item, nil
		}
	case *v1.RouteTable:
		switch root.(type) {
		case *v1.Subnet, *v1.Port:
			tx.Put(freeTable(tx, u, root))
			return item, nil
		}
	}
	if n, ok := o.(*v1.Node); ok && n.Status.Machine != "" {
		if _, err := tx.Next(RemovedCounter(n.Status.Machine), 1, math.MaxUint64); err != nil {
			return item, err
		}
	}
	tx.Delete(o.GetKind(), m.Tenant, m.Name)
	item.Action = v1.ActionDeleted
	return item, nil
}

// freePort returns a port that no longer refers to a node.
func freePort(p *v1.Port) *v1.Port {
	p = v1.Clone(p)
	p.Status.Node, p.Status.Binding = "", ""
	if p.Spec.Node != "" {
		p.Spec.Node = ""
		p.Generation++
	}
	return p
}

// freeTable returns a route table that no longer refers to a subnet with its ports, or to a port.
func freeTable(tx lister, t *v1.RouteTable, root v1.Object) *v1.RouteTable {
	t = v1.Clone(t)
	goes := portsWith(tx, root)
	t.Spec.Routes = slices.DeleteFunc(t.Spec.Routes, func(r v1.Route) bool { p, ok := r.Port(); return ok && goes[p] })
	if root.GetKind() == v1.KindSubnet {
		t.Spec.Subnets = slices.DeleteFunc(t.Spec.Subnets, func(s string) bool { return s == root.Meta().Name })
	}
	t.Generation++
	return t
}

// portsWith lists the ports that go when a subnet or a port goes, by name.
func portsWith(tx lister, root v1.Object) map[string]bool {
	m := root.Meta()
	if root.GetKind() == v1.KindPort {
		return map[string]bool{m.Name: true}
	}
	goes := make(map[string]bool)
	for _, o := range tx.List(v1.KindPort, m.Tenant) {
		if o.(*v1.Port).Spec.Subnet == m.Name {
			goes[o.Meta().Name] = true
		}
	}
	return goes
}

// deletionScopes lists the scopes that the next transaction of a delete touches. For a node, they are those of its first
// users; the transaction finds out whether others have come since.
func (s *Server) deletionScopes(d deletion) []string {
	scopes := []string{d.tenant}
	switch d.kind {
	case v1.KindTenant:
		scopes = append(scopes, d.name)
	case v1.KindNode:
		scopes = append(scopes, store.NodeScope(d.name))
		view := s.cfg.Store.View()
		if node, ok := view.Get(d.kind, "", d.name); ok {
			users := usersOf(view, node)
			for _, u := range users[:min(len(users), documentsMost)] {
				scopes = append(scopes, u.Meta().Tenant)
			}
		}
	}
	return scopes
}

// lister is a view or a transaction.
type lister interface {
	List(kind v1.Kind, tenant string) []v1.Object
}

// usersOf lists what refers to a resource, directly or through others, the users before the used.
func usersOf(tx lister, o v1.Object) []v1.Object {
	var users []v1.Object
	keep := func(kind v1.Kind, tenant string, uses func(v1.Object) bool) {
		for _, u := range tx.List(kind, tenant) {
			if uses(u) {
				users = append(users, u)
			}
		}
	}
	m := o.Meta()
	all := func(v1.Object) bool { return true }
	switch o.(type) {
	case *v1.Tenant:
		keep(v1.KindRouteTable, m.Name, all)
		keep(v1.KindPort, m.Name, all)
		keep(v1.KindSubnet, m.Name, all)
		keep(v1.KindVPC, m.Name, all)
	case *v1.VPC:
		keep(v1.KindRouteTable, m.Tenant, func(u v1.Object) bool { return u.(*v1.RouteTable).Spec.VPC == m.Name })
		keep(v1.KindPort, m.Tenant, func(u v1.Object) bool { return u.(*v1.Port).Status.VPC == m.Name })
		keep(v1.KindSubnet, m.Tenant, func(u v1.Object) bool { return u.(*v1.Subnet).Spec.VPC == m.Name })
	case *v1.Subnet, *v1.Port:
		goes, isSubnet := portsWith(tx, o), o.GetKind() == v1.KindSubnet
		keep(v1.KindRouteTable, m.Tenant, func(u v1.Object) bool {
			t := u.(*v1.RouteTable)
			return isSubnet && slices.Contains(t.Spec.Subnets, m.Name) ||
				slices.ContainsFunc(t.Spec.Routes, func(r v1.Route) bool { p, ok := r.Port(); return ok && goes[p] })
		})
		if !isSubnet {
			break
		}
		keep(v1.KindPort, m.Tenant, func(u v1.Object) bool { return u.(*v1.Port).Spec.Subnet == m.Name })
	case *v1.Node:
		keep(v1.KindPort, "", func(u v1.Object) bool {
			p := u.(*v1.Port)
			return p.Status.Node == m.Name || p.Spec.Node == m.Name
		})
	}
	return users
}

// inUse names up to five users.
func inUse(o v1.Object, users []v1.Object) error {
	text := ""
	for i, u := range users {
		if i == 5 {
			text += " and " + strconv.Itoa(len(users)-5) + " more"
			break
		}
		if i > 0 {
			text += ", "
		}
		text += v1.ID(u)
	}
	fix := "delete those first, or delete all of it with --cascade"
	switch o.GetKind() {
	case v1.KindSubnet, v1.KindPort:
		fix = "delete those first, or all of it with --cascade; a route table only loses what leads there"
	}
	if o.GetKind() == v1.KindNode {
		fix = "detach or move those first, or detach and free all of them from the node with --cascade"
	}
	return admission.Refuse(o, http.StatusConflict, v1.CodeInUse, "", fix, "it is in use by %s", text)
}
