// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	v1 "weft/api/v1"
)

// How much one request takes.
const (
	batchMost  = 100 // documents: one transaction
	dryRunMost = 5000
	bytesMost  = 2 << 20 // of documents
)

// ApplyOptions says how to apply.
type ApplyOptions struct {
	DryRun bool // check everything, write nothing
}

// Apply writes documents: all of them or, on an error, none. More than 100 go in batches, ordered so that a resource
// comes after those it refers to; each batch is written as a whole or not at all. The error then says which batch it was,
// and the result beside it has what the batches before it did. A dry run is one batch up to 5000 documents, so that they
// see each other. Items are in the order of docs.
func (c *Client) Apply(ctx context.Context, docs []v1.Object, opt ApplyOptions) (*v1.Result, error) {
	if err := distinct(docs); err != nil {
		return nil, err
	}
	most := batchMost
	if opt.DryRun {
		most = dryRunMost
	}
	batches, bodies, err := cut(docs, most)
	if err != nil {
		return nil, err
	}
	out := &v1.Result{DryRun: opt.DryRun}
	items := make([]*v1.ResultItem, len(docs))
	for n, batch := range batches {
		res, err := c.applyBatch(ctx, bodies, batch, opt)
		if err != nil {
			if len(batches) > 1 {
				err = inBatch(err, n+1, len(batches), opt.DryRun)
			}
			out.Items = present(items)
			return out, err
		}
		out.ResourceVersion = res.ResourceVersion
		for i, index := range batch {
			items[index] = &res.Items[i]
		}
	}
	out.Items = present(items)
	return out, nil
}

// distinct refuses a resource that is there twice: in two batches, the server would not notice.
func distinct(docs []v1.Object) error {
	seen := make(map[string]bool, len(docs))
	for _, d := range docs {
		id := v1.ID(d)
		if seen[id] {
			return &v1.Error{
				Status: http.StatusUnprocessableEntity, Code: v1.CodeDuplicate, Object: id, Field: "metadata.name",
				Message: "the resource is in the set twice", Fix: "remove one of the two documents",
			}
		}
		seen[id] = true
	}
	return nil
}

// batchOrder returns the indices of documents in the order in which to write them.
func batchOrder(docs []v1.Object) []int {
	order := make([]int, len(docs))
	for i := range order {
		order[i] = i
	}
	rank := make(map[v1.Kind]int)
	for i, k := range v1.Kinds() {
		rank[k.Kind] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[docs[a].GetKind()], rank[docs[b].GetKind()]) })
	return order
}

// cut makes batches of indices of documents, of which none has more documents or bytes than one request takes.
func cut(docs []v1.Object, most int) (batches [][]int, bodies []json.RawMessage, err error) {
	bodies = make([]json.RawMessage, len(docs))
	batch, size := []int{}, 0
	for _, i := range batchOrder(docs) {
		if bodies[i], err = json.Marshal(docs[i]); err != nil {
			return nil, nil, fmt.Errorf("encode %s: %w", v1.ID(docs[i]), err)
		}
		if len(batch) == most || (len(batch) > 0 && size+len(bodies[i]) > bytesMost) {
			batches = append(batches, batch)
			batch, size = nil, 0
		}
		batch, size = append(batch, i), size+len(bodies[i])
	}
	return append(batches, batch), bodies, nil
}

func (c *Client) applyBatch(ctx context.Context, docs []json.RawMessage, batch []int, opt ApplyOptions) (*v1.Result, error) {
	in := struct {
		Documents []json.RawMessage `json:"documents"`
	}{make([]json.RawMessage, 0, len(batch))}
	for _, index := range batch {
		in.Documents = append(in.Documents, docs[index])
	}
	q := url.Values{}
	if opt.DryRun {
		q.Set("dryRun", "true")
	}
	var res v1.Result
	if err := c.call(ctx, http.MethodPost, "/api/v1/apply", q, in, &res); err != nil {
		return nil, err
	}
	if len(res.Items) != len(batch) {
		return nil, unreadable(fmt.Errorf("%d results for %d documents", len(res.Items), len(batch)))
	}
	return &res, nil
}

// inBatch says in an error which batch it is about, and what became of the others.
func inBatch(err error, n, of int, dryRun bool) error {
	var e *v1.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("batch %d of %d: %w", n, of, err)
	}
	e.Message = fmt.Sprintf("batch %d of %d: %s", n, of, e.Message)
	switch {
	case n > 1 && dryRun:
		e.Message += " (a dry run does not see what the batches before would write)"
	case n > 1:
		e.Message += fmt.Sprintf(" (%d before it are written; apply again once this is mended)", n-1)
	}
	return e
}

// present leaves out what was not reached.
func present(items []*v1.ResultItem) []v1.ResultItem {
	out := make([]v1.ResultItem, 0, len(items))
	for _, i := range items {
		if i != nil {
			out = append(out, *i)
		}
	}
	return out
}
