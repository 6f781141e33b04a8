// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"weft/internal/base/clock"
)

// OIDC says which identity provider is believed, and what its people may do.
type OIDC struct {
	Issuer   string       // its URL
	Audience string       // this system's name at the provider (client ID): a token for another is refused
	Username string       // claim with the person's name; "": email, else sub
	Roles    []RoleOf     // the first that fits counts
	HTTP     *http.Client // nil: the library's
	Log      *slog.Logger
}

// RoleOf gives a role to those whose claim is, or holds, a value.
type RoleOf struct {
	Claim, Value string
	Role         Role
	Tenant       string
}

// Check reports what makes no sense.
func (o OIDC) Check() error {
	if o.Issuer == "" || o.Audience == "" || len(o.Roles) == 0 {
		return errors.New("an identity provider needs an issuer, an audience and at least one role")
	}
	for _, r := range o.Roles {
		if err := r.check(); err != nil {
			return err
		}
	}
	return nil
}

func (r RoleOf) check() error {
	switch {
	case r.Claim == "" || r.Value == "":
		return errors.New("a role needs a claim and its value")
	case !slices.Contains(Roles(), r.Role):
		return fmt.Errorf("there is no role %q: use admin, tenant-admin or tenant-viewer", r.Role)
	case r.Role.OfTenant() != (r.Tenant != ""):
		return fmt.Errorf("role %s with tenant %q: tenant-admin and tenant-viewer name a tenant, admin names none", r.Role, r.Tenant)
	}
	return nil
}

// algorithms are those of signatures by a key pair: no "none", and none with a secret that both sides know.
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// Times of talking to the provider.
const (
	providerWithin = 5 * time.Second
	providerAgain  = 10 * time.Second // after it could not be reached
)

// people are those of an identity provider. It is asked for its keys as the first of them comes, and again while it does not answer, so that
// a server starts without it.
type people struct {
	OIDC

	mu     sync.Mutex // guards below
	verify *oidc.IDTokenVerifier
	failed error
	next   time.Time // when it is tried again
}

// NewPeople returns who verifies the tokens of a provider.
func NewPeople(o OIDC) (People, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.HTTP == nil {
		o.HTTP = &http.Client{Timeout: providerWithin}
	}
	return &people{OIDC: o}, nil
}

// verifier is the library's, once the provider has answered. Its keys are fetched again whenever a token names one that it does not know.
func (p *people) verifier() (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.verify != nil || time.Now().Before(p.next) {
		return p.verify, p.failed
	}
	// The context outlives the request: the library fetches keys with it later.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.Background(), p.HTTP), p.Issuer)
	if err != nil {
		p.failed, p.next = fmt.Errorf("the identity provider %s cannot be asked: %w", p.Issuer, err), time.Now().Add(providerAgain)
		p.Log.Warn("ask the identity provider", "issuer", p.Issuer, "err", err)
		return nil, p.failed
	}
	p.verify, p.failed = provider.Verifier(&oidc.Config{ClientID: p.Audience, SupportedSigningAlgs: algorithms, Now: clock.Now}), nil
	return p.verify, nil
}

// Verify implements People.
func (p *people) Verify(ctx context.Context, token string) (Principal, error) {
	v, err := p.verifier()
	if err != nil {
		return Principal{}, err
	}
	id, err := v.Verify(ctx, token)
	if expired := new(oidc.TokenExpiredError); errors.As(err, &expired) {
		return Principal{}, ErrExpired
	}
	if err != nil {
		p.Log.Info("a person's token is refused", "issuer", p.Issuer, "err", err)
		return Principal{}, ErrUnknown
	}
	claims := make(map[string]any)
	if err := id.Claims(&claims); err != nil {
		return Principal{}, ErrUnknown
	}
	name, _ := claims[cmp.Or(p.Username, "email")].(string)
	out := Principal{Name: "user:" + cmp.Or(name, id.Subject), Expires: id.Expiry}
	for _, r := range p.Roles {
		if holds(claims[r.Claim], r.Value) {
			out.Role, out.Tenant = r.Role, r.Tenant
			return out, nil
		}
	}
	return out, nil // known, and may do nothing
}

// holds reports whether a claim is a value, or a list with it.
func holds(claim any, value string) bool {
	switch c := claim.(type) {
	case string:
		return c == value
	case []any:
		return slices.ContainsFunc(c, func(x any) bool { return x == any(value) })
	}
	return false
}
