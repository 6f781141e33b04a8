// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/connectivity"
)

// members is the ways to etcd, one to each member that the server was told of. All is asked of one of them, until it fails to answer: then of the
// next. One client of all of them would spread requests, and so go on asking one that stands still.
type members struct {
	clients []*clientv3.Client
	at      atomic.Int64 // whom to ask
	left    func()       // called when that has changed
}

// connect makes the clients. They live until close.
func connect(ctx context.Context, endpoints []string, trust *tls.Config, left func()) (*members, error) {
	m := &members{left: left}
	for _, e := range endpoints {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{e}, TLS: trust, DialTimeout: dialTimeout, Logger: zap.NewNop(), Context: ctx,
			DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("connect to etcd at %s: %w", e, err), m.close())
		}
		c.ActiveConnection().Connect()
		m.clients = append(m.clients, c)
	}
	return m, nil
}

// now returns whom to ask, and its number.
func (m *members) now() (c *clientv3.Client, i int64) {
	i = m.at.Load()
	return m.clients[i], i
}

// leave says that a member did not answer. If it is the one that is asked, it is another one from now on: the next to which there is, or may be,
// a connection.
func (m *members) leave(i int64) {
	n := int64(len(m.clients))
	if n == 1 {
		return
	}
	next := (i + 1) % n
	for ; next != i && m.clients[next].ActiveConnection().GetState() == connectivity.TransientFailure; next = (next + 1) % n {
	}
	if next != i && m.at.CompareAndSwap(i, next) {
		m.left()
	}
}

// gone reports whether there is no connection to any member.
func (m *members) gone() bool {
	for _, c := range m.clients {
		if c.ActiveConnection().GetState() != connectivity.TransientFailure {
			return false
		}
	}
	return true
}

// endpoints are all of them, as the server was told.
func (m *members) endpoints() (out []string) {
	for _, c := range m.clients {
		out = append(out, c.Endpoints()...)
	}
	return out
}

func (m *members) close() (err error) {
	for _, c := range m.clients {
		if cerr := c.Close(); !errors.Is(cerr, context.Canceled) {
			err = errors.Join(err, cerr)
		}
	}
	return err
}
