// SPDX-License-Identifier: Apache-2.0

package linear

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/store/cluster"
)

// ask makes a request as it goes over the wire.
func (s *site) ask(method, path, body string) (status int, header http.Header, text string) {
	s.t.Helper()
	dir := s.servers[0].cfg.Dir
	roots := x509.NewCertPool()
	ca, err1 := os.ReadFile(filepath.Join(dir, "ca.pem"))
	token, err2 := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err1 != nil || err2 != nil || !roots.AppendCertsFromPEM(ca) {
		s.t.Fatal(err1, err2)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, "https://"+s.servers[0].cfg.API+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if path != "/healthz" {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}, DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

func (s *site) eventually(what string, within time.Duration, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(within); !is(); pause(s.t.Context(), 20*time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// TestWithoutAMajorityTheAPISaysSo: health and status tell, writes are refused with a code and when to come again, what is there can be read, and
// nothing of what was refused is there afterwards that a client was told is done.
func TestWithoutAMajorityTheAPISaysSo(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	c := s.answers(0)
	tenant := func(name string) string {
		return `{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"` + name + `"},"spec":{}}`
	}
	if status, _, text := s.ask(http.MethodPut, "/api/v1/tenants/before", tenant("before")); status != http.StatusOK {
		t.Fatal(status, text)
	}
	healthy := func() bool {
		status, _, text := s.ask(http.MethodGet, "/healthz", "")
		return status == http.StatusOK && strings.Contains(text, `"store":"ok"`) && strings.Contains(text, `"status":"ok"`)
	}
	s.eventually("healthy", 10*time.Second, healthy)
	s.etcd.Kill(0)
	s.eventually("status tells of the dead member", 10*time.Second, func() bool {
		st, err := c.Status(t.Context())
		return err == nil && st.Store.Members == cluster.Members && st.Store.Answering == cluster.Members-1 && strings.Contains(strings.Join(st.Warnings, "\n"), "2 of 3 members of etcd answer")
	})
	if !healthy() {
		t.Error("not healthy with a majority")
	}
	s.etcd.Kill(1)
	began := time.Now()
	status, header, text := s.ask(http.MethodPut, "/api/v1/tenants/lost", tenant("lost"))
	var e v1.Error
	if err := json.Unmarshal([]byte(text), &e); err != nil || status != http.StatusServiceUnavailable || e.Code != v1.CodeUnavailable || header.Get("Retry-After") == "" || e.Fix == "" {
		t.Errorf("a write: %d, %v, %s", status, header, text)
	}
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("refused after %s", took)
	}
	s.eventually("health tells", 10*time.Second, func() bool {
		status, _, text := s.ask(http.MethodGet, "/healthz", "")
		return status == http.StatusOK && strings.Contains(text, `"store":"unavailable"`) && strings.Contains(text, `"status":"degraded"`)
	})
	st, err := c.Status(t.Context())
	if err != nil || !strings.Contains(strings.Join(st.Warnings, "\n"), "1 of 3 members answer, and not what a majority has") {
		t.Errorf("status: %+v, %v", st, err)
	}
	if _, err := c.Get(t.Context(), v1.KindTenant, "", "before"); err != nil {
		t.Errorf("a read: %v", err)
	}
	if _, err := c.Get(t.Context(), v1.KindTenant, "", "lost"); code(err) != v1.CodeNotFound {
		t.Errorf("a read of what was refused: %v", err)
	}
	s.heal()
	healed := time.Now()
	s.eventually("a write gets through", 20*time.Second, func() bool {
		status, _, _ := s.ask(http.MethodPut, "/api/v1/tenants/after", tenant("after"))
		return status == http.StatusOK
	})
	t.Logf("writes again %s after the members start", time.Since(healed).Round(time.Millisecond))
	s.eventually("healthy again", 10*time.Second, healthy)
}

// TestWatchGoesOnOverARestartUnlessItWasCompacted resumes a watch at a server that was killed and started again: it has all that came since, or says
// that it has not.
func TestWatchGoesOnOverARestartUnlessItWasCompacted(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	c := s.answers(0)
	write := func(name string) int64 {
		res, err := c.Apply(t.Context(), []v1.Object{&v1.Tenant{TypeMeta: typed(v1.KindTenant), Metadata: v1.Metadata{Name: name}}}, client.ApplyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.ParseInt(res.ResourceVersion, 10, 64)
		return n
	}
	restart := func() {
		s.servers[0].kill()
		s.heal()
		c = s.answers(0)
	}
	first := write("a")
	second := write("b")
	restart()
	third := write("c")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	got := ""
	for e, err := range c.Watch(ctx, v1.KindTenant, "", strconv.FormatInt(first, 10)) {
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		if e.Type != v1.EventBookmark {
			got += string(e.Type) + " " + e.Object.Meta().Name + " " + e.ResourceVersion + "; "
		}
		if e.ResourceVersion == strconv.FormatInt(third, 10) {
			break
		}
	}
	if want := "ADDED b " + strconv.FormatInt(second, 10) + "; ADDED c " + strconv.FormatInt(third, 10) + "; "; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := s.etcd.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	restart()
	for e, err := range c.Watch(ctx, v1.KindTenant, "", strconv.FormatInt(first, 10)) {
		if code(err) != v1.CodeExpired {
			t.Errorf("a watch from what is compacted: %+v, %v", e, err)
		}
		break
	}
	status, _, text := s.ask(http.MethodGet, "/api/v1/tenants?watch=true&resourceVersion="+strconv.FormatInt(first, 10), "")
	if status != http.StatusGone || !strings.Contains(text, v1.CodeExpired) {
		t.Errorf("a watch from what is compacted: %d %s", status, text)
	}
}
