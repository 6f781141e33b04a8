// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/internal/store"
)

// Token is what the store keeps of a token: never the secret. What its owner has is "weft_<id>_<secret>".
type Token struct {
	ID           string    `json:"id"`
	Role         Role      `json:"role"`
	Tenant       string    `json:"tenant,omitempty"`
	TenantNumber uint32    `json:"tenantNumber,omitempty"` // numbers are never given again: a later tenant of the name is another
	Description  string    `json:"description,omitempty"`
	Created      time.Time `json:"created"`
	CreatedBy    string    `json:"createdBy"`
	Expires      time.Time `json:"expires,omitzero"` // zero: never
	Hash         []byte    `json:"hash"`             // SHA-256 of the secret
}

// Form of a token.
const (
	tokenPrefix = "weft_"
	idBytes     = 5  // 8 letters
	secretBytes = 32 // nobody guesses that, so a plain hash is enough
	folder      = "tokens"
)

var idEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

func recordName(id string) string { return folder + "/" + id }

// newToken makes a token and its secret.
func newToken(t Token) (Token, string) {
	id, secret := make([]byte, idBytes), make([]byte, secretBytes)
	rand.Read(id)
	rand.Read(secret)
	t.ID = idEncoding.EncodeToString(id)
	text := base64.RawURLEncoding.EncodeToString(secret)
	hash := sha256.Sum256([]byte(text))
	t.Hash = hash[:]
	return t, tokenPrefix + t.ID + "_" + text
}

// split reads the two parts of a token.
func split(text string) (id, secret string, ok bool) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_") // the secret may have further ones
	ok = ok && len(id) == idEncoding.EncodedLen(idBytes) && !strings.ContainsAny(id, "/.")
	return id, secret, ok
}

// find looks a token up and compares its secret.
func find(view *store.View, text string) (*Token, bool) {
	id, secret, ok := split(text)
	if !ok {
		return nil, false
	}
	t, err := decodeToken(view.Record(recordName(id)))
	if err != nil {
		return nil, false
	}
	hash := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(hash[:], t.Hash) != 1 {
		return nil, false
	}
	return t, true
}

func decodeToken(data []byte) (*Token, error) {
	if len(data) == 0 {
		return nil, ErrUnknown
	}
	var t Token
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("read token: %w", err)
	}
	if t.Role != Admin && !t.Role.OfTenant() || t.Role.OfTenant() == (t.Tenant == "") {
		return nil, fmt.Errorf("read token %s: role %q does not go with tenant %q", t.ID, t.Role, t.Tenant)
	}
	return &t, nil
}

// stands reports whether a token is good: it has not expired, and its tenant is the one it was made for.
func (t *Token) stands(view *store.View, now time.Time) error {
	if !t.Expires.IsZero() && !now.Before(t.Expires) {
		return ErrExpired
	}
	if t.Role.OfTenant() {
		o, ok := view.Get(v1.KindTenant, "", t.Tenant)
		if !ok || o.(*v1.Tenant).Status.Number != t.TenantNumber {
			return ErrUnknown
		}
	}
	return nil
}

func (t *Token) principal() Principal {
	return Principal{Name: "token:" + t.ID, Role: t.Role, Tenant: t.Tenant, Expires: t.Expires, token: t}
}
