// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// serve runs a server and returns a client of it.
func serve(t *testing.T, h http.Handler) *Client {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	c, err := New(Config{Server: s.URL, Token: "secret", CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.http.CloseIdleConnections)
	return c
}

func code(err error) string {
	var e *v1.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func tenant(name string) *v1.Tenant {
	o, _ := v1.New(v1.KindTenant)
	o.Meta().Name = name
	return o.(*v1.Tenant)
}

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no_server": {Token: "x"},
		"no_tls":    {Server: "http://127.0.0.1:7443", Token: "x"},
		"path":      {Server: "https://127.0.0.1:7443/api", Token: "x"},
		"no_token":  {Server: "https://127.0.0.1:7443"},
		"bad_ca":    {Server: "https://127.0.0.1:7443", Token: "x", CA: []byte("x")},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := New(cfg); code(err) == "" {
				t.Errorf("got %v, error %v; want a *v1.Error", c, err)
			}
		})
	}
}

func TestRequestsOfEachCall(t *testing.T) {
	var got []string
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("authorization is %q", r.Header.Get("Authorization"))
		}
		got = append(got, r.Method+" "+r.URL.String())
		fmt.Fprint(w, `{"kind":"Port","metadata":{"name":"web-1"},"later":1,"resourceVersion":"7","items":[]}`)
	}))
	ctx := context.Background()
	o, err := c.Get(ctx, v1.KindPort, "red", "web-1")
	if err != nil || o.Meta().Name != "web-1" {
		t.Errorf("get: %v, error %v", o, err)
	}
	if _, version, err := c.List(ctx, v1.KindPort, ""); err != nil || version != "7" {
		t.Errorf("list: version %s, error %v", version, err)
	}
	_, _, err1 := c.List(ctx, v1.KindSubnet, "red")
	_, err2 := c.Delete(ctx, v1.KindVPC, "red", "main", DeleteOptions{Cascade: true, DryRun: true})
	_, err3 := c.Status(ctx)
	_, _, err4 := c.Drops(ctx, "red")
	err5 := c.Ask(ctx, "host-1", "dump", map[string]string{"function": "ports"}, nil)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Error(err)
	}
	want := []string{
		"GET /api/v1/tenants/red/ports/web-1", "GET /api/v1/ports", "GET /api/v1/tenants/red/subnets",
		"DELETE /api/v1/tenants/red/vpcs/main?cascade=true&dryRun=true", "GET /api/v1/status",
		"GET /api/v1/drops?tenant=red", "POST /api/v1/nodes/host-1/ask/dump",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("requests were\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestNamesAreRequired(t *testing.T) {
	c := serve(t, http.NotFoundHandler())
	_, err := c.Get(context.Background(), v1.KindTenant, "", "")
	_, err2 := c.Get(context.Background(), v1.KindPort, "", "web-1")
	_, err3 := c.Get(context.Background(), "Pot", "red", "web-1")
	if code(err) != v1.CodeRequired || code(err2) != v1.CodeRequired || code(err3) != v1.CodeUnknownKind {
		t.Errorf("errors %v, %v, %v", err, err2, err3)
	}
}

func TestErrorsAreTheServers(t *testing.T) {
	answer := `{"type":"x","status":409,"code":"OVERLAP","field":"spec.prefixes[0]","message":"m","fix":"f","requestId":"r"}`
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, answer)
	}))
	_, err := c.Status(context.Background())
	var e *v1.Error
	if !errors.As(err, &e) || e.Status != 409 || e.Code != v1.CodeOverlap || e.Field != "spec.prefixes[0]" || e.RequestID != "r" {
		t.Errorf("got %#v", err)
	}
	answer = "<html>"
	if _, err := c.Status(context.Background()); code(err) != v1.CodeInternal {
		t.Errorf("got %v", err)
	}
}

func TestServerThatDoesNotAnswerIsNamed(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	s.Config.ErrorLog = nil
	c, err := New(Config{Server: s.URL, Token: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(context.Background()); code(err) != v1.CodeUnavailable || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with an unknown authority: %v", err)
	}
	s.Close()
	if _, err := c.Status(context.Background()); code(err) != v1.CodeUnavailable || !strings.Contains(err.Error(), s.URL) {
		t.Errorf("with a server that is away: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

func TestApplyGoesInBatchesByKind(t *testing.T) {
	var sizes []int
	var first string
	fail := 0
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Documents []v1.Port }
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			t.Error(err)
		}
		if sizes = append(sizes, len(in.Documents)); len(sizes) == fail {
			w.WriteHeader(http.StatusUnprocessableEntity)
			fmt.Fprint(w, `{"code":"QUOTA","message":"no"}`)
			return
		}
		if len(sizes) == 1 && len(in.Documents) > 0 {
			first = string(in.Documents[0].Kind)
		}
		res := v1.Result{ResourceVersion: fmt.Sprint(len(sizes))}
		for _, d := range in.Documents {
			res.Items = append(res.Items, v1.ResultItem{Action: v1.ActionCreated, Kind: d.Kind, Name: d.Name})
		}
		_ = json.NewEncoder(w).Encode(res)
	}))
	var docs []v1.Object
	for i := range 249 {
		o, _ := v1.New(v1.KindPort)
		o.Meta().Name = fmt.Sprint("p", i)
		docs = append(docs, o)
	}
	docs = append(docs, tenant("red")) // last, and needed by all others
	res, err := c.Apply(context.Background(), docs, ApplyOptions{})
	if err != nil || fmt.Sprint(sizes) != "[100 100 50]" || first != "Tenant" || res.ResourceVersion != "3" {
		t.Fatalf("batches %v, first %s, result %+v, error %v", sizes, first, res, err)
	}
	for i, item := range res.Items {
		if item.Name != docs[i].Meta().Name {
			t.Fatalf("item %d is %s, want %s", i, item.Name, docs[i].Meta().Name)
		}
	}
	sizes = nil
	if _, err := c.Apply(context.Background(), docs, ApplyOptions{DryRun: true}); err != nil || fmt.Sprint(sizes) != "[250]" {
		t.Errorf("dry run: batches %v, error %v; want one", sizes, err)
	}
	sizes = nil
	large := tenant("large")
	large.Labels = map[string]string{"x": strings.Repeat("x", bytesMost)}
	if _, err := c.Apply(context.Background(), []v1.Object{tenant("a"), large, tenant("b")}, ApplyOptions{}); err != nil || fmt.Sprint(sizes) != "[1 1 1]" {
		t.Errorf("large: batches %v, error %v; want each alone", sizes, err)
	}
	sizes = nil
	if _, err := c.Apply(context.Background(), nil, ApplyOptions{}); err != nil || fmt.Sprint(sizes) != "[0]" {
		t.Errorf("nothing: batches %v, error %v; want an empty one", sizes, err)
	}
	sizes = nil
	if res, err := c.Apply(context.Background(), append(docs, docs[7]), ApplyOptions{}); code(err) != v1.CodeDuplicate || sizes != nil {
		t.Errorf("one twice: %v, error %v, batches %v", res, err, sizes)
	}
	sizes, fail = nil, 2
	res, err = c.Apply(context.Background(), docs, ApplyOptions{})
	if code(err) != v1.CodeQuota || !strings.Contains(err.Error(), "batch 2 of 3") || len(res.Items) != 100 {
		t.Errorf("%d items, error %v", len(res.Items), err)
	}
}
