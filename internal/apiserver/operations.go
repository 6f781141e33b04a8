// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	v1 "weft/api/v1"
	"weft/internal/apiserver/admission"
	"weft/internal/audit"
	"weft/internal/identity"
)

// useOurErrors makes the library's own errors (a wrong parameter, a body too large) look like ours.
var useOurErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		e := &v1.Error{Status: status, Code: v1.CodeInvalid, Message: msg, Fix: "look at /openapi.yaml"}
		if status == http.StatusRequestEntityTooLarge {
			e.Code = v1.CodeTooLarge
		}
		for _, err := range errs {
			if err != nil {
				e.Message += ": " + err.Error()
			}
		}
		return problem{apiError: e}
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		p := huma.NewError(status, msg, errs...)
		if ours, ok := p.(problem); ok {
			ours.RequestID = requestID(ctx.Context())
		}
		return p
	}
})

// nothing is the input of operations without one.
type nothing struct{}

// Place is where a resource lives: the tenant in the URL, or "" for cluster kinds and lists over all tenants. The
// parameter itself is documented by operation.
type Place struct{ tenant string }

// Resolve reads the tenant from the URL.
func (p *Place) Resolve(ctx huma.Context) []error {
	p.tenant = ctx.Param("tenant")
	return nil
}

// WatchInput is what a list can be asked besides.
type WatchInput struct {
	Watch           bool   `query:"watch" doc:"Answer with a stream of events (text/event-stream) instead; the data of each is an Event."`
	ResourceVersion string `query:"resourceVersion" doc:"With watch: send what came after this version. Without: from now on."`
}

type listInput struct {
	Place
	WatchInput
}

type nameInput struct {
	Place
	Name string `path:"name" doc:"Name of the resource."`
}

type putInput struct {
	Place
	Name    string `path:"name" doc:"Name of the resource."`
	DryRun  bool   `query:"dryRun" doc:"Check everything, write nothing."`
	RawBody []byte `contentType:"application/json"`
}

type deleteInput struct {
	Place
	Name    string `path:"name" doc:"Name of the resource."`
	Cascade bool   `query:"cascade" doc:"Delete what uses the resource, too."`
	DryRun  bool   `query:"dryRun" doc:"Say what would go, delete nothing."`
}

type body[T any] struct{ Body T }

// ApplyRequest is a set of documents that is written in one transaction.
type ApplyRequest struct {
	Documents []json.RawMessage `json:"documents" doc:"Resources, at most 100 (10000 in a dry run), in any order."`
}

// DropList is the answer to a request for drop counters.
type DropList struct {
	Items    []v1.Drop `json:"items" doc:"Counters by node, tenant and reason."`
	Warnings []string  `json:"warnings,omitempty" doc:"Nodes that did not answer."`
}

// healthPath is the one URL that needs no token.
const healthPath = "/healthz"

// register makes all operations.
func (s *Server) register() {
	useOurErrors()
	config := huma.DefaultConfig("weft", "v1")
	config.CreateHooks, config.DocsPath, config.SchemasPath = nil, "", ""
	config.Info.Description = "The network of a cloud: tenants, VPCs, subnets, ports, route tables, nodes."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer"}}
	config.Security = []map[string][]string{{"token": {}}}
	s.api = humago.New(s.mux, config)
	s.api.UseMiddleware(s.authorize)
	s.api.OpenAPI().Components.Schemas.RegisterTypeAlias(reflect.TypeFor[problem](), reflect.TypeFor[Problem]())
	registerKind[v1.Tenant](s)
	registerKind[v1.Node](s)
	registerKind[v1.VPC](s)
	registerKind[v1.Subnet](s)
	registerKind[v1.Port](s)
	registerKind[v1.RouteTable](s)
	s.registerCluster()
	s.registerIdentity()
	s.registerAudit()
	s.checkRules()
}

// object is a pointer to a resource of type T.
type object[T any] interface {
	*T
	v1.Object
}

// registerKind makes the operations of one kind.
func registerKind[T any, P object[T]](s *Server) {
	info, _ := v1.KindByWord(string(P(new(T)).GetKind()))
	base := "/api/v1/" + info.Plural
	if !info.Tenanted {
		registerAt[T, P](s, info, base)
		return
	}
	s.registerList(info, "list-all-"+info.Plural, base, "List the "+info.Plural+" of all tenants")
	registerAt[T, P](s, info, "/api/v1/tenants/{tenant}/"+info.Plural)
}

// registerList makes the operation that lists a kind at a place.
func (s *Server) registerList(info v1.KindInfo, id, path, summary string) {
	op := s.operation(readerOf(info), id, http.MethodGet, path, summary)
	schemas := s.api.OpenAPI().Components.Schemas
	op.Responses = map[string]*huma.Response{"200": {Description: "The list, or with watch the stream of its changes", Content: map[string]*huma.MediaType{
		"application/json":  {Schema: schemas.Schema(reflect.TypeFor[v1.List](), true, "")},
		"text/event-stream": {Schema: schemas.Schema(reflect.TypeFor[v1.Event](), true, "")},
	}}}
	huma.Register(s.api, op,
		func(ctx context.Context, in *listInput) (*body[v1.List], error) { return s.list(ctx, info, in.tenant) })
}

// registerAt makes the operations of one kind at its place.
func registerAt[T any, P object[T]](s *Server, info v1.KindInfo, base string) {
	s.registerList(info, "list-"+info.Plural, base, "List "+info.Plural)
	huma.Register(s.api, s.operation(readerOf(info), "get-"+info.Singular, http.MethodGet, base+"/{name}", "Get one "+info.Singular),
		func(ctx context.Context, in *nameInput) (*body[P], error) {
			o, ok := s.cfg.Store.View().Get(info.Kind, in.tenant, in.Name)
			if !ok || !visible(identity.Of(ctx), o) {
				return nil, s.toProblem(ctx, notFound(info.Kind, in.tenant, in.Name))
			}
			c := v1.Clone(o.(P))
			s.cfg.Live.Fill(c)
			return &body[P]{c}, nil
		})
	put := s.operation(writerOf(info), "put-"+info.Singular, http.MethodPut, base+"/{name}", "Create or replace one "+info.Singular)
	put.SkipValidateBody = true
	put.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")},
	}}
	huma.Register(s.api, put, func(ctx context.Context, in *putInput) (*body[v1.Result], error) {
		return s.put(ctx, info, in.tenant, in.Name, in.RawBody, in.DryRun)
	})
	huma.Register(s.api, s.operation(writerOf(info), "delete-"+info.Singular, http.MethodDelete, base+"/{name}", "Delete one "+info.Singular),
		func(ctx context.Context, in *deleteInput) (*body[v1.Result], error) {
			return s.delete(ctx, deletion{info.Kind, in.tenant, in.Name, in.Cascade, in.DryRun})
		})
}

// delete removes and audits.
func (s *Server) delete(ctx context.Context, d deletion) (*body[v1.Result], error) {
	res, err := s.remove(ctx, d)
	if !d.dryRun {
		s.noteDeleted(ctx, d, res, err)
	}
	if err != nil {
		return nil, s.toProblem(ctx, err)
	}
	return &body[v1.Result]{*res}, nil
}

// operation describes one that the rule says who may call.
func (s *Server) operation(r rule, id, method, path, summary string) huma.Operation {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: bodyMost, BodyReadTimeout: -1,
		Metadata: map[string]any{ruleKey: r}, Description: r.text(),
	}
	if strings.Contains(path, "{tenant}") {
		op.Parameters = []*huma.Param{{Name: "tenant", In: "path", Required: true, Description: "Name of the tenant.", Schema: &huma.Schema{Type: "string"}}}
	}
	return op
}

func (s *Server) list(ctx context.Context, info v1.KindInfo, tenant string) (*body[v1.List], error) {
	view := s.cfg.Store.View()
	if tenant != "" {
		if _, ok := view.Get(v1.KindTenant, "", tenant); !ok {
			return nil, s.toProblem(ctx, notFound(v1.KindTenant, "", tenant))
		}
	}
	out := v1.List{
		TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: info.Kind + "List"}, Items: []json.RawMessage{},
		ResourceVersion: strconv.FormatInt(view.Revision(), 10),
	}
	who := identity.Of(ctx)
	for _, o := range view.List(info.Kind, scopeOf(who, info.Tenanted, tenant)) {
		if !visible(who, o) {
			continue
		}
		item, err := s.filled(o)
		if err != nil {
			return nil, s.toProblem(ctx, err)
		}
		out.Items = append(out.Items, item)
	}
	return &body[v1.List]{out}, nil
}

func (s *Server) put(ctx context.Context, info v1.KindInfo, tenant, name string, data []byte, dryRun bool) (*body[v1.Result], error) {
	o, err := v1.DecodeJSON(data)
	if err != nil {
		return nil, s.toProblem(ctx, err)
	}
	m := o.Meta()
	if o.GetKind() != info.Kind || m.Name != name || m.Tenant != tenant {
		return nil, s.toProblem(ctx, admission.Refuse(o, http.StatusUnprocessableEntity, v1.CodeInvalid, "metadata.name", "send it to its own URL",
			"the document is %s, which is not what the URL names", v1.ID(o)))
	}
	return s.write(ctx, []v1.Object{o}, dryRun)
}

// write applies documents and audits.
func (s *Server) write(ctx context.Context, docs []v1.Object, dryRun bool) (*body[v1.Result], error) {
	var res *v1.Result
	err := mayWrite(identity.Of(ctx), docs)
	if err == nil {
		res, err = s.apply(ctx, docs, dryRun)
	}
	if err != nil {
		p := s.toProblem(ctx, err)
		if !dryRun {
			s.noteApplied(ctx, docs, nil, err)
		}
		return nil, p
	}
	if !dryRun {
		s.noteApplied(ctx, docs, res, nil)
	}
	return &body[v1.Result]{*res}, nil
}

// registerCluster makes the operations that belong to no kind.
func (s *Server) registerCluster() {
	apply := s.operation(writer, "apply", http.MethodPost, "/api/v1/apply", "Write a set of resources in one transaction")
	apply.SkipValidateBody = true
	apply.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
		"application/json": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[ApplyRequest](), true, "")},
	}}
	huma.Register(s.api, apply, func(ctx context.Context, in *struct {
		DryRun  bool   `query:"dryRun" doc:"Check everything, write nothing."`
		RawBody []byte `contentType:"application/json"`
	},
	) (*body[v1.Result], error) {
		docs, err := decodeDocuments(in.RawBody)
		if err != nil {
			return nil, s.toProblem(ctx, err)
		}
		return s.write(ctx, docs, in.DryRun)
	})
	s.registerTrace()
	huma.Register(s.api, s.operation(operator, "status", http.MethodGet, "/api/v1/status", "Tell how the system is"), s.status)
	huma.Register(s.api, s.operation(reader, "drops", http.MethodGet, "/api/v1/drops", "Count dropped packets by node, tenant and reason"),
		func(ctx context.Context, in *struct {
			Tenant string `query:"tenant" doc:"Of this tenant only."`
		},
		) (*body[DropList], error) {
			who := identity.Of(ctx)
			if in.Tenant != "" && !who.Sees(in.Tenant) {
				return nil, s.toProblem(ctx, notFound(v1.KindTenant, "", in.Tenant))
			}
			items, err := s.cfg.Live.Drops(ctx, scopeOf(who, true, in.Tenant))
			out := DropList{Items: items}
			if out.Items == nil {
				out.Items = []v1.Drop{}
			}
			if err != nil {
				out.Warnings = append(out.Warnings, err.Error())
			}
			return &body[DropList]{out}, nil
		})
	ask := s.operation(operator, "ask", http.MethodPost, "/api/v1/nodes/{node}/ask/{what}", "Put a question to a node: dump, drops, status, probe")
	ask.SkipValidateBody = true
	ask.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{Description: "The question's argument; null for none."}}}}
	huma.Register(s.api, ask, func(ctx context.Context, in *struct {
		Node    string `path:"node"`
		What    string `path:"what"`
		RawBody []byte `contentType:"application/json"`
	},
	) (*body[json.RawMessage], error) {
		if !json.Valid(in.RawBody) {
			return nil, s.toProblem(ctx, &v1.Error{Status: http.StatusBadRequest, Code: v1.CodeMalformed, Message: "the question is not JSON", Fix: "send a JSON document, for example null"})
		}
		if s.seldom.pass(identity.Of(ctx).Name + " " + in.Node + " " + in.What) { // checks ask thousands of times
			s.note(ctx, audit.Record{Operation: "ask", Object: "node/" + in.Node, Outcome: in.What})
		}
		out, err := s.cfg.Live.Ask(ctx, in.Node, in.What, in.RawBody)
		if err != nil {
			return nil, s.toProblem(ctx, err)
		}
		return &body[json.RawMessage]{out}, nil
	})
	s.registerJoin()
	health := s.operation(anyone, "health", http.MethodGet, healthPath, "Tell that the server answers, and whether its store does")
	health.Security = []map[string][]string{}
	huma.Register(s.api, health, func(context.Context, *nothing) (*body[map[string]string], error) {
		health := map[string]string{"status": "ok", "store": "ok", "version": s.cfg.Version}
		if s.cfg.Store.Health() != nil { // the server answers all the same, and another start would not help
			health["status"], health["store"] = "degraded", "unavailable"
		}
		return &body[map[string]string]{health}, nil
	})
}

// decodeDocuments reads the body of apply. Every document that is wrong is named.
func decodeDocuments(data []byte) ([]v1.Object, error) {
	var in ApplyRequest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if err == nil && in.Documents == nil {
		err = errors.New("there are no documents")
	}
	if _, end := d.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("something follows")
	}
	if err != nil {
		return nil, &v1.Error{
			Status: http.StatusBadRequest, Code: v1.CodeMalformed, Message: fmt.Sprintf("the body is not {\"documents\": [...]}: %v", err), Fix: "look at /openapi.yaml",
		}
	}
	var docs []v1.Object
	var errs v1.ErrorList
	for i, raw := range in.Documents {
		o, err := v1.DecodeJSON(raw)
		if err != nil {
			for _, e := range admission.Errors(err) {
				e.Message = fmt.Sprintf("document %d: %s", i+1, e.Message)
				errs = append(errs, e)
			}
			continue
		}
		docs = append(docs, o)
	}
	return docs, errs.OrNil()
}

// statusWithin bounds how long status waits for the store: one that does not answer is what status has to tell.
const statusWithin = 3 * time.Second

func (s *Server) status(ctx context.Context, _ *nothing) (*body[v1.ClusterStatus], error) {
	st := s.cfg.Live.Status(ctx)
	view := s.cfg.Store.View()
	st.Version, st.ResourceVersion = s.cfg.Version, strconv.FormatInt(view.Revision(), 10)
	st.Counts = make(map[string]int)
	for _, k := range v1.Kinds() {
		st.Counts[k.Plural] = view.Count(k.Kind)
	}
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	var err error
	if st.Store, err = s.cfg.Store.Status(ctx); err != nil {
		st.Warnings = append(st.Warnings, "the store does not answer: "+err.Error()+"; what is there can be read and forwards on, nothing can be changed")
	} else if st.Store.Answering < st.Store.Members {
		st.Warnings = append(st.Warnings, fmt.Sprintf("%d of %d members of etcd answer; its own log there says why", st.Store.Answering, st.Store.Members))
	}
	return &body[v1.ClusterStatus]{st}, nil
}

// registerTrace makes the operation that walks a packet.
func (s *Server) registerTrace() {
	op := s.operation(reader, "trace", http.MethodGet, "/api/v1/tenants/{tenant}/ports/{name}/trace", "Tell what would become of a packet that the port sends")
	huma.Register(s.api, op, func(ctx context.Context, in *struct {
		Place
		Name     string     `path:"name" doc:"Name of the port."`
		To       netip.Addr `query:"to" required:"true" doc:"Destination address."`
		Protocol string     `query:"protocol" enum:"icmp,tcp,udp" default:"icmp" doc:"icmp is an echo request, tcp a SYN."`
		Port     uint16     `query:"port" doc:"Destination port of tcp and udp."`
	},
	) (*body[v1.Trace], error) {
		t, err := s.cfg.Live.Trace(in.tenant, in.Name, in.To, in.Protocol, in.Port)
		if err != nil {
			return nil, s.toProblem(ctx, err)
		}
		return &body[v1.Trace]{*t}, nil
	})
}
