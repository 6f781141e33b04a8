// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"weft/internal/base/clock"
	"weft/internal/server/authority"
)

// credential is what the server proves itself with and what it asks of others. It lies in the state directory:
//
//	ca.pem ca.key     the authority, made at the first start; ca.pem is what clients and nodes are given
//	admin.token       opens the API
//	node.token        the first join token, good for a day from the first start
//
// The server's own certificate is in memory only.
type credential struct {
	server     *certificate
	authority  *authority.Authority
	adminToken string
	nodeToken  string
}

const serverLife = 365 * 24 * time.Hour

// loadCredentials reads the folder, or makes what is not there.
func loadCredentials(cfg Config) (*credential, error) {
	dir := cfg.StateDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	a, err := authority.Load(dir)
	if err != nil {
		return nil, err
	}
	c := &credential{authority: a, server: &certificate{
		authority: a, names: cfg.Names, life: cmp.Or(cfg.CertificateLife, serverLife), now: clock.Now, log: cfg.Log,
	}}
	if _, err := c.server.get(nil); err != nil {
		return nil, err
	}
	if c.adminToken, err = loadToken(filepath.Join(dir, "admin.token")); err != nil {
		return nil, err
	}
	c.nodeToken, err = loadToken(filepath.Join(dir, "node.token"))
	return c, err
}

// caHash is what a machine that joins compares the authority with.
func (c *credential) caHash() string {
	hash := sha256.Sum256(c.authority.Certificate().Raw)
	return "sha256:" + hex.EncodeToString(hash[:])
}

// streamAddress is where nodes reach the stream: without a host, where the server listens on all of its addresses.
func streamAddress(at net.Addr) string {
	if a, err := netip.ParseAddrPort(at.String()); err == nil && a.Addr().IsUnspecified() {
		return net.JoinHostPort("", strconv.Itoa(int(a.Port())))
	}
	return at.String()
}

// loadToken reads a token of 256 bits, or makes one.
func loadToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err == nil {
		token := strings.TrimSpace(string(data))
		if len(token) < 32 || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("%s holds no token: at least 32 letters, digits and signs of ASCII; remove it to have a new one made", file)
		}
		return token, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read token: %w", err)
	}
	raw := make([]byte, 32)
	rand.Read(raw)
	token := base64.RawURLEncoding.EncodeToString(raw)
	if err := authority.WriteFile(file, []byte(token+"\n")); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	return token, nil
}
