// SPDX-License-Identifier: Apache-2.0

// Package model compares the pure-Go packet path (internal/trace) with the eBPF programs: random networks, random and broken
// packets, the same end, the same way, the same bytes, the same count.
package model

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"weft/internal/node/kernel"
)

var (
	packets = flag.Int("packets", 100_000, "packets to compare")
	seed    = flag.Uint64("seed", 0, "seed of the one network to compare; 0: as many as the packets need, from 1 on")
)

// tunnels are the versions of the underlay.
var tunnels = map[string]netip.Addr{"over-ipv4": netip.MustParseAddr("198.19.0.1"), "over-ipv6": netip.MustParseAddr("fd98::1")}

// elsewhere are the reasons that no packet of this test can be dropped for, and the tests whose packets are.
var elsewhere = map[kernel.DropReason]string{
	kernel.DropEncap:    "bpf/test TestFailingHelpersDrop",
	kernel.DropRewrite:  "bpf/test TestFailingHelpersDrop",
	kernel.DropPuntRate: "bpf/test TestQuestionsAreLimitedPerPort",
	kernel.DropChecksum: "internal/node/kernel TestChecksumOverCheckedHeaderIsDropped",
}

// TestModelEqualsProgram is the comparison. Every reason and every way must come up.
func TestModelEqualsProgram(t *testing.T) {
	seen := map[string]int{}
	for name, tunnel := range tunnels {
		t.Run(name, func(t *testing.T) { compareRandom(t, tunnel, seen) })
	}
	if *seed != 0 || t.Failed() {
		return
	}
	t.Logf("%v", seen)
	for _, reason := range kernel.DropReasons() {
		if _, other := elsewhere[reason]; !other && seen["drop "+reason.String()] == 0 {
			t.Errorf("nothing was dropped for %s", reason)
		}
	}
	for kind := kernel.PassLocal; kind <= kernel.PassFromService; kind++ {
		if seen[kind.String()] == 0 && kind != kernel.PassUncounted {
			t.Errorf("nothing was %s", kind)
		}
	}
}

func compareRandom(t *testing.T, tunnel netip.Addr, seen map[string]int) {
	b := newBench(t, tunnel)
	const perNetwork = 250
	first, last := uint64(1), uint64(max(1, *packets/perNetwork/len(tunnels)))
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for s := first; s <= last; s++ {
		r := rand.New(rand.NewPCG(s, 42))
		b.use(randomNetwork(r, tunnel.Is6()))
		for i := range perNetwork {
			seen[b.compare(b.net.random(r), fmt.Sprintf("-seed %d, packet %d", s, i))]++
		}
	}
	b.counted()
}

// TestBrokenAtEveryByte takes packets of every kind, cuts them at each byte, and breaks each byte of their headers in
// several ways.
func TestBrokenAtEveryByte(t *testing.T) {
	b := newBench(t, tunnels["over-ipv4"])
	compared := 0
	for s := uint64(1); s <= 40; s++ {
		r := rand.New(rand.NewPCG(s, 7))
		b.use(randomNetwork(r, false))
		kinds := map[string]input{} // one frame for each program and end
		for i := range 400 {
			in := b.net.random(r)
			if len(in.frame) <= 200 {
				kinds[in.program+b.compare(in, fmt.Sprintf("seed %d, packet %d", s, i))] = in
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			compared += b.breakEverywhere(kinds[kind], fmt.Sprintf("seed %d, %s", s, kind))
		}
	}
	b.counted()
	if compared < 100_000 {
		t.Errorf("only %d broken packets were compared", compared)
	}
}

// breakEverywhere compares all broken forms of one frame and returns how many the kernel took.
func (b *bench) breakEverywhere(whole input, where string) (compared int) {
	try := func(f []byte, what string) {
		in := whole
		in.frame = f
		if b.compare(in, where+", "+what) != "" {
			compared++
		}
	}
	for size := 14; size < len(whole.frame); size++ {
		try(whole.frame[:size], fmt.Sprintf("cut to %d", size))
	}
	for at := range min(len(whole.frame), 96) {
		for _, change := range []byte{0x01, 0x80, 0xff, whole.frame[at]} { // the last one makes it 0
			f := slices.Clone(whole.frame)
			f[at] ^= change
			try(f, fmt.Sprintf("byte %d ^ %#x", at, change))
		}
	}
	return compared
}
