// SPDX-License-Identifier: Apache-2.0

package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	v1 "weft/api/v1"
)

// batchMost is how many documents fit into one transaction.
const batchMost = 100

// ApplyOptions says how to apply.
type ApplyOptions struct {
	DryRun bool // check everything, write nothing
}

// Apply writes documents: all of them or, on an error, none. More than 100 go in batches, ordered so that a resource
// comes after those it refers to; each batch is written as a whole or not at all. The error then says which batch it was,
// and the result beside it has what the batches before it did. Items are in the order of docs.
func (c *Client) Apply(ctx context.Context, docs []v1.Object, opt ApplyOptions) (*v1.Result, error) {
	order := batchOrder(docs)
	out := &v1.Result{DryRun: opt.DryRun}
	items := make([]*v1.ResultItem, len(docs))
	batches := (len(docs) + batchMost - 1) / batchMost
	for n, batch := range slices.Collect(slices.Chunk(order, batchMost)) {
		res, err := c.applyBatch(ctx, docs, batch, opt)
		if err != nil {
			if batches > 1 {
				err = inBatch(err, n+1, batches, opt.DryRun)
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

// batchOrder returns the indices of documents in the order in which to write them.
func batchOrder(docs []v1.Object) []int {
	order := make([]int, len(docs))
	for i := range order {
		order[i] = i
	}
	if len(docs) <= batchMost {
		return order // one transaction: the server orders them
	}
	rank := make(map[v1.Kind]int)
	for i, k := range v1.Kinds() {
		rank[k.Kind] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rank[docs[a].GetKind()], rank[docs[b].GetKind()]) })
	return order
}

func (c *Client) applyBatch(ctx context.Context, docs []v1.Object, batch []int, opt ApplyOptions) (*v1.Result, error) {
	var in struct {
		Documents []v1.Object `json:"documents"`
	}
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
