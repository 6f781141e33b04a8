// SPDX-License-Identifier: Apache-2.0

package nodecmd

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

// TestTokensAreMadeListedAndRevoked runs the commands against an API that keeps what it was asked.
func TestTokensAreMadeListedAndRevoked(t *testing.T) {
	var asked v1.JoinRequest
	var revoked string
	made := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/join", func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(v1.Join{Server: "192.0.2.10:7444", Token: "secret", CAHash: "sha256:00", ID: "3f9a", Ends: made.Add(time.Hour)})
	})
	mux.HandleFunc("GET /api/v1/join/tokens", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(v1.JoinTokens{Items: []v1.JoinToken{
			{ID: "3f9a", State: "Good", Node: "host-3", Uses: 2, Used: 1, Made: made, Ends: made.Add(time.Hour)}, {ID: "77aa", State: "Revoked", Used: 5, Made: made, Ends: made},
		}})
	})
	mux.HandleFunc("DELETE /api/v1/join/tokens/{id}", func(w http.ResponseWriter, r *http.Request) {
		revoked = r.PathValue("id")
		_, _ = w.Write([]byte("{}"))
	})
	srv := httptest.NewTLSServer(mux)
	t.Cleanup(srv.Close)
	t.Setenv("WEFT_CONFIG", filepath.Join(t.TempDir(), "config.yaml"))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := client.UpdateContexts(func(c *client.Contexts) error {
		c.Add(client.Context{Name: "test", Server: srv.URL, Token: "token", CA: string(ca)})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		var out, progress bytes.Buffer
		cmd := New(&term.Env{Out: &out, Err: &progress, In: strings.NewReader("")}, nil)
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return out.String()
	}
	if got, want := run("token"), "weft node join 192.0.2.10:7444 --token secret --ca-hash sha256:00\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if (asked != v1.JoinRequest{For: "1h0m0s"}) {
		t.Errorf("asked for %+v", asked)
	}
	if got := run("token", "--for", "10m", "--node", "host-3", "--uses", "2"); !strings.HasSuffix(got, " --name host-3\n") {
		t.Errorf("%q does not name the node", got)
	}
	if (asked != v1.JoinRequest{For: "10m0s", Node: "host-3", Uses: 2}) {
		t.Errorf("asked for %+v", asked)
	}
	lines := strings.Split(run("token", "list"), "\n")
	for i, want := range []string{"ID STATE NODE USED MADE ENDS", "3f9a Good host-3 1/2 ", "77aa Revoked - 5 "} {
		if got := strings.Join(strings.Fields(lines[i]), " "); !strings.HasPrefix(got, want) {
			t.Errorf("line %q, want %q", got, want)
		}
	}
	if got := run("token", "revoke", "77aa"); got != "join token 77aa revoked\n" || revoked != "77aa" {
		t.Errorf("%q, and %q was revoked", got, revoked)
	}
}

// TestJoinEndsWithTheServersWord: a token that the server does not take ends the command at once, with what the server said; one that has
// served is removed.
func TestJoinEndsWithTheServersWord(t *testing.T) {
	dir := t.TempDir()
	answer := v1.AgentStatus{Node: "host-1", Unproven: "the join token ended at noon"}
	l, err := net.Listen("unix", filepath.Join(dir, "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { //nolint:gosec // it is a test's
		_ = json.NewEncoder(w).Encode(answer)
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
	var out, progress bytes.Buffer
	j := &joining{env: &term.Env{Out: &out, Err: &progress}, agent: client.NewAgent(filepath.Join(dir, "agent.sock")), timeout: time.Minute}
	j.TokenFile = filepath.Join(dir, "node.token")
	if err := os.WriteFile(j.TokenFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var e *v1.Error
	if err := j.await(t.Context()); !errors.As(err, &e) || e.Code != v1.CodeUnauthorized || !strings.Contains(e.Message, "ended at noon") || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
	if _, err := os.Stat(j.TokenFile); err != nil {
		t.Errorf("a token that did not serve: %v", err)
	}
	answer = v1.AgentStatus{Node: "host-1", Certificate: time.Now().Add(time.Hour), Connected: true, Synced: true}
	if err := j.await(t.Context()); err != nil || out.String() != "node/host-1 joined\n" {
		t.Errorf("%q, %v", &out, err)
	}
	if _, err := os.Stat(j.TokenFile); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a token that has served: %v", err)
	}
}
