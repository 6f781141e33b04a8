// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/clock"
	"weft/internal/base/nodeid"
	"weft/internal/store"
)

// Bounds of join tokens.
const (
	forUsual  = time.Hour
	forMost   = 30 * 24 * time.Hour
	usesMost  = 1000
	kept      = 7 * 24 * time.Hour // a token is listed for so long after its end
	keptMost  = 1000               // tokens there can be at once
	firstGood = 24 * time.Hour     // the token that a server makes at its first start
)

// Tokens are the join tokens. A token is 256 bits of chance; the store has its hash, so that who reads the store can join
// nothing.
type Tokens struct {
	store  *store.Store
	server string // host:port of the nodes' stream, for those who are given a token
	caHash string
}

// token is what is stored of one, below its name.
type token struct {
	Hash    string     `json:"hash"` // SHA-256, hex; the name is its beginning
	Made    time.Time  `json:"made"`
	Ends    time.Time  `json:"ends"`
	Revoked time.Time  `json:"revoked,omitzero"`
	Node    string     `json:"node,omitempty"` // the only one that it is for
	Uses    int        `json:"uses,omitempty"` // 0: any number
	Used    int        `json:"used,omitempty"`
	By      []enrolled `json:"by,omitempty"` // of tokens with a number of uses
}

// enrolled is a machine that used a token. If it asks again, as where the answer was lost, that is no further use.
type enrolled struct {
	Node, Machine string
	Key           string // SHA-256 of the public key, hex
}

// Places in the store. Whoever decides by a token writes in the scope.
const (
	folder       = "join"
	tokenScope   = "join"
	firstCounter = "join/first" // above 0 once the first token was made: one that was revoked must not come back with a restart
	nameLength   = 12
)

// NewTokens returns the join tokens that the store holds.
func NewTokens(st *store.Store, server, caHash string) *Tokens {
	return &Tokens{store: st, server: server, caHash: caHash}
}

func hashOf(secret string) (hash, name string) {
	sum := sha256.Sum256([]byte(secret))
	hash = hex.EncodeToString(sum[:])
	return hash, hash[:nameLength]
}

// First makes the token in the server's state directory good, when there never was one before.
func (t *Tokens) First(ctx context.Context, secret string) error {
	hash, name := hashOf(secret)
	if t.store.View().Counter(firstCounter) > 0 {
		return nil
	}
	_, err := t.store.Update(ctx, []string{tokenScope}, func(tx *store.Tx) error {
		if tx.Counter(firstCounter) > 0 {
			return nil
		}
		if _, err := tx.Next(firstCounter, 1, 1); err != nil {
			return err
		}
		now := clock.Now().UTC().Truncate(time.Second)
		return put(tx, name, &token{Hash: hash, Made: now, Ends: now.Add(firstGood)})
	})
	if err != nil {
		return fmt.Errorf("make the first join token: %w", err)
	}
	return nil
}

// Make makes a token.
func (t *Tokens) Make(ctx context.Context, r v1.JoinRequest) (*v1.Join, error) {
	good, err := check(r)
	if err != nil {
		return nil, err
	}
	var raw [32]byte
	rand.Read(raw[:])
	secret := base64.RawURLEncoding.EncodeToString(raw[:])
	hash, name := hashOf(secret)
	now := clock.Now().UTC().Truncate(time.Second)
	made := &token{Hash: hash, Made: now, Ends: now.Add(good), Node: r.Node, Uses: r.Uses}
	_, err = t.store.Update(ctx, []string{tokenScope}, func(tx *store.Tx) error {
		if n := prune(tx, t.store.View(), now); n >= keptMost {
			return &v1.Error{
				Status: http.StatusConflict, Code: v1.CodeQuota, Message: fmt.Sprintf("there are %d join tokens, and can be no more", n),
				Fix: "revoke those that are not needed: weft node token list; weft node token revoke ID",
			}
		}
		return put(tx, name, made)
	})
	if err != nil {
		return nil, err
	}
	return &v1.Join{Server: t.server, Token: secret, CAHash: t.caHash, ID: name, Ends: made.Ends}, nil
}

// check returns how long a token is to be good.
func check(r v1.JoinRequest) (time.Duration, error) {
	wrong := func(field, fix, format string, args ...any) error {
		return &v1.Error{Status: http.StatusUnprocessableEntity, Code: v1.CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...), Fix: fix}
	}
	good := forUsual
	if r.For != "" {
		var err error
		if good, err = time.ParseDuration(r.For); err != nil || good < time.Second || good > forMost {
			return 0, wrong("for", "write it like 90s, 30m or 24h", "%q is no time from 1s to %s", r.For, forMost)
		}
	}
	if r.Uses < 0 || r.Uses > usesMost {
		return 0, wrong("uses", "leave it out for any number", "%d is not 1 to %d", r.Uses, usesMost)
	}
	if r.Node != "" {
		if err := (nodeid.ID{Node: r.Node, Machine: "any"}).Check(); err != nil {
			return 0, wrong("node", "name it as 'weft get nodes' does", "%v", err)
		}
	}
	return good, nil
}

// prune forgets tokens that ended long ago, and returns how many there are then.
func prune(tx *store.Tx, view *store.View, now time.Time) int {
	n := 0
	for name, data := range view.Records(folder) {
		if k := read(data); k == nil || now.Sub(k.Ends) > kept {
			tx.DeleteRecord(folder + "/" + name)
			continue
		}
		n++
	}
	return n
}

// List returns all tokens, the newest first.
func (t *Tokens) List() []v1.JoinToken {
	out := []v1.JoinToken{}
	now := clock.Now()
	for name, data := range t.store.View().Records(folder) {
		if k := read(data); k != nil {
			out = append(out, v1.JoinToken{ID: name, State: k.state(now), Node: k.Node, Uses: k.Uses, Used: k.Used, Made: k.Made, Ends: k.Ends})
		}
	}
	slices.SortFunc(out, func(a, b v1.JoinToken) int {
		if c := b.Made.Compare(a.Made); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}

// Revoke ends a token; one that was revoked already is fine. Nodes that were enrolled by it stay.
func (t *Tokens) Revoke(ctx context.Context, id string) error {
	_, err := t.store.Update(ctx, []string{tokenScope}, func(tx *store.Tx) error {
		k := read(tx.Record(folder + "/" + id))
		if k == nil {
			return &v1.Error{
				Status: http.StatusNotFound, Code: v1.CodeNotFound, Object: "join token " + id, Message: "there is no such token",
				Fix: "'weft node token list' shows those that there are",
			}
		}
		if !k.Revoked.IsZero() {
			return nil
		}
		k.Revoked = clock.Now().UTC().Truncate(time.Second)
		return put(tx, id, k)
	})
	return err
}

// find returns a token.
func find(records interface{ Record(name string) []byte }, secret string) (k *token, name string, err error) {
	hash, name := hashOf(secret)
	k = read(records.Record(folder + "/" + name))
	if k == nil || subtle.ConstantTimeCompare([]byte(k.Hash), []byte(hash)) != 1 {
		return nil, "", unauthorized("the join token is not known here")
	}
	return k, name, nil
}

// known refuses a token that there is not.
func known(view *store.View, secret string) error {
	_, _, err := find(view, secret)
	return err
}

// use counts a use of a token by a machine, or says why it may not use it.
func use(tx *store.Tx, secret string, by enrolled, now time.Time) (*token, error) {
	k, name, err := find(tx, secret)
	if err != nil {
		return nil, err
	}
	switch state := k.state(now); {
	case state == stateRevoked:
		return nil, unauthorized("the join token was revoked")
	case state == stateEnded:
		return nil, unauthorized("the join token ended at %s", k.Ends.UTC().Format(time.RFC3339))
	case k.Node != "" && k.Node != by.Node:
		return nil, &v1.Error{
			Status: http.StatusForbidden, Code: v1.CodeForbidden, Object: "node/" + by.Node, Message: "the join token is for node " + k.Node + " only",
			Fix: "make one for this node: weft node token --node " + by.Node,
		}
	case slices.Contains(k.By, by):
		return k, nil
	case state == stateUsedUp:
		return nil, unauthorized("the join token was used %d times, which is all", k.Used)
	}
	k.Used++
	if k.Uses > 0 {
		k.By = append(k.By, by)
	}
	return k, put(tx, name, k)
}

func unauthorized(format string, args ...any) error {
	return &v1.Error{
		Status: http.StatusUnauthorized, Code: v1.CodeUnauthorized, Message: fmt.Sprintf(format, args...),
		Fix: "make another one, where the system is administered: weft node token",
	}
}

// What a token can be.
const (
	stateGood    = "Good"
	stateEnded   = "Ended"
	stateUsedUp  = "UsedUp"
	stateRevoked = "Revoked"
)

func (k *token) state(now time.Time) string {
	switch {
	case !k.Revoked.IsZero():
		return stateRevoked
	case !now.Before(k.Ends):
		return stateEnded
	case k.Uses > 0 && k.Used >= k.Uses:
		return stateUsedUp
	}
	return stateGood
}

// read returns what is stored; nil: nothing that is a token.
func read(data []byte) *token {
	var k token
	if data == nil || json.Unmarshal(data, &k) != nil || len(k.Hash) < nameLength {
		return nil
	}
	return &k
}

func put(tx *store.Tx, name string, k *token) error {
	data, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("write join token: %w", err)
	}
	tx.PutRecord(folder+"/"+name, data)
	return nil
}
