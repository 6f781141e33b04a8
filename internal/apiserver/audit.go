// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "weft/api/v1"
	"weft/internal/audit"
	"weft/internal/identity"
)

type fromKey struct{}

// specMost is how many bytes of a spec a record has; of a larger one it has the SHA-256.
const specMost = 4 << 10

// note puts records into the audit log, with what is known of the request. It returns when they are on disk. If they cannot be written, what was
// done is done, and the next write is refused (auditReady).
func (s *Server) note(ctx context.Context, records ...audit.Record) {
	who, revision := identity.Of(ctx), s.cfg.Store.View().Revision()
	for i := range records {
		r := &records[i]
		r.Principal, r.Request, r.Revision = cmp.Or(r.Principal, who.Name), requestID(ctx), revision
		r.From, _ = ctx.Value(fromKey{}).(string)
		if who.Role.OfTenant() {
			r.Tenant = who.Tenant // what somebody tries at another's is nothing for that one's eyes
		}
	}
	if err := s.cfg.Audit.Append(records...); err != nil {
		s.cfg.Log.Error("the audit log cannot be written: no further write is taken until it can", "err", err)
	}
}

// outcome fills in what became of it.
func outcome(r audit.Record, done string, err error) audit.Record {
	r.Outcome = done
	if err == nil {
		return r
	}
	r.Failed, r.Outcome = true, v1.CodeInternal
	var list v1.ErrorList
	var one *v1.Error
	switch {
	case errors.As(err, &list) && len(list) > 0:
		r.Outcome = list[0].Code
	case errors.As(err, &one):
		r.Outcome = one.Code
	}
	return r
}

// specOf is the spec of a document as it was asked for.
func specOf(o v1.Object) any {
	var parts struct {
		Spec json.RawMessage `json:"spec"`
	}
	data, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(data, &parts)
	}
	switch {
	case err != nil || len(parts.Spec) == 0:
		return nil
	case len(parts.Spec) > specMost:
		h := sha256.Sum256(parts.Spec)
		return map[string]any{"specDigest": "sha256:" + hex.EncodeToString(h[:]), "specBytes": len(parts.Spec)}
	}
	return map[string]any{"spec": parts.Spec}
}

// auditReady refuses what would have to be recorded and cannot be.
func (s *Server) auditReady() error {
	if err := s.cfg.Audit.Ready(); err != nil {
		return &v1.Error{
			Status: http.StatusInsufficientStorage, Code: v1.CodeUnavailable, Message: err.Error(),
			Fix: "an operator must make room on the disk of the server's state directory, or give it back to the server",
		}
	}
	return nil
}

// seldom lets one thing of a name pass each minute.
type seldom struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (d *seldom) pass(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if len(d.last) > 10_000 || d.last == nil {
		d.last = make(map[string]time.Time) // it is a bound of memory, not of what is told
	}
	if now.Sub(d.last[name]) < time.Minute {
		return false
	}
	d.last[name] = now
	return true
}

// registerAudit makes the operation that reads the log.
func (s *Server) registerAudit() {
	huma.Register(s.api, s.operation(writer, "audit", http.MethodGet, "/api/v1/audit", "Read the audit log"),
		func(ctx context.Context, in *struct {
			Tenant    string `query:"tenant" doc:"What concerns this tenant only."`
			Since     string `query:"since" doc:"Not before this time (RFC 3339)."`
			Until     string `query:"until" doc:"Before this time (RFC 3339)."`
			After     uint64 `query:"after" doc:"Behind the record with this sequence."`
			Principal string `query:"principal" doc:"Of this principal only."`
			Operation string `query:"operation" doc:"This operation only."`
			Object    string `query:"object" doc:"This object, or with * at its end those whose name begins so."`
			Failed    bool   `query:"failed" doc:"What was refused only."`
			Limit     int    `query:"limit" minimum:"1" maximum:"10000" default:"1000" doc:"The last so many."`
		},
		) (*body[v1.AuditRecords], error) {
			who := identity.Of(ctx)
			if in.Tenant != "" && !who.Sees(in.Tenant) {
				return nil, s.toProblem(ctx, notFound(v1.KindTenant, "", in.Tenant))
			}
			f := audit.Filter{
				After: in.After, Principal: in.Principal, Tenant: scopeOf(who, true, in.Tenant), Operation: in.Operation, Object: in.Object, Failed: in.Failed, Limit: in.Limit,
			}
			var err error
			for name, t := range map[string]struct {
				text string
				to   *time.Time
			}{"since": {in.Since, &f.Since}, "until": {in.Until, &f.Until}} {
				if t.text == "" {
					continue
				}
				if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
					return nil, s.toProblem(ctx, &v1.Error{
						Status: http.StatusUnprocessableEntity, Code: v1.CodeInvalid, Field: name, Message: fmt.Sprintf("%q is not a time", t.text), Fix: "write it as 2026-01-31T12:00:00Z",
					})
				}
			}
			records, err := s.cfg.Audit.Read(f)
			if err != nil {
				return nil, s.toProblem(ctx, err)
			}
			out := v1.AuditRecords{Items: []json.RawMessage{}, Head: s.cfg.Audit.Last().Hash}
			if who.Role != identity.Admin {
				out.Head = "" // it would tell of what others do
			}
			for _, r := range records {
				if who.Role != identity.Admin {
					r.Previous, r.Hash, r.Revision = "", "", 0
				}
				data, err := json.Marshal(r)
				if err != nil {
					return nil, s.toProblem(ctx, err)
				}
				out.Items = append(out.Items, data)
			}
			return &body[v1.AuditRecords]{out}, nil
		})
}

// noteApplied records what became of documents. One that changed nothing is no write.
func (s *Server) noteApplied(ctx context.Context, docs []v1.Object, res *v1.Result, err error) {
	var records []audit.Record
	for i, d := range docs {
		r := audit.Record{Operation: "apply", Tenant: tenantOf(d), Object: v1.ID(d), Detail: specOf(d)}
		if err == nil && res.Items[i].Action == v1.ActionUnchanged {
			continue
		}
		done := ""
		if err == nil {
			done = string(res.Items[i].Action)
		}
		records = append(records, outcome(r, done, err))
	}
	s.note(ctx, records...)
}

// noteDeleted records what went, or that it was refused.
func (s *Server) noteDeleted(ctx context.Context, d deletion, res *v1.Result, err error) {
	info, _ := v1.KindByWord(string(d.kind))
	o := info.New()
	o.Meta().Tenant, o.Meta().Name = d.tenant, d.name
	if err != nil {
		s.note(ctx, outcome(audit.Record{Operation: "delete", Tenant: tenantOf(o), Object: v1.ID(o)}, "", err))
		return
	}
	var records []audit.Record
	for _, item := range res.Items {
		info, _ := v1.KindByWord(string(item.Kind))
		gone := info.New()
		gone.Meta().Tenant, gone.Meta().Name = item.Tenant, item.Name
		records = append(records, audit.Record{Operation: "delete", Tenant: tenantOf(gone), Object: v1.ID(gone), Outcome: string(item.Action)})
	}
	s.note(ctx, records...)
}

// tenantOf is the tenant that a resource concerns: its own, or itself.
func tenantOf(o v1.Object) string {
	if o.GetKind() == v1.KindTenant {
		return o.Meta().Name
	}
	return o.Meta().Tenant
}
