// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"testing"
	"time"
)

// pair is two sessions and the wire between them.
type pair struct {
	a, b *session
	now  time.Time
	cut  [2]bool // nothing comes from a; from b
	sent [2]int
	last [2][]byte
}

func newPair() *pair {
	now := time.Unix(1000, 0)
	return &pair{a: newSession(200*time.Millisecond, 3, now), b: newSession(200*time.Millisecond, 3, now), now: now}
}

// run lets time pass in steps of 1 ms.
func (p *pair) run(t *testing.T, d time.Duration) {
	t.Helper()
	for end := p.now.Add(d); p.now.Before(end); p.now = p.now.Add(time.Millisecond) {
		for i, s := range []*session{p.a, p.b} {
			if b := s.tick(p.now); b != nil {
				p.carry(t, i, b)
			}
		}
	}
}

func (p *pair) carry(t *testing.T, from int, b []byte) {
	t.Helper()
	p.sent[from]++
	p.last[from] = b
	if p.cut[from] {
		return
	}
	in, err := decode(b)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	if answer := []*session{p.a, p.b}[1-from].receive(in, p.now); answer != nil {
		p.carry(t, 1-from, answer)
	}
}

func (p *pair) want(t *testing.T, a, b State) {
	t.Helper()
	if p.a.state != a || p.b.state != b {
		t.Fatalf("%s and %s, want %s and %s", p.a.state, p.b.state, a, b)
	}
}

func TestSession(t *testing.T) {
	p := newPair()
	p.run(t, 3*time.Second)
	p.want(t, Up, Up)
	if p.a.polling || p.b.polling {
		t.Error("a poll is not answered")
	}
	p.sent = [2]int{}
	p.run(t, 10*time.Second)
	for i, n := range p.sent {
		if n < 50 || n > 68 { // every 150 to 180 ms
			t.Errorf("side %d sent %d packets in 10 s", i, n)
		}
	}
	// One direction fails: the other side notices within 600 ms, and says so.
	p.cut[0] = true
	p.run(t, 590*time.Millisecond-200*time.Millisecond)
	p.want(t, Up, Up)
	p.run(t, 300*time.Millisecond)
	p.want(t, Down, Down)
	if p.b.diagnostic != diagnosticExpired || p.a.diagnostic != diagnosticSignaled {
		t.Errorf("diagnostics %d and %d", p.a.diagnostic, p.b.diagnostic)
	}
	p.cut[0] = false
	p.run(t, 3*time.Second)
	p.want(t, Up, Up)
	// The neighbour starts anew: its first word ends the session, and the next ones begin another.
	p.b = newSession(200*time.Millisecond, 3, p.now)
	p.run(t, 3*time.Second)
	p.want(t, Up, Up)
	if p.a.yours != p.b.mine {
		t.Error("the old session goes on")
	}
}

func TestWishedEndIsNoLoss(t *testing.T) {
	p := newPair()
	p.run(t, 3*time.Second)
	p.b.state = AdminDown
	p.carry(t, 1, p.b.packet().encode())
	p.cut[1] = true
	p.run(t, 3*time.Second)
	if p.a.state != Down || p.a.lost {
		t.Errorf("%s, lost %t", p.a.state, p.a.lost)
	}
	p = newPair()
	p.run(t, 3*time.Second)
	p.cut[1] = true
	p.run(t, time.Second)
	if p.a.state != Down || !p.a.lost {
		t.Errorf("silent: %s, lost %t", p.a.state, p.a.lost)
	}
	p.b.state = AdminDown // heard again, and meant so: no reason to stay away any more
	p.cut[1] = false
	p.carry(t, 1, p.b.packet().encode())
	if p.a.lost {
		t.Error("still lost")
	}
}

// FRR says 1 s until it is up, 200 ms from then on, and expects that at once.
func TestNeighbourThatTakesMoreGetsMore(t *testing.T) {
	now := time.Unix(1000, 0)
	s := newSession(200*time.Millisecond, 3, now)
	says := func(state State, takes time.Duration) {
		s.receive(packet{state: state, multiplier: 3, mine: 7, yours: s.mine, desiredTx: 1e6, requiredRx: uint32(takes / time.Microsecond)}, now)
	}
	says(Init, time.Second)
	s.tick(now)
	says(Up, 200*time.Millisecond)
	if next := s.due().Sub(now); s.state != Up || next > 200*time.Millisecond {
		t.Errorf("%s, and the next packet is due in %s", s.state, next)
	}
}

func TestPacketsThatAreDiscarded(t *testing.T) {
	s := newSession(200*time.Millisecond, 3, time.Unix(1000, 0))
	good := s.packet().encode()
	if _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"cut":              func(b []byte) []byte { return b[:23] },
		"version":          func(b []byte) []byte { b[0] = 2 << 5; return b },
		"length":           func(b []byte) []byte { b[3] = 25; return b },
		"short length":     func(b []byte) []byte { b[3] = 23; return b },
		"multiplier":       func(b []byte) []byte { b[2] = 0; return b },
		"multipoint":       func(b []byte) []byte { b[1] |= 1; return b },
		"authentication":   func(b []byte) []byte { b[1] |= 4; return b },
		"no discriminator": func(b []byte) []byte { copy(b[4:], make([]byte, 4)); return b },
		"up, for nobody":   func(b []byte) []byte { b[1] = byte(Up) << 6; return b },
	} {
		if p, err := decode(change(s.packet().encode())); err == nil {
			t.Errorf("%s: taken as %+v", name, p)
		}
	}
	before := *s
	s.receive(packet{state: Init, multiplier: 3, mine: 7, yours: s.mine + 1}, time.Unix(1001, 0))
	if s.state != before.state || s.yours != before.yours {
		t.Error("a packet of another session is taken")
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(newSession(time.Second, 3, time.Unix(0, 0)).packet().encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(p.encode())
		if err != nil || again != p {
			t.Errorf("%+v becomes %+v, %v", p, again, err)
		}
		s := newSession(200*time.Millisecond, 3, time.Unix(0, 0))
		p.yours = s.mine
		s.receive(p, time.Unix(1, 0))
		for i := range 20 {
			s.tick(time.Unix(int64(1+i), 0))
		}
		if s.state == Up && s.detection() == 0 {
			t.Errorf("up for ever: %+v", s)
		}
	})
}
