// SPDX-License-Identifier: Apache-2.0

// Package nodeid is the name that a node's certificate bears: one node, on one machine, written as a URI in the form of SPIFFE.
package nodeid

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ID is a node and the machine that is it.
//
//	spiffe://weft/node/host-1/machine/5b0c3f8e-…
type ID struct {
	Node    string
	Machine string // identity that the machine's agent made for it
}

// Parts of the URI.
const (
	scheme   = "spiffe"
	domain   = "weft"
	partMost = 64 // bytes of a node's name, and of a machine's identity
)

// Check refuses what no certificate may bear.
func (id ID) Check() error {
	for _, p := range []struct{ what, text string }{{"name of the node", id.Node}, {"identity of the machine", id.Machine}} {
		if !plain(p.text) {
			return fmt.Errorf("the %s %q is not 1 to %d letters, digits, dots, dashes and underscores", p.what, p.text, partMost)
		}
	}
	return nil
}

// plain reports whether text can stand in a URI's path as it is.
func plain(text string) bool {
	return text != "" && len(text) <= partMost && text != "." && text != ".." && !strings.ContainsFunc(text, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}

// URI is the name in a certificate.
func (id ID) URI() *url.URL {
	return &url.URL{Scheme: scheme, Host: domain, Path: "/node/" + id.Node + "/machine/" + id.Machine}
}

// String is the URI.
func (id ID) String() string { return id.URI().String() }

// Parse reads a URI; only the exact form of URI is one.
func Parse(u *url.URL) (ID, error) {
	parts := strings.Split(u.Path, "/")
	if len(parts) != 5 {
		return ID{}, fmt.Errorf("%s names no node", u)
	}
	id := ID{Node: parts[2], Machine: parts[4]}
	if err := id.Check(); err != nil {
		return ID{}, err
	}
	if u.String() != id.String() {
		return ID{}, fmt.Errorf("%s names no node", u)
	}
	return id, nil
}

// errNames is the refusal of names beside the one.
var errNames = errors.New("a node has one name, and it is a URI")

// Of reads the name of a certificate that bears no other.
func Of(c *x509.Certificate) (ID, error) {
	return one(c.URIs, len(c.DNSNames)+len(c.EmailAddresses)+len(c.IPAddresses))
}

// OfRequest reads the name that a request for a certificate asks for.
func OfRequest(r *x509.CertificateRequest) (ID, error) {
	return one(r.URIs, len(r.DNSNames)+len(r.EmailAddresses)+len(r.IPAddresses))
}

func one(uris []*url.URL, others int) (ID, error) {
	if len(uris) != 1 || others > 0 {
		return ID{}, errNames
	}
	return Parse(uris[0])
}
