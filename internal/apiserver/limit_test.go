// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/apiserver/limit"
)

// One tenant's flood is refused, and told when to come again; another tenant, the operator and health do not feel it.
func TestFloodOfOneTenant(t *testing.T) {
	m := newMatrix(t)
	red, blue := strings.TrimPrefix(m.known["own viewer"], "Bearer "), strings.TrimPrefix(m.known["other viewer"], "Bearer ")
	alone := m.slowest(blue, 40)
	stop := make(chan struct{})
	var flood sync.WaitGroup
	var mu sync.Mutex
	taken, refused := 0, 0
	for range 8 {
		flood.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				status, data := m.do(http.MethodGet, "/api/v1/ports", "", red)
				mu.Lock()
				if status == http.StatusOK {
					taken++
				} else {
					refused++
				}
				mu.Unlock()
				var e v1.Error
				if status == http.StatusTooManyRequests && (json.Unmarshal(data, &e) != nil || e.Code != v1.CodeTooMany || e.RequestID == "") {
					t.Errorf("refused by %s", data)
				}
			}
		})
	}
	beside := m.slowest(blue, 40)
	for range 20 {
		for _, url := range []string{"/healthz", "/api/v1/status"} {
			if status, data := m.do(http.MethodGet, url, "", token); status != http.StatusOK {
				t.Errorf("%s: %d %s", url, status, data)
			}
		}
	}
	close(stop)
	flood.Wait()
	t.Logf("taken %d, refused %d; another tenant's slowest of 40 took %s alone, %s beside it", taken, refused, alone, beside)
	if refused == 0 || taken > 400 {
		t.Errorf("the flood: %d taken, %d refused", taken, refused)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.web.URL+"/api/v1/ports", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+red)
	for range 200 {
		resp, err := m.web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || n < 1 || n > 10 {
				t.Errorf("Retry-After: %q", resp.Header.Get("Retry-After"))
			}
			return
		}
	}
	t.Error("it is not refused any more")
}

// slowest makes n requests, which must all be answered, and returns how long the slowest took.
func (m *matrix) slowest(bearer string, n int) time.Duration {
	m.t.Helper()
	var took []time.Duration
	for range n {
		began := time.Now()
		if status, data := m.do(http.MethodGet, "/api/v1/tenants/blue/ports/web-1", "", bearer); status != http.StatusOK {
			m.t.Fatalf("%d %s", status, data)
		}
		took = append(took, time.Since(began))
	}
	return slices.Max(took)
}

// Clients that begin and do not go on, handshakes, headers and bodies, hold nobody up, and bodies without end are cut off.
func TestUnfinishedRequestsHoldNobodyUp(t *testing.T) {
	m := newMatrix(t)
	web := httptest.NewUnstartedServer(m.api.Handler())
	web.Config.ReadHeaderTimeout, web.Config.ErrorLog = 2*time.Second, slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	web.StartTLS()
	defer web.Close()
	address := strings.TrimPrefix(web.URL, "https://")
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	plain := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test's own server
	for i := range 300 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		switch i % 3 {
		case 0: // a handshake that does not go on
			fmt.Fprint(c, "\x16\x03\x01")
		case 1: // a header
			s := tls.Client(c, plain)
			fmt.Fprint(s, "GET /api/v1/ports HTTP/1.1\r\nHost: x\r\n")
		case 2: // a body
			s := tls.Client(c, plain)
			fmt.Fprintf(s, "POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\n\r\n{", token)
		}
	}
	client := web.Client()
	client.Timeout = 10 * time.Second
	for range 20 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+"/api/v1/ports", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(began); resp.StatusCode != http.StatusOK || took > 2*time.Second {
			t.Errorf("%s after %s", resp.Status, took)
		}
	}
	for name, body := range map[string]io.Reader{
		"a_gibibyte": io.LimitReader(zeros{}, 1<<30),
		"deep":       strings.NewReader(`{"documents":[` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "]}"),
		"deep_spec":  strings.NewReader(`{"documents":[{"apiVersion":"weft/v1","kind":"Port","metadata":{"name":"p","tenant":"red"},"spec":` + strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000) + "}]}"),
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+"/api/v1/apply", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			if name != "a_gibibyte" { // it may be cut off as it is sent
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		resp.Body.Close()
		if resp.StatusCode < 400 || resp.StatusCode >= 500 {
			t.Errorf("%s: %s", name, resp.Status)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestWatchesAreBounded(t *testing.T) {
	m := newMatrix(t)
	c := limit.Default()
	c.TenantWatches = 3
	m.api.limits = limit.New(c)
	red := strings.TrimPrefix(m.known["own viewer"], "Bearer ")
	var open []io.Closer
	defer func() {
		for _, o := range open {
			o.Close()
		}
	}()
	last := 0
	for range 4 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.web.URL+"/api/v1/ports?watch=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+red)
		resp, err := m.web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp.Body)
		last = resp.StatusCode
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the fourth watch of a tenant that may have three: %d", last)
	}
}
