// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// gate lets bytes of one direction pass, or holds them.
type gate struct {
	mu   sync.Mutex    // guards pass
	pass chan struct{} // closed: open; nil: open, too
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pass == nil {
		g.pass = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pass != nil {
		close(g.pass)
		g.pass = nil
	}
}

// wait returns true when the gate is open, or false when done is closed before.
func (g *gate) wait(done <-chan struct{}) bool {
	for {
		g.mu.Lock()
		pass := g.pass
		g.mu.Unlock()
		if pass == nil {
			return true
		}
		select {
		case <-pass:
		case <-done:
			return false
		}
	}
}

// hall takes connections until it is closed, and closes those that it has then.
type hall struct {
	listener net.Listener
	done     chan struct{}
	wg       sync.WaitGroup
}

func newHall(serve func(h *hall, c net.Conn)) (*hall, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &hall{listener: l, done: make(chan struct{})}
	h.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			h.wg.Go(func() { serve(h, c) })
		}
	})
	return h, nil
}

func (h *hall) close() {
	close(h.done)
	_ = h.listener.Close()
	h.wg.Wait()
}

// join copies both ways between two connections until one of them ends.
func (h *hall) join(a io.Reader, ac, bc net.Conn, there, back *gate) {
	var once sync.Once
	ended := make(chan struct{})
	end := func() { once.Do(func() { close(ended) }) }
	var wg sync.WaitGroup
	carry := func(to io.Writer, from io.Reader, g *gate) {
		defer end()
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				if !g.wait(ended) {
					return
				}
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				g.wait(ended) // that it ended is told by the same way
				return
			}
		}
	}
	wg.Go(func() { carry(bc, a, there) })
	wg.Go(func() { carry(ac, bc, back) })
	select {
	case <-ended:
	case <-h.done:
		end()
	}
	_ = ac.Close()
	_ = bc.Close()
	wg.Wait()
}

// relay is the way of one client to one member.
type relay struct {
	*hall
	there, back gate
}

func newRelay(to string) (*relay, error) {
	r := &relay{}
	h, err := newHall(func(h *hall, c net.Conn) {
		defer c.Close()
		if !r.there.wait(h.done) {
			return
		}
		if out, err := net.DialTimeout("tcp", to, time.Second); err == nil {
			h.join(c, c, out, &r.there, &r.back)
		}
	})
	r.hall = h
	return r, err
}

// proxy carries all that one member dials to the others. It is an HTTP proxy (CONNECT), because that is how it knows whose a connection is.
type proxy struct {
	*hall
	to [Members]gate // from this member to others, on connections of either
}

func newProxy(c *Cluster, i int) (*proxy, error) {
	p := &proxy{}
	h, err := newHall(func(h *hall, conn net.Conn) {
		defer conn.Close()
		in := bufio.NewReader(conn)
		req, err := http.ReadRequest(in)
		if err != nil || req.Method != http.MethodConnect {
			return
		}
		for j, m := range c.members {
			if req.URL.Hostname() != peerHost(j) {
				continue
			}
			if !p.to[j].wait(h.done) {
				return
			}
			out, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", m.cfg.Peer), time.Second)
			if err != nil {
				fmt.Fprint(conn, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
			h.join(in, conn, out, &p.to[j], &c.proxies[j].to[i])
			return
		}
	})
	p.hall = h
	return p, err
}

func (p *proxy) url() string { return "http://" + p.listener.Addr().String() }
