// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/apiserver/admission"
	"weft/internal/audit"
	"weft/internal/identity"
	"weft/internal/store"
)

var update = flag.Bool("update", false, "write what the tests compare with")

const token = "a-token-of-at-least-thirty-two-characters"

// quiet is a system without nodes.
type quiet struct{}

func (quiet) Fill(v1.Object) {}
func (quiet) Trace(string, string, netip.Addr, string, uint16) (*v1.Trace, error) {
	return &v1.Trace{Verdict: "dropped"}, nil
}
func (quiet) Version() uint64                                  { return 0 }
func (quiet) Status(context.Context) v1.ClusterStatus          { return v1.ClusterStatus{} }
func (quiet) Drops(context.Context, string) ([]v1.Drop, error) { return nil, nil }
func (quiet) Ask(context.Context, string, string, json.RawMessage) (json.RawMessage, error) {
	return nil, &v1.Error{Status: http.StatusServiceUnavailable, Code: v1.CodeNodeGone, Message: "gone"}
}

// newAudit is an audit log of the test's own.
func newAudit(t testing.TB) *audit.Log {
	t.Helper()
	l, err := audit.Open(filepath.Join(t.TempDir(), "audit"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// site is an API over its own etcd.
type site struct {
	t   *testing.T
	api *Server
	web *httptest.Server
}

func newSite(t *testing.T) *site {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	gate, err := identity.NewGate(st, token, nil)
	if err != nil {
		t.Fatal(err)
	}
	api, err := New(Config{Store: st, Live: quiet{}, Gate: gate, Audit: newAudit(t), Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, api: api, web: httptest.NewServer(api.Handler())}
	t.Cleanup(func() {
		s.web.CloseClientConnections()
		s.web.Close()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// do sends a request and returns status and body.
func (s *site) do(method, path, body, auth string) (int, []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.web.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if auth != "" {
		req.Header.Set("Authorization", "Bearer "+auth)
	}
	resp, err := s.web.Client().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, data
}

// apply sends YAML documents.
func (s *site) apply(yaml string) (*v1.Result, *v1.Error) {
	s.t.Helper()
	docs, err := v1.DecodeYAML([]byte(yaml))
	if err != nil {
		s.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"documents": docs})
	if err != nil {
		s.t.Fatal(err)
	}
	return s.result(s.do(http.MethodPost, "/api/v1/apply", string(body), token))
}

func (s *site) result(status int, data []byte) (*v1.Result, *v1.Error) {
	s.t.Helper()
	if status != http.StatusOK {
		e := &v1.Error{}
		if err := json.Unmarshal(data, e); err != nil || e.Code == "" || e.RequestID == "" {
			s.t.Fatalf("%d: %s is not an error of the API (%v)", status, data, err)
		}
		return nil, e
	}
	res := &v1.Result{}
	if err := json.Unmarshal(data, res); err != nil {
		s.t.Fatal(err)
	}
	return res, nil
}

func (s *site) mustApply(yaml string) *v1.Result {
	s.t.Helper()
	res, e := s.apply(yaml)
	if e != nil {
		s.t.Fatal(e)
	}
	return res
}

func (s *site) port(tenant, name string) *v1.Port {
	s.t.Helper()
	o, ok := s.api.cfg.Store.View().Get(v1.KindPort, tenant, name)
	if !ok {
		s.t.Fatalf("port %s/%s is not stored", tenant, name)
	}
	return o.(*v1.Port)
}

func head(kind, tenant, name string) string {
	if tenant == "" {
		return fmt.Sprintf("---\napiVersion: weft/v1\nkind: %s\nmetadata: {name: %s}\n", kind, name)
	}
	return fmt.Sprintf("---\napiVersion: weft/v1\nkind: %s\nmetadata: {tenant: %s, name: %s}\n", kind, tenant, name)
}

func node(name, address string) string {
	return head("Node", "", name) + "spec: {address: " + address + ", roles: [host]}\n"
}

// base is tenant red with a VPC, two subnets and a port.
func base() string {
	return head("Tenant", "", "red") +
		head("VPC", "red", "main") + "spec: {prefixes: [10.0.0.0/16]}\n" +
		head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: [10.0.1.0/24]}\n" +
		head("Subnet", "red", "db") + "spec: {vpc: main, prefixes: [10.0.2.0/29]}\n" +
		head("Port", "red", "web-1") + "spec: {subnet: web}\n"
}

func TestWhatIsLeftOpenIsDecided(t *testing.T) {
	s := newSite(t)
	s.mustApply(base())
	p := s.port("red", "web-1")
	if p.Status.Addresses[0].String() != "10.0.1.4" || p.Status.VNI != 4096 || p.Status.MAC.IsZero() || p.Status.VPC != "main" {
		t.Errorf("status %+v", p.Status)
	}
	res := s.mustApply(base())
	for _, i := range res.Items {
		if i.Action != v1.ActionUnchanged {
			t.Errorf("%s %s was %s by the same documents", i.Kind, i.Name, i.Action)
		}
	}
	if again := s.port("red", "web-1"); again.ResourceVersion != p.ResourceVersion {
		t.Error("an apply that changed nothing wrote")
	}
	s.mustApply(head("Tenant", "", "blue") + head("VPC", "blue", "main") + "spec: {prefixes: [10.0.0.0/16]}\n")
	if o, _ := s.api.cfg.Store.View().Get(v1.KindVPC, "blue", "main"); o.(*v1.VPC).Status.VNI != 4097 {
		t.Errorf("second VPC has VNI %d", o.(*v1.VPC).Status.VNI)
	}
}

func TestRefusedChangesNothing(t *testing.T) {
	s := newSite(t)
	s.mustApply(base() + node("host-1", "192.0.2.9"))
	if _, err := s.api.Claim(t.Context(), "host-1", "red", "web-1", false); err != nil {
		t.Fatal(err)
	}
	before := s.api.cfg.Store.View().Revision()
	for name, c := range map[string]struct{ doc, code, field string }{
		"no_tenant":         {head("VPC", "green", "main") + "spec: {prefixes: [10.0.0.0/16]}\n", v1.CodeNoReference, "metadata.tenant"},
		"no_vpc":            {head("Subnet", "red", "x") + "spec: {vpc: other, prefixes: [10.0.3.0/24]}\n", v1.CodeNoReference, "spec.vpc"},
		"no_subnet":         {head("Port", "red", "x") + "spec: {subnet: other}\n", v1.CodeNoReference, "spec.subnet"},
		"no_node":           {head("Port", "red", "x") + "spec: {subnet: web, node: host-9}\n", v1.CodeNoReference, "spec.node"},
		"subnet_outside":    {head("Subnet", "red", "x") + "spec: {vpc: main, prefixes: [10.1.0.0/24]}\n", v1.CodeOutside, "spec.prefixes[0]"},
		"subnet_overlaps":   {head("Subnet", "red", "x") + "spec: {vpc: main, prefixes: [10.0.1.128/25]}\n", v1.CodeOverlap, "spec.prefixes[0]"},
		"subnet_moves":      {head("VPC", "red", "b") + "spec: {prefixes: [10.0.0.0/16]}\n" + head("Subnet", "red", "web") + "spec: {vpc: b, prefixes: [10.0.1.0/24]}\n", v1.CodeImmutable, "spec.vpc"},
		"subnet_strands":    {head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: [10.0.4.0/24]}\n", v1.CodeInUse, "spec"},
		"gateway_on_port":   {head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: [10.0.1.0/24], gateway: 10.0.1.4}\n", v1.CodeInUse, "spec"},
		"vpc_strands":       {head("VPC", "red", "main") + "spec: {prefixes: [10.0.1.0/24]}\n", v1.CodeInUse, "spec.prefixes"},
		"address_outside":   {head("Port", "red", "x") + "spec: {subnet: web, addresses: [10.0.2.4]}\n", v1.CodeOutside, "spec.addresses[0]"},
		"address_reserved":  {head("Port", "red", "x") + "spec: {subnet: web, addresses: [10.0.1.2]}\n", v1.CodeReserved, "spec.addresses[0]"},
		"address_router":    {head("Port", "red", "x") + "spec: {subnet: web, addresses: [10.0.1.1]}\n", v1.CodeReserved, "spec.addresses[0]"},
		"address_taken":     {head("Port", "red", "x") + "spec: {subnet: web, addresses: [10.0.1.4]}\n", v1.CodeInUse, "spec.addresses[0]"},
		"address_attached":  {head("Port", "red", "web-1") + "spec: {subnet: web, addresses: [10.0.1.9]}\n", v1.CodePrecondition, "spec"},
		"port_moves_subnet": {head("Port", "red", "web-1") + "spec: {subnet: db}\n", v1.CodeImmutable, "spec.subnet"},
		"mac_taken": {head("Port", "red", "x") + "spec: {subnet: web, mac: '02:00:00:00:00:01'}\n" +
			head("Port", "red", "y") + "spec: {subnet: web, mac: '02:00:00:00:00:01'}\n", v1.CodeInUse, "spec.mac"},
		"twice":      {head("Tenant", "", "x") + head("Tenant", "", "x"), v1.CodeDuplicate, "metadata.name"},
		"one_of_two": {head("Tenant", "", "x") + head("VPC", "x", "m") + "spec: {prefixes: [127.0.0.0/16]}\n", v1.CodeInvalid, "spec.prefixes[0]"},
		"stale":      {"---\napiVersion: weft/v1\nkind: Tenant\nmetadata: {name: red, resourceVersion: '1'}\n", v1.CodeConflict, "metadata.resourceVersion"},
		"same_node":  {node("a", "192.0.2.1") + node("b", "192.0.2.1"), v1.CodeInUse, "spec.address"},
		"node_moves": {node("host-1", "192.0.2.8"), v1.CodeImmutable, "spec.address"},
	} {
		t.Run(name, func(t *testing.T) {
			_, e := s.apply(c.doc)
			if e == nil {
				t.Fatal("it was accepted")
			}
			if e.Code != c.code || e.Field != c.field || e.Fix == "" || e.Object == "" {
				t.Errorf("%s: got %s at %q (fix %q); want %s at %q", e.Message, e.Code, e.Field, e.Fix, c.code, c.field)
			}
		})
	}
	if after := s.api.cfg.Store.View().Revision(); after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
}

// TestAsManyTenantsAsDocuments writes the most that one request takes, each document in a scope of its own.
func TestAsManyTenantsAsDocuments(t *testing.T) {
	s := newSite(t)
	var docs strings.Builder
	for i := range documentsMost {
		docs.WriteString(head("Tenant", "", fmt.Sprint("t", i)))
	}
	s.mustApply(docs.String())
	if n := s.api.cfg.Store.View().Count(v1.KindTenant); n != documentsMost {
		t.Errorf("%d tenants are stored", n)
	}
}

// TestDryRunTakesMoreThanOneTransaction checks documents that refer to each other and could not be written at once.
func TestDryRunTakesMoreThanOneTransaction(t *testing.T) {
	s := newSite(t)
	docs := base()
	for i := range 2 * documentsMost {
		docs += head("Port", "red", fmt.Sprint("p-", i)) + "spec: {subnet: web}\n"
	}
	objects, err := v1.DecodeYAML([]byte(docs))
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"documents": objects})
	if err != nil {
		t.Fatal(err)
	}
	before := s.api.cfg.Store.View().Revision()
	res, e := s.result(s.do(http.MethodPost, "/api/v1/apply?dryRun=true", string(body), token))
	if e != nil || len(res.Items) != 2*documentsMost+5 || !res.DryRun {
		t.Errorf("%v, error %v", res, e)
	}
	if s.api.cfg.Store.View().Revision() != before {
		t.Error("a dry run wrote")
	}
}

func TestSubnetFillsUpAndQuotaHolds(t *testing.T) {
	s := newSite(t)
	s.mustApply(base())
	for i := range 3 { // a /29 has three addresses beside the reserved ones
		s.mustApply(head("Port", "red", fmt.Sprint("db-", i)) + "spec: {subnet: db}\n")
	}
	if _, e := s.apply(head("Port", "red", "db-9") + "spec: {subnet: db}\n"); e == nil || e.Code != v1.CodeExhausted {
		t.Errorf("error %v, want EXHAUSTED", e)
	}
	s.mustApply(head("Tenant", "", "red") + "spec: {quota: {ports: 5}}\n")
	if _, e := s.apply(head("Port", "red", "a") + "spec: {subnet: web}\n" + head("Port", "red", "b") + "spec: {subnet: web}\n"); e == nil || e.Code != v1.CodeQuota {
		t.Errorf("error %v, want QUOTA", e)
	}
	s.mustApply(head("Port", "red", "a") + "spec: {subnet: web}\n")
}

func TestDeleteNamesUsersOrCascades(t *testing.T) {
	s := newSite(t)
	s.mustApply(base())
	_, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/red/vpcs/main", "", token))
	if e == nil || e.Code != v1.CodeInUse || !strings.Contains(e.Message, "red/port/web-1") || !strings.Contains(e.Message, "red/subnet/db") {
		t.Errorf("error %v, want the users by name", e)
	}
	dry, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/red?cascade=true&dryRun=true", "", token))
	if e != nil || len(dry.Items) != 5 {
		t.Errorf("dry run %+v, error %v", dry, e)
	}
	s.port("red", "web-1")
	var many strings.Builder
	for i := range 90 {
		many.WriteString(head("Port", "red", fmt.Sprint("p-", i)) + "spec: {subnet: web}\n")
	}
	s.mustApply(many.String())
	res, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/red?cascade=true", "", token))
	if e != nil || len(res.Items) != 95 || res.Items[94].Kind != v1.KindTenant {
		t.Errorf("deleted %d, error %v", len(res.Items), e)
	}
	if _, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/red", "", token)); e == nil || e.Code != v1.CodeNotFound {
		t.Errorf("error %v, want NOT_FOUND", e)
	}
}

func TestClaims(t *testing.T) {
	s := newSite(t)
	s.mustApply(base() + node("host-1", "192.0.2.1") + node("host-2", "192.0.2.2"))
	ctx := t.Context()
	claim := func(node string, move bool, want string) string {
		t.Helper()
		b, err := s.api.Claim(ctx, node, "red", "web-1", move)
		if code := codeOf(err); code != want {
			t.Errorf("claim by %s: %v, want %q", node, err, want)
		}
		return b
	}
	first := claim("host-1", false, "")
	if again := claim("host-1", false, ""); again != first {
		t.Error("the same node got another binding")
	}
	claim("host-2", false, v1.CodeBindingTaken)
	second := claim("host-2", true, "")
	if err := s.api.Release(ctx, "host-1", "red", "web-1", first); err != nil || s.port("red", "web-1").Status.Node != "host-2" {
		t.Errorf("a binding that was lost released another: %v", err)
	}
	if err := s.api.Release(ctx, "host-2", "red", "web-1", first); err != nil || s.port("red", "web-1").Status.Node != "host-2" {
		t.Errorf("a node's older binding released its newer one: %v", err)
	}
	if err := s.api.Release(ctx, "host-2", "red", "web-1", second); err != nil || s.port("red", "web-1").Status.Node != "" {
		t.Errorf("release: %v, node %q", err, s.port("red", "web-1").Status.Node)
	}
	s.mustApply(head("Port", "red", "web-1") + "spec: {subnet: web, node: host-1}\n")
	claim("host-2", true, v1.CodeWrongNode)
	if _, err := s.api.Claim(ctx, "host-1", "red", "nobody", false); codeOf(err) != v1.CodeNotFound {
		t.Errorf("claim of nothing: %v", err)
	}
	if _, err := s.api.Claim(ctx, "host-9", "red", "web-1", true); codeOf(err) != v1.CodeNotFound {
		t.Errorf("claim by a node that is not there: %v", err)
	}
	if _, e := s.result(s.do(http.MethodDelete, "/api/v1/nodes/host-1", "", token)); e == nil || e.Code != v1.CodeInUse {
		t.Errorf("delete of a node in use: %v", e)
	}
}

// TestNodeThatGoesFreesItsPorts deletes a node with ports of more tenants than fit into one transaction, while others come.
func TestNodeThatGoesFreesItsPorts(t *testing.T) {
	s := newSite(t)
	const tenants = documentsMost + 20
	s.mustApply(node("host-1", "192.0.2.1"))
	for i := range tenants {
		red := fmt.Sprint("t", i)
		s.mustApply(head("Tenant", "", red) + head("VPC", red, "main") + "spec: {prefixes: [10.0.0.0/16]}\n" +
			head("Subnet", red, "web") + "spec: {vpc: main, prefixes: [10.0.1.0/24]}\n" + head("Port", red, "pinned") + "spec: {subnet: web, node: host-1}\n")
	}
	if _, err := s.api.Claim(t.Context(), "host-1", "t0", "pinned", false); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range tenants {
			if _, e := s.apply(head("Port", fmt.Sprint("t", i), "late") + "spec: {subnet: web, node: host-1}\n"); e != nil && e.Code != v1.CodeNoReference {
				t.Error(e)
			}
		}
	})
	if _, e := s.result(s.do(http.MethodDelete, "/api/v1/nodes/host-1?cascade=true", "", token)); e != nil {
		t.Error(e)
	}
	wg.Wait()
	view := s.api.cfg.Store.View()
	if _, ok := view.Get(v1.KindNode, "", "host-1"); ok {
		t.Error("the node is still there")
	}
	for _, o := range view.List(v1.KindPort, "") {
		if p := o.(*v1.Port); p.Spec.Node != "" || p.Status.Node != "" || p.Status.Binding != "" {
			t.Errorf("%s refers to a node that is gone: %q, %q", v1.ID(p), p.Spec.Node, p.Status.Node)
		}
	}
}

func TestNodesSayWhatTheyAre(t *testing.T) {
	s := newSite(t)
	s.mustApply(base())
	hello := v1.Node{
		TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindNode}, Metadata: v1.Metadata{Name: "host-1"},
		Spec: v1.NodeSpec{Address: netip.MustParseAddr("192.0.2.1"), Roles: []string{"host"}},
	}
	first, err := s.api.RegisterNode(t.Context(), hello)
	if err != nil || first.Status.Number != 1 {
		t.Fatalf("node %+v, error %v", first, err)
	}
	s.mustApply("apiVersion: weft/v1\nkind: Node\nmetadata: {name: host-1, labels: {rack: r1}}\nspec: {address: 192.0.2.1, roles: [host], site: north}\n")
	if _, err := s.api.Claim(t.Context(), "host-1", "red", "web-1", false); err != nil {
		t.Fatal(err)
	}
	before := s.api.cfg.Store.View().Revision()
	if _, err := s.api.RegisterNode(t.Context(), hello); err != nil || s.api.cfg.Store.View().Revision() != before {
		t.Errorf("the same hello wrote (error %v)", err)
	}
	hello.Spec.Address = netip.MustParseAddr("192.0.2.7")
	moved, err := s.api.RegisterNode(t.Context(), hello)
	if err != nil || moved.Spec.Address != hello.Spec.Address || moved.Spec.Site != "north" || moved.Labels["rack"] != "r1" || moved.Status.Number != 1 {
		t.Errorf("node %+v, error %v", moved, err)
	}
	hello.Name = "host-2"
	if _, err := s.api.RegisterNode(t.Context(), hello); codeOf(err) != v1.CodeInUse {
		t.Errorf("the address of another: error %v", err)
	}
}

func codeOf(err error) string {
	if err == nil {
		return ""
	}
	return admission.Errors(err)[0].Code
}

// TestEveryOperationNeedsTheToken walks the API's own description.
func TestEveryOperationNeedsTheToken(t *testing.T) {
	s := newSite(t)
	n := 0
	for path, item := range s.api.api.OpenAPI().Paths {
		url := strings.NewReplacer("{tenant}", "red", "{name}", "x", "{node}", "n", "{what}", "dump").Replace(path)
		for method, op := range map[string]any{http.MethodGet: item.Get, http.MethodPut: item.Put, http.MethodPost: item.Post, http.MethodDelete: item.Delete} {
			if fmt.Sprint(op) == "<nil>" {
				continue
			}
			for _, auth := range []string{"", "wrong", token + "x"} {
				status, data := s.do(method, url, "", auth)
				want := http.StatusUnauthorized
				if path == "/healthz" {
					want = http.StatusOK
				}
				if status != want {
					t.Errorf("%s %s with %q: %d %s", method, url, auth, status, data)
				}
			}
			n++
		}
	}
	if n < 28 {
		t.Errorf("only %d operations were tried", n)
	}
}

func TestWrongRequestsGetOurErrors(t *testing.T) {
	s := newSite(t)
	s.mustApply(base())
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"nowhere":      {http.MethodGet, "/api/v1/nothing", "", 404, v1.CodeNotFound},
		"wrong_method": {http.MethodPut, "/api/v1/status", "", 405, v1.CodeUnknownMethod},
		"no_list":      {http.MethodPost, "/api/v1/apply", `{}`, 400, v1.CodeMalformed},
		"other_list":   {http.MethodPost, "/api/v1/apply", `{"docs":[]}`, 400, v1.CodeMalformed},
		"host_bits":    {http.MethodPut, "/api/v1/tenants/red/vpcs/x", `{"apiVersion":"weft/v1","kind":"VPC","metadata":{"tenant":"red","name":"x"},"spec":{"prefixes":["10.0.0.1/16"]}}`, 422, v1.CodeHostBits},
		"two_lists":    {http.MethodPost, "/api/v1/apply", `{"documents":[]}{}`, 400, v1.CodeMalformed},
		"parameter":    {http.MethodPost, "/api/v1/apply?dryrun=true", `{"documents":[]}`, 400, v1.CodeInvalid},
		"not_a_bool":   {http.MethodPost, "/api/v1/apply?dryRun=maybe", `{"documents":[]}`, 422, v1.CodeInvalid},
		"not_json":     {http.MethodPost, "/api/v1/apply", "{", 400, v1.CodeMalformed},
		"too_large":    {http.MethodPost, "/api/v1/apply", strings.Repeat(" ", bodyMost+1), 413, v1.CodeTooLarge},
		"too_many":     {http.MethodPost, "/api/v1/apply", `{"documents":[` + strings.Repeat(`{"apiVersion":"weft/v1","kind":"Tenant"},`, 100) + `{"apiVersion":"weft/v1","kind":"Tenant"}]}`, 413, v1.CodeTooLarge},
		"other_url":    {http.MethodPut, "/api/v1/tenants/blue", `{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"x"}}`, 422, v1.CodeInvalid},
		"no_such":      {http.MethodGet, "/api/v1/tenants/red/ports/nobody", "", 404, v1.CodeNotFound},
		"no_tenant":    {http.MethodGet, "/api/v1/tenants/nobody/ports", "", 404, v1.CodeNotFound},
		"bad_version":  {http.MethodGet, "/api/v1/tenants/red/ports?watch=true&resourceVersion=x", "", 400, v1.CodeInvalid},
		"new_version":  {http.MethodGet, "/api/v1/tenants/red/ports?watch=true&resourceVersion=99999999", "", 410, v1.CodeExpired},
		"old_version":  {http.MethodGet, "/api/v1/tenants/red/ports?watch=true&resourceVersion=0", "", 410, v1.CodeExpired},
		"gone_node":    {http.MethodPost, "/api/v1/nodes/x/ask/dump", "null", 503, v1.CodeNodeGone},
	} {
		t.Run(name, func(t *testing.T) {
			status, data := s.do(c.method, c.path, c.body, token)
			_, e := s.result(status, data)
			if e == nil || status != c.status || e.Code != c.code {
				t.Errorf("%d %s, want %d %s", status, data, c.status, c.code)
			}
		})
	}
}

func TestWatchResumes(t *testing.T) {
	s := newSite(t)
	s.mustApply(base())
	since := s.api.cfg.Store.View().Revision()
	s.mustApply(head("Port", "red", "a") + "spec: {subnet: web}\n")
	s.mustApply(head("Tenant", "", "blue"))
	s.mustApply("---\napiVersion: weft/v1\nkind: Port\nmetadata: {tenant: red, name: a, labels: {x: y}}\nspec: {subnet: web}\n")
	s.do(http.MethodDelete, "/api/v1/tenants/red/ports/a", "", token)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/api/v1/tenants/red/ports?watch=true&resourceVersion=%d", s.web.URL, since), nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got []string
	for lines := bufio.NewScanner(resp.Body); len(got) < 4 && lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e v1.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(e.Type))
	}
	if fmt.Sprint(got) != "[BOOKMARK ADDED MODIFIED DELETED]" {
		t.Errorf("got %v", got)
	}
}

func TestBatchesIntoOneVPCStayQuick(t *testing.T) {
	s := newSite(t)
	s.mustApply(head("Tenant", "", "red") + head("VPC", "red", "main") + "spec: {prefixes: [10.0.0.0/16]}\n" + head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: [10.0.0.0/19]}\n")
	start := time.Now()
	for i := range 50 {
		var docs strings.Builder
		for j := range documentsMost {
			docs.WriteString(head("Port", "red", fmt.Sprintf("p-%d-%d", i, j)) + "spec: {subnet: web}\n")
		}
		s.mustApply(docs.String())
	}
	if took := time.Since(start); took > 30*time.Second { // a second, without the race detector and neighbours
		t.Errorf("5000 ports took %s", took)
	}
	if n := s.api.cfg.Store.View().Count(v1.KindPort); n != 5000 {
		t.Errorf("%d ports are stored", n)
	}
}

func TestOpenAPIIsFresh(t *testing.T) {
	s := newSite(t)
	want, err := s.api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/api/openapi.yaml"
	if *update {
		if err := os.MkdirAll("../../docs/api", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(have, want) {
		t.Errorf("%s is not what the API says of itself (%v); run: go test ./internal/apiserver -run OpenAPI -update", file, err)
	}
}
