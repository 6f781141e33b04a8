// SPDX-License-Identifier: Apache-2.0

// Package apiserver is the API: it authenticates, decodes strictly, admits documents against all others, and answers in
// one shape of error. It knows resources and the store; what nodes do is behind Live.
package apiserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "weft/api/v1"
	"weft/internal/apiserver/limit"
	"weft/internal/audit"
	"weft/internal/identity"
	"weft/internal/store"
)

// Live is what only the running server knows.
type Live interface {
	// Fill writes the live part of status into o, which is the caller's own copy.
	Fill(o v1.Object)
	// Version changes whenever what Fill writes may have changed.
	Version() uint64
	// Status tells how the nodes are; the API adds the store and counts.
	Status(ctx context.Context) v1.ClusterStatus
	// Drops returns the drop counters of one tenant, or of all for "". With an error, what could be had is returned too.
	Drops(ctx context.Context, tenant string) ([]v1.Drop, error)
	// Trace tells what would become of a packet that a port sends. protocol is icmp, tcp or udp; port is its destination's.
	Trace(tenant, name string, to netip.Addr, protocol string, port uint16) (*v1.Trace, error)
	// Ask puts a question to a node.
	Ask(ctx context.Context, node, what string, argument json.RawMessage) (json.RawMessage, error)
}

// Joins are the join tokens: what lets machines become nodes.
type Joins interface {
	Make(ctx context.Context, r v1.JoinRequest) (*v1.Join, error)
	List() []v1.JoinToken
	// Revoke ends a token. Nodes that were enrolled by it stay.
	Revoke(ctx context.Context, id string) error
}

// Config is what a Server needs. Every field is required.
type Config struct {
	Store   *store.Store
	Live    Live
	Gate    *identity.Gate
	Audit   *audit.Log
	Limits  limit.Config // zero: the default
	Joins   Joins
	Version string
	Log     *slog.Logger
}

// Server is the API.
type Server struct {
	cfg         Config
	mux         *http.ServeMux
	api         huma.API
	watchWithin time.Duration // writeWithin, but for tests
	seldom      seldom
	limits      *limit.Limits
}

// bodyMost bounds a request.
const bodyMost = 3 << 20

// New returns the API with all its operations.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Live == nil || cfg.Log == nil || cfg.Gate == nil || cfg.Audit == nil {
		return nil, errors.New("the API needs a store, live status, a log, a gate and an audit log")
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux(), watchWithin: writeWithin, limits: limit.New(cmp.Or(cfg.Limits, limit.Default()))}
	s.register()
	return s, nil
}

// Handler returns the API as an HTTP handler. TLS and time limits are the caller's.
func (s *Server) Handler() http.Handler {
	return s.identify(s.recover(s.authenticate(s.limit(http.HandlerFunc(s.route)))))
}

// OpenAPI returns the API's own description as YAML.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().YAML() }

type requestKey struct{}

// identify gives each request an id, which errors and the log name.
func (s *Server) identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var raw [10]byte
		rand.Read(raw[:])
		id := base32.StdEncoding.EncodeToString(raw[:])
		w.Header().Set("X-Request-Id", id)
		next.ServeHTTP(w, r.WithContext(context.WithValue(context.WithValue(r.Context(), requestKey{}, id), fromKey{}, r.RemoteAddr)))
	})
}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// recover turns a panic into an error of this request alone.
func (s *Server) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler { //nolint:errorlint // it is a panic's value, compared as net/http does
				s.cfg.Log.Error("request panicked", "panic", p, "request", requestID(r.Context()), "stack", string(debug.Stack()))
				s.fail(w, r, errors.New("panic"))
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// bodyWithin is how long a client may take to send a request's body.
const bodyWithin = 30 * time.Second

// limit takes a request, or tells its client to come again.
func (s *Server) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == healthPath {
			next.ServeHTTP(w, r)
			return
		}
		kind := limit.Other
		switch _, _, list := listPath(r.URL.Path); {
		case list && r.Method == http.MethodGet && r.URL.Query().Get("watch") == "true":
			kind = limit.Watch
		case list && r.Method == http.MethodGet:
			kind = limit.List
		}
		who := identity.Of(r.Context())
		end, err := s.limits.Begin(who.Tenant, who.Name, kind)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		defer end()
		if kind != limit.Watch && r.ContentLength != 0 { // one that sends slowly holds its place for so long only
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWithin)) // a test's recorder has none
			defer func() { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }()
		}
		next.ServeHTTP(w, r)
	})
}

// route serves watches by hand, and everything else by the operations.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, bodyMost)
	if err := knownParameters(r); err != nil {
		s.fail(w, r, err)
		return
	}
	if _, pattern := s.mux.Handler(r); pattern == "" {
		s.fail(w, r, s.nowhere(r))
		return
	}
	if r.Method == http.MethodGet && r.URL.Query().Get("watch") == "true" {
		if kind, tenant, ok := listPath(r.URL.Path); ok {
			s.watch(w, r, kind, tenant)
			return
		}
	}
	s.mux.ServeHTTP(w, r)
}

// parameters are all those of a URL that an operation knows.
var parameters = []string{"after", "cascade", "dryRun", "failed", "limit", "object", "operation", "port", "principal", "protocol", "resourceVersion", "since", "tenant", "to", "until", "watch"}

// knownParameters refuses what no operation knows: a dry run with a slip in its name would write.
func knownParameters(r *http.Request) error {
	for name := range r.URL.Query() {
		if !slices.Contains(parameters, name) {
			return &v1.Error{
				Status: http.StatusBadRequest, Code: v1.CodeInvalid, Field: name, Message: fmt.Sprintf("there is no parameter %q", name),
				Fix: "use one of " + strings.Join(parameters, ", "),
			}
		}
	}
	return nil
}

// nowhere tells a wrong URL from a wrong method.
func (s *Server) nowhere(r *http.Request) error {
	for _, m := range []string{http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete} {
		try := r.Clone(r.Context())
		try.Method = m
		if _, pattern := s.mux.Handler(try); pattern != "" {
			return &v1.Error{
				Status: http.StatusMethodNotAllowed, Code: v1.CodeUnknownMethod, Message: fmt.Sprintf("%s is not possible at %s", r.Method, r.URL.Path),
				Fix: "look at /openapi.yaml",
			}
		}
	}
	return &v1.Error{
		Status: http.StatusNotFound, Code: v1.CodeNotFound, Message: "there is nothing at " + r.URL.Path, Fix: "look at /openapi.yaml",
	}
}

// listPath reads the path of a list: kind and tenant ("" for all, and for cluster kinds).
func listPath(path string) (kind v1.KindInfo, tenant string, ok bool) {
	parts := strings.Split(strings.TrimPrefix(path, "/api/v1/"), "/")
	switch {
	case len(parts) == 1:
		kind, ok = v1.KindByWord(parts[0])
	case len(parts) == 3 && parts[0] == "tenants":
		tenant = parts[1]
		kind, ok = v1.KindByWord(parts[2])
		ok = ok && kind.Tenanted
	}
	return kind, tenant, ok
}

// problem is an error on the wire: RFC 9457, with our members.
type problem struct {
	*apiError
	after time.Duration // when to come again; 0: it is not said
}

// apiError lets an error be embedded beside its own method Error.
type apiError = v1.Error

// GetStatus returns the HTTP status.
func (p problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p problem) ContentType(string) string { return "application/problem+json" }

// retryAfter is how many seconds a client waits best before it sends again what the store could not take.
const retryAfter = "2"

// GetHeaders adds when to come again, where the server expects to be able to then.
func (p problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.Status == http.StatusServiceUnavailable && p.Code == v1.CodeUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	if p.after > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.after+time.Second-1)/time.Second)))
	}
	return h
}

// Problem is what a problem looks like on the wire.
type Problem struct {
	Type  string `json:"type" doc:"The code as a URN." example:"urn:weft:error:OVERLAP"`
	Title string `json:"title" doc:"The status in words."`
	v1.Error
}

// MarshalJSON adds the members that RFC 9457 names.
func (p problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(Problem{"urn:weft:error:" + p.Code, http.StatusText(p.Status), *p.apiError})
}

// toProblem makes the error for the wire. What is not the API's own becomes INTERNAL, and its text goes to the log only.
func (s *Server) toProblem(ctx context.Context, err error) problem {
	var list v1.ErrorList
	var one *v1.Error
	var busy *limit.RefusedError
	var after time.Duration
	switch {
	case errors.As(err, &busy):
		after = busy.After
		one = &v1.Error{
			Status: http.StatusTooManyRequests, Code: v1.CodeTooMany, Message: busy.Why, Fix: "send it again after what Retry-After says; many documents at once are one request: weft apply",
		}
	case errors.As(err, &list) && len(list) > 0:
		c := *list[0]
		one = &c
		if len(list) > 1 {
			one.Errors = list
		}
	case errors.As(err, &one):
		c := *one
		one = &c
	case errors.Is(err, store.ErrTooLarge):
		one = &v1.Error{
			Status: http.StatusRequestEntityTooLarge, Code: v1.CodeTooLarge, Field: "documents", Message: err.Error(),
			Fix: "send fewer documents at once; with an etcd of your own, let it take --max-txn-ops=512",
		}
	case errors.Is(err, store.ErrFull):
		s.cfg.Log.Error("the store takes no writes", "err", err)
		one = &v1.Error{
			Status: http.StatusInsufficientStorage, Code: v1.CodeUnavailable, Message: err.Error(),
			Fix: "an operator must make room: on the disk of the server's state directory; or, if it is etcd's own quota, raise that or defragment, and clear the alarm",
		}
	case errors.Is(err, store.ErrConflict):
		one = &v1.Error{Status: http.StatusConflict, Code: v1.CodeConflict, Message: err.Error(), Fix: "send it again"}
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		s.cfg.Log.Warn("request not answered in time", "err", err, "request", requestID(ctx))
		one = &v1.Error{Status: http.StatusServiceUnavailable, Code: v1.CodeUnavailable, Message: "the store (etcd) does not answer: what is there forwards on, and can be read; nothing can be changed", Fix: "send it again in some seconds; the write may have been done all the same"}
	default:
		s.cfg.Log.Error("request failed", "err", err, "request", requestID(ctx))
		one = &v1.Error{Status: http.StatusInternalServerError, Code: v1.CodeInternal, Message: "the server failed", Fix: "look for the request's id in the server's log"}
	}
	if one.Status == 0 {
		one.Status = http.StatusUnprocessableEntity
	}
	one.RequestID = requestID(ctx)
	return problem{apiError: one, after: after}
}

// fail writes an error outside of the operations.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := s.toProblem(r.Context(), err)
	maps.Copy(w.Header(), p.GetHeaders())
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}
