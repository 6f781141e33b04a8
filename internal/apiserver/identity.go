// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "weft/api/v1"
	"weft/internal/audit"
	"weft/internal/identity"
)

// tokenLife is how long a token is good that names no end.
const tokenLife = "720h"

// registerIdentity makes the operations on principals and their tokens.
func (s *Server) registerIdentity() {
	huma.Register(s.api, s.operation(known, "whoami", http.MethodGet, "/api/v1/whoami", "Tell who the request is taken for"),
		func(ctx context.Context, _ *nothing) (*body[v1.Whoami], error) {
			p := identity.Of(ctx)
			return &body[v1.Whoami]{v1.Whoami{Name: p.Name, Role: string(p.Role), Tenant: p.Tenant, Expires: p.Expires}}, nil
		})
	huma.Register(s.api, s.operation(reader, "list-tokens", http.MethodGet, "/api/v1/tokens", "List tokens, without their secrets"),
		func(ctx context.Context, in *struct {
			Tenant string `query:"tenant" doc:"Of this tenant only."`
		},
		) (*body[v1.Tokens], error) {
			who := identity.Of(ctx)
			if in.Tenant != "" && !who.Sees(in.Tenant) {
				return nil, s.toProblem(ctx, notFound(v1.KindTenant, "", in.Tenant))
			}
			out := v1.Tokens{Items: []v1.Token{}}
			for _, t := range s.cfg.Gate.Tokens(who, in.Tenant) {
				out.Items = append(out.Items, tokenOf(t))
			}
			return &body[v1.Tokens]{out}, nil
		})
	huma.Register(s.api, s.operation(writer, "create-token", http.MethodPost, "/api/v1/tokens", "Make a token"), s.createToken)
	huma.Register(s.api, s.operation(writer, "revoke-token", http.MethodDelete, "/api/v1/tokens/{id}", "End a token at once"),
		func(ctx context.Context, in *struct {
			ID string `path:"id" doc:"Name of the token."`
		},
		) (*body[v1.Token], error) {
			t, err := s.cfg.Gate.Revoke(ctx, identity.Of(ctx), in.ID)
			s.note(ctx, outcome(audit.Record{Operation: "revoke-token", Tenant: t.Tenant, Object: "token/" + in.ID}, "deleted", err))
			if err != nil {
				return nil, s.toProblem(ctx, err)
			}
			return &body[v1.Token]{tokenOf(t)}, nil
		})
}

func (s *Server) createToken(ctx context.Context, in *struct{ Body v1.TokenRequest }) (*body[v1.Token], error) {
	life, err := time.ParseDuration(cmp.Or(in.Body.ExpiresIn, tokenLife))
	if err != nil {
		return nil, s.toProblem(ctx, &v1.Error{
			Status: http.StatusUnprocessableEntity, Code: v1.CodeInvalid, Field: "expiresIn", Message: fmt.Sprintf("%q is no duration", in.Body.ExpiresIn),
			Fix: "use one such as 24h or 30m; 0 for no end",
		})
	}
	t, secret, err := s.cfg.Gate.Create(ctx, identity.Of(ctx), identity.Role(in.Body.Role), in.Body.Tenant, in.Body.Description, life)
	s.note(ctx, outcome(audit.Record{Operation: "make-token", Tenant: t.Tenant, Object: "token/" + t.ID, Detail: map[string]any{"role": in.Body.Role, "for": life.String()}}, "created", err))
	if err != nil {
		return nil, s.toProblem(ctx, err)
	}
	out := tokenOf(t)
	out.Secret = secret
	return &body[v1.Token]{out}, nil
}

func tokenOf(t identity.Token) v1.Token {
	return v1.Token{ID: t.ID, Role: string(t.Role), Tenant: t.Tenant, Description: t.Description, Created: t.Created, CreatedBy: t.CreatedBy, Expires: t.Expires}
}
