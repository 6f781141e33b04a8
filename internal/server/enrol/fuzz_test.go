// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/url"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/nodeid"
	"weft/internal/server/authority"
)

// FuzzRequest: a request for a certificate is refused with words, or what is signed for it is one node's and nothing else.
func FuzzRequest(f *testing.F) {
	a, err := authority.Load(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	id := nodeid.ID{Node: "host-1", Machine: "m1"}
	for _, r := range []*x509.CertificateRequest{
		{Subject: pkix.Name{CommonName: "host-1"}, URIs: []*url.URL{id.URI()}},
		{Subject: pkix.Name{CommonName: "host-1"}, URIs: []*url.URL{id.URI()}, ExtraExtensions: []pkix.Extension{{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 3, 1, 1, 0xff}}}},
		{Subject: pkix.Name{CommonName: "host-2"}, DNSNames: []string{"weft.example"}},
	} {
		der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := checkRequest(der, id)
		var said *v1.Error
		if err != nil {
			if !errors.As(err, &said) || said.Code != v1.CodeInvalid {
				t.Errorf("refused with %v", err)
			}
			return
		}
		c, err := a.Node(id, key, time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if whose, _, err := a.Whose(c, time.Now()); err != nil || whose != id || c.IsCA || len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth {
			t.Errorf("signed for %v: %v", whose, err)
		}
	})
}
