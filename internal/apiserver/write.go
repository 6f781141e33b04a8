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
	"weft/internal/apiserver/admission"
	"weft/internal/base/clock"
	"weft/internal/store"
)

// Bounds of one request. What is written goes into one transaction of etcd, which by default takes 128 operations, and
// fences need some.
const (
	documentsMost = 100
	dryRunMost    = 10_000 // that are only checked
)

// errDryRun ends a transaction that was only tried.
var errDryRun = errors.New("dry run")

// apply writes a set of documents in one transaction, in the order of their kinds; results come in the order given.
func (s *Server) apply(ctx context.Context, docs []v1.Object, dryRun bool) (*v1.Result, error) {
	most := documentsMost
	if dryRun {
		most = dryRunMost
	}
	if len(docs) > most {
		return nil, &v1.Error{
			Status: http.StatusRequestEntityTooLarge, Code: v1.CodeTooLarge, Field: "documents",
			Message: "one request takes at most " + strconv.Itoa(most) + " documents", Fix: "send them in several requests; the CLI does so by itself",
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
		a := admission.New(tx, clock.Now().UTC().Truncate(time.Second), false)
		var errs v1.ErrorList
		for _, i := range order {
			item, err := a.Put(docs[i])
			if err != nil {
				a.Refused(docs[i])
				if !errors.Is(err, admission.ErrFollows) {
					errs = append(errs, admission.Errors(err)...)
				}
				continue
			}
			res.Items[i] = item
			written[i], _ = tx.Get(docs[i].GetKind(), docs[i].Meta().Tenant, docs[i].Meta().Name)
		}
		if err := errs.OrNil(); err != nil {
			return err
		}
		if err := a.Settle(); err != nil {
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
			return admission.Refuse(d, http.StatusUnprocessableEntity, v1.CodeDuplicate, "metadata.name", "remove one of the two documents", "the resource is in the set twice")
		}
		seen[id] = true
	}
	return nil
}

// scopesOf lists the scopes that a set of documents is checked in: each tenant, the cluster for its kinds, and the nodes
// that ports name.
func scopesOf(docs []v1.Object) []string {
	scopes := []string{}
	for _, d := range docs {
		scopes = append(scopes, d.Meta().Tenant)
		switch d := d.(type) {
		case *v1.Tenant:
			scopes = append(scopes, d.Name)
		case *v1.Node:
			scopes = append(scopes, store.NodeScope(d.Name))
		case *v1.Port:
			if d.Spec.Node != "" {
				scopes = append(scopes, store.NodeScope(d.Spec.Node))
			}
		}
	}
	return scopes
}

func notFound(kind v1.Kind, tenant, name string) error {
	info, _ := v1.KindByWord(string(kind))
	o := info.New()
	o.Meta().Tenant, o.Meta().Name = tenant, name
	fix := "'weft get " + info.Plural + "' lists them"
	if tenant != "" {
		fix = "'weft get " + info.Plural + " -t " + tenant + "' lists them"
	}
	return admission.Refuse(o, http.StatusNotFound, v1.CodeNotFound, "", fix, "there is no such %s", info.Singular)
}
