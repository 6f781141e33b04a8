// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/apiserver/admission"
	"weft/internal/identity"
	"weft/internal/store"
)

// FuzzDocuments: whatever is sent to apply, each document is read or named in an error that has a code and a remedy.
func FuzzDocuments(f *testing.F) {
	const rt = `{"apiVersion":"weft/v1","kind":"RouteTable","metadata":{"tenant":"red","name":"rt"},"spec":{"vpc":"main","subnets":["a"],"routes":[{"to":"::/0","via":"port/fw"}]}}`
	f.Add([]byte(`{"documents":[` + rt + `]}`))
	f.Add([]byte(`{"documents":[` + rt + `,{"kind":"Port"},null,7,[]]}`))
	f.Add([]byte(`{"documents":null}{}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		docs, err := decodeDocuments(body)
		if err != nil {
			for _, e := range admission.Errors(err) {
				if e.Code == "" || e.Code == v1.CodeInternal || e.Fix == "" {
					t.Errorf("%q: error %+v", body, e)
				}
			}
			return
		}
		for _, d := range docs {
			d.Default()
			for _, e := range d.Validate() {
				if e.Code == "" || e.Message == "" || e.Fix == "" {
					t.Errorf("%q: error %+v", body, e)
				}
			}
			if fmt.Sprint(scopesOf(docs)) == "" || v1.ID(d) == "" {
				t.Errorf("%q: a document without a name or a scope", body)
			}
		}
	})
}

// FuzzRequest: whatever is asked, it is refused without the token wherever a token is needed, and each answer other than
// success is an error with a code; a watch goes on from what is a version only.
func FuzzRequest(f *testing.F) {
	st, err := store.Open(f.Context(), store.Config{Dir: f.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = st.Close() })
	gate, err := identity.NewGate(st, token, nil)
	if err != nil {
		f.Fatal(err)
	}
	api, err := New(Config{Store: st, Live: quiet{}, Gate: gate, Audit: newAudit(f), Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("GET", "/api/v1/tenants/red/ports/web-1", "", "Bearer "+token)
	f.Add("GET", "/api/v1/tenants", "watch=true&resourceVersion=1", "Bearer "+token)
	f.Add("GET", "/api/v1/tenants", "watch=true&resourceVersion=-1", "Bearer "+token)
	f.Add("GET", "/api/v1/tenants/red/ports/a/trace", "to=10.0.0.1&protocol=tcp&port=70000", "Bearer "+token)
	f.Add("GET", "/api/v1/tenants/%2e%2e/ports", "", "bearer "+token)
	f.Add("POST", "/api/v1/nodes/h1/ask/dump", "", "Bearer "+token+" ")
	f.Add("DELETE", "/api/v1/tenants/red", "cascade=maybe", "")
	f.Add("GET", "/healthz", "", "")
	f.Fuzz(func(t *testing.T, method, path, query, auth string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a watch ends as it begins
		r, err := http.NewRequestWithContext(ctx, method, "https://127.0.0.1"+path+"?"+query, http.NoBody)
		if err != nil || r.Host != "127.0.0.1" {
			return // no HTTP server would hand it on
		}
		r.Header.Set("Authorization", auth)
		w := httptest.NewRecorder()
		api.Handler().ServeHTTP(w, r)
		scheme, secret, _ := strings.Cut(auth, " ")
		if (!strings.EqualFold(scheme, "Bearer") || secret != token) && r.URL.Path != healthPath && w.Code != http.StatusUnauthorized {
			t.Fatalf("%s %s with %q: %d %s", method, path, auth, w.Code, w.Body)
		}
		version := r.URL.Query().Get("resourceVersion")
		if w.Header().Get("Content-Type") == "text/event-stream" && version != "" {
			if n, err := strconv.ParseInt(version, 10, 64); err != nil || n < 0 {
				t.Errorf("a watch goes on from %q", version)
			}
		}
		if w.Code < 400 {
			return
		}
		var e v1.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); method != http.MethodHead && (err != nil || e.Code == "" || e.Message == "" || e.Status != w.Code || e.RequestID == "") {
			t.Errorf("%s %s?%s: %d %s, error %v", method, path, query, w.Code, w.Body, err)
		}
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %s?%s: %s", method, path, query, w.Body)
		}
	})
}
