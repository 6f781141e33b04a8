// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	v1 "weft/api/v1"
	"weft/internal/store"
)

// documentsMost is how many documents one transaction takes: etcd takes 128 operations, and fences need some.
const documentsMost = 100

// errDryRun ends a transaction that was only tried.
var errDryRun = errors.New("dry run")

// apply writes a set of documents in one transaction, in the order of their kinds; results come in the order given.
func (s *Server) apply(ctx context.Context, docs []v1.Object, dryRun bool) (*v1.Result, error) {
	if len(docs) > documentsMost {
		return nil, &v1.Error{
			Status: http.StatusRequestEntityTooLarge, Code: v1.CodeTooLarge, Field: "documents",
			Message: "one transaction takes at most " + strconv.Itoa(documentsMost) + " documents", Fix: "send them in several requests; the CLI does so by itself",
		}
	}
	if err := checkDistinct(docs); err != nil {
		return nil, err
	}
	order := make([]int, len(docs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank(docs[a].GetKind()), rank(docs[b].GetKind())) })
	res := &v1.Result{DryRun: dryRun}
	written := make([]v1.Object, len(docs))
	revision, err := s.cfg.Store.Update(ctx, scopesOf(docs), func(tx *store.Tx) error {
		res.Items = make([]v1.ResultItem, len(docs))
		a := newAdmission(tx, time.Now().UTC().Truncate(time.Second))
		var errs v1.ErrorList
		for _, i := range order {
			item, err := a.put(docs[i])
			if err != nil {
				errs = append(errs, errorsOf(err)...)
				continue
			}
			res.Items[i] = item
			written[i], _ = tx.Get(docs[i].GetKind(), docs[i].Meta().Tenant, docs[i].Meta().Name)
		}
		if err := errs.OrNil(); err != nil {
			return err
		}
		if dryRun {
			return errDryRun
		}
		return nil
	})
	if err != nil && !errors.Is(err, errDryRun) {
		return nil, err
	}
	return res, s.fillResult(res, written, revision, dryRun)
}

// fillResult adds to each item the resource as it is stored now, or as the dry run would have stored it.
func (s *Server) fillResult(res *v1.Result, written []v1.Object, revision int64, dryRun bool) error {
	view := s.cfg.Store.View()
	res.ResourceVersion = strconv.FormatInt(cmp.Or(revision, view.Revision()), 10)
	for i := range res.Items {
		item, o := &res.Items[i], written[i]
		if !dryRun {
			stored, ok := view.Get(item.Kind, item.Tenant, item.Name)
			if !ok {
				continue // somebody deleted it already
			}
			o = stored
		}
		body, err := s.filled(o)
		if err != nil {
			return err
		}
		item.Object = body
	}
	return nil
}

// filled returns a resource as users see it, with the live part of its status.
func (s *Server) filled(o v1.Object) (json.RawMessage, error) {
	c := v1.Clone(o)
	s.cfg.Live.Fill(c)
	return json.Marshal(c)
}

func rank(kind v1.Kind) int {
	return slices.IndexFunc(v1.Kinds(), func(k v1.KindInfo) bool { return k.Kind == kind })
}

// checkDistinct refuses a resource that is in the set twice.
func checkDistinct(docs []v1.Object) error {
	seen := make(map[string]bool)
	for _, d := range docs {
		id := v1.ID(d)
		if seen[id] {
			return refuse(d, http.StatusUnprocessableEntity, v1.CodeDuplicate, "metadata.name", "remove one of the two documents", "the resource is in the set twice")
		}
		seen[id] = true
	}
	return nil
}

// scopesOf lists the scopes that a set of documents is checked in: each tenant, and the cluster for its kinds.
func scopesOf(docs []v1.Object) []string {
	scopes := []string{}
	for _, d := range docs {
		scopes = append(scopes, d.Meta().Tenant)
		if d.GetKind() == v1.KindTenant {
			scopes = append(scopes, d.Meta().Name)
		}
	}
	return scopes
}

// errorsOf lists the errors of the API in err.
func errorsOf(err error) v1.ErrorList {
	var list v1.ErrorList
	var one *v1.Error
	switch {
	case errors.As(err, &list):
		return list
	case errors.As(err, &one):
		return v1.ErrorList{one}
	}
	return v1.ErrorList{{Status: http.StatusInternalServerError, Code: v1.CodeInternal, Message: err.Error()}}
}

// deletion is what a delete is asked to do.
type deletion struct {
	kind         v1.Kind
	tenant, name string
	cascade      bool
	dryRun       bool
}

// remove deletes a resource, and with cascade all that refers to it, the users before the used. More than one transaction
// takes is deleted in several; if one of them fails, what is left is whole in itself and the delete can be repeated.
func (s *Server) remove(ctx context.Context, d deletion) (*v1.Result, error) {
	res := &v1.Result{DryRun: d.dryRun}
	for {
		more := false
		var items []v1.ResultItem
		revision, err := s.cfg.Store.Update(ctx, s.deletionScopes(d), func(tx *store.Tx) error {
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
				items = append(items, drop(tx, u, o))
			}
			if d.dryRun {
				return errDryRun
			}
			return nil
		})
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

// drop deletes a resource; a port that merely is attached at a node which goes is only detached.
func drop(tx *store.Tx, o, root v1.Object) v1.ResultItem {
	m := o.Meta()
	item := v1.ResultItem{Action: v1.ActionDeleted, Kind: o.GetKind(), Tenant: m.Tenant, Name: m.Name}
	if p, ok := o.(*v1.Port); ok && root.GetKind() == v1.KindNode {
		p = v1.Clone(p)
		p.Status.Node, p.Status.Binding = "", ""
		tx.Put(p)
		item.Action = v1.ActionConfigured
		return item
	}
	tx.Delete(o.GetKind(), m.Tenant, m.Name)
	return item
}

// deletionScopes lists the scopes that a delete touches.
func (s *Server) deletionScopes(d deletion) []string {
	scopes := []string{d.tenant}
	switch d.kind {
	case v1.KindTenant:
		scopes = append(scopes, d.name)
	case v1.KindNode:
		for _, o := range s.cfg.Store.View().List(v1.KindPort, "") {
			if o.(*v1.Port).Status.Node == d.name {
				scopes = append(scopes, o.Meta().Tenant)
			}
		}
	}
	return scopes
}

// usersOf lists what refers to a resource, directly or through others, the users before the used.
func usersOf(tx *store.Tx, o v1.Object) []v1.Object {
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
		keep(v1.KindPort, m.Name, all)
		keep(v1.KindSubnet, m.Name, all)
		keep(v1.KindVPC, m.Name, all)
	case *v1.VPC:
		keep(v1.KindPort, m.Tenant, func(u v1.Object) bool { return u.(*v1.Port).Status.VPC == m.Name })
		keep(v1.KindSubnet, m.Tenant, func(u v1.Object) bool { return u.(*v1.Subnet).Spec.VPC == m.Name })
	case *v1.Subnet:
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
	if o.GetKind() == v1.KindNode {
		fix = "detach or move those first, or detach all of them with --cascade"
	}
	return refuse(o, http.StatusConflict, v1.CodeInUse, "", fix, "it is in use by %s", text)
}

func notFound(kind v1.Kind, tenant, name string) error {
	info, _ := v1.KindByWord(string(kind))
	o := info.New()
	o.Meta().Tenant, o.Meta().Name = tenant, name
	fix := "'weft get " + info.Plural + "' lists them"
	if tenant != "" {
		fix = "'weft get " + info.Plural + " -t " + tenant + "' lists them"
	}
	return refuse(o, http.StatusNotFound, v1.CodeNotFound, "", fix, "there is no such %s", info.Singular)
}
