// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"weft/internal/base/nodeid"
	"weft/internal/southbound/pb"
)

// File is what is kept in the agent's state directory, for its owner only: the node's key, its certificate, and the authorities by
// which it believes a server, in that order, so that they change together or not at all.
const File = "identity.pem"

// Kinds of PEM blocks.
const (
	pemKey         = "EC PRIVATE KEY"
	pemCertificate = "CERTIFICATE"
)

// kept is what stands in the file.
type kept struct {
	pair        *tls.Certificate
	authorities [][]byte // DER
	roots       *x509.CertPool
}

// newKept checks what a server has given.
func newKept(id nodeid.ID, key *ecdsa.PrivateKey, got *pb.NodeCertificate) (*kept, error) {
	leaf, err := x509.ParseCertificate(got.GetCertificate())
	if err != nil {
		return nil, err
	}
	if got.GetLife() <= 0 {
		return nil, errors.New("it has no life")
	}
	return check(id, key, leaf, got.GetAuthorities())
}

// check puts together what belongs together.
func check(id nodeid.ID, key *ecdsa.PrivateKey, leaf *x509.Certificate, authorities [][]byte) (*kept, error) {
	if of, err := nodeid.Of(leaf); err != nil || of != id {
		return nil, fmt.Errorf("the certificate is %s's, and not %s's: %v", of, id, err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return nil, errors.New("the certificate is of another key")
	}
	k := &kept{pair: &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, authorities: authorities, roots: x509.NewCertPool()}
	for _, der := range authorities {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read an authority: %w", err)
		}
		if !c.IsCA {
			return nil, fmt.Errorf("%s is no authority", c.Subject)
		}
		k.roots.AddCert(c)
	}
	if len(authorities) == 0 {
		return nil, errors.New("there is no authority by which to believe the server")
	}
	return k, nil
}

// load reads the file; nil: there is none that is this node's on this machine.
func load(dir string, id nodeid.ID) (*kept, error) {
	path := filepath.Join(dir, File)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	first, rest := pem.Decode(data)
	if first == nil || first.Type != pemKey {
		return nil, fmt.Errorf("%s does not begin with a key", path)
	}
	key, err := x509.ParseECPrivateKey(first.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var certs [][]byte
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		certs = append(certs, b.Bytes)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	leaf, err := x509.ParseCertificate(certs[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k, err := check(id, key, leaf, certs[1:])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// save writes the file so that a crash leaves the one before or this one.
func (k *kept) save(dir string) error {
	key, err := x509.MarshalECPrivateKey(k.pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		return err
	}
	var out bytes.Buffer
	blocks := []*pem.Block{{Type: pemKey, Bytes: key}, {Type: pemCertificate, Bytes: k.pair.Leaf.Raw}}
	for _, der := range k.authorities {
		blocks = append(blocks, &pem.Block{Type: pemCertificate, Bytes: der})
	}
	for _, b := range blocks {
		if err := pem.Encode(&out, b); err != nil {
			return err
		}
	}
	path := filepath.Join(dir, File)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(out.Bytes())
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// unproven reports whether the server says that the certificate proves nothing to it.
func unproven(err error) bool { return status.Code(err) == codes.Unauthenticated }
