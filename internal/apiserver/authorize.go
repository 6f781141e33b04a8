// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "weft/api/v1"
	"weft/internal/audit"
	"weft/internal/identity"
)

// rule says who may call an operation. Its zero value is no rule: an operation that has none stops the server from being made.
type rule string

const (
	anyone   rule = "anyone"   // without a token
	known    rule = "known"    // who has proved who it is, whatever it may do
	reader   rule = "reader"   // who sees the tenant in the URL; where there is none, one is answered with what one sees
	writer   rule = "writer"   // who may change what the tenant in the URL has; where there is none, the operation looks at what is named
	operator rule = "operator" // admins
)

// ruleKey is where an operation keeps its rule.
const ruleKey = "rule"

// text says it in the API's own description.
func (r rule) text() string {
	return map[rule]string{
		anyone: "Needs no token.", known: "For every valid token.", reader: "For admins, and for the roles of the tenant.",
		writer: "For admins, and for the tenant's admins.", operator: "For admins.",
	}[r]
}

// readerOf and writerOf are the rules of a kind: nodes are the operator's; a tenant sees itself, and does not change its own quota.
func readerOf(k v1.KindInfo) rule {
	if k.Kind == v1.KindNode {
		return operator
	}
	return reader
}

func writerOf(k v1.KindInfo) rule {
	if k.Tenanted {
		return writer
	}
	return operator
}

// checkRules stops the making of a server that has an operation without a rule.
func (s *Server) checkRules() {
	for path, item := range s.api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch, item.Head, item.Options, item.Trace} {
			if op == nil {
				continue
			}
			if r, _ := op.Metadata[ruleKey].(rule); r.text() == "" {
				panic(fmt.Sprintf("apiserver: %s %s has no rule that says who may call it", op.Method, path))
			}
		}
	}
}

// authenticate finds out whose a request is. Without that, nothing is answered but health.
func (s *Server) authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := s.cfg.Gate.Authenticate(r.Context(), r.Header.Get("Authorization"))
		if err != nil && r.URL.Path != healthPath {
			if host, _, _ := net.SplitHostPort(r.RemoteAddr); r.Header.Get("Authorization") != "" && s.seldom.pass("unauthorized "+host) { // a flood of them is one record a minute
				s.note(r.Context(), outcome(audit.Record{Operation: "authenticate", Detail: map[string]any{"why": err.Error()}}, "", s.unauthorized(err)))
			}
			s.fail(w, r, s.unauthorized(err))
			return
		}
		next.ServeHTTP(w, r.WithContext(identity.With(r.Context(), who)))
	})
}

// unauthorized is what somebody hears who has not proved who it is.
func (s *Server) unauthorized(err error) error {
	e := &v1.Error{Status: http.StatusUnauthorized, Code: v1.CodeUnauthorized, Message: err.Error()}
	switch {
	case errors.Is(err, identity.ErrExpired):
		e.Fix = "get another one: 'weft login', or 'weft token create' of an admin"
	case errors.Is(err, identity.ErrNone), errors.Is(err, identity.ErrUnknown):
		e.Fix = "send 'Authorization: Bearer TOKEN'; the admin's token is in admin.token in the server's state directory"
	default: // the identity provider is away
		e.Status, e.Code, e.Fix = http.StatusServiceUnavailable, v1.CodeUnavailable, "try again; tokens of 'weft token create' work meanwhile"
	}
	return e
}

// may says whether a principal may call an operation with a tenant in its URL, or "". Another's tenant is one that is not there.
func (s *Server) may(who identity.Principal, r rule, tenant string) error {
	sees := tenant == "" && (who.Role == identity.Admin || who.Role.OfTenant()) || tenant != "" && who.Sees(tenant)
	switch {
	case r == anyone, r == known && who.Name != "", who.Role == identity.Admin:
		return nil
	case r == operator:
		return identity.Forbidden(who, "do this: it is for admins of the system", "ask an admin of the system")
	case !sees && tenant != "" && who.Role != "":
		return notFound(v1.KindTenant, "", tenant)
	case !sees:
		return identity.Forbidden(who, "see anything", "ask an admin of the system for a role")
	case r == reader:
		return nil
	case r == writer && (who.Role == identity.TenantAdmin):
		return nil
	}
	return identity.Forbidden(who, "change anything", "ask an admin of the tenant")
}

// authorize looks at the rule of an operation before it is called.
func (s *Server) authorize(ctx huma.Context, next func(huma.Context)) {
	r, _ := ctx.Operation().Metadata[ruleKey].(rule)
	who := identity.Of(ctx.Context())
	err := s.may(who, r, ctx.Param("tenant"))
	if err != nil && s.seldom.pass("forbidden "+who.Name+" "+ctx.Operation().OperationID) {
		s.note(ctx.Context(), outcome(audit.Record{Operation: ctx.Operation().OperationID, Tenant: who.Tenant, Object: ctx.URL().Path}, "", err))
	}
	if err == nil && ctx.Method() != http.MethodGet {
		err = s.auditReady()
	}
	if err == nil {
		next(ctx)
		return
	}
	p := s.toProblem(ctx.Context(), err)
	for name, values := range maps.All(p.GetHeaders()) {
		for _, v := range values {
			ctx.SetHeader(name, v)
		}
	}
	ctx.SetHeader("Content-Type", p.ContentType(""))
	ctx.SetStatus(p.Status)
	_ = json.NewEncoder(ctx.BodyWriter()).Encode(p) // the client may be gone
}

// scopeOf is the tenant that a list of a tenant's things is of: where the URL names none, that of the principal; "" is all.
func scopeOf(who identity.Principal, tenanted bool, tenant string) string {
	if tenanted && tenant == "" && who.Role != identity.Admin {
		return who.Tenant
	}
	return tenant
}

// visible reports whether a principal may see a resource.
func visible(who identity.Principal, o v1.Object) bool {
	switch {
	case who.Role == identity.Admin:
		return true
	case o.GetKind() == v1.KindTenant:
		return who.Sees(o.Meta().Name)
	}
	return o.Meta().Tenant != "" && who.Sees(o.Meta().Tenant)
}

// mayWrite refuses documents that are not the principal's to write. A tenant that it does not see is one that is not there.
func mayWrite(who identity.Principal, docs []v1.Object) error {
	if who.Role == identity.Admin {
		return nil
	}
	for _, d := range docs {
		info, _ := v1.KindByWord(string(d.GetKind()))
		switch tenant := d.Meta().Tenant; {
		case !info.Tenanted:
			return identity.Forbidden(who, fmt.Sprintf("write %s: a %s is the system's", v1.ID(d), info.Singular), "ask an admin of the system")
		case !who.Sees(tenant):
			return notFound(v1.KindTenant, "", tenant)
		case !who.Writes(tenant):
			return identity.Forbidden(who, "change anything", "ask an admin of the tenant")
		}
	}
	return nil
}
