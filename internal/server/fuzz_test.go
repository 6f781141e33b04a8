// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// makeLeaf puts a certificate that may sign no other in the place of an authority's.
func makeLeaf(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "no authority"}, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature}
	t.NotAfter = time.Now().Add(time.Hour)
	t.SerialNumber = big.NewInt(1)
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(err, write("ca.key", "EC PRIVATE KEY", secret), write("ca.pem", "CERTIFICATE", der))
}

// FuzzCredentials: what somebody put into the state directory in place of the server's own secrets is refused, or makes a
// server whose clients can trust it, with tokens that a request can carry.
func FuzzCredentials(f *testing.F) {
	dir := f.TempDir()
	if _, err := loadCredentials(Config{StateDir: dir, Names: []string{"weft.example"}}); err != nil {
		f.Fatal(err)
	}
	read := func(dir, name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	ca, key, token := read(dir, "ca.pem"), read(dir, "ca.key"), read(dir, "admin.token")
	leaf := f.TempDir() // a certificate with a key, but no authority's
	if err := makeLeaf(leaf); err != nil {
		f.Fatal(err)
	}
	f.Add(read(leaf, "ca.pem"), read(leaf, "ca.key"), token)
	f.Add(ca, key, token)
	f.Add(ca, ca, token)
	f.Add(ca[:len(ca)/2], key, []byte("short"))
	f.Add(ca, key, []byte("thirty-two characters are enough,\nbut not in two lines"))
	at := f.TempDir()
	f.Fuzz(func(t *testing.T, ca, key, token []byte) {
		for name, data := range map[string][]byte{"ca.pem": ca, "ca.key": key, "admin.token": token, "node.token": token} {
			if err := os.WriteFile(filepath.Join(at, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, err := loadCredentials(Config{StateDir: at, Names: []string{"weft.example", "2001:db8::1"}})
		if err != nil {
			return
		}
		for _, token := range []string{c.adminToken, c.nodeToken} {
			if len(token) < 32 {
				t.Errorf("token %q is short", token)
			}
			for _, b := range []byte(token) {
				if b <= ' ' || b > '~' {
					t.Fatalf("no request can carry token %q", token)
				}
			}
		}
		shown, err := c.server.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf := shown.Leaf
		if own, ok := shown.PrivateKey.(*ecdsa.PrivateKey); !ok || !own.PublicKey.Equal(leaf.PublicKey) {
			t.Error("the certificate is of another key")
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(ca) {
			t.Fatal("clients cannot read ca.pem")
		}
		for _, name := range []string{"weft.example", "2001:db8::1", "127.0.0.1", "localhost"} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
				t.Errorf("clients do not trust it as %s: %v", name, err)
			}
		}
	})
}
