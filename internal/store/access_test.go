// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	v1 "weft/api/v1"
)

// papers writes an authority and the certificates that it signs into a folder: NAME.pem, NAME.key.
func papers(t *testing.T, dir string, names ...string) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var ca *x509.Certificate
	var caKey *ecdsa.PrivateKey
	for n, name := range append([]string{"ca"}, names...) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano() + int64(n)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true,
		}
		if ca == nil {
			c.IsCA, c.KeyUsage, ca, caKey = true, x509.KeyUsageCertSign, c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalECPrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		write(name+".key", "EC PRIVATE KEY", secret)
	}
}

// serveTLS is an etcd on a TCP port of loopback that asks its clients for certificates, or not.
func serveTLS(t *testing.T, dir string, ask bool) {
	free := func(scheme string) []url.URL {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return []url.URL{{Scheme: scheme, Host: l.Addr().String()}}
	}
	info := transport.TLSInfo{CertFile: filepath.Join(dir, "etcd.pem"), KeyFile: filepath.Join(dir, "etcd.key"), ClientCertAuth: ask}
	if ask {
		info.TrustedCAFile = filepath.Join(dir, "ca.pem")
	}
	c := embed.NewConfig()
	c.Name, c.Dir = "weft", filepath.Join(dir, "data")
	c.ListenClientUrls, c.ListenPeerUrls = free("https"), free("http")
	c.AdvertiseClientUrls, c.AdvertisePeerUrls = c.ListenClientUrls, c.ListenPeerUrls
	c.ClientTLSInfo = info
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		t.Fatal(err)
	}
	<-e.Server.ReadyNotify()
	fmt.Println("etcd at", c.ListenClientUrls[0].String())
	select {}
}

func startTLS(t *testing.T, dir, ask string) (endpoint string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestEtcdByCertificate$")
	cmd.Env = append(os.Environ(), "STORE_TEST_ETCD_TLS="+dir, "STORE_TEST_ETCD_ASK="+ask)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be dead already
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if at, ok := strings.CutPrefix(lines.Text(), "etcd at "); ok {
			return at
		}
	}
	t.Fatal("etcd did not start")
	return ""
}

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex // guards below
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.all.String(), text)
}

// TestEtcdByCertificate: a store reaches an etcd of another process by certificates on both sides, and nobody does otherwise.
func TestEtcdByCertificate(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_ETCD_TLS"); dir != "" {
		serveTLS(t, dir, os.Getenv("STORE_TEST_ETCD_ASK") == "yes")
	}
	dir, foreign := t.TempDir(), t.TempDir()
	papers(t, dir, "etcd", "weft", "next")
	papers(t, foreign, "weft")
	endpoint := startTLS(t, dir, "yes")
	access := func(ca, pair string) Access {
		return Access{CAFile: filepath.Join(ca, "ca.pem"), CertFile: filepath.Join(pair, "weft.pem"), KeyFile: filepath.Join(pair, "weft.key")}
	}
	reach := func(c *tls.Config) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, TLS: c, Logger: zap.NewNop(), Context: ctx})
		if err != nil {
			return err
		}
		defer client.Close()
		_, err = client.Get(ctx, prefix)
		return err
	}
	own := access(dir, dir)
	if err := own.Check([]string{endpoint}); err != nil {
		t.Fatal(err)
	}
	good, err := own.TLS()
	if err != nil {
		t.Fatal(err)
	}
	var log lines
	s, err := Open(t.Context(), Config{Endpoints: []string{endpoint}, TLS: good, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "", tenant("red"))
	if _, ok := s.View().Get(v1.KindTenant, "", "red"); !ok {
		t.Error("what was written is not there")
	}
	for name, a := range map[string]Access{"by_another_authority's": access(dir, foreign), "believing_another": access(foreign, dir)} {
		c, err := a.TLS()
		if err != nil {
			t.Fatal(err)
		}
		if reach(c) == nil {
			t.Errorf("%s: etcd is reached", name)
		}
	}
	without := good.Clone()
	without.GetClientCertificate = nil
	if reach(without) == nil {
		t.Error("without a certificate: etcd is reached")
	}
	for _, kind := range []string{"pem", "key"} { // replaced under the running server
		data, err := os.ReadFile(filepath.Join(dir, "next."+kind))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "weft."+kind), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shown, err := good.GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if leaf, err := x509.ParseCertificate(shown.Certificate[0]); err != nil || leaf.Subject.CommonName != "next" {
		t.Errorf("a new connection shows %v, %v", leaf, err)
	}
	if err := reach(good); err != nil {
		t.Errorf("with the certificate that took its place: %v", err)
	}
	s.Close()
	if log.has("without a certificate") {
		t.Error("warned of an etcd that asks for certificates")
	}
}

// TestEtcdThatAnswersAnybodyIsToldOf opens a store on an etcd that encrypts, and asks nobody who they are.
func TestEtcdThatAnswersAnybodyIsToldOf(t *testing.T) {
	dir := t.TempDir()
	papers(t, dir, "etcd", "weft")
	endpoint := startTLS(t, dir, "no")
	c, err := (Access{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "weft.pem"), KeyFile: filepath.Join(dir, "weft.key")}).TLS()
	if err != nil {
		t.Fatal(err)
	}
	var log lines
	s, err := Open(t.Context(), Config{Endpoints: []string{endpoint}, TLS: c, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for deadline := time.Now().Add(5 * time.Second); !log.has("without a certificate"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not told")
		}
	}
}

func TestAddressesOfEtcdAreChecked(t *testing.T) {
	full := Access{CAFile: "ca.pem", CertFile: "weft.pem", KeyFile: "weft.key"}
	for _, c := range []struct {
		name      string
		access    Access
		endpoints []string
		word      string // in the refusal; "": none
	}{
		{"embedded", Access{}, nil, ""},
		{"certificates", full, []string{"https://192.0.2.1:2379", "https://etcd.example:2379"}, ""},
		{"loopback", Access{}, []string{"http://127.0.0.1:2379", "http://[::1]:2379", "http://localhost:2379"}, ""},
		{"plaintext_is_said", Access{Plain: true}, []string{"http://192.0.2.1:2379"}, ""},
		{"plaintext", Access{}, []string{"http://192.0.2.1:2379"}, "--etcd-plaintext"},
		{"plaintext_by_name", Access{}, []string{"http://etcd.example:2379"}, "--etcd-plaintext"},
		{"plaintext_second", full, []string{"https://192.0.2.1:2379", "http://192.0.2.2:2379"}, "https for all"},
		{"no_authority", Access{CertFile: "a", KeyFile: "b"}, []string{"https://192.0.2.1:2379"}, "--etcd-ca is required"},
		{"no_certificate", Access{CAFile: "a"}, []string{"https://192.0.2.1:2379"}, "--etcd-cert is required"},
		{"no_key", Access{CAFile: "a", CertFile: "b"}, []string{"https://192.0.2.1:2379"}, "--etcd-key is required"},
		{"files_for_nothing", full, nil, "--etcd-ca is for an etcd at https://"},
		{"no_url", Access{}, []string{"192.0.2.1:2379"}, "not the URL"},
		{"socket", Access{}, []string{"unix:///run/etcd.sock"}, "not the URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.access.Check(c.endpoints)
			if (err == nil) != (c.word == "") || (err != nil && !strings.Contains(err.Error(), c.word)) {
				t.Errorf("%v, want %q", err, c.word)
			}
		})
	}
}

// TestEmbeddedEtcdIsOutOfReach: the embedded etcd listens on no network, and other users of the machine cannot open its folder, also
// where that was there before, with other rights.
func TestEmbeddedEtcdIsOutOfReach(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	if err := os.Mkdir(dir, 0o777); err != nil { //nolint:gosec // it is what the store has to mend
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil { //nolint:gosec // the same
		t.Fatal(err)
	}
	open(t, dir)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o700 {
		t.Errorf("the folder of its sockets has mode %o", mode)
	}
	for _, name := range []string{"client.sock", "peer.sock"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if os.Geteuid() == 0 { // who is not root cannot be somebody else
		const nobody = 65534
		cmd := exec.Command("ls", dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "denied") {
			t.Errorf("another user sees %q, %v", out, err)
		}
	}
	own := sockets(t)
	if found := networkListeners(t, own); len(found) > 0 {
		t.Errorf("listens on %q", found)
	}
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		const flags, inode, listening = 3, 6, "00010000"
		if f := strings.Fields(line); len(f) > inode && f[flags] == listening && own[f[inode]] && !strings.Contains(line, " "+dir+"/") {
			t.Errorf("listens on a socket that is not in its folder: %q", line)
		}
	}
}

// sockets lists the inodes of this process's sockets.
func sockets(t *testing.T) map[string]bool {
	t.Helper()
	own := make(map[string]bool)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name()) // the one of this very list is gone by now
		if inode, ok := strings.CutPrefix(target, "socket:["); ok {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	return own
}

// networkListeners lists the sockets, of those given, on which TCP listens, as lines of /proc/net.
func networkListeners(t *testing.T, own map[string]bool) (found []string) {
	t.Helper()
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			const state, inode, listening = 3, 9, "0A"
			if f := strings.Fields(line); len(f) > inode && f[state] == listening && own[f[inode]] {
				found = append(found, line)
			}
		}
	}
	return found
}
