// SPDX-License-Identifier: Apache-2.0

// Package traffic sends numbered packets between two namespaces, in both directions at once, and tells to the packet what
// became of them.
package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"weft/internal/netns"
)

// End is one end of a flow.
type End struct {
	NetNS   string
	Address netip.Addr
}

// Count is what became of the packets of one direction.
type Count struct {
	Sent       uint64        `json:"sent"`
	Received   uint64        `json:"received"`   // different ones
	Lost       uint64        `json:"lost"`       // sent, and not received a second after the last one was
	Refused    uint64        `json:"refused"`    // the sender's own stack took them not, and said so: not sent
	Duplicated uint64        `json:"duplicated"` // received again
	Reordered  uint64        `json:"reordered"`  // received after a later one
	LongestGap time.Duration `json:"longestGap"` // between two that were received, or from the last one to the end; ns
}

// Result is a flow's end: there and back.
type Result struct {
	There Count `json:"there"`
	Back  Count `json:"back"`
}

// Flow is UDP traffic on its way.
type Flow struct {
	sides   [2]*side
	stop    context.CancelFunc
	sending sync.WaitGroup
	reading sync.WaitGroup
}

// side sends numbers from its end, and looks at those that come to it.
type side struct {
	conn  *net.UDPConn
	count Count  // of what it sends: Sent, Refused; of what it gets: the rest
	next  uint64 // number after the highest one that came
	seen  []uint64
	last  time.Time
}

// Sizes and times of a flow.
const (
	size      = 64 // bytes of UDP payload: the number, and zeros
	settle    = time.Second
	pace      = 2 * time.Millisecond // how often a sender looks how many are due
	rateMost  = 20_000               // packets/s
	roomBytes = 8 << 20              // of a socket for what it has not read yet
)

// Start begins to send rate packets each second in both directions. The flow's own ports are free ones of the ends.
func Start(a, b End, rate int) (*Flow, error) {
	if rate < 1 || rate > rateMost {
		return nil, fmt.Errorf("%d packets a second: between 1 and %d are possible", rate, rateMost)
	}
	f := &Flow{}
	var at [2]netip.AddrPort
	for i, e := range []End{a, b} {
		s := &side{}
		err := netns.Do(e.NetNS, func() error {
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(e.Address, 0)))
			if err != nil {
				return err
			}
			s.conn = conn
			return widen(conn)
		})
		if err != nil {
			f.close()
			return nil, fmt.Errorf("open a socket in %s: %w", e.NetNS, err)
		}
		f.sides[i], at[i] = s, s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	for i, s := range f.sides {
		s.last = time.Now()
		f.reading.Go(s.receive)
		f.sending.Go(func() { s.send(ctx, at[1-i], rate) })
	}
	return f, nil
}

func widen(conn *net.UDPConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, roomBytes)
	})
	return errors.Join(cerr, err)
}

// send keeps up with the clock: what was due while it could not run is sent then.
func (s *side) send(ctx context.Context, to netip.AddrPort, rate int) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	packet := make([]byte, size)
	for start := time.Now(); ; {
		due := uint64(time.Since(start)) * uint64(rate) / uint64(time.Second)
		for s.count.Sent < due && ctx.Err() == nil {
			binary.BigEndian.PutUint64(packet, s.count.Sent)
			if _, err := s.conn.WriteToUDPAddrPort(packet, to); err != nil {
				s.count.Refused++
				start = start.Add(time.Second / time.Duration(rate)) // it is not made up for
				break
			}
			s.count.Sent++
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *side) receive() {
	packet := make([]byte, size+1)
	for {
		n, _, err := s.conn.ReadFromUDPAddrPort(packet)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err == nil && n == size {
			s.take(binary.BigEndian.Uint64(packet), time.Now())
		}
	}
}

func (s *side) take(number uint64, now time.Time) {
	word, bit := number/64, uint64(1)<<(number%64)
	if word > uint64(len(s.seen))+1<<20 {
		return // none of ours
	}
	for uint64(len(s.seen)) <= word {
		s.seen = append(s.seen, 0)
	}
	switch {
	case s.seen[word]&bit != 0:
		s.count.Duplicated++
		return
	case number < s.next:
		s.count.Reordered++
	default:
		s.next = number + 1
	}
	s.seen[word] |= bit
	s.count.Received++
	s.count.LongestGap = max(s.count.LongestGap, now.Sub(s.last))
	s.last = now
}

// Stop ends the flow and counts.
func (f *Flow) Stop() Result {
	f.stop()
	f.sending.Wait()
	end := time.Now()
	time.Sleep(settle)
	f.close()
	f.reading.Wait()
	count := func(from, to *side) Count {
		c := to.count
		c.Sent, c.Refused = from.count.Sent, from.count.Refused
		c.Lost = c.Sent - min(c.Sent, c.Received)
		if gap := end.Sub(to.last); gap > c.LongestGap {
			c.LongestGap = gap
		}
		return c
	}
	return Result{There: count(f.sides[0], f.sides[1]), Back: count(f.sides[1], f.sides[0])}
}

func (f *Flow) close() {
	for _, s := range f.sides {
		if s != nil {
			s.conn.Close()
		}
	}
}

// Stop ends several flows side by side.
func Stop(flows []*Flow) []Result {
	results := make([]Result, len(flows))
	var all sync.WaitGroup
	for i, f := range flows {
		all.Go(func() { results[i] = f.Stop() })
	}
	all.Wait()
	return results
}
