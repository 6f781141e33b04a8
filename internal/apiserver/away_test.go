// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/store"
)

// TestStoreThatIsAwayIsSaidSo: 503, what it means, and when to come again; what is stored can be read.
func TestStoreThatIsAwayIsSaidSo(t *testing.T) {
	s := newSite(t)
	s.mustApply(base())
	ended, cancel := context.WithCancel(t.Context())
	cancel() // so the store does not get to etcd
	ask := func(method, path, body string) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(ended, method, path, strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		s.api.Handler().ServeHTTP(w, req)
		return w
	}
	w := ask(http.MethodPut, "/api/v1/tenants/green", `{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"green"},"spec":{}}`)
	_, e := s.result(w.Code, w.Body.Bytes())
	if e == nil || w.Code != http.StatusServiceUnavailable || e.Code != v1.CodeUnavailable || w.Header().Get("Retry-After") != retryAfter || e.Fix == "" {
		t.Errorf("a write: %d, %v, %+v", w.Code, w.Header(), e)
	}
	if w := ask(http.MethodGet, "/api/v1/tenants/red", ""); w.Code != http.StatusOK || w.Header().Get("Retry-After") != "" {
		t.Errorf("a read: %d, %v", w.Code, w.Header())
	}
	full := s.api.toProblem(t.Context(), fmt.Errorf("%w: the disk has 3 MiB left", store.ErrFull))
	if full.Status != http.StatusInsufficientStorage || !strings.Contains(full.Message, "3 MiB left") || !strings.Contains(full.Fix, "disk") {
		t.Errorf("a full disk: %+v", full.apiError)
	}
}
