// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"weft/internal/southbound"
)

// Times of what nobody asked for (RFC 4861 6.2.4, 10): three advertisements after a change, then one about every ten minutes.
const (
	advertFirst   = 3
	advertSoon    = 16 * time.Second
	advertEvery   = 10 * time.Minute
	advertSpacing = time.Millisecond // between ports that became due together, so that no queue is flooded
	reopenAfter   = time.Second
)

// frameMost is longer than any question.
const frameMost = 2048

// Config is what a Server needs. Every field is required.
type Config struct {
	Router Router
	// Open opens the way to the packet path: a frame for each Read and Write. It may be called again after an error.
	Open func(ctx context.Context) (io.ReadWriteCloser, error)
	Log  *slog.Logger
}

// Server answers what the ports of one node ask. It keeps nothing that has to outlive it: the ports' rows are the leases.
type Server struct {
	cfg  Config
	wake chan struct{} // holds one: something may be due

	mu    sync.Mutex // guards below
	ports map[uint32]*client
	count [resultEnd]uint64
	fails uint64 // how often the way to the packet path was lost
}

// client is a port as the server knows it.
type client struct {
	row     southbound.Port
	count   [resultEnd]uint64
	due     time.Time // of the next advertisement
	adverts int       // sent since the row changed
}

// New returns a server without ports. Nothing is opened before Run.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, wake: make(chan struct{}, 1), ports: make(map[uint32]*client)}
}

// SetPorts replaces what is served: the rows of the ports in place, by the index of their device. A port that is new or has
// changed is soon told of its router. It does not block.
func (s *Server) SetPorts(rows map[uint32]southbound.Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ifindex := range s.ports {
		if _, ok := rows[ifindex]; !ok {
			delete(s.ports, ifindex)
		}
	}
	due := time.Now()
	for ifindex, row := range rows {
		c, ok := s.ports[ifindex]
		switch {
		case !ok:
			c = &client{row: row}
			s.ports[ifindex] = c
		case c.row.Equal(row):
			continue
		case c.row.Key() != row.Key():
			*c = client{row: row}
		default:
			c.row, c.adverts = row, 0
		}
		c.due = due
		due = due.Add(advertSpacing)
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run serves until ctx ends. Where the packet path cannot be reached, it is tried again.
func (s *Server) Run(ctx context.Context) {
	for last := ""; ctx.Err() == nil; {
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > reopenAfter {
			last = "" // it worked in between, so that it fails is news
		}
		s.mu.Lock()
		s.fails++
		s.mu.Unlock()
		if err.Error() != last {
			last = err.Error()
			s.cfg.Log.Error("serve DHCP; trying again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reopenAfter):
		}
	}
}

// session serves on one opened way, until it fails or ctx ends.
func (s *Server) session(ctx context.Context) error {
	way, err := s.cfg.Open(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		<-ctx.Done()
		if err := way.Close(); err != nil { // ends a Read that waits
			s.cfg.Log.Debug("close the way to the packet path", "err", err)
		}
	})
	wg.Go(func() { s.advertise(ctx, way) })
	frame := make([]byte, frameMost)
	for {
		n, err := way.Read(frame)
		if err != nil {
			return fmt.Errorf("read from the packet path: %w", err)
		}
		if err := s.serve(way, frame[:n]); err != nil {
			return err
		}
	}
}

// serve answers one frame. The port is the one that the packet path received it from; what is in the frame has no say.
func (s *Server) serve(way io.Writer, frame []byte) error {
	ifindex, row, ok := s.asker(frame)
	if !ok {
		s.note(ifindex, Unknown)
		return nil
	}
	answer, result := s.cfg.Router.Answer(row, frame)
	if !result.Answered() {
		s.note(ifindex, result)
		s.cfg.Log.Debug("question without an answer", "tenant", row.Tenant, "port", row.Name, "cause", result.String())
		return nil
	}
	return s.send(way, ifindex, answer, result)
}

// asker returns the port that the destination of a frame to the agent names by the index of its device.
func (s *Server) asker(frame []byte) (ifindex uint32, row southbound.Port, ok bool) {
	if len(frame) < ethernetLen || frame[0] != 2 || frame[1] != 0 {
		return 0, row, false
	}
	ifindex = binary.BigEndian.Uint32(frame[2:])
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.ports[ifindex]
	if !ok {
		return ifindex, row, false
	}
	return ifindex, c.row, true
}

// send writes a frame to the port at a device.
func (s *Server) send(way io.Writer, ifindex uint32, frame []byte, result Result) error {
	copy(frame[6:], []byte{2, 0})
	binary.BigEndian.PutUint32(frame[8:], ifindex)
	if _, err := way.Write(frame); err != nil {
		s.note(ifindex, Unsent)
		return fmt.Errorf("write to the packet path: %w", err)
	}
	s.note(ifindex, result)
	return nil
}

func (s *Server) note(ifindex uint32, result Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[result]++
	if c := s.ports[ifindex]; c != nil {
		c.count[result]++
	}
}

// advertise sends what is due, until ctx ends.
func (s *Server) advertise(ctx context.Context, way io.Writer) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.wake:
		}
		frames, next := s.due(time.Now())
		for ifindex, frame := range frames {
			if err := s.send(way, ifindex, frame, RouterAdvertUnasked); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				s.cfg.Log.Debug("advertise the router", "err", err) // the reader hears of it too, and ends the session
			}
		}
		timer.Reset(next)
	}
}

// due returns the advertisements to be sent now, and how long there is nothing more to do.
func (s *Server) due(now time.Time) (frames map[uint32][]byte, next time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	frames, next = make(map[uint32][]byte), advertEvery
	for ifindex, c := range s.ports {
		if !c.due.After(now) {
			if frame := s.cfg.Router.Unasked(c.row); frame != nil {
				frames[ifindex] = frame
			}
			c.adverts++
			c.due = now.Add(advertEvery - rand.N(advertEvery/5))
			if c.adverts < advertFirst {
				c.due = now.Add(advertSoon)
			}
		}
		next = min(next, c.due.Sub(now))
	}
	return frames, next
}

// Dump returns the counters as people see them: a line for each result that there was, one for each port.
func (s *Server) Dump() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for r := range resultEnd {
		if n := s.count[r]; n > 0 {
			out = append(out, fmt.Sprintf("%s=%s count=%d", column(r), r, n))
		}
	}
	if s.fails > 0 {
		out = append(out, fmt.Sprintf("reopened count=%d", s.fails))
	}
	for ifindex, c := range s.ports {
		line := fmt.Sprintf("port tenant=%s name=%s ifindex=%d mac=%s", c.row.Tenant, c.row.Name, ifindex, c.row.MAC)
		for r := range resultEnd {
			if n := c.count[r]; n > 0 {
				line += fmt.Sprintf(" %s=%d", r, n)
			}
		}
		out = append(out, line)
	}
	slices.Sort(out)
	return out
}

func column(r Result) string {
	if r.Answered() {
		return "answered"
	}
	return "ignored"
}

// Count returns how often there was a result.
func (s *Server) Count(r Result) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[r]
}
