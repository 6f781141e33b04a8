// SPDX-License-Identifier: Apache-2.0

// Package authority signs the certificates of the server and of nodes, and says of a certificate whose it is.
package authority

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"weft/internal/base/clock"
	"weft/internal/base/nodeid"
)

// Lives of certificates.
const (
	life = 10 * 365 * 24 * time.Hour
	skew = 24 * time.Hour // an authority is valid from before it was made: clocks differ
)

// ErrEnded says that a certificate is of this authority, and its time is over.
var ErrEnded = errors.New("the certificate has ended")

// Authority is a key that signs and the certificates that are believed: its own, which is the first of ca.pem, and those that stand
// below it, of an authority that goes or comes (docs/operate/nodes.md).
//
//	<state directory>/ca.key    the key
//	<state directory>/ca.pem    what clients and nodes are given
type Authority struct {
	own  *x509.Certificate
	key  *ecdsa.PrivateKey
	all  []*x509.Certificate // own first
	pool *x509.CertPool      // of all
}

// Load reads the authority of a state directory, or makes it.
func Load(dir string) (*Authority, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	a, err := read(certFile, keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(certFile, keyFile); err != nil {
			return nil, fmt.Errorf("make authority: %w", err)
		}
		a, err = read(certFile, keyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	return a, nil
}

func read(certFile, keyFile string) (*Authority, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no ECDSA key", keyFile)
	}
	a := &Authority{own: pair.Leaf, key: key, pool: x509.NewCertPool()}
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", certFile, err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("the certificate of %q in %s is no authority's; clients would trust none that it signs", c.Subject.CommonName, certFile)
		}
		a.all = append(a.all, c)
		a.pool.AddCert(c)
	}
	return a, nil
}

// create writes the key first: the certificate is what others wait for.
func create(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "weft authority"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	t.NotBefore, t.NotAfter = clock.Now().Add(-skew), clock.Now().Add(life)
	der, err := sign(t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})); err != nil {
		return err
	}
	return WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// Certificate is the authority's own.
func (a *Authority) Certificate() *x509.Certificate { return a.own }

// Believed are the certificates, in DER, by which a node is to believe a server.
func (a *Authority) Believed() [][]byte {
	var out [][]byte
	for _, c := range a.all {
		out = append(out, c.Raw)
	}
	return out
}

// Server makes a server's certificate for host names and addresses, and for loopback. It is valid from when the authority is, not
// from now: if this machine's clock is ahead of others, they must not find it too early.
func (a *Authority) Server(names []string, now time.Time, life time.Duration) (*tls.Certificate, error) {
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
	t.NotBefore, t.NotAfter = a.own.NotBefore, now.Add(life)
	der, err := sign(t, a.own, &key.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.own.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Node signs a node's certificate for its key. Whoever checks it is a server, so it is valid from when the authority is.
func (a *Authority) Node(id nodeid.ID, key *ecdsa.PublicKey, now time.Time, life time.Duration) (*x509.Certificate, error) {
	if err := id.Check(); err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: id.Node}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	t.URIs = append(t.URIs, id.URI())
	t.NotBefore, t.NotAfter = a.own.NotBefore, now.Add(life)
	der, err := sign(t, a.own, key, a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// NodePair makes a node's key and certificate at once. Nodes make their keys themselves: this is for tests.
func (a *Authority) NodePair(id nodeid.ID, life time.Duration) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf, err := a.Node(id, &key.PublicKey, clock.Now(), life)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Whose returns the node that a certificate is of. With ErrEnded the node is right, and the certificate ended that long ago. None is
// too early: what it was signed by was there before it, whatever this machine's clock says now.
func (a *Authority) Whose(c *x509.Certificate, now time.Time) (id nodeid.ID, ended time.Duration, err error) {
	at := now
	switch {
	case now.After(c.NotAfter):
		at = c.NotAfter
	case now.Before(c.NotBefore):
		at = c.NotBefore
	}
	if _, err := c.Verify(x509.VerifyOptions{Roots: a.pool, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return nodeid.ID{}, 0, err
	}
	if c.IsCA {
		return nodeid.ID{}, 0, errors.New("the certificate is an authority's")
	}
	if id, err = nodeid.Of(c); err != nil {
		return nodeid.ID{}, 0, err
	}
	if now.After(c.NotAfter) {
		return id, now.Sub(c.NotAfter), ErrEnded
	}
	return id, 0, nil
}

func sign(t, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, t, parent, pub, key)
}

// WriteFile writes a secret so that a reader sees all of it or none.
func WriteFile(file string, data []byte) error {
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
