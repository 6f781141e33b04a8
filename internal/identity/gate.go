// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/clock"
	"weft/internal/store"
)

// People verifies what an identity provider says of a person.
type People interface {
	// Verify returns the principal of an ID token (JWT). An error is ErrExpired, ErrUnknown, or says why nobody can tell now.
	Verify(ctx context.Context, token string) (Principal, error)
}

// Gate tells whose a request is, and makes and revokes tokens.
type Gate struct {
	store  *store.Store
	admin  [sha256.Size]byte // hash of the admin's token
	people People            // nil: no identity provider
}

// NewGate returns a gate. The admin's token is the one of the state directory: it opens everything, and never expires.
func NewGate(st *store.Store, adminToken string, people People) (*Gate, error) {
	if len(adminToken) < 32 {
		return nil, errors.New("the admin's token has less than 32 characters")
	}
	return &Gate{st, sha256.Sum256([]byte(adminToken)), people}, nil
}

// Authenticate returns whose a request with this header "Authorization" is. Errors are ErrNone, ErrUnknown, ErrExpired, or say that
// it cannot be told now.
func (g *Gate) Authenticate(ctx context.Context, authorization string) (Principal, error) {
	scheme, token, _ := strings.Cut(authorization, " ")
	switch {
	case authorization == "":
		return Principal{}, ErrNone
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return Principal{}, ErrUnknown
	}
	if hash := sha256.Sum256([]byte(token)); subtle.ConstantTimeCompare(hash[:], g.admin[:]) == 1 {
		return Principal{Name: "admin", Role: Admin}, nil
	}
	if g.people != nil && strings.Count(token, ".") == 2 {
		return g.people.Verify(ctx, token)
	}
	view := g.store.View()
	t, ok := find(view, token)
	if !ok {
		return Principal{}, ErrUnknown
	}
	if err := t.stands(view, clock.Now()); err != nil {
		return Principal{}, err
	}
	return t.principal(), nil
}

// Still reports with an error that what proved a principal does not do so any more: it has expired, or was revoked.
func (g *Gate) Still(p Principal) error {
	if !p.Expires.IsZero() && !clock.Now().Before(p.Expires) {
		return ErrExpired
	}
	if p.token == nil {
		return nil
	}
	view := g.store.View()
	t, err := decodeToken(view.Record(recordName(p.token.ID)))
	if err != nil || !bytes.Equal(t.Hash, p.token.Hash) {
		return ErrUnknown
	}
	return t.stands(view, clock.Now())
}

// Bounds of tokens.
const (
	tokensMost     = 200 // of each tenant, and of admins
	descriptionMax = 200 // bytes
	lifeMost       = 10 * 365 * 24 * time.Hour
)

// Create makes a token for the role, tenant, description and life of t, and returns it with the one text that nobody gets to see again.
func (g *Gate) Create(ctx context.Context, by Principal, role Role, tenant, description string, life time.Duration) (t Token, text string, err error) {
	now := clock.Now().UTC().Truncate(time.Second)
	t = Token{Role: role, Tenant: tenant, Description: description, Created: now, CreatedBy: by.Name}
	if err := checkNew(by, t, life); err != nil {
		return Token{}, "", err
	}
	if life > 0 {
		t.Expires = now.Add(life)
	}
	t, text = newToken(t)
	_, err = g.store.Update(ctx, []string{tenant}, func(tx *store.Tx) error {
		if tenant != "" {
			o, ok := tx.Get(v1.KindTenant, "", tenant)
			if !ok {
				return noTenant(tenant)
			}
			t.TenantNumber = o.(*v1.Tenant).Status.Number
		}
		have := 0
		for _, other := range tokens(g.store.View()) { // records of a scope change in it alone
			if other.Tenant != tenant {
				continue
			}
			if other.stands(g.store.View(), now) != nil {
				tx.DeleteRecord(recordName(other.ID))
				continue
			}
			have++
		}
		if have >= tokensMost {
			return &v1.Error{
				Status: http.StatusForbidden, Code: v1.CodeQuota, Message: fmt.Sprintf("there are %d tokens already, which is the most", have),
				Fix: "revoke some: weft token list; weft token revoke ID",
			}
		}
		data, err := json.Marshal(t)
		if err != nil {
			return fmt.Errorf("encode token: %w", err)
		}
		tx.PutRecord(recordName(t.ID), data)
		return nil
	})
	if err != nil {
		return Token{}, "", err
	}
	return t, text, nil
}

// checkNew refuses a token that makes no sense, or that its maker may not make.
func checkNew(by Principal, t Token, life time.Duration) error {
	wrong := func(field, fix, format string, args ...any) error {
		return &v1.Error{Status: http.StatusUnprocessableEntity, Code: v1.CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...), Fix: fix}
	}
	switch {
	case !slices.Contains(Roles(), t.Role):
		return wrong("role", "use admin, tenant-admin or tenant-viewer", "there is no role %q", t.Role)
	case t.Role.OfTenant() && t.Tenant == "":
		return wrong("tenant", "name the tenant", "role %s is one of a tenant", t.Role)
	case !t.Role.OfTenant() && t.Tenant != "":
		return wrong("tenant", "leave the tenant away, or use tenant-admin", "role %s is not one of a tenant", t.Role)
	case life < 0 || life > lifeMost || (life > 0 && life < time.Second):
		return wrong("expiresIn", "use a duration such as 24h, or 0 for no end", "a token lives between a second and ten years")
	case len(t.Description) > descriptionMax:
		return wrong("description", "shorten it", "it has more than %d bytes", descriptionMax)
	case t.Tenant != "" && !by.Sees(t.Tenant):
		return noTenant(t.Tenant)
	case !by.Writes(t.Tenant):
		return Forbidden(by, "make tokens", "")
	}
	return nil
}

// Tokens lists the tokens that a principal may know of, those of one tenant or of all; without their hashes.
func (g *Gate) Tokens(by Principal, tenant string) []Token {
	var out []Token
	view := g.store.View()
	for _, t := range tokens(view) {
		if (tenant == "" || t.Tenant == tenant) && (by.Role == Admin || by.Sees(t.Tenant)) && !errors.Is(t.stands(view, clock.Now()), ErrUnknown) {
			t.Hash = nil
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b Token) int { return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID)) })
	return out
}

// Revoke ends a token at once.
func (g *Gate) Revoke(ctx context.Context, by Principal, id string) (Token, error) {
	i := slices.IndexFunc(g.Tokens(by, ""), func(t Token) bool { return t.ID == id })
	if i < 0 {
		return Token{}, &v1.Error{Status: http.StatusNotFound, Code: v1.CodeNotFound, Message: fmt.Sprintf("there is no token %q", id), Fix: "look at 'weft token list'"}
	}
	t := g.Tokens(by, "")[i]
	if !by.Writes(t.Tenant) {
		return Token{}, Forbidden(by, "revoke tokens", "")
	}
	_, err := g.store.Update(ctx, []string{t.Tenant}, func(tx *store.Tx) error {
		tx.DeleteRecord(recordName(id))
		return nil
	})
	return t, err
}

// tokens reads all that can be read.
func tokens(view *store.View) []Token {
	var out []Token
	for _, data := range view.Records(folder) {
		if t, err := decodeToken(data); err == nil {
			out = append(out, *t)
		}
	}
	return out
}

func noTenant(name string) error {
	return &v1.Error{Status: http.StatusNotFound, Code: v1.CodeNotFound, Message: fmt.Sprintf("there is no tenant %s", name), Fix: "look at 'weft get tenants'"}
}

// Forbidden is the refusal of what a known principal may not do.
func Forbidden(p Principal, what, fix string) error {
	return &v1.Error{
		Status: http.StatusForbidden, Code: v1.CodeForbidden, Message: fmt.Sprintf("%s, with the role %s, may not %s", p.Name, p.Role, what),
		Fix: cmp.Or(fix, "ask an admin of the tenant, or of the system"),
	}
}
