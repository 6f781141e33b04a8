// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	v1 "weft/api/v1"
	"weft/internal/apiserver"
	"weft/internal/audit"
	"weft/internal/base/clock"
	"weft/internal/server/authority"
	"weft/internal/southbound"
	"weft/internal/southbound/pb"
)

// Rule is what a call of a node needs.
type Rule int

// The rules.
const (
	Certified Rule = iota + 1 // a certificate that has not ended, of a machine that is, or is to be, the node
	Ended                     // the same, but it may have ended a while ago
	Anybody                   // no certificate; the call has proof of its own
)

// Rules has every call there is. A call that is not here is refused.
var Rules = map[string]Rule{
	pb.Southbound_Sync_FullMethodName:    Certified,
	pb.Southbound_Claim_FullMethodName:   Certified,
	pb.Southbound_Release_FullMethodName: Certified,
	pb.Enrolment_Renew_FullMethodName:    Ended,
	pb.Enrolment_Enrol_FullMethodName:    Anybody,
}

type callerKey struct{}

// CallerOf returns the node that the guard has let in.
func CallerOf(ctx context.Context) (southbound.Caller, error) {
	c, ok := ctx.Value(callerKey{}).(southbound.Caller)
	if !ok {
		return c, status.Error(codes.Unauthenticated, "the call comes from nobody")
	}
	return c, nil
}

// Options are the guard: every call of the gRPC server goes by it.
func (s *Service) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			known, err := s.guard(ctx, info.FullMethod)
			if err != nil {
				s.refused(ctx, info.FullMethod, err)
				return nil, err
			}
			answer, err := next(known, req)
			s.refused(known, info.FullMethod, err)
			return answer, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			known, err := s.guard(stream.Context(), info.FullMethod)
			if err != nil {
				s.refused(stream.Context(), info.FullMethod, err)
				return err
			}
			err = next(srv, &guarded{stream, known})
			s.refused(known, info.FullMethod, err)
			return err
		}),
	}
}

// Bounds of what the log has of refusals: an agent that is refused tries again every 2 s.
const (
	toldEvery = time.Minute // from one address, for one call
	toldMost  = 1000        // addresses and calls that are remembered
)

// refused logs that somebody is not who they say they are.
func (s *Service) refused(ctx context.Context, method string, cause error) {
	if code := status.Code(cause); code == codes.Unauthenticated || code == codes.PermissionDenied {
		caller, _ := CallerOf(ctx) // of nobody: then there is none
		s.complain(ctx, method, caller.Node, status.Convert(cause).Message())
	}
}

// complain logs and records why a call was refused, unless it did so a moment ago: strangers must not fill the logs.
func (s *Service) complain(ctx context.Context, method, node, why string) {
	from := addressOf(ctx)
	now := time.Now()
	key := from + " " + method
	s.mu.Lock()
	again := now.Sub(s.told[key]) < toldEvery
	if !again {
		if len(s.told) >= toldMost {
			clear(s.told)
		}
		s.told[key] = now
	}
	s.mu.Unlock()
	if again {
		return
	}
	s.cfg.Log.Warn("node refused", "from", from, "host", node, "call", method, "err", why)
	r := audit.Record{From: from, Operation: strings.ToLower(path.Base(method)), Outcome: v1.CodeForbidden, Failed: true, Detail: map[string]any{"why": why}}
	if node != "" {
		r.Object = "node/" + node
	}
	if err := s.cfg.Audit(r); err != nil {
		s.cfg.Log.Error("record a refusal", "err", err)
	}
}

// addressOf is where a call comes from.
func addressOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "unknown"
	}
	if host, _, err := net.SplitHostPort(p.Addr.String()); err == nil {
		return host
	}
	return p.Addr.String()
}

// guarded is a stream that knows its caller.
type guarded struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // it is what gRPC asks a stream for
}

// Context returns the stream's context with the caller in it.
func (g *guarded) Context() context.Context { return g.ctx }

// guard lets a call in, and notes whose it is.
func (s *Service) guard(ctx context.Context, method string) (context.Context, error) {
	rule, ok := Rules[method]
	if !ok {
		return nil, status.Errorf(codes.PermissionDenied, "there is no rule for %s", method)
	}
	if rule == Anybody {
		return ctx, nil
	}
	caller, err := s.identify(ctx, rule)
	if err != nil {
		return nil, err
	}
	if err := s.standing(caller); err != nil {
		return nil, refuse(err)
	}
	return context.WithValue(ctx, callerKey{}, caller), nil
}

// identify reads the certificate of the connection, of which TLS has proved that the caller has its key.
func (s *Service) identify(ctx context.Context, rule Rule) (southbound.Caller, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return southbound.Caller{}, status.Error(codes.Unauthenticated, "the call comes from nowhere")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return southbound.Caller{}, status.Error(codes.Unauthenticated,
			"this server takes nodes by their certificates only: an agent of this version gets its own by a join token ('weft node token')")
	}
	leaf := info.State.PeerCertificates[0]
	id, ended, err := s.cfg.Authority.Whose(leaf, clock.Now())
	if errors.Is(err, authority.ErrEnded) && rule == Ended && ended <= s.cfg.Grace {
		err = nil
	}
	switch {
	case errors.Is(err, authority.ErrEnded) && ended > s.cfg.Grace:
		return southbound.Caller{}, status.Errorf(codes.Unauthenticated, "the certificate of node %s ended at %s, which is more than %s ago: the machine must be joined again (weft node token --node %s)",
			id.Node, leaf.NotAfter.UTC().Format(time.RFC3339), s.cfg.Grace, id.Node)
	case errors.Is(err, authority.ErrEnded):
		return southbound.Caller{}, status.Errorf(codes.Unauthenticated, "the certificate of node %s ended at %s: it can be renewed for %s", id.Node,
			leaf.NotAfter.UTC().Format(time.RFC3339), (s.cfg.Grace - ended).Round(time.Second))
	case err != nil:
		return southbound.Caller{}, status.Errorf(codes.Unauthenticated, "the certificate is no node's of this system: %v", err)
	}
	return southbound.Caller{Node: id.Node, Machine: id.Machine, Until: leaf.NotAfter}, nil
}

// standing refuses a machine that is its node no more. A node that is not there is about to say hello for the first time.
func (s *Service) standing(c southbound.Caller) error {
	view := s.cfg.Store.View()
	if view.Counter(apiserver.RemovedCounter(c.Machine)) > 0 {
		return apiserver.RemovedError(c.Node)
	}
	found, ok := view.Get(v1.KindNode, "", c.Node)
	if !ok {
		return nil
	}
	if m := found.(*v1.Node).Status.Machine; m != "" && m != c.Machine {
		return &v1.Error{
			Status: http.StatusConflict, Code: v1.CodeInUse, Object: "node/" + c.Node, Message: "another machine is this node now",
			Fix: "give each machine a name of its own (weft node join --name); if this one is to be the node again: weft node token --node " + c.Node,
		}
	}
	return nil
}
