// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	v1 "weft/api/v1"
	"weft/internal/store"
)

const adminToken = "a-token-of-at-least-thirty-two-characters"

func newGate(t *testing.T, people People) (*Gate, *store.Store) {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	g, err := NewGate(st, adminToken, people)
	if err != nil {
		t.Fatal(err)
	}
	addTenant(t, st, "red", 1)
	addTenant(t, st, "blue", 2)
	return g, st
}

func addTenant(t *testing.T, st *store.Store, name string, number uint32) {
	t.Helper()
	_, err := st.Update(t.Context(), []string{"", name}, func(tx *store.Tx) error {
		tx.Put(&v1.Tenant{
			TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindTenant}, Metadata: v1.Metadata{Name: name}, Status: v1.TenantStatus{Number: number},
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

var admin = Principal{Name: "admin", Role: Admin}

func TestTokensProveWhoOneIs(t *testing.T) {
	g, st := newGate(t, nil)
	made, text, err := g.Create(t.Context(), admin, TenantAdmin, "red", "for the build", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Authenticate(t.Context(), "Bearer "+text)
	if err != nil || p.Role != TenantAdmin || p.Tenant != "red" || p.Name != "token:"+made.ID || !p.Expires.Equal(made.Expires) {
		t.Fatalf("%+v, %v", p, err)
	}
	if stored := string(st.View().Record(recordName(made.ID))); strings.Contains(stored, strings.TrimPrefix(text, tokenPrefix+made.ID+"_")) {
		t.Errorf("the store has the secret: %s", stored)
	}
	for name, header := range map[string]string{
		"none": "", "other_scheme": "Basic " + text, "no_scheme": text, "nothing": "Bearer ", "cut": "Bearer " + text[:len(text)-1],
		"longer": "Bearer " + text + "x", "no_secret": "Bearer " + tokenPrefix + made.ID + "_", "other_id": "Bearer " + strings.Replace(text, made.ID, "aaaaaaaa", 1),
		"path": "Bearer weft_../../x_" + text, "upper": "Bearer " + strings.ToUpper(text), "hash": "Bearer " + base64.StdEncoding.EncodeToString(made.Hash),
		"jwt": "Bearer a.b.c", "two": "Bearer " + text + " " + adminToken, "admin_cut": "Bearer " + adminToken[1:],
	} {
		if p, err := g.Authenticate(t.Context(), header); err == nil || p.Role != "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if p, err := g.Authenticate(t.Context(), "bearer "+adminToken); err != nil || p.Role != Admin {
		t.Errorf("the admin's token: %+v, %v", p, err)
	}
	if _, err := g.Revoke(t.Context(), admin, made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Authenticate(t.Context(), "Bearer "+text); !errors.Is(err, ErrUnknown) {
		t.Errorf("a revoked token: %v", err)
	}
	if err := g.Still(p); !errors.Is(err, ErrUnknown) {
		t.Errorf("who had it before: %v", err)
	}
}

func TestTokensEnd(t *testing.T) {
	g, st := newGate(t, nil)
	_, text, err := g.Create(t.Context(), admin, TenantViewer, "red", "", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	p, err := g.Authenticate(t.Context(), "Bearer "+text)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); err == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, err = g.Authenticate(t.Context(), "Bearer "+text)
	}
	if !errors.Is(err, ErrExpired) || !errors.Is(g.Still(p), ErrExpired) {
		t.Errorf("after its end: %v, %v", err, g.Still(p))
	}

	// A tenant that goes takes its tokens along, also where another of its name comes.
	_, text, err = g.Create(t.Context(), admin, TenantAdmin, "blue", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Update(t.Context(), []string{"", "blue"}, func(tx *store.Tx) error { tx.Delete(v1.KindTenant, "", "blue"); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Authenticate(t.Context(), "Bearer "+text); !errors.Is(err, ErrUnknown) {
		t.Errorf("its tenant is gone: %v", err)
	}
	addTenant(t, st, "blue", 3)
	if _, err := g.Authenticate(t.Context(), "Bearer "+text); !errors.Is(err, ErrUnknown) {
		t.Errorf("another tenant of the name came: %v", err)
	}
	if list := g.Tokens(admin, "blue"); len(list) != 0 {
		t.Errorf("tokens of the tenant that is gone: %+v", list)
	}
	if _, _, err := g.Create(t.Context(), admin, TenantAdmin, "blue", "", 0); err != nil {
		t.Fatal(err)
	}
	if n := len(st.View().Records(folder)); n != 2 {
		t.Errorf("%d tokens are kept, want the new one and the one that expired", n)
	}
}

func TestNobodyMakesMoreThanOneIs(t *testing.T) {
	g, _ := newGate(t, nil)
	redAdmin, redViewer := Principal{Name: "a", Role: TenantAdmin, Tenant: "red"}, Principal{Name: "v", Role: TenantViewer, Tenant: "red"}
	blue, _, err := g.Create(t.Context(), admin, TenantViewer, "blue", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		by     Principal
		role   Role
		tenant string
		code   string // "": it is made
	}{
		{admin, Admin, "", ""},
		{admin, TenantAdmin, "red", ""},
		{admin, TenantAdmin, "", v1.CodeInvalid},
		{admin, Admin, "red", v1.CodeInvalid},
		{admin, "root", "", v1.CodeInvalid},
		{admin, "", "", v1.CodeInvalid},
		{admin, TenantAdmin, "green", v1.CodeNotFound},
		{redAdmin, TenantAdmin, "red", ""},
		{redAdmin, TenantViewer, "red", ""},
		{redAdmin, Admin, "", v1.CodeForbidden},
		{redAdmin, TenantViewer, "blue", v1.CodeNotFound},
		{redAdmin, TenantViewer, "green", v1.CodeNotFound},
		{redViewer, TenantViewer, "red", v1.CodeForbidden},
		{redViewer, TenantAdmin, "red", v1.CodeForbidden},
		{redViewer, TenantViewer, "blue", v1.CodeNotFound},
		{Principal{}, TenantViewer, "red", v1.CodeNotFound},
		{Principal{Name: "user:x"}, Admin, "", v1.CodeForbidden},
	} {
		made, _, err := g.Create(t.Context(), test.by, test.role, test.tenant, "", time.Hour)
		if got := codeOf(err); got != test.code {
			t.Errorf("%s makes %s of %q: %v, want %q", test.by.Name, test.role, test.tenant, err, test.code)
		}
		if err == nil {
			if _, err := g.Revoke(t.Context(), redViewer, made.ID); err == nil {
				t.Errorf("a viewer revoked %+v", made)
			}
		}
	}
	if _, err := g.Revoke(t.Context(), redAdmin, blue.ID); codeOf(err) != v1.CodeNotFound {
		t.Errorf("another tenant's token: %v", err)
	}
	for _, token := range append(g.Tokens(redAdmin, ""), g.Tokens(redViewer, "red")...) {
		if token.Tenant != "red" || token.Hash != nil {
			t.Errorf("red sees %+v", token)
		}
	}
	if n := len(g.Tokens(Principal{}, "")); n != 0 {
		t.Errorf("nobody sees %d tokens", n)
	}
	for range tokensMost {
		if _, _, err = g.Create(t.Context(), redAdmin, TenantViewer, "red", "", time.Hour); err != nil {
			break
		}
	}
	if codeOf(err) != v1.CodeQuota {
		t.Errorf("after %d tokens: %v", tokensMost, err)
	}
}

func codeOf(err error) string {
	var e *v1.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestPeopleOfAProvider(t *testing.T) {
	i := newIssuer(t)
	people, err := NewPeople(OIDC{Issuer: i.URL, Audience: "weft", Log: slog.New(slog.DiscardHandler), Roles: []RoleOf{
		{"groups", "net-ops", Admin, ""}, {"groups", "red-admins", TenantAdmin, "red"}, {"email", "eve@example.org", TenantViewer, "red"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	g, _ := newGate(t, people)
	ask := func(token string) (Principal, error) { return g.Authenticate(t.Context(), "Bearer "+token) }
	for name, test := range map[string]struct {
		changes      map[string]any
		role         Role
		tenant, says string
	}{
		"group":      {nil, TenantAdmin, "red", "user:anna@example.org"},
		"first_fits": {map[string]any{"groups": []string{"red-admins", "net-ops"}}, Admin, "", "user:anna@example.org"},
		"text":       {map[string]any{"groups": nil, "email": "eve@example.org"}, TenantViewer, "red", "user:eve@example.org"},
		"no_role":    {map[string]any{"groups": []string{"cooks"}}, "", "", "user:anna@example.org"},
		"odd_claim":  {map[string]any{"groups": map[string]any{"net-ops": true}, "email": 7}, "", "", "user:4711"},
		"part":       {map[string]any{"groups": "net-ops,red-admins"}, "", "", "user:anna@example.org"},
		"many_auds":  {map[string]any{"aud": []string{"weft", "other"}}, TenantAdmin, "red", "user:anna@example.org"},
	} {
		p, err := ask(i.sign(i.claims(test.changes)))
		if err != nil || p.Role != test.role || p.Tenant != test.tenant || p.Name != test.says || p.Expires.IsZero() {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	good := i.sign(i.claims(nil))
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	public, err := json.Marshal(jose.JSONWebKey{Key: &i.key.PublicKey})
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"other_audience": i.sign(i.claims(map[string]any{"aud": "grafana"})),
		"no_audience":    i.sign(i.claims(map[string]any{"aud": nil})),
		"other_issuer":   i.sign(i.claims(map[string]any{"iss": "https://accounts.example.org"})),
		"other_key":      signed(t, jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: other, KeyID: "one"}}, i.claims(nil)),
		"shared_secret":  signed(t, jose.SigningKey{Algorithm: jose.HS256, Key: public}, i.claims(nil)),
		"none":           none + "." + parts[1] + ".",
		"none_signed":    none + "." + parts[1] + "." + parts[2],
		"changed":        parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"`+i.URL+`","aud":"weft","sub":"1","groups":["net-ops"],"exp":4000000000}`)) + "." + parts[2],
		"no_end":         i.sign(i.claims(map[string]any{"exp": nil})),
	} {
		if p, err := ask(token); (!errors.Is(err, ErrUnknown) && !errors.Is(err, ErrExpired)) || p.Role != "" {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := ask(i.sign(i.claims(map[string]any{"exp": time.Now().Add(-time.Second).Unix()}))); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	i.rotate("two")
	// The library takes keys over a moment after it has used them; meanwhile it goes by what it asked for before.
	p, err := ask(i.sign(i.claims(nil)))
	for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		p, err = ask(i.sign(i.claims(nil)))
	}
	if err != nil || p.Role != TenantAdmin {
		t.Errorf("with the provider's next key: %+v, %v", p, err)
	}
	_, err = ask(good)
	for end := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, err = ask(good)
	}
	if !errors.Is(err, ErrUnknown) {
		t.Errorf("with the key that the provider has withdrawn: %v", err)
	}
}

func TestProviderThatIsAwayIsAskedAgain(t *testing.T) {
	i := newIssuer(t)
	i.away.Store(true)
	o := OIDC{Issuer: i.URL, Audience: "weft", Log: slog.New(slog.DiscardHandler), Roles: []RoleOf{{"groups", "red-admins", Admin, ""}}}
	p, err := NewPeople(o) // it need not be there
	if err != nil {
		t.Fatal(err)
	}
	g, _ := newGate(t, p)
	token := i.sign(i.claims(nil))
	if _, err := g.Authenticate(t.Context(), "Bearer "+token); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("while it is away: %v", err)
	}
	if _, err := g.Authenticate(t.Context(), "Bearer "+adminToken); err != nil {
		t.Errorf("the admin's token: %v", err)
	}
	i.away.Store(false)
	p.(*people).next = time.Time{} // the pause is over
	if who, err := g.Authenticate(t.Context(), "Bearer "+token); err != nil || who.Role != Admin {
		t.Errorf("when it is back: %+v, %v", who, err)
	}
	for name, wrong := range map[string]OIDC{
		"no_issuer": {Audience: "weft", Roles: o.Roles}, "no_audience": {Issuer: i.URL, Roles: o.Roles}, "no_roles": {Issuer: i.URL, Audience: "weft"},
		"role":   {Issuer: i.URL, Audience: "weft", Roles: []RoleOf{{"groups", "x", "root", ""}}},
		"tenant": {Issuer: i.URL, Audience: "weft", Roles: []RoleOf{{"groups", "x", Admin, "red"}}},
		"of_who": {Issuer: i.URL, Audience: "weft", Roles: []RoleOf{{"groups", "x", TenantAdmin, ""}}},
		"claim":  {Issuer: i.URL, Audience: "weft", Roles: []RoleOf{{"", "x", Admin, ""}}},
	} {
		if _, err := NewPeople(wrong); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestRolesAreRead(t *testing.T) {
	for text, want := range map[string]RoleOf{
		"groups=net-ops:admin":                {"groups", "net-ops", Admin, ""},
		"groups=red-team:tenant-admin/red":    {"groups", "red-team", TenantAdmin, "red"},
		"sub=urn:x:4711:tenant-viewer/red":    {"sub", "urn:x:4711", TenantViewer, "red"},
		"https://example.org/roles=a=b:admin": {"https://example.org/roles", "a=b", Admin, ""},
		"groups":                              {},
		"groups=x":                            {},
		"groups=x:root":                       {},
		"groups=x:admin/red":                  {},
		"groups=x:tenant-admin":               {},
		"=x:admin":                            {},
		"groups=:admin":                       {},
	} {
		got, err := ParseRole(text)
		if (err != nil) != (want == RoleOf{}) || (err == nil && got != want) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
