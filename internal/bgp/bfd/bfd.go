// SPDX-License-Identifier: Apache-2.0

// Package bfd detects within a fraction of a second that a neighbour on a link is gone, also where the link stays up: Bidirectional
// Forwarding Detection (RFC 5880), asynchronous mode, single hop (RFC 5881), without authentication.
//
// All of it is one goroutine on a thread of its own with a real-time priority: a late packet is a false alarm.
package bfd

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Port is that of single-hop BFD (RFC 5881, 4).
const Port = 3784

// Ports that sessions send from.
const (
	sourceFirst = 49152
	sourceCount = 16384
)

// ttl of every packet: one that came over a router has less (RFC 5082).
const ttl = 255

// lookEvery bounds how long a new session waits for its first packet.
const lookEvery = 20 * time.Millisecond

// Server has the sessions of this machine.
type Server struct {
	interval   time.Duration
	multiplier uint8
	log        *slog.Logger
	changed    func()
	listen     [2]int // sockets, IPv4 and IPv6

	mu       sync.Mutex // guards below
	sessions map[netip.Addr]*running
	closed   bool
	done     chan struct{}
}

// running is a session with the socket that it sends from.
type running struct {
	*session
	fd    int
	falls int // how often it was lost
}

// Serve opens the port. Changed is called when a session went up or down, or is no longer lost; it must not block, nor call the server.
func Serve(interval time.Duration, multiplier uint8, log *slog.Logger, changed func()) (*Server, error) {
	s := &Server{interval: interval, multiplier: multiplier, log: log, changed: changed, sessions: make(map[netip.Addr]*running), done: make(chan struct{}), listen: [2]int{-1, -1}}
	for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
		fd, err := open(family, netip.AddrPortFrom(unspecified(family), Port))
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) && family == unix.AF_INET6 {
			continue // IPv6 is off
		}
		if err != nil {
			s.closeSockets()
			return nil, fmt.Errorf("open the BFD port: %w", err)
		}
		s.listen[i] = fd
	}
	go s.run()
	return s, nil
}

func unspecified(family int) netip.Addr {
	if family == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// open makes a socket whose packets have the TTL, and that says which one a packet came with.
func open(family int, at netip.AddrPort) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if family == unix.AF_INET {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl), unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1),
			unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, 0xc0))
	} else {
		err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1), unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl),
			unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1), unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0xc0))
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// Add begins a session with a neighbour on a link; one that is there is left alone.
func (s *Server) Add(peer netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.sessions[peer] != nil {
		return nil
	}
	family := unix.AF_INET
	if peer.Is6() {
		family = unix.AF_INET6
	}
	start := int(time.Now().UnixNano() % sourceCount)
	for i := range sourceCount {
		fd, err := open(family, netip.AddrPortFrom(unspecified(family), uint16(sourceFirst+(start+i)%sourceCount)))
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open a socket for BFD with %s: %w", peer, err)
		}
		s.sessions[peer] = &running{session: newSession(s.interval, s.multiplier, time.Now()), fd: fd}
		return nil
	}
	return fmt.Errorf("open a socket for BFD with %s: no port is free", peer)
}

// Remove ends a session, with a last word that it is meant so.
func (s *Server) Remove(peer netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.sessions[peer]
	if r == nil {
		return
	}
	delete(s.sessions, peer)
	r.state = AdminDown
	s.send(r, peer, r.packet().encode())
	unix.Close(r.fd)
}

// State is that of the session with a neighbour, AdminDown if there is none.
func (s *Server) State(peer netip.Addr) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.sessions[peer]; r != nil {
		return r.state
	}
	return AdminDown
}

// Lost reports whether the session with a neighbour was up, and is not, by nobody's wish, and how often it was so.
func (s *Server) Lost(peer netip.Addr) (lost bool, falls int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.sessions[peer]; r != nil {
		return r.lost, r.falls
	}
	return false, 0
}

// Close ends without a word: neighbours find out by the silence.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	<-s.done
}

func (s *Server) closeSockets() {
	for _, fd := range s.listen {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	for _, r := range s.sessions {
		unix.Close(r.fd)
	}
}

// send is fine with failures: silence is what they are for the neighbour.
func (s *Server) send(r *running, peer netip.Addr, b []byte) {
	_ = unix.Sendto(r.fd, b, 0, sockaddr(netip.AddrPortFrom(peer, Port)))
}

// run never leaves its thread, which has a priority above that of all that is not real-time; without the right to it, it runs as others do.
func (s *Server) run() {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked: the thread ends with its priority
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}, 0); err != nil {
		s.log.Warn("BFD runs without a real-time priority", "err", err)
	}
	buf, control := make([]byte, 512), make([]byte, 256)
	for {
		wait, closed := s.turn()
		if closed {
			s.mu.Lock()
			s.closeSockets()
			s.mu.Unlock()
			return
		}
		fds := make([]unix.PollFd, 0, 2)
		for _, fd := range s.listen {
			if fd >= 0 {
				fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
			}
		}
		if _, err := unix.Poll(fds, int(wait/time.Millisecond)+1); err != nil && !errors.Is(err, syscall.EINTR) {
			s.log.Error("BFD waits for packets", "err", err)
			time.Sleep(lookEvery)
		}
		for _, p := range fds {
			if p.Revents != 0 {
				s.drain(int(p.Fd), buf, control)
			}
		}
	}
}

// turn lets every session do what is due, and returns how long nothing will be.
func (s *Server) turn() (wait time.Duration, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, wait := time.Now(), lookEvery
	for peer, r := range s.sessions {
		before := *r.session
		if b := r.tick(now); b != nil {
			s.send(r, peer, b)
		}
		s.compare(peer, r, before)
		wait = min(wait, max(0, r.due().Sub(now)))
	}
	return wait, s.closed
}

func (s *Server) compare(peer netip.Addr, r *running, before session) {
	if !before.lost && r.lost {
		r.falls++
	}
	if (before.state == Up) != (r.state == Up) {
		s.log.Info("BFD", "peer", peer, "state", r.state.String(), "before", before.state.String(), "diagnostic", r.diagnostic)
		s.changed()
	} else if before.lost != r.lost {
		s.changed()
	}
}

// drain reads all packets that wait at a socket.
func (s *Server) drain(fd int, buf, control []byte) {
	for {
		n, cn, _, from, err := unix.Recvmsg(fd, buf, control, 0)
		if err != nil {
			return // nothing more
		}
		if hops(control[:cn]) != ttl {
			continue // came over a router (RFC 5881, 5)
		}
		var peer netip.Addr
		switch a := from.(type) {
		case *unix.SockaddrInet4:
			peer = netip.AddrFrom4(a.Addr)
		case *unix.SockaddrInet6:
			peer = netip.AddrFrom16(a.Addr)
		}
		if p, err := decode(buf[:n]); err == nil {
			s.take(peer, p)
		}
	}
}

func (s *Server) take(peer netip.Addr, p packet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.sessions[peer]
	if r == nil {
		return
	}
	before := *r.session
	if answer := r.receive(p, time.Now()); answer != nil {
		s.send(r, peer, answer)
	}
	s.compare(peer, r, before)
}

// hops is the TTL or hop limit that a packet came with; 0: unknown.
func hops(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		ours := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TTL || m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT
		if ours && len(m.Data) >= 4 {
			return int(m.Data[0]) // little-endian machines only, as all of weft
		}
	}
	return 0
}
