// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	v1 "weft/api/v1"
	"weft/internal/audit"
)

// registerJoin makes the operations on join tokens. Whoever may call them can let machines become nodes.
func (s *Server) registerJoin() {
	huma.Register(s.api, s.operation(operator, "join", http.MethodPost, "/api/v1/join", "Make a join token, and tell what a machine needs to become a node"),
		func(ctx context.Context, in *struct{ Body v1.JoinRequest }) (*body[v1.Join], error) {
			j, err := s.cfg.Joins.Make(ctx, in.Body)
			id := ""
			if err == nil {
				id = j.ID
			}
			s.note(ctx, outcome(audit.Record{Operation: "make-join-token", Object: "join-token/" + id, Detail: map[string]any{"node": in.Body.Node, "for": in.Body.For, "uses": in.Body.Uses}}, "created", err))
			if err != nil {
				return nil, s.toProblem(ctx, err)
			}
			return &body[v1.Join]{*j}, nil
		})
	huma.Register(s.api, s.operation(operator, "list-join-tokens", http.MethodGet, "/api/v1/join/tokens", "List the join tokens, without their secrets"),
		func(context.Context, *nothing) (*body[v1.JoinTokens], error) {
			return &body[v1.JoinTokens]{v1.JoinTokens{Items: s.cfg.Joins.List()}}, nil
		})
	huma.Register(s.api, s.operation(operator, "revoke-join-token", http.MethodDelete, "/api/v1/join/tokens/{id}", "Revoke a join token; nodes that were enrolled by it stay"),
		func(ctx context.Context, in *struct {
			ID string `path:"id" doc:"Name of the token, as the list has it."`
		},
		) (*body[v1.JoinTokens], error) {
			err := s.cfg.Joins.Revoke(ctx, in.ID)
			s.note(ctx, outcome(audit.Record{Operation: "revoke-join-token", Object: "join-token/" + in.ID}, "deleted", err))
			if err != nil {
				return nil, s.toProblem(ctx, err)
			}
			return &body[v1.JoinTokens]{v1.JoinTokens{Items: s.cfg.Joins.List()}}, nil
		})
}
