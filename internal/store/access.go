// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Access is how an external etcd is reached: with certificates on both sides, because whoever reaches it can change everything.
type Access struct {
	CAFile   string // PEM: by whom etcd's certificate is signed
	CertFile string // PEM: what the server shows
	KeyFile  string
	Plain    bool // unencrypted to other machines, too
}

// Check refuses addresses that are not reached safely.
func (a Access) Check(endpoints []string) error {
	https := false
	for i, e := range endpoints {
		u, err := url.Parse(e)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("--etcd-endpoints: %q is not the URL of an etcd, for example https://192.0.2.21:2379", e)
		}
		if i > 0 && https != (u.Scheme == "https") {
			return errors.New("--etcd-endpoints: use https for all of them, or for none")
		}
		https = u.Scheme == "https"
		if !https && !a.Plain && !loopback(u.Hostname()) {
			return fmt.Errorf("--etcd-endpoints: %s is another machine, and not encrypted: whoever is on the way could read and change everything; use https with --etcd-ca, "+
				"--etcd-cert and --etcd-key, or say --etcd-plaintext", e)
		}
	}
	files := map[string]string{"--etcd-ca": a.CAFile, "--etcd-cert": a.CertFile, "--etcd-key": a.KeyFile}
	for _, flag := range []string{"--etcd-ca", "--etcd-cert", "--etcd-key"} {
		switch {
		case https && files[flag] == "":
			return fmt.Errorf("%s is required for an etcd at https://", flag)
		case !https && files[flag] != "":
			return fmt.Errorf("%s is for an etcd at https://, and --etcd-endpoints names none", flag)
		}
	}
	return nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// TLS returns what connections to etcd need; nil: they are not encrypted. The server's certificate is read for each connection, so
// that it can be replaced without a restart.
func (a Access) TLS() (*tls.Config, error) {
	if a.CAFile == "" {
		return nil, nil
	}
	data, err := os.ReadFile(a.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the authority of etcd (--etcd-ca): %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("--etcd-ca: %s holds no certificate in PEM form", a.CAFile)
	}
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate for etcd (--etcd-cert, --etcd-key): %w", err)
		}
		return &pair, nil
	}
	if _, err := show(nil); err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, GetClientCertificate: show, MinVersion: tls.VersionTLS12}, nil
}

// strangerWithin bounds the look at whether etcd answers anybody.
const strangerWithin = 3 * time.Second

// lookForStrangers warns where an etcd answers without a certificate: then it is not the server alone that can write to it.
func lookForStrangers(ctx context.Context, endpoints []string, own *tls.Config, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, strangerWithin)
	defer cancel()
	without := own.Clone()
	without.GetClientCertificate = nil
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: without, Logger: zap.NewNop(), Context: ctx})
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := c.Get(ctx, prefix, clientv3.WithCountOnly()); err == nil {
		log.Warn("etcd answers clients without a certificate: whoever reaches it can change everything; start it with --client-cert-auth", "endpoints", endpoints)
	}
}

// private makes a folder that nobody else can open, also where it was there before with other rights.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}
