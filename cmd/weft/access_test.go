// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"weft/internal/identity"
)

// Tokens as a person makes and uses them: what each role may, and that a revoked one is worth nothing.
func TestTokensOfTenants(t *testing.T) {
	s := newSystem(t)
	s.must("apply", "-f", s.file("network.yaml", network))
	s.must("create", "tenant", "blue")
	s.must("token", "create", "-t", "red", "--as", "viewer")
	s.must("token", "create", "-t", "red", "--role", "tenant-admin", "--for", "1h", "--description", "build", "--as", "editor")
	s.must("token", "create", "-t", "blue", "--role", "tenant-admin", "--as", "blue")
	if info, err := os.Stat(os.Getenv("WEFT_CONFIG")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file of contexts: %v, %v", info.Mode(), err)
	}
	if out := s.must("whoami", "--context", "editor"); !strings.Contains(out, "tenant-admin of red") || !strings.Contains(out, "token:") {
		t.Errorf("who the editor is: %s", out)
	}
	if out := s.must("whoami"); !strings.Contains(out, "everything") {
		t.Errorf("who the admin is, whose context is still the current one: %s", out)
	}
	port := s.file("port.yaml", "apiVersion: weft/v1\nkind: Port\nmetadata: {name: web-2, tenant: red}\nspec: {subnet: web}\n")
	quota := s.file("quota.yaml", "apiVersion: weft/v1\nkind: Tenant\nmetadata: {name: red}\nspec: {quota: {ports: 100000}}\n")
	for _, test := range []struct {
		context string
		args    []string
		code    int
		says    string
	}{
		{"viewer", []string{"get", "ports"}, 0, "web-1"},
		{"viewer", []string{"get", "tenants"}, 0, "red"},
		{"viewer", []string{"apply", "-f", port}, 5, "may not change anything"},
		{"viewer", []string{"delete", "port", "web-1", "--yes"}, 5, "FORBIDDEN"},
		{"viewer", []string{"token", "create"}, 5, "may not"},
		{"editor", []string{"apply", "-f", port}, 0, "web-2"},
		{"editor", []string{"apply", "-f", quota}, 5, "is the system's"},
		{"editor", []string{"get", "nodes"}, 5, "FORBIDDEN"},
		{"editor", []string{"status"}, 5, "FORBIDDEN"},
		{"editor", []string{"token", "create", "--role", "admin"}, 5, "may not make tokens"},
		{"editor", []string{"get", "ports", "-t", "blue"}, 3, "NOT_FOUND"},
		{"blue", []string{"get", "ports", "-t", "red"}, 3, "NOT_FOUND"},
		{"blue", []string{"get", "ports", "-A"}, 0, ""},
		{"blue", []string{"apply", "-f", port}, 3, "NOT_FOUND"},
		{"blue", []string{"get", "port", "red/web-1"}, 3, "NOT_FOUND"},
	} {
		out, errs, code := s.weft(nil, "", append(test.args, "--context", test.context)...)
		if code != test.code || !strings.Contains(out+errs, test.says) || (test.context == "blue" && strings.Contains(out, "web-1")) {
			t.Errorf("%s: weft %s: exit %d, want %d with %q\n%s%s", test.context, strings.Join(test.args, " "), code, test.code, test.says, out, errs)
		}
	}
	var tokens []struct{ ID, Role, Description, CreatedBy, Secret string }
	if err := json.Unmarshal([]byte(s.must("token", "list", "-t", "red", "-o", "json")), &tokens); err != nil || len(tokens) != 2 {
		t.Fatalf("red's tokens: %+v, %v", tokens, err)
	}
	for _, token := range tokens {
		if token.Secret != "" || token.CreatedBy != "admin" {
			t.Errorf("listed: %+v", token)
		}
		s.must("token", "revoke", token.ID)
	}
	if _, errs, code := s.weft(nil, "", "get", "ports", "--context", "editor"); code != 5 || !strings.Contains(errs, "UNAUTHORIZED") {
		t.Errorf("with a revoked token: exit %d %s", code, errs)
	}
}

// provider is an identity provider with the device flow: a person is asked once.
func provider(t *testing.T, groups []string) *httptest.Server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int32
	var p *httptest.Server
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, body any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token",
			"device_authorization_endpoint": p.URL + "/device", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /device", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 200, map[string]any{"device_code": "d", "user_code": "WXYZ-1234", "verification_uri": p.URL + "/activate", "expires_in": 60, "interval": 1})
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 { // nobody has typed the code yet
			answer(w, 400, map[string]any{"error": "authorization_pending"})
			return
		}
		text, err := jwt.Signed(signer).Claims(map[string]any{
			"iss": p.URL, "aud": r.FormValue("client_id"), "sub": "4711", "email": "anna@example.org", "groups": groups, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		}).Serialize()
		if err != nil {
			t.Error(err)
		}
		answer(w, 200, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": text, "expires_in": 3600})
	})
	p = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func TestPeopleLogIn(t *testing.T) {
	p := provider(t, []string{"red-team"})
	s := newSystemWith(t, identity.OIDC{Issuer: p.URL, Audience: "weft", Roles: []identity.RoleOf{{Claim: "groups", Value: "red-team", Role: identity.TenantAdmin, Tenant: "red"}}})
	s.must("apply", "-f", s.file("network.yaml", network))
	out, errs, code := s.weft(nil, "", "login", "--issuer", p.URL, "--as", "anna")
	if code != 0 || !strings.Contains(errs, "WXYZ-1234") || !strings.Contains(errs, "user:anna@example.org: tenant-admin of red") {
		t.Fatalf("exit %d: %s%s", code, out, errs)
	}
	if out := s.must("get", "ports", "--context", "anna"); !strings.Contains(out, "web-1") {
		t.Errorf("what anna sees: %s", out)
	}
	if _, errs, code := s.weft(nil, "", "get", "nodes", "--context", "anna"); code != 5 {
		t.Errorf("nodes: exit %d %s", code, errs)
	}
	// A token for another program of the same people opens nothing, and makes no context.
	if _, errs, code := s.weft(nil, "", "login", "--issuer", p.URL, "--client-id", "grafana", "--as", "other"); code != 5 || !strings.Contains(errs, "UNAUTHORIZED") {
		t.Errorf("with another audience: exit %d %s", code, errs)
	}
	if out := s.must("context", "list"); strings.Contains(out, "other") {
		t.Errorf("contexts: %s", out)
	}
}

func TestRolesOfPeopleInTheConfiguration(t *testing.T) {
	s := newSystem(t)
	s.must("whoami")
	for name, test := range map[string]struct{ text, says string }{
		"good":      {"oidcIssuer: https://login.example.org\noidcAudience: weft\noidcRole: [\"groups=net-ops:admin\", \"groups=red:tenant-admin/red\"]\n", "is good"},
		"role":      {"oidcIssuer: https://login.example.org\noidcAudience: weft\noidcRole: [\"groups=net-ops:root\"]\n", `there is no role "root"`},
		"shape":     {"oidcIssuer: https://login.example.org\noidcAudience: weft\noidcRole: [net-ops]\n", "CLAIM=VALUE:ROLE"},
		"half":      {"oidcIssuer: https://login.example.org\n", "go together"},
		"no_issuer": {"oidcRole: [\"groups=net-ops:admin\"]\n", "go together"},
	} {
		file := s.file(fmt.Sprintf("%s.yaml", name), test.text)
		if _, errs, _ := s.weft(nil, "", "server", "--config", file, "--check-config"); !strings.Contains(errs, test.says) {
			t.Errorf("%s: %s", name, errs)
		}
	}
}
