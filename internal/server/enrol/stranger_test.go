// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"weft/internal/audit"
	"weft/internal/base/nodeid"
	"weft/internal/server/authority"
	"weft/internal/southbound/pb"
)

// TestStrangersAreBounded: connections without a certificate are so many, so long and so much, and those with one are not concerned.
func TestStrangersAreBounded(t *testing.T) {
	a, err := authority.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	shown, err := a.Server(nil, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bounds := Credentials(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{*shown}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13})).(*bounded)
	bounds.within = 3 * time.Second
	g := grpc.NewServer(grpc.Creds(bounds))
	New(Config{Audit: func(audit.Record) error { return nil }, Log: slog.New(slog.DiscardHandler)}).Register(g)
	go g.Serve(l) //nolint:errcheck // ends with Stop
	defer g.Stop()
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	pair, err := a.NodePair(nodeid.ID{Node: "h1", Machine: "m1"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	config := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: roots, Certificates: certs, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
	}
	// ends reports whether the server closes the connection within a moment.
	ends := func(c net.Conn, within time.Duration) bool {
		_ = c.SetReadDeadline(time.Now().Add(within)) // an end is what Read tells, too
		_, err := io.Copy(io.Discard, c)
		var timeout net.Error
		return !errors.As(err, &timeout) || !timeout.Timeout()
	}
	call := func(size int, certs ...tls.Certificate) error {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(config(certs...))))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err = pb.NewEnrolmentClient(conn).Enrol(ctx, &pb.EnrolRequest{Node: "/", Request: make([]byte, size)})
		return err
	}
	answered := func(err error) bool { return status.Code(err) == codes.FailedPrecondition }
	if err := call(1000); !answered(err) {
		t.Fatalf("a small request: %v", err)
	}
	if err := call(2 * strangerBytes); answered(err) {
		t.Error("2 MiB of a stranger were read")
	}
	if err := call(2*strangerBytes, *pair); !answered(err) {
		t.Errorf("2 MiB of a node: %v", err)
	}
	began := time.Now()
	var held []net.Conn
	for len(bounds.slots) < strangersMost {
		c, err := tls.Dial("tcp", l.Addr().String(), config())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
		if len(held) > 3*strangersMost {
			t.Fatalf("%d connections, and %d count", len(held), len(bounds.slots))
		}
		time.Sleep(time.Millisecond) // the handshake's end is not known to the dialler
	}
	c, err := tls.Dial("tcp", l.Addr().String(), config())
	if err == nil {
		defer c.Close()
		if !ends(c, time.Second) {
			t.Error("one more is let in")
		}
	}
	if err := call(1000, *pair); !answered(err) {
		t.Errorf("a node beside so many strangers: %v", err)
	}
	if !ends(held[0], 2*bounds.within) {
		t.Error("a stranger stays for ever")
	}
	for len(bounds.slots) > 0 {
		if time.Since(began) > 3*bounds.within {
			t.Fatalf("%d strangers are left", len(bounds.slots))
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := call(1000); !answered(err) {
		t.Errorf("a stranger after that: %v", err)
	}
}
