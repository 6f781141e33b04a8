// SPDX-License-Identifier: Apache-2.0

package nodeid

import (
	"crypto/x509"
	"net"
	"net/url"
	"strings"
	"testing"
)

func TestNameIsReadAsWritten(t *testing.T) {
	for _, id := range []ID{{"host-1", "m1"}, {"a", "5b0c3f8e-1f0e-4a3e-9a3b-0d6f5a1c2b3d"}, {"rack1.7", "A_b"}} {
		if got, err := Parse(id.URI()); err != nil || got != id {
			t.Errorf("%s is read as %v, %v", id, got, err)
		}
	}
}

// FuzzName: what is read as a name is written the same way again.
func FuzzName(f *testing.F) {
	for _, s := range []string{
		"spiffe://weft/node/host-1/machine/m1", "spiffe://weft/node/host-1/machine/", "spiffe://weft/node/../machine/m1", "spiffe://WEFT/node/a/machine/b",
		"spiffe://weft:1/node/a/machine/b", "spiffe://u@weft/node/a/machine/b", "spiffe://weft/node/a/machine/b?c", "spiffe://weft/node/a/machine/b#c",
		"spiffe://weft/node/a%2Fb/machine/c", "https://weft/node/a/machine/b", "spiffe://weft//node/a/machine/b", "spiffe://other/node/a/machine/b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.Parse(s)
		if err != nil {
			return
		}
		if id, err := Parse(u); err == nil && (id.String() != u.String() || id.Check() != nil) {
			t.Errorf("%q is read as %v", s, id)
		}
	})
}

func TestOneExactFormIsAName(t *testing.T) {
	for _, s := range []string{
		"spiffe://weft/node/host-1/machine/", "spiffe://weft/node/../machine/m1", "spiffe://WEFT/node/a/machine/b", "spiffe://weft:1/node/a/machine/b",
		"spiffe://u@weft/node/a/machine/b", "spiffe://weft/node/a/machine/b?c", "spiffe://weft/node/a/machine/b#c", "spiffe://weft/node/a%2Fb/machine/c",
		"https://weft/node/a/machine/b", "spiffe://weft//node/a/machine/b", "spiffe://weft/host/a/machine/b", "spiffe://weft/node/a/machine/" + strings.Repeat("b", 65),
	} {
		u, err := url.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := Parse(u); err == nil {
			t.Errorf("%s is read as %v", s, id)
		}
	}
}

func TestFurtherNamesAreRefused(t *testing.T) {
	id := ID{"host-1", "m1"}
	for name, c := range map[string]x509.Certificate{
		"none":  {},
		"two":   {URIs: []*url.URL{id.URI(), id.URI()}},
		"dns":   {URIs: []*url.URL{id.URI()}, DNSNames: []string{"localhost"}},
		"ip":    {URIs: []*url.URL{id.URI()}, IPAddresses: []net.IP{net.IPv6loopback}},
		"email": {URIs: []*url.URL{id.URI()}, EmailAddresses: []string{"a@b"}},
	} {
		if got, err := Of(&c); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
	}
	if got, err := Of(&x509.Certificate{URIs: []*url.URL{id.URI()}}); err != nil || got != id {
		t.Errorf("read as %v, %v", got, err)
	}
}
