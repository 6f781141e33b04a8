// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"weft/internal/southbound"
)

// tap is the packet path: questions go in, answers come out.
type tap struct {
	in     chan []byte
	out    chan []byte
	closed chan struct{}
	once   sync.Once
	fail   error // of every Write
}

func newTap() *tap {
	return &tap{in: make(chan []byte), out: make(chan []byte, 10000), closed: make(chan struct{})}
}

func (t *tap) Read(b []byte) (int, error) {
	select {
	case f := <-t.in:
		return copy(b, f), nil
	case <-t.closed:
		return 0, io.ErrClosedPipe
	}
}

func (t *tap) Write(b []byte) (int, error) {
	if t.fail != nil {
		return 0, t.fail
	}
	t.out <- slices.Clone(b)
	return len(b), nil
}

func (t *tap) Close() error { t.once.Do(func() { close(t.closed) }); return nil }

// answers returns what was written until nothing more happens.
func (t *tap) answers() (frames [][]byte) {
	synctest.Wait()
	for {
		select {
		case f := <-t.out:
			frames = append(frames, f)
		default:
			return frames
		}
	}
}

// ask sends a frame as from the port at a device and returns what comes of it.
func (t *tap) ask(frame []byte, ifindex uint32) [][]byte {
	frame = slices.Clone(frame)
	binary.BigEndian.PutUint32(frame[2:], ifindex)
	t.in <- frame
	return t.answers()
}

// run starts a server on taps, one after the other, inside a bubble.
func run(t *testing.T, taps ...*tap) *Server {
	t.Helper()
	s := New(Config{Router: testRouter, Log: slog.New(slog.DiscardHandler), Open: func(context.Context) (io.ReadWriteCloser, error) {
		if len(taps) == 0 {
			return nil, errors.New("no tap")
		}
		next := taps[0]
		taps = taps[1:]
		return next, nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return s
}

// toIndex returns the device that a frame from the agent names.
func toIndex(frame []byte) uint32 { return binary.BigEndian.Uint32(frame[8:]) }

// Two tenants with equal addresses and equal MACs: each hears only of itself, and only at its own device.
func TestPortsAreKnownByTheirDeviceAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		twin := web1
		twin.VNI, twin.Tenant, twin.Name = 5000, "blue", "web-1-of-blue"
		way := newTap()
		s := run(t, way)
		s.SetPorts(map[uint32]southbound.Port{7: web1, 8: twin})
		way.answers() // unasked ones
		discover := asks4(message4(t, dhcpv4.MessageTypeDiscover)).frame(t)
		for ifindex, name := range map[uint32]string{7: "web-1", 8: "web-1-of-blue"} {
			got := way.ask(discover, ifindex)
			if len(got) != 1 || toIndex(got[0]) != ifindex || !bytes.Equal(got[0][6:8], []byte{2, 0}) {
				t.Fatalf("%d answers, %x; want one to device %d", len(got), got, ifindex)
			}
			m, err := dhcpv4.FromBytes(got[0][42:])
			if err != nil || m.HostName() != name {
				t.Errorf("device %d is told of %v (%v)", ifindex, m, err)
			}
		}
		if got := way.ask(discover, 9); len(got) != 0 || s.Count(Unknown) != 1 {
			t.Errorf("a device without a port is answered: %x", got)
		}
		way.in <- append([]byte{0xff, 0xff}, discover[2:]...)
		if got := way.answers(); len(got) != 0 || s.Count(Unknown) != 2 {
			t.Errorf("a frame that names no device is answered: %x", got)
		}
		s.SetPorts(map[uint32]southbound.Port{8: twin})
		if got := way.ask(discover, 7); len(got) != 0 {
			t.Errorf("a port that is gone is answered: %x", got)
		}
	})
}

func TestRouterIsAdvertisedAfterChangesAndFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := newTap()
		s := run(t, way)
		only4 := web1
		only4.Interfaces = web1.Interfaces[:1]
		s.SetPorts(map[uint32]southbound.Port{7: web1, 8: only4})
		for i, wait := range []time.Duration{0, 16 * time.Second, 16 * time.Second, 10 * time.Minute, 10 * time.Minute} {
			time.Sleep(wait + 10*time.Millisecond)
			got := way.answers()
			if len(got) != 1 || toIndex(got[0]) != 7 {
				t.Fatalf("advertisement %d: %x, want one to device 7", i, got)
			}
		}
		s.SetPorts(map[uint32]southbound.Port{7: web1, 8: only4})
		if got := way.answers(); len(got) != 0 {
			t.Errorf("the same rows are advertised again: %x", got)
		}
		changed := web1
		changed.DNS = []netip.Addr{netip.MustParseAddr("fd00::54")}
		s.SetPorts(map[uint32]southbound.Port{7: changed})
		time.Sleep(10 * time.Millisecond)
		got := way.answers()
		want := netip.MustParseAddr("fd00::54").AsSlice()
		if len(got) != 1 || !bytes.HasSuffix(got[0], want) {
			t.Errorf("a changed row is advertised as %x", got)
		}
		if n := s.Count(RouterAdvertUnasked); n != 6 {
			t.Errorf("%d unasked advertisements counted, want 6", n)
		}
	})
}

func TestManyPortsAreAdvertisedOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := newTap()
		s := run(t, way)
		rows := map[uint32]southbound.Port{}
		for i := range uint32(2000) {
			rows[i+1] = web1
		}
		s.SetPorts(rows)
		time.Sleep(time.Second)
		if n := len(way.answers()); n < 900 || n > 1100 {
			t.Errorf("%d advertisements within a second, want about 1000", n)
		}
		time.Sleep(2 * time.Second)
		heard := map[uint32]bool{}
		for _, f := range way.answers() {
			heard[toIndex(f)] = true
		}
		if len(heard) < 900 {
			t.Errorf("%d ports in the second half", len(heard))
		}
	})
}

func TestServerOutlivesItsTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, broken, last := newTap(), newTap(), newTap()
		broken.fail = errors.New("device is down")
		s := run(t, first, broken, last)
		s.SetPorts(map[uint32]southbound.Port{7: web1})
		discover := asks4(message4(t, dhcpv4.MessageTypeDiscover)).frame(t)
		if len(first.ask(discover, 7)) == 0 {
			t.Fatal("no answer at the beginning")
		}
		first.Close() // as when the device is deleted
		time.Sleep(reopenAfter + time.Millisecond)
		broken.ask(discover, 7)
		time.Sleep(2 * reopenAfter)
		if len(last.ask(discover, 7)) == 0 {
			t.Fatal("no answer after the tap was opened again")
		}
		if s.Count(Unsent) != 1 || s.Count(Offer) != 2 {
			t.Errorf("counted %q", s.Dump())
		}
	})
}

func TestServerWaitsForItsTap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := run(t)
		time.Sleep(time.Minute - time.Millisecond)
		if dump := s.Dump(); !slices.Contains(dump, "reopened count=60") {
			t.Errorf("dump %q, want 60 tries", dump)
		}
	})
}

func TestDumpTellsWhoAskedAndWhatBecameOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		way := newTap()
		s := run(t, way)
		s.SetPorts(map[uint32]southbound.Port{7: web1})
		way.answers()
		way.ask(asks4(message4(t, dhcpv4.MessageTypeDiscover)).frame(t), 7)
		way.ask(asks6(message6(dhcpv6.MessageTypeSolicit, dhcpv6.OptClientID(testDUID), ia(1))).frame(t), 7)
		other := asks4(message4(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr([]byte{2, 9, 9, 9, 9, 9}))).frame(t)
		way.ask(other, 7)
		way.ask(other, 7)
		want := []string{
			"answered=dhcp4-offer count=1",
			"answered=dhcp6-advertise count=1",
			"answered=router-advert-unasked count=1",
			"ignored=other-mac count=2",
			"port tenant=red name=web-1 ifindex=7 mac=02:00:00:00:00:01 dhcp4-offer=1 dhcp6-advertise=1 router-advert-unasked=1 other-mac=2",
		}
		if got := s.Dump(); !slices.Equal(got, want) {
			t.Errorf("dump\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestEveryResultHasAName(t *testing.T) {
	names := map[string]bool{}
	for r := Offer; r < resultEnd; r++ {
		names[r.String()] = true
	}
	if len(names) != int(resultEnd)-1 || names[""] {
		t.Errorf("names %q", slices.Sorted(maps.Keys(names)))
	}
}
