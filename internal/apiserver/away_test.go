// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

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

// TestWatchThatIsNotReadHoldsNobodyUp: a client that asks for a stream and reads nothing is cut off; writes and other watches go on.
func TestWatchThatIsNotReadHoldsNobodyUp(t *testing.T) {
	s := newSite(t)
	var log bytes.Buffer
	var mu sync.Mutex
	s.api.cfg.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
	s.api.watchWithin = 500 * time.Millisecond
	s.mustApply(base())
	c, err := net.Dial("tcp", s.web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /api/v1/tenants?watch=true HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token)
	cutOff := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Contains(log.String(), "watch ended: its client has read nothing")
	}
	labels := strings.Repeat("x", 60)
	longest := time.Duration(0)
	for i := 0; !cutOff(); i++ {
		if i == 3000 {
			t.Fatal("the watch is still open")
		}
		doc := "apiVersion: weft/v1\nkind: Tenant\nmetadata: {name: red, labels: {"
		for n := range 40 {
			doc += fmt.Sprintf("k%d: %s%d, ", n, labels[:50], i)
		}
		began := time.Now()
		s.mustApply(doc + "}}\nspec: {}\n")
		longest = max(longest, time.Since(began))
	}
	if longest > 2*time.Second {
		t.Errorf("a write took %s beside the watch", longest)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
