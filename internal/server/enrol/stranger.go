// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// Bounds of connections without a certificate. There is one thing to do with such a connection, and it takes milliseconds and a few
// hundred bytes. Nodes that have their certificates are not concerned.
const (
	strangersMost  = 64
	strangerBytes  = 1 << 20
	strangerWithin = 15 * time.Second
)

// Credentials bounds what those who have no certificate take of the server.
func Credentials(c credentials.TransportCredentials) credentials.TransportCredentials {
	return &bounded{TransportCredentials: c, slots: make(chan struct{}, strangersMost), within: strangerWithin}
}

// bounded are credentials that count connections without a certificate.
type bounded struct {
	credentials.TransportCredentials
	slots  chan struct{} // one in it for each stranger's connection
	within time.Duration // the constant, but for tests
}

// errStrangers ends a connection for which there is no room.
var errStrangers = errors.New("too many connections without a certificate")

// ServerHandshake does what the credentials do, and then looks whether there was a certificate.
func (b *bounded) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := b.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		return conn, info, err
	}
	if t, ok := info.(credentials.TLSInfo); ok && len(t.State.PeerCertificates) > 0 {
		return conn, info, nil
	}
	select {
	case b.slots <- struct{}{}:
	default:
		return nil, nil, errors.Join(errStrangers, conn.Close())
	}
	s := &stranger{Conn: conn, left: strangerBytes, leave: sync.OnceFunc(func() { <-b.slots })}
	s.clock = time.AfterFunc(b.within, func() { _ = s.end() }) // gRPC hears of it as it reads
	return s, info, nil
}

// Clone returns credentials with the same bounds.
func (b *bounded) Clone() credentials.TransportCredentials {
	return &bounded{TransportCredentials: b.TransportCredentials.Clone(), slots: b.slots, within: b.within}
}

// stranger is a connection without a certificate.
type stranger struct {
	net.Conn
	left  int // bytes that may still come; only Read uses it, and one goroutine reads
	leave func()
	clock *time.Timer
}

// Read ends the connection where more comes than anybody needs to send.
func (s *stranger) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if s.left -= n; s.left < 0 {
		s.Close()
		return 0, errStrangers
	}
	return n, err
}

// Close makes room for another.
func (s *stranger) Close() error {
	s.clock.Stop()
	return s.end()
}

func (s *stranger) end() error {
	defer s.leave()
	return s.Conn.Close()
}
