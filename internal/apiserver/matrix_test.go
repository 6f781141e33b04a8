// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	v1 "weft/api/v1"
	"weft/internal/identity"
	"weft/internal/store"
)

// The matrix: every operation that the API describes, with every kind of principal. What must come of it is said once more here, by
// URL and method, and not by the rules that the operations carry.

// class is what an operation is to principals.
type class string

const (
	public        class = "public"        // no token
	everybody     class = "everybody"     // any valid token
	ofTenant      class = "of the tenant" // reads what the tenant red has
	byTenant      class = "by the tenant" // changes what the tenant red has
	whatOneSees   class = "what one sees" // a list over tenants
	ofTheSystem   class = "of the system"
	ownTenant     class = "own tenant"      // the resource Tenant red itself
	documentsOf   class = "documents of"    // names the tenant red in its body
	whatAdminsSee class = "what admins see" // a list over tenants, for their admins
	whatOneHas    class = "what one has"    // names a thing of red's by an id
	watchedLists        = "?watch=true"
)

// classOf is what each operation must be. One that is not here fails the test: say who may call it.
func classOf(method, path string) class {
	write := method != http.MethodGet
	switch {
	case path == "/healthz":
		return public
	case path == "/api/v1/whoami":
		return everybody
	case strings.HasPrefix(path, "/api/v1/tenants/{tenant}/") && write:
		return byTenant
	case strings.HasPrefix(path, "/api/v1/tenants/{tenant}/"):
		return ofTenant
	case path == "/api/v1/tenants/{name}" && !write:
		return ownTenant
	case slices.Contains([]string{"/api/v1/tenants", "/api/v1/vpcs", "/api/v1/subnets", "/api/v1/ports", "/api/v1/routetables", "/api/v1/drops", "/api/v1/tokens"}, path) && !write:
		return whatOneSees
	case path == "/api/v1/audit":
		return whatAdminsSee
	case path == "/api/v1/apply", path == "/api/v1/tokens":
		return documentsOf
	case path == "/api/v1/tokens/{id}":
		return whatOneHas
	case strings.HasPrefix(path, "/api/v1/tenants/{name}"), strings.HasPrefix(path, "/api/v1/nodes"), strings.HasPrefix(path, "/api/v1/join"), path == "/api/v1/status":
		return ofTheSystem
	}
	return ""
}

// want is the status that a principal must get.
func want(c class, principal string) int {
	if c == public {
		return http.StatusOK
	}
	switch principal {
	case "none", "expired", "revoked", "wrong audience", "own node's agent", "other node's agent":
		return http.StatusUnauthorized
	case "operator":
		return http.StatusOK
	case "person without a role":
		if c == everybody {
			return http.StatusOK
		}
		if c == ofTenant || c == byTenant || c == ofTheSystem || c == whatOneSees || c == ownTenant || c == documentsOf || c == whatOneHas || c == whatAdminsSee {
			return http.StatusForbidden
		}
	case "own viewer", "own admin":
		switch c {
		case everybody, ofTenant, whatOneSees, ownTenant:
			return http.StatusOK
		case byTenant, documentsOf, whatOneHas, whatAdminsSee:
			if principal == "own admin" {
				return http.StatusOK
			}
		}
		return http.StatusForbidden
	case "other viewer", "other admin":
		switch c {
		case everybody, whatOneSees:
			return http.StatusOK
		case ofTenant, byTenant, ownTenant:
			return http.StatusNotFound
		case whatAdminsSee:
			if principal == "other admin" {
				return http.StatusOK
			}
		case documentsOf, whatOneHas:
			if principal == "other admin" {
				return http.StatusNotFound
			}
		}
		return http.StatusForbidden
	}
	return 0
}

// matrix is an API with two tenants that have the same names, and who may ask.
type matrix struct {
	*site
	gate  *identity.Gate
	known map[string]string // principal: what it sends as Authorization
}

type noJoins struct{}

func (noJoins) Make(context.Context, v1.JoinRequest) (*v1.Join, error) { return &v1.Join{}, nil }
func (noJoins) List() []v1.JoinToken                                   { return nil }
func (noJoins) Revoke(context.Context, string) error                   { return nil }

// asks answers every question.
type asks struct{ quiet }

func (asks) Ask(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
	return json.RawMessage(`{}`), nil
}

func (asks) Drops(_ context.Context, tenant string) ([]v1.Drop, error) {
	var out []v1.Drop
	for _, t := range []string{"red", "blue"} {
		if tenant == "" || tenant == t {
			out = append(out, v1.Drop{Node: "host-1", Tenant: t, Reason: "no-route", Packets: 1})
		}
	}
	return out, nil
}

// persons stands for an identity provider's tokens, which internal/identity tests with a real one.
type persons struct{}

func (persons) Verify(_ context.Context, token string) (identity.Principal, error) {
	if token == "a.b.none" {
		return identity.Principal{Name: "user:anna"}, nil
	}
	return identity.Principal{}, identity.ErrUnknown
}

func newMatrix(t *testing.T) *matrix {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := identity.NewGate(st, token, persons{})
	if err != nil {
		t.Fatal(err)
	}
	api, err := New(Config{Store: st, Live: asks{}, Gate: gate, Audit: newAudit(t), Joins: noJoins{}, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	m := &matrix{site: &site{t: t, api: api, web: httptest.NewServer(api.Handler())}, gate: gate}
	t.Cleanup(func() {
		m.web.CloseClientConnections()
		m.web.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, tenant := range []string{"red", "blue"} {
		m.apply(fmt.Sprintf(`{apiVersion: weft/v1, kind: Tenant, metadata: {name: %[1]s}, spec: {}}
---
{apiVersion: weft/v1, kind: VPC, metadata: {name: main, tenant: %[1]s}, spec: {prefixes: [10.0.0.0/16]}}
---
{apiVersion: weft/v1, kind: Subnet, metadata: {name: web, tenant: %[1]s}, spec: {vpc: main, prefixes: [10.0.1.0/24]}}
---
{apiVersion: weft/v1, kind: Port, metadata: {name: web-1, tenant: %[1]s}, spec: {subnet: web}}
---
{apiVersion: weft/v1, kind: RouteTable, metadata: {name: rt, tenant: %[1]s}, spec: {vpc: main, routes: [{to: 192.0.2.0/24, via: blackhole}]}}
`, tenant))
	}
	if _, err := api.RegisterNode(t.Context(), v1.Node{
		TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindNode}, Metadata: v1.Metadata{Name: "host-1"},
		Spec: v1.NodeSpec{Address: netip.MustParseAddr("198.19.0.1"), Roles: []string{"host"}}, Status: v1.NodeStatus{Machine: "m1"},
	}); err != nil {
		t.Fatal(err)
	}
	admin := identity.Principal{Name: "admin", Role: identity.Admin}
	make := func(role identity.Role, tenant string, life time.Duration) (id, bearer string) {
		made, text, err := gate.Create(t.Context(), admin, role, tenant, "", life)
		if err != nil {
			t.Fatal(err)
		}
		return made.ID, "Bearer " + text
	}
	m.known = map[string]string{"none": "", "operator": "Bearer " + token, "wrong audience": "Bearer a.b.wrong", "person without a role": "Bearer a.b.none"}
	_, m.known["own viewer"] = make(identity.TenantViewer, "red", time.Hour)
	_, m.known["own admin"] = make(identity.TenantAdmin, "red", time.Hour)
	_, m.known["other viewer"] = make(identity.TenantViewer, "blue", time.Hour)
	_, m.known["other admin"] = make(identity.TenantAdmin, "blue", time.Hour)
	// What nodes have opens nothing here: their certificates are not asked for, and their tokens are others.
	m.known["own node's agent"] = "Bearer join-token-of-the-node-that-has-the-port-of-red"
	m.known["other node's agent"] = ""
	id, revoked := make(identity.TenantAdmin, "red", time.Hour)
	m.known["revoked"] = revoked
	if _, err := gate.Revoke(t.Context(), admin, id); err != nil {
		t.Fatal(err)
	}
	_, m.known["expired"] = make(identity.TenantAdmin, "red", time.Second)
	for err = nil; !errors.Is(err, identity.ErrExpired); time.Sleep(10 * time.Millisecond) {
		_, err = gate.Authenticate(t.Context(), m.known["expired"])
	}
	return m
}

// call makes the request that an operation is for, about what the tenant red has.
func (m *matrix) call(method, path, authorization string) (status int, body []byte) {
	m.t.Helper()
	url := path
	var send string
	op := strings.TrimSuffix(path, watchedLists)
	word := regexp.MustCompile(`/api/v1/(?:tenants/\{tenant\}/)?([a-z]+)/\{name\}`).FindStringSubmatch(op)
	names := map[string]string{"tenants": "red", "vpcs": "main", "subnets": "web", "ports": "web-1", "routetables": "rt", "nodes": "host-1"}
	url = strings.NewReplacer("{tenant}", "red", "{node}", "host-1", "{what}", "status").Replace(url)
	if word != nil {
		url = strings.Replace(url, "{name}", names[word[1]], 1)
	}
	if strings.Contains(url, "{id}") {
		id := "x"
		if strings.HasPrefix(url, "/api/v1/tokens") {
			made, _, err := m.gate.Create(m.t.Context(), identity.Principal{Name: "admin", Role: identity.Admin}, identity.TenantViewer, "red", "", time.Hour)
			if err != nil {
				m.t.Fatal(err)
			}
			defer func() { _, _ = m.gate.Revoke(m.t.Context(), identity.Principal{Role: identity.Admin}, made.ID) }()
			id = made.ID
		}
		url = strings.Replace(url, "{id}", id, 1)
	}
	switch {
	case method == http.MethodPut: // as it is
		_, data := m.do(http.MethodGet, url, "", token)
		send = string(data)
	case method == http.MethodDelete && word != nil:
		url += "?dryRun=true&cascade=true"
	case strings.HasSuffix(op, "/trace"):
		url += "?to=10.0.1.5"
	case strings.HasSuffix(op, "/apply"):
		_, data := m.do(http.MethodGet, "/api/v1/tenants/red/ports/web-1", "", token)
		send = `{"documents":[` + string(data) + `]}`
	case op == "/api/v1/tokens" && method == http.MethodPost:
		send = `{"role":"tenant-viewer","tenant":"red"}`
	case method == http.MethodPost:
		send = "{}"
	}
	if strings.HasSuffix(path, watchedLists) {
		url += "&resourceVersion=1"
	}
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, m.web.URL+url, strings.NewReader(send))
	if err != nil {
		m.t.Fatal(err)
	}
	if send != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := m.web.Client().Do(r)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Header.Get("Content-Type") == "text/event-stream" { // all that there is, and then nothing for a moment
		time.AfterFunc(150*time.Millisecond, cancel)
	}
	var b strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := resp.Body.Read(buf)
		b.Write(buf[:n])
		if err != nil {
			return resp.StatusCode, []byte(b.String())
		}
	}
}

func TestEveryOperationWithEveryPrincipal(t *testing.T) {
	m := newMatrix(t)
	type operation struct{ method, path string }
	var all []operation
	for path, item := range m.api.api.OpenAPI().Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete, item.Patch, item.Head, item.Options, item.Trace} {
			if op == nil {
				continue
			}
			all = append(all, operation{op.Method, path})
			if strings.HasPrefix(op.OperationID, "list-") && op.Responses["200"].Content["text/event-stream"] != nil {
				all = append(all, operation{op.Method, path + watchedLists})
			}
		}
	}
	slices.SortFunc(all, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	cases, principals := 0, slices.Sorted(maps.Keys(m.known))
	for _, op := range all {
		c := classOf(op.method, strings.TrimSuffix(op.path, watchedLists))
		if c == "" {
			t.Errorf("%s %s is new: say in classOf who may call it", op.method, op.path)
			continue
		}
		for _, who := range principals {
			cases++
			status, data := m.call(op.method, op.path, m.known[who])
			if w := want(c, who); status != w {
				t.Errorf("%s %s (%s) by %s: %d, want %d: %.200s", op.method, op.path, c, who, status, w, data)
			}
			for tenant, others := range map[string]string{"red": "other", "blue": "own"} {
				if strings.HasPrefix(who, others) && status == http.StatusOK && c != public && strings.Contains(string(data), `"`+tenant+`"`) {
					t.Errorf("%s %s by %s tells of %s: %.300s", op.method, op.path, who, tenant, data)
				}
			}
		}
	}
	t.Logf("%d operations, %d principals, %d cases", len(all), len(principals), cases)
	if len(all) < 30 || len(principals) < 10 {
		t.Errorf("%d operations and %d principals are too few: is the description complete?", len(all), len(principals))
	}
}

// What a tenant hears of another's thing is word for word what it hears of one that nobody has.
func TestAnothersTenantIsOneThatIsNotThere(t *testing.T) {
	m := newMatrix(t)
	number := regexp.MustCompile(`"requestId":"[A-Z0-9]*"`)
	hear := func(method, url, body string) string {
		status, data := m.do(method, url, body, strings.TrimPrefix(m.known["other admin"], "Bearer "))
		return fmt.Sprint(status, " ", number.ReplaceAllString(string(data), ""))
	}
	document := func(tenant string) string {
		return `{"apiVersion":"weft/v1","kind":"Port","metadata":{"name":"web-1","tenant":"` + tenant + `"},"spec":{"subnet":"web"}}`
	}
	for _, test := range []struct{ method, url, body string }{
		{"GET", "/api/v1/tenants/TENANT", ""},
		{"GET", "/api/v1/tenants/TENANT/ports", ""},
		{"GET", "/api/v1/tenants/TENANT/ports?watch=true", ""},
		{"GET", "/api/v1/tenants/TENANT/ports/web-1", ""},
		{"GET", "/api/v1/tenants/TENANT/ports/web-1/trace?to=10.0.1.5", ""},
		{"PUT", "/api/v1/tenants/TENANT/ports/web-1", document("TENANT")},
		{"DELETE", "/api/v1/tenants/TENANT/ports/web-1", ""},
		{"DELETE", "/api/v1/tenants/TENANT/vpcs/main?cascade=true", ""},
		{"POST", "/api/v1/apply", `{"documents":[` + document("TENANT") + `]}`},
		{"POST", "/api/v1/apply?dryRun=true", `{"documents":[` + document("blue") + `,` + document("TENANT") + `]}`},
		{"GET", "/api/v1/drops?tenant=TENANT", ""},
		{"GET", "/api/v1/tokens?tenant=TENANT", ""},
		{"POST", "/api/v1/tokens", `{"role":"tenant-viewer","tenant":"TENANT"}`},
	} {
		fill := func(s, tenant string) string { return strings.ReplaceAll(s, "TENANT", tenant) }
		theirs := hear(test.method, fill(test.url, "red"), fill(test.body, "red"))
		nobodys := strings.ReplaceAll(hear(test.method, fill(test.url, "gray"), fill(test.body, "gray")), "gray", "red")
		if theirs != nobodys || !strings.HasPrefix(theirs, "404 ") {
			t.Errorf("%s %s: of another's %s\nof nobody's %s", test.method, test.url, theirs, nobodys)
		}
	}
	// Spellings of the URL lead nowhere else.
	for _, url := range []string{
		"/api/v1/tenants/%72ed/ports", "/api/v1/tenants/red%2Fports", "/api/v1/tenants/blue/../red/ports", "/api/v1/tenants/blue%2F..%2Fred/ports",
		"/api/v1/tenants/RED/ports", "/api/v1/tenants//red/ports", "/api/v1/tenants/red/ports/", "/api/v1/ports?tenant=red", "/api/v1/tenants/blue/ports?tenant=red",
		"/api/v1/tenants/red%00/ports", "/api/v1/tenants/red;x/ports", "/api/v1/tenants/blue%252F..%252Fred/ports/web-1", "/api/v1/tenants/red%2Fports?watch=true",
	} {
		if heard := hear("GET", url, ""); strings.Contains(heard, `"tenant":"red"`) {
			t.Errorf("%s: %s", url, heard)
		}
	}
}

// Who watches is told nothing any more as soon as its token is revoked.
func TestWatchEndsWithItsToken(t *testing.T) {
	m := newMatrix(t)
	admin := identity.Principal{Name: "admin", Role: identity.Admin}
	made, text, err := m.gate.Create(t.Context(), admin, identity.TenantViewer, "red", "", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.web.URL+"/api/v1/tenants/red/ports?watch=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+text)
	resp, err := m.web.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ended := make(chan error, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := resp.Body.Read(buf); err != nil {
				ended <- err
				return
			}
		}
	}()
	select {
	case err := <-ended:
		t.Fatalf("it ended before: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if _, err := m.gate.Revoke(t.Context(), admin, made.ID); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(3 * time.Second):
		t.Error("it goes on, three seconds after the token was revoked")
	}
}
