// SPDX-License-Identifier: Apache-2.0

// Package cluster runs an external etcd for tests: three members, each a process of its own, with mTLS between them and to their
// clients, that can be killed, paused, restarted on their data, and cut off from each other and from clients. It needs no privileges.
package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Members is how many there are.
const Members = 3

// readyWithin bounds the start of all members.
const readyWithin = 30 * time.Second

// Cluster is a running etcd. Members and clients are numbered from 0.
//
//	client c --- relay(c, i) ---> member i --- proxy of i, which knows for whom ---> member j
//
// Each arrow passes a gate for each direction; a closed one holds what is on the way until it opens, as a network does that lost its
// packets and has them sent again.
type Cluster struct {
	dir     string
	members [Members]*member
	proxies [Members]*proxy
	admin   *clientv3.Client // goes past all gates

	mu     sync.Mutex // guards below
	relays map[[2]int]*relay
}

// Start starts all members below dir, which must be empty, and waits until they answer. Whoever calls it runs Main at the start of its own
// process: members are that program again.
func Start(ctx context.Context, dir string) (*Cluster, error) {
	if err := makeCertificates(dir); err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	c := &Cluster{dir: dir, relays: make(map[[2]int]*relay)}
	var ports [Members][2]int
	var initial []string
	for i := range ports {
		for j := range ports[i] {
			port, err := freePort()
			if err != nil {
				return nil, fmt.Errorf("start etcd: %w", err)
			}
			ports[i][j] = port
		}
		initial = append(initial, fmt.Sprintf("m%d=https://%s:%d", i, peerHost(i), ports[i][0]))
	}
	for i := range c.members {
		c.members[i] = &member{dir: dir, cfg: memberConfig{
			Name: fmt.Sprintf("m%d", i), Dir: filepath.Join(dir, fmt.Sprintf("m%d", i)), Host: peerHost(i),
			Peer: ports[i][0], Client: ports[i][1], Initial: strings.Join(initial, ","), Certificates: dir,
		}}
	}
	for i := range c.proxies {
		p, err := newProxy(c, i)
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("start etcd: %w", err)
		}
		c.proxies[i] = p
	}
	for i := range c.members {
		if err := c.Restart(i); err != nil {
			c.Close()
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	if err := c.dial(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	return c, nil
}

// dial connects the administrator's own client and waits until each member answers.
func (c *Cluster) dial(ctx context.Context) error {
	trust, err := c.trust()
	if err != nil {
		return err
	}
	var endpoints []string
	for _, m := range c.members {
		endpoints = append(endpoints, fmt.Sprintf("https://127.0.0.1:%d", m.cfg.Client))
	}
	if c.admin, err = clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: trust, Logger: zap.NewNop()}); err != nil {
		return err
	}
	for i, e := range endpoints {
		for {
			st, err := c.admin.Status(ctx, e)
			if err == nil && st.Leader != 0 {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("member %d does not answer: %w", i, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

func (c *Cluster) trust() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.File("client.pem"), c.File("client.key"))
	if err != nil {
		return nil, err
	}
	pool, err := readPool(c.File("ca.pem"))
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, err
}

// File returns the path of a file for clients: ca.pem, client.pem or client.key.
func (c *Cluster) File(name string) string { return filepath.Join(c.dir, name) }

// Endpoints returns the members' URLs for a client. Each client has its own ways, which CutClient cuts.
func (c *Cluster) Endpoints(client int) ([]string, error) {
	var out []string
	for i, m := range c.members {
		c.mu.Lock()
		r := c.relays[[2]int{client, i}]
		c.mu.Unlock()
		if r == nil {
			var err error
			if r, err = newRelay(fmt.Sprintf("127.0.0.1:%d", m.cfg.Client)); err != nil {
				return nil, err
			}
			c.mu.Lock()
			c.relays[[2]int{client, i}] = r
			c.mu.Unlock()
		}
		out = append(out, "https://"+r.listener.Addr().String())
	}
	return out, nil
}

// Close kills all members and ends all relays.
func (c *Cluster) Close() {
	if c.admin != nil {
		_ = c.admin.Close() // nothing is kept in it
	}
	for _, m := range c.members {
		if m != nil {
			m.kill()
		}
	}
	for _, p := range c.proxies {
		if p != nil {
			p.close()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.relays {
		r.close()
	}
}

// Kill ends a member by SIGKILL.
func (c *Cluster) Kill(i int) { c.members[i].kill() }

// Restart starts a member on the data that it has. It does not wait until it answers: without a quorum it would not.
func (c *Cluster) Restart(i int) error { return c.members[i].start(c.proxies[i].url()) }

// Pause stops a member's process where it stands; its connections stay open.
func (c *Cluster) Pause(i int) { c.members[i].pause() }

// Resume lets a paused member go on.
func (c *Cluster) Resume(i int) { c.members[i].resume() }

// Cut lets nothing from member i to member j, and with both nothing back either. It holds until Heal.
func (c *Cluster) Cut(i, j int, both bool) {
	c.proxies[i].to[j].shut()
	if both {
		c.proxies[j].to[i].shut()
	}
}

// Isolate cuts a member off from the others; its clients still reach it.
func (c *Cluster) Isolate(i int) {
	for j := range Members {
		if j != i {
			c.Cut(i, j, true)
		}
	}
}

// CutClient cuts a client off from a member.
func (c *Cluster) CutClient(client, i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.relays[[2]int{client, i}]; r != nil {
		r.there.shut()
		r.back.shut()
	}
}

// Heal opens all gates, resumes who is paused, and starts who is dead.
func (c *Cluster) Heal() error {
	for _, p := range c.proxies {
		for j := range Members {
			p.to[j].open()
		}
	}
	c.mu.Lock()
	for _, r := range c.relays {
		r.there.open()
		r.back.open()
	}
	c.mu.Unlock()
	for i, m := range c.members {
		m.resume()
		if !m.running() {
			if err := c.Restart(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// Leader returns the member that leads, as one that knows says; -1: none does.
func (c *Cluster) Leader(ctx context.Context) int {
	for i, e := range c.admin.Endpoints() {
		if !c.members[i].running() {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		st, err := c.admin.Status(ask, e)
		cancel()
		if err == nil && st.Leader == st.Header.MemberId {
			return i
		}
	}
	return -1
}

// Compact forgets all changes before the present revision, at all members.
func (c *Cluster) Compact(ctx context.Context) (revision int64, err error) {
	resp, err := c.admin.Get(ctx, "x", clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	_, err = c.admin.Compact(ctx, resp.Header.Revision)
	return resp.Header.Revision, err
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Main becomes a member where the process was started to be one, and returns otherwise.
func Main() {
	if text := os.Getenv(memberEnv); text != "" {
		runMember(text)
	}
}
