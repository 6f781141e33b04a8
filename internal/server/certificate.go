// SPDX-License-Identifier: Apache-2.0

package server

import (
	"crypto/tls"
	"log/slog"
	"sync"
	"time"

	"weft/internal/server/authority"
)

// certificate is the server's own: made at the start, kept in memory, and made anew in good time, so that a server need not be
// restarted for it. What is connected stays so: only new connections see the new one.
//
//	made |-------------- two thirds --------------|------ one third ------| ends
//	      shown to everybody who connects          the next one is made
type certificate struct {
	authority *authority.Authority
	names     []string
	life      time.Duration
	now       func() time.Time
	log       *slog.Logger

	mu      sync.Mutex // guards below
	current *tls.Certificate
}

// get returns the certificate for a new connection (tls.Config.GetCertificate). A new one that cannot be made leaves the old one,
// which is still good for a third of its life.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && c.now().Before(c.current.Leaf.NotAfter.Add(-c.life/3)) {
		return c.current, nil
	}
	made, err := c.authority.Server(c.names, c.now(), c.life)
	if err != nil && c.current == nil {
		return nil, err
	}
	if err != nil {
		c.log.Error("make the server's certificate anew", "err", err)
		return c.current, nil
	}
	if c.current != nil {
		c.log.Info("the server's certificate is made anew", "until", made.Leaf.NotAfter)
	}
	c.current = made
	return made, nil
}
