// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/internal/netns"
)

const prefix = "probetest-"

// newProber returns a prober whose ports are the two ends of one wire: red/a at 10.9.0.1 and blue/b at 10.9.0.2.
func newProber(t *testing.T) *Prober {
	t.Helper()
	privtest.Require(t)
	p := New(Config{
		Prefix: prefix, Log: slog.New(slog.DiscardHandler),
		Attach: func(_ context.Context, _, port, ns string) error {
			switch port {
			case "a":
				return configure("a", "10.9.0.1/24", "fd09::1/64")
			case "b":
				if err := netns.CreateVeth(netns.End{NetNS: prefix + "b", Name: device}, netns.End{NetNS: prefix + "a", Name: device}, 1450); err != nil {
					return err
				}
				return errors.Join(configure("a", "10.9.0.1/24", "fd09::1/64"), configure("b", "10.9.0.2/24", "fd09::2/64"))
			}
			return fmt.Errorf("no port %s for %s", port, ns)
		},
		Detach: func(context.Context, string, string) error { return nil },
		Drops:  func(string) (map[string]uint64, error) { return nil, nil },
		Tunnel: netip.MustParseAddr("127.0.0.1"),
	})
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if names, err := netns.List(); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) }) {
			t.Errorf("left %v, %v", names, err)
		}
	})
	return p
}

// configure brings the device of a workload up, once it is there.
func configure(name string, addresses ...string) error {
	n, err := netns.Open(prefix + name)
	if err != nil {
		return err
	}
	defer n.Close()
	links, err := n.Links()
	if err != nil || len(links) < 2 {
		return err
	}
	if err := n.SetSysctl("net/ipv6/conf/"+device+"/accept_dad", "0"); err != nil { // an address may be used at once
		return err
	}
	for _, a := range addresses {
		if err := n.AddAddress(device, netip.MustParsePrefix(a)); err != nil {
			return err
		}
	}
	return n.SetUp(device)
}

func do(t *testing.T, p *Prober, r Request) (Answer, error) {
	t.Helper()
	in, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Handle(t.Context(), in)
	if err != nil {
		return Answer{}, err
	}
	var a Answer
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatal(err)
	}
	return a, nil
}

// pair makes both workloads. The first has no device before the second comes, so it is made bare.
func pair(t *testing.T) *Prober {
	t.Helper()
	p := newProber(t)
	if err := netns.Create(prefix + "a"); err != nil {
		t.Fatal(err)
	}
	if a, err := do(t, p, Request{Do: "create", Name: "b", Tenant: "blue", Port: "b"}); err != nil || a.MTU != 1450 {
		t.Fatal(a, err)
	}
	if _, err := do(t, p, Request{Do: "create", Name: "a", Tenant: "red", Port: "a"}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProbesTellWhoAnswers(t *testing.T) {
	p := pair(t)
	many := Request{Do: "many"}
	for _, r := range []Request{
		{Do: "tcp", To: "10.9.0.2:7007", Size: 1 << 20},
		{Do: "udp", To: "10.9.0.2:7007", Size: 100},
		{Do: "udp", To: "10.9.0.2:7007", Size: 4000},
		{Do: "ping", To: "10.9.0.2", Size: 1422},
		{Do: "ping", To: "10.9.0.2", Size: 1423},
		{Do: "tcp", To: "[fd09::2]:7007", Size: 1 << 20},
		{Do: "udp", To: "[fd09::2]:7007", Size: 4000},
		{Do: "ping", To: "fd09::2", Size: 1402},
		{Do: "ping", To: "fd09::2", Size: 1403},
		{Do: "arp", To: "10.9.0.2"},
		{Do: "arp", To: "fd09::2"},
		{Do: "trace", To: "10.9.0.2"},
		{Do: "trace", To: "fd09::2"},
	} {
		r.Name, r.Canary = "a", "weft-canary-000000000001"
		many.Many = append(many.Many, r)
	}
	all, err := do(t, p, many)
	if err != nil || len(all.Answers) != len(many.Many) {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, a := range all.Answers {
		r := many.Many[i]
		identity := map[string]string{"tcp": "blue/b", "udp": "blue/b", "arp": macOf(t, "b")}[r.Do]
		if !a.OK || a.Identity != identity || (r.Do == "trace" && !slices.Equal(a.Hops, []string{r.To})) {
			t.Errorf("%s to %s: %+v", r.Do, r.To, a)
		}
	}
	start := time.Now()
	if a, err := do(t, p, Request{Do: "udp", Name: "a", To: "10.9.0.77:7007"}); err != nil || a.OK || time.Since(start) > 2*within {
		t.Errorf("nobody answered with %+v, %v, after %s", a, err, time.Since(start))
	}
}

func TestFramesAreHeardWhereTheyArrive(t *testing.T) {
	p := pair(t)
	canary := CanaryPrefix + "0123456789ab"
	frame := append(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 2, 0, 0, 0, 0, 9, 0x88, 0xb5)
	if a, err := do(t, p, Request{Do: "volley", Name: "a", Steps: []Step{{Frames: [][]byte{append(frame, canary...)}}}}); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a, err := do(t, p, Request{Do: "seen", Name: "b"})
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("b heard %v, %v", a.Seen, err)
		}
		if slices.Contains(a.Seen, canary) {
			break
		}
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "a"}); err != nil || len(a.Seen) != 0 {
		t.Errorf("the sender heard itself: %v, %v", a.Seen, err)
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b", After: 1}); err != nil || slices.Contains(a.Seen, canary) {
		t.Errorf("what is known is told again: %v, %v", a.Seen, err)
	}
}

// TestAVolleyTellsWhatEachStepCaused: of a step with n frames the counters that grew belong to it, and to no other.
func TestAVolleyTellsWhatEachStepCaused(t *testing.T) {
	p := pair(t)
	p.cfg.Drops = func(tenant string) (map[string]uint64, error) { // "drops" what b hears
		if tenant != "red" {
			return nil, fmt.Errorf("asked of %q", tenant)
		}
		heard, err := p.workloads["b"].ear.heard(0)
		return map[string]uint64{"heard": uint64(len(heard)), "other": 7}, err
	}
	n := 0
	frame := func(size int) []byte {
		n++
		f := fmt.Appendf([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5}, "%s%012x", CanaryPrefix, n)
		return append(f, make([]byte, size)...)
	}
	silent := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5}
	a, err := do(t, p, Request{Do: "volley", Name: "a", Steps: []Step{
		{Frames: [][]byte{frame(0), frame(0), frame(0)}, Drops: 3},
		{Frames: [][]byte{silent}},
		{Frames: [][]byte{silent}, Drops: 1}, // must be waited for, and never comes
		{Frames: [][]byte{frame(1300)}, Drops: 1},
	}})
	if err != nil || !a.OK || len(a.Outcomes) != 4 {
		t.Fatalf("%+v, %v", a, err)
	}
	for i, want := range []uint64{3, 0, 0, 1} {
		if got := a.Outcomes[i].Drops; got["heard"] != want || got["other"] != 0 {
			t.Errorf("step %d caused %v, want %d", i+1, got, want)
		}
	}
	if a, err := do(t, p, Request{Do: "volley", Name: "a", Steps: []Step{{Frames: [][]byte{frame(4000)}}}}); err != nil || a.OK {
		t.Errorf("the wire took what is too long for its other end: %+v, %v", a, err)
	}
	if mtu, err := mtuOf(prefix + "a"); err != nil || mtu != 1450 {
		t.Errorf("the device is left with an MTU of %d, %v", mtu, err)
	}
	if a, err := do(t, p, Request{Do: "volley", Name: "a", Steps: []Step{{Frames: [][]byte{{1, 2, 3}}}}}); err != nil || a.OK {
		t.Errorf("a frame without a header was sent: %+v, %v", a, err)
	}
}

// TestPiecesAreSentAsTheyAre: a datagram in two fragments, the last one first, is answered as a whole one.
func TestPiecesAreSentAsTheyAre(t *testing.T) {
	p := pair(t)
	mac, err := net.ParseMAC(macOf(t, "b"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := net.ParseMAC(macOf(t, "a"))
	if err != nil {
		t.Fatal(err)
	}
	text := payload("weft-canary-000000000001", 1000)
	datagram := append([]byte{piecesPort >> 8, piecesPort & 0xff, Port >> 8, Port & 0xff, 1008 >> 8, 1008 & 0xff, 0, 0}, text...)
	piece := func(data []byte, offset, more byte) []byte {
		size := 20 + len(data)
		h := []byte{0x45, 0, byte(size >> 8), byte(size), 0, 1, more << 5, offset, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2}
		var sum uint32
		for i := 0; i < 20; i += 2 {
			sum += uint32(h[i])<<8 | uint32(h[i+1])
		}
		sum = sum&0xffff + sum>>16
		h[10], h[11] = ^byte(sum>>8), ^byte(sum)
		return slices.Concat(mac, own, []byte{8, 0}, h, data)
	}
	a, err := do(t, p, Request{
		Do: "pieces", Name: "a", To: "10.9.0.2:7007", Size: 1000, Canary: "weft-canary-000000000001",
		Frames: [][]byte{piece(datagram[512:], 512/8, 0), piece(datagram[:512], 0, 1)},
	})
	if err != nil || !a.OK || a.Identity != "blue/b" {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestNobodySpeaksAsATunnel: a probe of the tunnel never carries the node's tunnel end as its sender to another node.
func TestNobodySpeaksAsATunnel(t *testing.T) {
	p := newProber(t)
	const ns = prefix + "tunnel"
	if err := netns.Create(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(ns); err != nil {
			t.Error(err)
		}
	})
	var conn *net.UDPConn
	err := netns.Do(ns, func() (err error) {
		if conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: vxlanPort}); err != nil {
			return err
		}
		return p.tunnel(Request{To: "127.0.0.1", VNI: 4097, Frames: [][]byte{[]byte("a frame inside")}})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 64)
	n, _, err := conn.ReadFromUDP(buf)
	if want := "\x08\x00\x00\x00\x00\x10\x01\x00a frame inside"; err != nil || string(buf[:n]) != want {
		t.Errorf("%q, %v", buf[:n], err)
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		own := netip.MustParsePrefix(a.String()).Addr()
		if other, err := otherAddress(own); err == nil && (other == own || other.Is4() != own.Is4()) {
			t.Errorf("beside %s: %s", own, other)
		} else if err != nil && !errors.Is(err, errNoOtherAddress) {
			t.Error(err)
		}
	}
}

func TestWrongRequestsMakeNothing(t *testing.T) {
	p := newProber(t)
	for _, r := range []Request{
		{Do: "create", Name: "../x", Port: "a"},
		{Do: "create", Name: "c", Port: "none"},
		{Do: "ping", Name: "nobody", To: "10.9.0.1"},
		{Do: "fly"},
		{Do: "tcp", Name: "nobody", To: "10.9.0.1:7007", Size: 1 << 40},
		{Do: "ping", Name: "nobody", To: "10.9.0.1", Size: -1},
	} {
		if a, err := do(t, p, r); err == nil {
			t.Errorf("%+v was done: %+v", r, a)
		}
	}
}

func TestEarlierLeftoversAreRemoved(t *testing.T) {
	privtest.Require(t)
	if err := netns.Create(prefix + "old"); err != nil {
		t.Fatal(err)
	}
	newProber(t)
	if netns.Exists(prefix + "old") {
		t.Error("the namespace of an earlier run is still there")
	}
}

// macOf returns the MAC of a workload.
func macOf(t *testing.T, name string) string {
	t.Helper()
	mac, _, err := ownAddress(prefix+name, true)
	if err != nil {
		t.Fatal(err)
	}
	return mac.String()
}

// TestADeafEarSaysSo: silence proves nothing where a frame can have been missed.
func TestADeafEarSaysSo(t *testing.T) {
	p := pair(t)
	if a, err := do(t, p, Request{Do: "tcp", Name: "a", To: "10.9.0.2:7007", Size: 4 << 20, Canary: CanaryPrefix + "000000000001"}); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err != nil || !a.OK || !slices.Contains(a.Seen, CanaryPrefix+"000000000001") {
		t.Errorf("after a bulk transfer: %+v, %v", a, err)
	}
	e := p.workloads["b"].ear
	for i := range heardMost + 1 {
		e.note(fmt.Appendf(nil, "%s%012x", CanaryPrefix, i+2))
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err != nil || a.OK || !strings.Contains(a.Detail, "canaries") {
		t.Errorf("after too many canaries: OK %t, %q, %v", a.OK, a.Detail, err)
	}
	if err := p.remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.heard(0); err == nil {
		t.Error("an ear that is closed reports silence")
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err == nil {
		t.Errorf("a workload that is gone reports %+v", a)
	}
}

func TestAnEarWhoseDeviceGoesIsDeaf(t *testing.T) {
	p := pair(t)
	n, err := netns.Open(prefix + "b")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.Delete(device); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		a, err := do(t, p, Request{Do: "seen", Name: "b"})
		if err == nil && !a.OK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("reports silence: %+v, %v", a, err)
		}
	}
}

// TestCleanupBesideCreate: whatever meets whatever, nothing is left, and after Close nothing is made.
func TestCleanupBesideCreate(t *testing.T) {
	privtest.Require(t)
	p := New(Config{
		Prefix: prefix, Log: slog.New(slog.DiscardHandler),
		Attach: func(_ context.Context, _, _, ns string) error {
			return netns.CreateVeth(netns.End{NetNS: filepath.Base(ns), Name: device}, netns.End{NetNS: filepath.Base(ns), Name: "peer"}, 1450)
		},
		Detach: func(context.Context, string, string) error { return nil },
	})
	var wg sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("w%d", i)
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "create", Name: name}) })
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "seen", Name: name}) })
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "remove", Name: name}) })
		wg.Go(func() { _, _ = p.do(t.Context(), Request{Do: "cleanup"}) })
	}
	wg.Wait()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if a, err := do(t, p, Request{Do: "create", Name: "late"}); err == nil {
		t.Errorf("made after Close: %+v", a)
	}
	if names, err := netns.List(); err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, prefix) }) {
		t.Errorf("left %v, %v", names, err)
	}
}

// TestWhatNobodyAsksForGoes: a check that was killed leaves nothing for longer than a lifetime, and a probe prolongs it.
func TestWhatNobodyAsksForGoes(t *testing.T) {
	p := pair(t)
	b := p.workloads["b"]
	b.expire.Reset(time.Hour)
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err != nil || !a.OK {
		t.Fatal(a, err)
	}
	if !b.expire.Reset(time.Millisecond) {
		t.Fatal("a workload that was just asked has no end")
	}
	for deadline := time.Now().Add(2 * time.Second); netns.Exists(prefix + "b"); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("its namespace is still there")
		}
	}
	if a, err := do(t, p, Request{Do: "seen", Name: "b"}); err == nil {
		t.Errorf("a workload that is gone reports %+v", a)
	}
}
