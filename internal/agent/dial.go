// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"weft/internal/base/clock"
	"weft/internal/southbound"
)

// dial prepares the stream: TLS against the server's own authority, and the node's token.
func dial(cfg Config, node *Agent) (*southbound.Client, error) {
	pem, err := os.ReadFile(cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read the server's authority (--ca): %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", cfg.CAFile)
	}
	token, err := os.ReadFile(cfg.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the node's token (--token-file): %w", err)
	}
	return southbound.NewClient(southbound.ClientConfig{
		Server: cfg.Server, Token: strings.TrimSpace(string(token)), Node: node, Name: cfg.Node, Log: cfg.Log,
		Removed: func(reason error) { node.leave(context.Background(), reason.Error()) },
		Dial:    []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, Time: clock.Now, MinVersion: tls.VersionTLS13}))},
	})
}
