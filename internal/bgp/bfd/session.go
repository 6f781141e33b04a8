// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"
)

// State is that of a session (RFC 5880, 4.1).
type State uint8

// The states.
const (
	AdminDown State = iota
	Down
	Init
	Up
)

// String is the word that people read.
func (s State) String() string {
	return [...]string{"admin-down", "down", "init", "up"}[s&3]
}

// packet is a BFD control packet without authentication (RFC 5880, 4.1). Intervals are in microseconds.
type packet struct {
	state       State
	diagnostic  uint8
	poll, final bool
	multiplier  uint8
	mine, yours uint32 // discriminators
	desiredTx   uint32
	requiredRx  uint32
}

const packetSize = 24

var errPacket = errors.New("not a BFD control packet of a session without authentication")

// decode reads a packet and refuses what RFC 5880, 6.8.6, says must be discarded before a session is known.
func decode(b []byte) (packet, error) {
	if len(b) < packetSize || b[0]>>5 != 1 || int(b[3]) < packetSize || int(b[3]) > len(b) || b[1]&0x05 != 0 || b[2] == 0 {
		return packet{}, errPacket // version, length, authentication and multipoint, multiplier
	}
	p := packet{
		state: State(b[1] >> 6), diagnostic: b[0] & 31, poll: b[1]&0x20 != 0, final: b[1]&0x10 != 0, multiplier: b[2],
		mine: binary.BigEndian.Uint32(b[4:]), yours: binary.BigEndian.Uint32(b[8:]),
		desiredTx: binary.BigEndian.Uint32(b[12:]), requiredRx: binary.BigEndian.Uint32(b[16:]),
	}
	if p.mine == 0 || p.yours == 0 && p.state != Down && p.state != AdminDown {
		return packet{}, errPacket
	}
	return p, nil
}

func (p packet) encode() []byte {
	b := make([]byte, packetSize)
	b[0], b[1], b[2], b[3] = 1<<5|p.diagnostic&31, byte(p.state)<<6, p.multiplier, packetSize
	if p.poll {
		b[1] |= 0x20
	}
	if p.final {
		b[1] |= 0x10
	}
	binary.BigEndian.PutUint32(b[4:], p.mine)
	binary.BigEndian.PutUint32(b[8:], p.yours)
	binary.BigEndian.PutUint32(b[12:], p.desiredTx)
	binary.BigEndian.PutUint32(b[16:], p.requiredRx)
	return b // no echo function
}

// slow is how often packets are sent at most while the session is not up (RFC 5880, 6.8.3).
const slow = time.Second

// Diagnostics that are sent.
const (
	diagnosticNone     = 0
	diagnosticExpired  = 1
	diagnosticSignaled = 3
)

// session is one neighbour's: a state machine without sockets or clock.
type session struct {
	interval   time.Duration // wished for, in both directions
	multiplier uint8
	mine       uint32

	state       State
	remoteState State
	diagnostic  uint8
	yours       uint32
	remoteTx    time.Duration // what the neighbour wishes to send every
	remoteRx    time.Duration // what it takes at most
	remoteTimes uint8
	polling     bool // our new interval is not acknowledged yet
	lost        bool // it was up, and is not; but for a neighbour that wished its end (AdminDown; RFC 5882, 3.2)

	heard    time.Time // last packet
	nextSend time.Time
}

func newSession(interval time.Duration, multiplier uint8, now time.Time) *session {
	return &session{interval: interval, multiplier: multiplier, mine: rand.Uint32()%(1<<32-1) + 1, state: Down, remoteState: Down, remoteRx: slow, nextSend: now}
}

// desired is how often we wish to send.
func (s *session) desired() time.Duration {
	if s.state == Up {
		return s.interval
	}
	return max(s.interval, slow)
}

// every is how often a packet is sent, at most.
func (s *session) every() time.Duration { return max(s.desired(), s.remoteRx) }

// detection is how long silence lasts until the neighbour is gone (RFC 5880, 6.8.4).
func (s *session) detection() time.Duration {
	return time.Duration(s.remoteTimes) * max(s.interval, s.remoteTx)
}

// receive takes a packet, and returns an answer to send at once, if one is due.
func (s *session) receive(p packet, now time.Time) (answer []byte) {
	if p.yours != 0 && p.yours != s.mine {
		return nil
	}
	s.yours, s.remoteState, s.remoteTimes, s.heard = p.mine, p.state, p.multiplier, now
	s.remoteTx, s.remoteRx = time.Duration(p.desiredTx)*time.Microsecond, time.Duration(p.requiredRx)*time.Microsecond
	if p.final {
		s.polling = false
	}
	before := s.state
	switch {
	case p.state == AdminDown:
		s.lost = false
		if s.state != Down {
			s.state, s.diagnostic = Down, diagnosticSignaled
		}
	case s.state == Down && p.state == Down:
		s.state = Init
	case s.state == Down && p.state == Init, s.state == Init && (p.state == Init || p.state == Up):
		s.state, s.diagnostic, s.polling, s.lost = Up, diagnosticNone, true, false
	case s.state == Up && p.state == Down:
		s.state, s.diagnostic, s.lost = Down, diagnosticSignaled, true
	}
	if s.state != before {
		s.nextSend = now
	} else if soon := now.Add(s.every() * 3 / 4); soon.Before(s.nextSend) {
		s.nextSend = soon // the neighbour takes more than it did, and expects it from now on
	}
	if p.poll {
		final := s.packet()
		final.poll, final.final = false, true
		return final.encode()
	}
	return nil
}

// tick is called when nextSend or the detection time may be over. It returns a packet to send, if one is due.
func (s *session) tick(now time.Time) []byte {
	if (s.state == Up || s.state == Init) && now.Sub(s.heard) > s.detection() {
		s.lost = s.lost || s.state == Up
		s.state, s.diagnostic, s.yours, s.remoteState, s.remoteRx, s.polling = Down, diagnosticExpired, 0, Down, slow, false
		s.nextSend = now
	}
	if now.Before(s.nextSend) || s.remoteRx == 0 {
		return nil // a neighbour that takes none at all gets none
	}
	every := s.every()
	s.nextSend = now.Add(every*3/4 + rand.N(every/8)) // jitter: 75 to 90 percent, as a multiplier of 1 would need
	return s.packet().encode()
}

// due is when tick is to be called next.
func (s *session) due() time.Time {
	if at := s.heard.Add(s.detection()); (s.state == Up || s.state == Init) && at.Before(s.nextSend) {
		return at
	}
	return s.nextSend
}

func (s *session) packet() packet {
	return packet{
		state: s.state, diagnostic: s.diagnostic, poll: s.polling, multiplier: s.multiplier, mine: s.mine, yours: s.yours,
		desiredTx: uint32(s.desired() / time.Microsecond), requiredRx: uint32(s.interval / time.Microsecond),
	}
}
