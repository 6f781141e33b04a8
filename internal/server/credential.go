// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/clock"
)

// credential is what the server proves itself with and what it asks of others. It lies in the state directory:
//
//	ca.pem ca.key     the authority, made at the first start; ca.pem is what clients and nodes are given
//	admin.token       opens the API
//	node.token        opens the nodes' stream
//
// The server's own certificate is in memory only.
type credential struct {
	server     *certificate
	authority  []byte // its certificate, DER
	adminToken string
	nodeToken  string
}

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 365 * 24 * time.Hour
	clockSkew     = 24 * time.Hour // the authority is valid from before it was made: clocks differ
)

// loadCredentials reads the folder, or makes what is not there.
func loadCredentials(cfg Config) (*credential, error) {
	dir := cfg.StateDir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	ca, key, err := loadAuthority(dir)
	if err != nil {
		return nil, err
	}
	c := &credential{authority: ca.Raw, server: &certificate{
		ca: ca, key: key, names: cfg.Names, life: cmp.Or(cfg.CertificateLife, serverLife), now: clock.Now, log: cfg.Log,
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

// join is what a machine needs to become a node of the server whose stream listens at an address.
func (c *credential) join(at net.Addr) v1.Join {
	hash := sha256.Sum256(c.authority)
	j := v1.Join{Server: at.String(), Token: c.nodeToken, CAHash: "sha256:" + hex.EncodeToString(hash[:])}
	if a, err := netip.ParseAddrPort(j.Server); err == nil && a.Addr().IsUnspecified() {
		j.Server = net.JoinHostPort("", strconv.Itoa(int(a.Port())))
	}
	return j
}

// loadAuthority reads ca.pem and ca.key, or makes both.
func loadAuthority(dir string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAuthority(certFile, keyFile); err != nil {
			return nil, nil, fmt.Errorf("make authority: %w", err)
		}
		pair, err = tls.LoadX509KeyPair(certFile, keyFile)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read authority: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("read authority: %s holds no ECDSA key", keyFile)
	}
	if !pair.Leaf.IsCA {
		return nil, nil, fmt.Errorf("read authority: the certificate in %s is no authority's; clients would trust none that it signs", certFile)
	}
	return pair.Leaf, key, nil
}

// makeAuthority writes the key first: the certificate is what others wait for.
func makeAuthority(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "weft authority"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	t.NotBefore, t.NotAfter = clock.Now().Add(-clockSkew), clock.Now().Add(authorityLife)
	der, err := sign(t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := writePEM(keyFile, "EC PRIVATE KEY", keyDER); err != nil {
		return err
	}
	return writePEM(certFile, "CERTIFICATE", der)
}

// issue makes the server's certificate for the given host names and addresses, and for loopback. It is valid from when the
// authority is, not from now: if this machine's clock is ahead of others, they must not find it too early.
func issue(ca *x509.Certificate, caKey *ecdsa.PrivateKey, names []string, now time.Time, life time.Duration) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "weft server"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if n != "" {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	t.NotBefore, t.NotAfter = ca.NotBefore, now.Add(life)
	der, err := sign(t, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

func sign(t, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, t, parent, pub, key)
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
	if err := writeFile(file, []byte(token+"\n")); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	return token, nil
}

func writePEM(file, kind string, der []byte) error {
	return writeFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// writeFile writes a secret so that a reader sees all of it or none.
func writeFile(file string, data []byte) error {
	tmp := file + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}
