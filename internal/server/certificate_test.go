// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/url"
	"testing"
	"time"
)

func TestCertificateIsMadeAnewInTime(t *testing.T) {
	c, err := loadCredentials(Config{StateDir: t.TempDir(), CertificateLife: 300 * time.Hour, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	at := func(after time.Duration) *x509.Certificate {
		c.server.now = func() time.Time { return started.Add(after) }
		got, err := c.server.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return got.Leaf
	}
	first := at(0)
	if !at(199 * time.Hour).Equal(first) {
		t.Error("made anew before two thirds of its life")
	}
	if !at(-1000 * time.Hour).Equal(first) {
		t.Error("made anew because the clock stepped back")
	}
	second := at(201 * time.Hour)
	if second.Equal(first) || second.NotAfter.Sub(started) < 500*time.Hour {
		t.Errorf("after two thirds of its life it ends at %s", second.NotAfter)
	}
	far := at(10_000 * time.Hour) // the clock stepped ahead by more than a year
	if far.Equal(second) {
		t.Error("an expired certificate is shown")
	}
	roots := x509.NewCertPool()
	roots.AddCert(c.authority.Certificate())
	for _, offset := range []time.Duration{-20 * time.Hour, 0, 9_000 * time.Hour} { // clients whose clocks are behind, or right after all
		if _, err := far.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: started.Add(offset), DNSName: "localhost"}); err != nil {
			t.Errorf("a client at %s does not trust it: %v", offset, err)
		}
	}
}

// TestConnectionsOutliveCertificates: with certificates that live for 3 s, a node stays connected, and clients get in, for longer.
func TestConnectionsOutliveCertificates(t *testing.T) {
	s := startWith(t, Config{StateDir: t.TempDir(), CertificateLife: 3 * time.Second})
	h1 := s.join("h1", 1)
	eventually(t, "joined", func() bool { return h1.epochNow() != "" })
	u, err := url.Parse(s.api)
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, address := range []string{u.Host, s.southbound} {
			c, err := tls.Dial("tcp", address, &tls.Config{RootCAs: s.roots, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatalf("connect to %s after a while: %v", address, err)
			}
			shown[c.ConnectionState().PeerCertificates[0].SerialNumber.String()] = true
			c.Close()
		}
	}
	if n := len(shown); n < 3 || n > 5 {
		t.Errorf("%d certificates in 7 s", n)
	}
	if joins := h1.connections(); joins != 1 {
		t.Errorf("the node connected %d times", joins)
	}
}
