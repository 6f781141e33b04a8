// SPDX-License-Identifier: Apache-2.0

// Package model compares the pure-Go packet path (internal/trace) with the eBPF programs: random networks, random and broken
// packets, the same verdict, the same bytes, the same reason.
package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"weft/internal/base/privtest"
	"weft/internal/node/kernel"
	"weft/internal/node/overlay"
	"weft/internal/southbound"
	"weft/internal/trace"
)

var (
	packets = flag.Int("packets", 100_000, "packets to compare")
	seed    = flag.Uint64("seed", 0, "seed of the run; 0: one for each hundredth of the packets, from 1 on")
)

const (
	loopback = 1 // test runs happen on the loopback device
	mtu      = 1450
	self     = "h1"
	redirect = 7 // TC_ACT_REDIRECT
	shot     = 2 // TC_ACT_SHOT
)

var routerMAC = [6]byte{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}

// bench is the real packet path, with the tables of one node, beside the model of the same node.
type bench struct {
	t       *testing.T
	path    *kernel.Datapath
	program *ebpf.Program
	overlay *overlay.Overlay
	net     *network
	node    *trace.Node
	counts  map[string]uint64 // as last read: drops by reason, passes by kind
}

// newBench loads the packet path in a network namespace of this test's own.
func newBench(t *testing.T) *bench {
	t.Helper()
	privtest.Require(t)
	runtime.LockOSThread() // not unlocked: the thread ends with the test's goroutine, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join("/sys/fs/bpf/weft", fmt.Sprintf("model-%d", os.Getpid()))
	path, err := kernel.Open(kernel.Config{
		PinDir: pins, Tunnel: netip.MustParseAddr("198.19.0.1"), RouterMAC: routerMAC, UnderlayMTU: mtu + 50, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(path.Close(), kernel.Cleanup(pins)); err != nil {
			t.Error(err)
		}
	})
	found, err := filepath.Glob(filepath.Join(pins, "v*", "prog_from_port"))
	if err != nil || len(found) != 1 {
		t.Fatalf("pinned program: %v, %v", found, err)
	}
	program, err := ebpf.LoadPinnedProgram(found[0], nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	b := &bench{t: t, path: path, program: program, counts: make(map[string]uint64)}
	b.overlay = overlay.New(overlay.Config{Node: self, RouterMAC: routerMAC, Locations: path.Locations(), Senders: path.Senders()})
	return b
}

// use makes a network that of both sides, seen from the port that sends.
func (b *bench) use(n *network) {
	b.t.Helper()
	b.net = n
	b.node = trace.NewNode(self, n.rows, trace.Config{RouterMAC: routerMAC, MTU: mtu})
	b.overlay.Reset()
	for _, r := range n.rows {
		b.overlay.Update(r)
	}
	for i, p := range n.local {
		b.overlay.SetDevice(p.VNI, p.Interfaces[0].Address, overlay.Device{IfIndex: uint32(100 + i), Kind: kernel.LocationPeer}, true)
	}
	p := n.local[0]
	err := errors.Join(b.overlay.Apply(), b.path.Ports().Put(kernel.PortKey{IfIndex: loopback}, kernel.Port{
		VNI: p.VNI, Tenant: p.TenantNumber, Subnet: p.Subnet, MTU: mtu, MAC: p.MAC, Addr4: p.Interfaces[0].Address,
	}))
	if err != nil {
		b.t.Fatal(err)
	}
}

// outcome is what can be compared.
type outcome struct {
	end   string // drop REASON, or the kind of pass
	frame []byte // as it leaves; of a drop: nothing
}

// real runs the program.
func (b *bench) real(frame []byte) (outcome, error) {
	opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
	verdict, err := b.program.Run(opts)
	switch {
	case err != nil:
		return outcome{}, err
	case verdict == redirect:
		return outcome{b.counted(b.passes), opts.DataOut}, nil
	case verdict != shot:
		b.t.Fatalf("verdict %d", verdict)
	}
	if end, ok := b.grown(b.drops); ok {
		return outcome{end: end}, nil
	}
	return outcome{end: b.counted(b.passes)}, nil // consumed
}

// counted returns the one counter that grew since it was last read.
func (b *bench) counted(read func() map[string]uint64) string {
	b.t.Helper()
	end, ok := b.grown(read)
	if !ok {
		b.t.Fatal("the packet was not counted")
	}
	return end
}

func (b *bench) grown(read func() map[string]uint64) (counter string, ok bool) {
	for k, n := range read() {
		if n == b.counts[k] {
			continue
		}
		if ok || n != b.counts[k]+1 {
			b.t.Fatalf("one packet counted as %s, and %s grew by %d", counter, k, n-b.counts[k])
		}
		b.counts[k], counter, ok = n, k, true
	}
	return counter, ok
}

func (b *bench) drops() map[string]uint64 {
	all, err := b.path.Drops()
	if err != nil {
		b.t.Fatal(err)
	}
	out := make(map[string]uint64)
	for _, c := range all {
		out["drop "+c.Reason.String()] += c.Packets
	}
	return out
}

func (b *bench) passes() map[string]uint64 {
	all, err := b.path.Passes()
	if err != nil {
		b.t.Fatal(err)
	}
	out := make(map[string]uint64)
	for _, c := range all {
		out[c.Kind.String()] += c.Packets
	}
	return out
}

// model asks the model.
func (b *bench) model(frame []byte) outcome {
	p := b.net.local[0]
	r := b.node.FromPort(trace.PortID{Tenant: p.Tenant, Name: p.Name}, frame)
	switch r.Verdict {
	case trace.Drop:
		return outcome{end: "drop " + r.Reason}
	case trace.Consumed:
		return outcome{end: kernel.PassConsumed.String()}
	case trace.Answer:
		return outcome{kernel.PassAnswered.String(), r.Frame}
	case trace.Tunnel:
		return outcome{kernel.PassToTunnel.String(), r.Frame}
	}
	return outcome{kernel.PassLocal.String(), r.Frame}
}

// TestModelEqualsProgram is the comparison. Every reason that a packet from a port can be dropped for must come up.
func TestModelEqualsProgram(t *testing.T) {
	b := newBench(t)
	seen, refused := map[string]int{}, 0
	const perNetwork = 500
	for i := range max(1, *packets/perNetwork) {
		s := *seed
		if s == 0 {
			s = uint64(i + 1)
		}
		r := rand.New(rand.NewPCG(s, 42))
		b.use(randomNetwork(r))
		for j := range perNetwork {
			frame := b.net.randomFrame(r)
			got, err := b.real(frame)
			if errors.Is(err, syscall.EINVAL) {
				refused++ // the kernel's test run takes no frame without a whole IP header
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want := b.model(frame)
			if got.end != want.end || !bytes.Equal(got.frame, want.frame) {
				t.Fatalf("-seed %d, packet %d: % x\n program: %s % x\n model:   %s % x\n rows: %v", s, j, frame, got.end, got.frame, want.end, want.frame, b.net.rows)
			}
			seen[got.end]++
		}
		if *seed != 0 {
			break
		}
	}
	t.Logf("%v, %d refused by the kernel's test run", seen, refused)
	if *seed != 0 {
		return
	}
	for _, end := range []string{
		"local", "to-tunnel", "answered", "consumed", "drop src-mac-spoof", "drop src-ip-spoof", "drop arp-spoof", "drop arp-malformed",
		"drop arp-unknown", "drop broadcast", "drop multicast", "drop dst-mac", "drop ip-malformed", "drop ttl-expired", "drop too-big",
		"drop no-location", "drop router-proto", "drop to-self", "drop vlan", "drop ethertype", "drop short",
	} {
		if seen[end] == 0 {
			t.Errorf("%q never came up", end)
		}
	}
}

// network is one VPC, or two with equal addresses, as one node sees it.
type network struct {
	rows  []southbound.Row
	local []southbound.Port // the first one sends
	addrs []netip.Addr      // of ports and routers
	macs  []southbound.MAC  // of ports and the router
}

func randomNetwork(r *rand.Rand) *network {
	n := &network{macs: []southbound.MAC{routerMAC}}
	vni, other := uint32(4096+r.IntN(4)), uint32(5000)
	for _, v := range []uint32{vni, other} {
		n.rows = append(n.rows, southbound.VPC{VNI: v, TenantNumber: v, Tenant: "t", Name: "n"})
		for i := range 3 {
			n.rows = append(n.rows, southbound.Peer{VNI: v, Node: uint16(i + 1), Name: fmt.Sprint("h", i+1), Address: netip.AddrFrom4([4]byte{198, 19, 0, byte(i + 1)})})
		}
		for s := range 1 + r.IntN(3) {
			gateway := netip.AddrFrom4([4]byte{10, 0, byte(s), 1})
			n.rows = append(n.rows, southbound.Subnet{VNI: v, Number: uint32(s + 1), Prefix: netip.PrefixFrom(gateway, 24).Masked(), Gateway: gateway})
			n.addrs = append(n.addrs, gateway)
			for h := range 1 + r.IntN(5) {
				n.port(r, v, s, h)
			}
		}
	}
	return n
}

// port adds one port, on this node or another; the first of all is on this one.
func (n *network) port(r *rand.Rand, vni uint32, subnet, host int) {
	addr := netip.AddrFrom4([4]byte{10, 0, byte(subnet), byte(4 + host)})
	mac := southbound.MAC{2, byte(vni), 0, 0, byte(subnet), byte(host)}
	node := uint16(1 + r.IntN(3))
	if len(n.local) == 0 {
		node = 1
	}
	n.rows = append(n.rows, southbound.Location{VNI: vni, Address: addr, Node: node, MAC: mac, Subnet: uint32(subnet + 1)})
	n.addrs, n.macs = append(n.addrs, addr), append(n.macs, mac)
	if node != 1 {
		return
	}
	p := southbound.Port{
		VNI: vni, Tenant: fmt.Sprint("t", vni), Name: fmt.Sprintf("p-%d-%d", subnet, host), TenantNumber: vni, Subnet: uint32(subnet + 1), MAC: mac,
		Interfaces: []southbound.Interface{{Address: addr, Bits: 24}},
	}
	n.local = append(n.local, p)
	n.rows = append(n.rows, p)
}

// randomFrame makes a frame that is nearly right, more often than not.
func (n *network) randomFrame(r *rand.Rand) []byte {
	from := n.local[0]
	src, dst := from.MAC, n.macs[r.IntN(len(n.macs))]
	if r.IntN(2) == 0 {
		dst = routerMAC
	}
	to := n.addrs[r.IntN(len(n.addrs))]
	for _, row := range n.rows { // more often than not, the MAC is that of the address
		if l, ok := row.(southbound.Location); ok && l.VNI == from.VNI && l.Address == to && r.IntN(2) == 0 {
			dst = l.MAC
		}
	}
	f := append(append([]byte{}, dst[:]...), src[:]...)
	if r.IntN(5) == 0 {
		f = n.arp(r, f, to)
	} else {
		f = n.ipv4(r, f, to)
	}
	return mutate(r, f)
}

func (n *network) arp(r *rand.Rand, f []byte, target netip.Addr) []byte {
	from := n.local[0]
	s, t := from.Interfaces[0].Address.As4(), target.As4()
	f = append(f, 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1)
	f = append(append(append(f, from.MAC[:]...), s[:]...), 0, 0, 0, 0, 0, 0)
	f = append(f, t[:]...)
	return append(f, make([]byte, r.IntN(20))...) // padding
}

func (n *network) ipv4(r *rand.Rand, f []byte, to netip.Addr) []byte {
	s, d := n.local[0].Interfaces[0].Address.As4(), to.As4()
	size := []int{0, 8, 20, 100, 1400, mtu - 20, mtu - 19}[r.IntN(7)]
	options := []int{0, 0, 0, 4, 40}[r.IntN(5)]
	h := make([]byte, 20+options+size)
	h[0], h[8], h[9] = byte(0x40|(20+options)/4), byte(r.IntN(4)), []byte{1, 6, 17, 0, 255}[r.IntN(5)]
	if r.IntN(4) > 0 {
		h[8] = 64
	}
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)))
	binary.BigEndian.PutUint16(h[6:], []uint16{0, 0, 0x4000, 0x2000, 0x0010}[r.IntN(5)])
	binary.BigEndian.PutUint16(h[10:], uint16(r.Uint32())) // its checksum is nobody's business
	copy(h[12:], s[:])
	copy(h[16:], d[:])
	if h[9] == 1 && size >= 8 && r.IntN(4) > 0 {
		h[20+options] = 8 // echo request
	}
	f = append(append(f, 0x08, 0), h...)
	return append(f, make([]byte, r.IntN(3)*r.IntN(20))...) // padding
}

// mutate breaks one frame in two: single bytes, its length, whole fields.
func mutate(r *rand.Rand, f []byte) []byte {
	switch r.IntN(10) {
	case 0, 1:
		f[r.IntN(min(len(f), 64))] = byte(r.Uint32())
	case 2:
		f[r.IntN(min(len(f), 64))] ^= 1 << r.IntN(8)
	case 3:
		f = f[:14+r.IntN(len(f)-14)]
	case 4:
		copy(f[12:], [][]byte{{0x81, 0}, {0x88, 0xa8}, {0x88, 0xcc}, {0x86, 0xdd}, {8, 6}, {0, 60}}[r.IntN(6)])
		if f[12] == 0x86 { // IPv6 is compared once the packet path carries it
			f[12] = 0x88
		}
	case 5:
		copy(f, [][]byte{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}, {0x33, 0x33, 0, 0, 0, 1}}[r.IntN(3)])
	}
	return f
}
