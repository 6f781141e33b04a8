// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"weft/internal/base/nodeid"
	"weft/internal/southbound"
	"weft/internal/southbound/pb"
)

var host1 = nodeid.ID{Node: "host-1", Machine: "m1"}

// office is a server's side: it signs, and can be told to do otherwise.
type office struct {
	pb.UnimplementedEnrolmentServer
	t    *testing.T
	addr string
	ca   *x509.Certificate
	key  *ecdsa.PrivateKey

	mu      sync.Mutex // guards below
	refuse  error      // of both calls
	renewal error      // of renewals
	life    time.Duration
	spoil   func(*x509.Certificate, *pb.NodeCertificate)
	tokens  []string
	asked   [][]byte            // requests with a token
	lose    bool                // the answer to such a request
	renewed []*x509.Certificate // what callers showed
}

func (o *office) set(change func(o *office)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o)
}

func (o *office) counts() (enrolled, renewed int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.tokens), len(o.renewed)
}

func (o *office) certify(c *x509.Certificate, pub any) []byte {
	c.SerialNumber, c.NotBefore = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour)
	parent, key := o.ca, o.key
	if c.IsCA {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, key)
	if err != nil {
		o.t.Error(err)
	}
	return der
}

func (o *office) give(request []byte) (*pb.NodeCertificate, error) {
	r, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{Subject: r.Subject, URIs: r.URIs, NotAfter: time.Now().Add(o.life), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	out := &pb.NodeCertificate{Life: int64(o.life), Authorities: [][]byte{o.ca.Raw}}
	if o.spoil != nil {
		o.spoil(c, out)
	}
	if out.Certificate == nil {
		out.Certificate = o.certify(c, r.PublicKey)
	}
	return out, nil
}

func (o *office) Enrol(_ context.Context, r *pb.EnrolRequest) (*pb.NodeCertificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refuse != nil {
		return nil, o.refuse
	}
	o.tokens, o.asked = append(o.tokens, r.GetToken()), append(o.asked, r.GetRequest())
	if o.lose {
		return nil, status.Error(codes.Unavailable, "the connection was lost")
	}
	return o.give(r.GetRequest())
}

func (o *office) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.NodeCertificate, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := errors.Join(o.refuse, o.renewal); err != nil {
		return nil, err
	}
	p, _ := peer.FromContext(ctx)
	o.renewed = append(o.renewed, p.AuthInfo.(credentials.TLSInfo).State.PeerCertificates[0])
	return o.give(r.GetRequest())
}

// open makes an office that serves until the test ends.
func open(t *testing.T) *office {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := &office{t: t, key: key, life: time.Hour}
	der := o.certify(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}, &key.PublicKey)
	if o.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	o.listen("127.0.0.1:0")
	return o
}

// listen serves at an address; the function that it returns ends that.
func (o *office) listen(at string) (stop func()) {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	der := o.certify(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour)}, &key.PublicKey)
	l, err := net.Listen("tcp", at)
	if err != nil {
		o.t.Fatal(err)
	}
	o.addr = l.Addr().String()
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13,
	})))
	pb.RegisterEnrolmentServer(g, o)
	go g.Serve(l) //nolint:errcheck // ends with Stop
	stop = sync.OnceFunc(g.Stop)
	o.t.Cleanup(stop)
	return stop
}

// machine is where an identity is kept.
func (o *office) machine(t *testing.T) Config {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{ID: host1, Server: o.addr, CAFile: filepath.Join(dir, "ca.pem"), TokenFile: filepath.Join(dir, "node.token"), Dir: dir, Log: slog.New(slog.DiscardHandler)}
	for path, data := range map[string][]byte{
		cfg.CAFile: pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: o.ca.Raw}), cfg.TokenFile: []byte("the-token\n"),
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cfg
}

// run lets an identity live until the test, or stop, ends it.
func run(t *testing.T, cfg Config) (i *Identity, stop func()) {
	t.Helper()
	i, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { i.Run(ctx); close(ended) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return i, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func read(t *testing.T, cfg Config) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(cfg.Dir, File))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestTokenServesOnce: a restart renews by the certificate, with another key, and needs neither token nor the file of the authority.
func TestTokenServesOnce(t *testing.T) {
	o := open(t)
	cfg := o.machine(t)
	i, stop := run(t, cfg)
	<-i.Ready()
	eventually(t, "saved", func() bool { _, err := os.Stat(filepath.Join(cfg.Dir, File)); return err == nil })
	info, err := os.Stat(filepath.Join(cfg.Dir, File))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, %v", info.Mode().Perm(), err)
	}
	if o.tokens[0] != "the-token" {
		t.Errorf("token %q", o.tokens[0])
	}
	first := read(t, cfg)
	stop()
	if err := errors.Join(os.Remove(cfg.TokenFile), os.Remove(cfg.CAFile)); err != nil {
		t.Fatal(err)
	}
	i, _ = run(t, cfg)
	<-i.Ready()
	eventually(t, "renewed", func() bool { _, renewed := o.counts(); return renewed == 1 })
	eventually(t, "saved", func() bool { return !bytes.Equal(first, read(t, cfg)) })
	before, _ := pem.Decode(first)
	after, _ := pem.Decode(read(t, cfg))
	if bytes.Equal(before.Bytes, after.Bytes) {
		t.Error("the key is the same")
	}
	if enrolled, _ := o.counts(); enrolled != 1 {
		t.Errorf("enrolled %d times", enrolled)
	}
}

// TestLostAnswerIsAskedForAgain with the same key, so that a token for one machine still serves.
func TestLostAnswerIsAskedForAgain(t *testing.T) {
	o := open(t)
	o.lose = true
	i, _ := run(t, o.machine(t))
	eventually(t, "asked again", func() bool { enrolled, _ := o.counts(); return enrolled == 2 })
	o.set(func(o *office) { o.lose = false })
	<-i.Ready()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.asked) < 3 || !bytes.Equal(o.asked[0], o.asked[1]) || !bytes.Equal(o.asked[0], o.asked[2]) {
		t.Errorf("asked %d times, for different keys", len(o.asked))
	}
}

// TestRenewalsComeInTime: with a life of 3 s, a certificate is renewed again and again before it ends, by the one before.
func TestRenewalsComeInTime(t *testing.T) {
	o := open(t)
	o.life = 3 * time.Second
	i, _ := run(t, o.machine(t))
	<-i.Ready()
	eventually(t, "three renewals", func() bool {
		if ends, trouble := i.State(); time.Until(ends) < 0 || trouble != "" {
			t.Fatalf("the certificate ended at %s: %s", ends, trouble)
		}
		_, renewed := o.counts()
		return renewed >= 3
	})
	for n := 1; n < len(o.renewed); n++ {
		if o.renewed[n].Equal(o.renewed[n-1]) {
			t.Error("one certificate was renewed twice")
		}
	}
}

// TestServerThatIsAwayIsWaitedFor: renewal goes on as soon as the server is back, also where the certificate has ended meanwhile.
func TestServerThatIsAwayIsWaitedFor(t *testing.T) {
	o := open(t)
	stop := o.listen("127.0.0.1:0")
	o.life = time.Second
	i, _ := run(t, o.machine(t))
	<-i.Ready()
	stop()
	eventually(t, "the certificate ended", func() bool { ends, _ := i.State(); return time.Until(ends) < -time.Second })
	if _, trouble := i.State(); trouble != "" {
		t.Errorf("a server that does not answer is no refusal: %s", trouble)
	}
	o.listen(o.addr)
	back := time.Now()
	eventually(t, "renewed", func() bool { ends, _ := i.State(); return time.Until(ends) > 0 })
	if took := time.Since(back); took > 2*time.Second {
		t.Errorf("renewed %s after the server was back", took)
	}
	if enrolled, _ := o.counts(); enrolled != 1 {
		t.Errorf("enrolled %d times", enrolled)
	}
}

// TestUnprovenRenewsAtOnce: where the server does not take the certificate, the next renewal is not waited for; and where it does not
// even renew it, the token is tried.
func TestUnprovenRenewsAtOnce(t *testing.T) {
	o := open(t)
	i, _ := run(t, o.machine(t))
	<-i.Ready()
	i.Unproven(errors.New("it has ended"))
	eventually(t, "renewed", func() bool { _, renewed := o.counts(); return renewed == 1 })
	o.set(func(o *office) { o.renewal = status.Error(codes.Unauthenticated, "it ended long ago") })
	i.Unproven(errors.New("it ended long ago"))
	eventually(t, "enrolled again", func() bool { enrolled, _ := o.counts(); return enrolled == 2 })
	o.set(func(o *office) { o.refuse = status.Error(codes.Unauthenticated, "no") })
	i.Unproven(errors.New("no"))
	eventually(t, "told", func() bool { _, trouble := i.State(); return strings.Contains(trouble, "no") })
	o.set(func(o *office) { o.refuse, o.renewal = nil, nil })
	eventually(t, "well again", func() bool { _, trouble := i.State(); return trouble == "" })
}

// TestWhatIsGivenIsChecked: an answer that is not this node's certificate changes nothing.
func TestWhatIsGivenIsChecked(t *testing.T) {
	for name, spoil := range map[string]func(*x509.Certificate, *pb.NodeCertificate){
		"another_node": func(c *x509.Certificate, _ *pb.NodeCertificate) {
			c.URIs[0] = nodeid.ID{Node: "host-2", Machine: "m1"}.URI()
		},
		"two_names":      func(c *x509.Certificate, _ *pb.NodeCertificate) { c.DNSNames = []string{"weft.example"} },
		"no_certificate": func(_ *x509.Certificate, out *pb.NodeCertificate) { out.Certificate = []byte("x") },
		"no_life":        func(_ *x509.Certificate, out *pb.NodeCertificate) { out.Life = 0 },
		"no_authority":   func(_ *x509.Certificate, out *pb.NodeCertificate) { out.Authorities = nil },
		"odd_authority":  func(_ *x509.Certificate, out *pb.NodeCertificate) { out.Authorities[0] = []byte("x") },
	} {
		t.Run(name, func(t *testing.T) {
			o := open(t)
			o.spoil = spoil
			i, stop := run(t, o.machine(t))
			eventually(t, "asked", func() bool { enrolled, _ := o.counts(); return enrolled > 0 })
			select {
			case <-i.Ready():
				t.Error("it was taken")
			case <-time.After(50 * time.Millisecond):
			}
			stop()
			if _, err := os.Stat(filepath.Join(i.cfg.Dir, File)); err == nil {
				t.Error("it was kept")
			}
		})
	}
}

// TestDiskThatTakesNothing: a certificate that cannot be kept is used, and kept as soon as that is possible.
func TestDiskThatTakesNothing(t *testing.T) {
	o := open(t)
	cfg := o.machine(t)
	cfg.Dir = filepath.Join(cfg.Dir, "not", "there")
	i, _ := run(t, cfg)
	select {
	case <-i.Ready():
	case <-time.After(5 * time.Second):
		t.Fatal("the node has no certificate")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "kept", func() bool { _, err := os.Stat(filepath.Join(cfg.Dir, File)); return err == nil })
	if enrolled, _ := o.counts(); enrolled != 1 {
		t.Errorf("enrolled %d times", enrolled)
	}
}

// TestRemovedMachineIsTold: a machine that was removed before it had a certificate leaves, as one with a stream does.
func TestRemovedMachineIsTold(t *testing.T) {
	o := open(t)
	o.refuse = southbound.ToStatus(&southbound.RefusedError{JSON: json.RawMessage(`{"code":"NODE_REMOVED","message":"removed"}`)})
	cfg := o.machine(t)
	told := make(chan error, 1)
	cfg.Removed = func(err error) { told <- err }
	run(t, cfg)
	select {
	case <-told:
	case <-time.After(5 * time.Second):
		t.Fatal("not told")
	}
}

// TestWhatIsDamagedIsNotUsed: a file that is cut off, of another node or another machine is no certificate; the agent starts, and enrols.
func TestWhatIsDamagedIsNotUsed(t *testing.T) {
	o := open(t)
	cfg := o.machine(t)
	i, stop := run(t, cfg)
	<-i.Ready()
	stop()
	whole := read(t, cfg)
	for name, c := range map[string]struct {
		data []byte
		id   nodeid.ID
	}{
		"empty": {nil, host1}, "half": {whole[:len(whole)/2], host1}, "key_only": {whole[:300], host1}, "noise": {[]byte("x"), host1},
		"another_node": {whole, nodeid.ID{Node: "host-2", Machine: "m1"}}, "another_machine": {whole, nodeid.ID{Node: "host-1", Machine: "m2"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := o.machine(t)
			cfg.ID = c.id
			if err := os.WriteFile(filepath.Join(cfg.Dir, File), c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			before, _ := o.counts()
			i, stop := run(t, cfg)
			<-i.Ready()
			stop()
			if enrolled, _ := o.counts(); enrolled != before+1 {
				t.Errorf("enrolled %d times", enrolled-before)
			}
			if err := os.WriteFile(filepath.Join(cfg.Dir, File), c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(cfg.TokenFile); err != nil {
				t.Fatal(err)
			}
			if _, err := New(cfg); err != nil {
				t.Errorf("without a token the agent does not start: %v", err)
			}
		})
	}
	cfg = o.machine(t)
	if err := os.Remove(cfg.TokenFile); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "--token-file") {
		t.Errorf("a first start without a token: %v", err)
	}
}

// FuzzKept: a file is refused, or is a key with a certificate of this node for it.
func FuzzKept(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	c.URIs = append(c.URIs, host1.URI())
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		f.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	dir := f.TempDir()
	k := &kept{pair: &tls.Certificate{PrivateKey: key, Leaf: leaf}, authorities: [][]byte{der}}
	if err := k.save(dir); err != nil {
		f.Fatal(err)
	}
	path := filepath.Join(dir, File)
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("BEGIN CERTIFICATE"), []byte("BEGIN EC PRIVATE KEY"), 1))
	f.Add(good[:len(good)-100])
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := load(dir, host1)
		if err != nil || k == nil {
			return
		}
		if id, err := nodeid.Of(k.pair.Leaf); err != nil || id != host1 || !k.pair.PrivateKey.(*ecdsa.PrivateKey).PublicKey.Equal(k.pair.Leaf.PublicKey) || len(k.authorities) == 0 {
			t.Errorf("taken: %v, %v", id, err)
		}
	})
}
