// SPDX-License-Identifier: Apache-2.0

// Package enrol is the node's side of its identity: a key that never leaves the node, and a certificate for it that is asked for with
// a join token once and renewed with itself from then on.
package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"weft/internal/base/clock"
	"weft/internal/base/nodeid"
	"weft/internal/southbound"
	"weft/internal/southbound/pb"
)

// Config is what an Identity needs.
type Config struct {
	ID        nodeid.ID
	Server    string // host:port of the nodes' stream
	CAFile    string // PEM of the server's authority, as the machine was given it
	TokenFile string // join token; it need not be there once there is a certificate
	Dir       string // holds what is kept
	Log       *slog.Logger

	// Removed is told that the machine was removed, where the server says so instead of enrolling it.
	Removed func(reason error)
}

// Identity is what a node proves itself with.
//
//	            token                 two thirds of the life
//	nothing ------------> certificate -----------------------> a new key, a new certificate
//	   ^                      |  ^                                      |
//	   |   grace over         |  `--------------------------------------'
//	   `----------------------'
//
// A certificate that has ended stays: the server may renew it for a while. All the while packets pass: the packet path knows nothing
// of certificates.
type Identity struct {
	cfg   Config
	kick  chan struct{} // room for one: the server did not take the certificate
	ready chan struct{} // closed once there is a certificate

	mu      sync.Mutex // guards below
	pair    *tls.Certificate
	roots   *x509.CertPool
	asking  *request // until it is answered: a token for one machine serves this key once more, where the answer was lost
	trouble string   // why there is none, or no new one, as the server said
}

// New reads what is kept. A certificate of another node or machine is none.
func New(cfg Config) (*Identity, error) {
	i := &Identity{cfg: cfg, kick: make(chan struct{}, 1), ready: make(chan struct{})}
	if err := cfg.ID.Check(); err != nil {
		return nil, err
	}
	k, err := load(cfg.Dir, cfg.ID)
	if err != nil {
		cfg.Log.Error("the node's certificate cannot be used: it needs a join token", "err", err)
	}
	if k != nil {
		i.pair, i.roots = k.pair, k.roots
		close(i.ready)
		return i, nil
	}
	data, rerr := os.ReadFile(cfg.CAFile)
	if rerr != nil {
		return nil, fmt.Errorf("read the server's authority (--ca): %w", rerr)
	}
	if i.roots = x509.NewCertPool(); !i.roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", cfg.CAFile)
	}
	if _, terr := i.token(); terr != nil && err == nil { // where a certificate was, and is damaged, the agent starts all the same, and says so
		return nil, terr
	}
	return i, nil
}

// Ready is closed once there is a certificate, whether the server still takes it or not.
func (i *Identity) Ready() <-chan struct{} { return i.ready }

// Dial is how to reach the server as this node, by what is believed and shown now.
func (i *Identity) Dial() []grpc.DialOption {
	i.mu.Lock()
	defer i.mu.Unlock()
	c := &tls.Config{RootCAs: i.roots, Time: clock.Now, MinVersion: tls.VersionTLS13}
	if i.pair != nil {
		c.Certificates = []tls.Certificate{*i.pair}
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(c))}
}

// State returns when the certificate ends (zero: there is none), and what the server has against giving out a new one.
func (i *Identity) State() (ends time.Time, trouble string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.pair != nil {
		ends = i.pair.Leaf.NotAfter
	}
	return ends, i.trouble
}

// Unproven tells that the server did not take the certificate: it is renewed at once, or asked for anew.
func (i *Identity) Unproven(error) {
	select {
	case i.kick <- struct{}{}:
	default:
	}
}

// Bounds of a try and of the time between tries. Where lives are short, as in tests, both shrink with the life.
const (
	tryWithin  = 10 * time.Second
	waitLeast  = 500 * time.Millisecond
	waitMost   = 5 * time.Minute
	apartMost  = 10 * time.Second // between tries while the server does not take the certificate
	lifeUsual  = 24 * time.Hour   // until the server has told
	triesShare = 20               // the longest wait is this part of a life
)

// Run gets a certificate, and renews it after two thirds of its life, until ctx ends. It renews at its start, too: how long a
// certificate from disk is still good is not for this machine's clock to say.
func (i *Identity) Run(ctx context.Context) {
	life, wait, last := lifeUsual, time.Duration(0), time.Time{}
	retry, apart := waitLeast, waitLeast
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		case <-i.kick:
			pause := time.NewTimer(max(0, apart-time.Since(last)))
			select {
			case <-ctx.Done():
			case <-pause.C:
			}
			pause.Stop()
		}
		last = time.Now()
		got, err := i.obtain(ctx)
		if ctx.Err() != nil {
			return
		}
		i.note(err)
		if err == nil {
			life, retry, apart = got, waitLeast, waitLeast
			wait = life*2/3 - mathrand.N(life/20+1) // not all nodes at once
			continue
		}
		if southbound.IsRemoved(err) && i.none() {
			i.cfg.Removed(err)
			return
		}
		wait, apart = retry, min(retry, apartMost)
		retry = min(2*retry, max(waitLeast, min(waitMost, life/triesShare)))
		ends, refused := i.State()
		log := i.cfg.Log.Warn
		if late := !ends.IsZero() && ends.Sub(clock.Now()) < life/6; late || refused != "" { // half of the time for tries is over
			log = i.cfg.Log.Error
		}
		log("get the node's certificate", "ends", ends, "err", err, "retry", wait)
	}
}

func (i *Identity) none() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.pair == nil
}

// note keeps what the server has against this node; that it does not answer is not that.
func (i *Identity) note(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var said *southbound.RefusedError
	switch {
	case err == nil:
		i.trouble = ""
	case errors.As(err, &said), unproven(err):
		i.trouble = err.Error()
	}
}

// obtain renews the certificate, or enrols where there is none that the server renews, and returns the new one's life.
func (i *Identity) obtain(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, tryWithin)
	defer cancel()
	ask, err := i.request()
	if err != nil {
		return 0, err
	}
	conn, err := grpc.NewClient(i.cfg.Server, i.Dial()...)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	api := pb.NewEnrolmentClient(conn)
	var got *pb.NodeCertificate
	if !i.none() {
		got, err = api.Renew(ctx, &pb.RenewRequest{Request: ask.der})
		err = southbound.FromStatus(err)
	}
	if i.none() || unproven(err) {
		token, terr := i.token()
		if terr != nil {
			return 0, errors.Join(err, terr)
		}
		renewal := err
		got, err = api.Enrol(ctx, &pb.EnrolRequest{Token: token, Node: i.cfg.ID.Node, Machine: i.cfg.ID.Machine, Request: ask.der})
		if err = southbound.FromStatus(err); err != nil && renewal != nil {
			err = fmt.Errorf("%w (%w)", err, renewal)
		}
	}
	if err != nil {
		return 0, err
	}
	return i.take(ask.key, got)
}

// request is a key, and the request for its certificate.
type request struct {
	key *ecdsa.PrivateKey
	der []byte
}

// request returns what is to be asked for: with a new key, unless the one before was not answered.
func (i *Identity) request() (*request, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.asking != nil {
		return i.asking, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the node's key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: i.cfg.ID.Node}, URIs: []*url.URL{i.cfg.ID.URI()},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("ask for the node's certificate: %w", err)
	}
	i.asking = &request{key, der}
	return i.asking, nil
}

// take uses what the server has given for connections from now on, and keeps it. What cannot be kept, as on a full disk, is used all the
// same: the error is for another try.
func (i *Identity) take(key *ecdsa.PrivateKey, got *pb.NodeCertificate) (time.Duration, error) {
	k, err := newKept(i.cfg.ID, key, got)
	if err != nil {
		return 0, fmt.Errorf("the server's answer is no certificate of this node: %w", err)
	}
	err = k.save(i.cfg.Dir)
	i.mu.Lock()
	first := i.pair == nil
	i.pair, i.roots, i.asking = k.pair, k.roots, nil
	i.mu.Unlock()
	if first {
		close(i.ready)
		i.cfg.Log.Info("the node is enrolled", "host", i.cfg.ID.Node, "until", k.pair.Leaf.NotAfter)
	} else {
		i.cfg.Log.Debug("the node's certificate is renewed", "until", k.pair.Leaf.NotAfter)
	}
	if err != nil {
		return 0, fmt.Errorf("keep the node's certificate, which is used until the agent ends: %w", err)
	}
	return time.Duration(got.GetLife()), nil
}

// token reads the join token.
func (i *Identity) token() (string, error) {
	data, err := os.ReadFile(i.cfg.TokenFile)
	if err != nil {
		return "", fmt.Errorf("the node has no certificate that the server takes, and there is no join token (--token-file): %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
