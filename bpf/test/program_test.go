// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket/layers"

	"weft/internal/base/privtest"
	"weft/internal/node/kernel"
)

func TestGoodPacketsPass(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	for _, f := range good(t) {
		t.Run(f.name, func(t *testing.T) { f.check(t, b) })
	}
}

func TestBadPacketsAreDroppedWithReason(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	for _, f := range bad(t) {
		t.Run(f.name, func(t *testing.T) { f.check(t, b) })
	}
}

func TestEveryReasonHasAPacket(t *testing.T) {
	privtest.Require(t)
	seen := map[kernel.DropReason]bool{
		kernel.DropPortUnknown: true, // TestEmptyMapsDropEverything
		kernel.DropEncap:       true, // TestFailingHelpersDrop
		kernel.DropRewrite:     true, // TestFailingHelpersDrop
		kernel.DropIPOptions:   true, // TestOptionsOfIPv4
		kernel.DropPuntRate:    true, // TestQuestionsAreLimitedPerPort
		kernel.DropDHCPServer:  true, // TestQuestionsGoToTheAgent
		kernel.DropBlackhole:   true, // TestRoutes
		kernel.DropChecksum:    true, // internal/node/kernel: a test run has no packet whose checksum is unfinished
	}
	for _, f := range append(bad(t), bad6(t)...) {
		seen[f.drop] = true
	}
	for _, r := range kernel.DropReasons() {
		if !seen[r] {
			t.Errorf("no packet is dropped for %s", r)
		}
	}
}

func TestEmptyMapsDropEverything(t *testing.T) {
	b := newRig(t)
	for _, f := range append(good(t), bad(t)...) {
		if f.open || f.drop == kernel.DropTunnelKey {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			out := b.run(t, f.in)
			reason := map[string]kernel.DropReason{
				"from_port": kernel.DropPortUnknown, "from_uplink": kernel.DropTunnelPeerUnknown,
				"to_port": kernel.DropHostToPort,
			}[f.in.program]
			checkDrop(t, f.in, out, reason, false)
		})
	}
}

func TestTruncatedPacketsAreDropped(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	short := 0
	for _, f := range good(t) {
		if f.open {
			continue
		}
		for size := shortest(f.in.frame); size < wireLen(f.in.frame); size++ {
			in := f.in
			in.frame = f.in.frame[:size]
			out := b.run(t, in)
			if len(out.drops) != 1 {
				t.Fatalf("%s cut to %d bytes: verdict %d, drops %v", f.name, size, out.verdict, out.drops)
			}
			reason := kernel.DropReason(out.drops[0].reason)
			if reason != kernel.DropShort && reason != kernel.DropIPMalformed {
				t.Errorf("%s cut to %d bytes: %s", f.name, size, reason)
			}
			if reason == kernel.DropShort {
				short++
			}
		}
	}
	if short == 0 {
		t.Error("nothing was short")
	}
}

// shortest is the shortest part of a frame that a test run takes: it wants whole IP headers itself.
func shortest(f []byte) int {
	if f[12] == 8 && f[13] == 0 {
		return 34
	}
	return 15
}

// wireLen is the length without padding.
func wireLen(f []byte) int {
	if f[12] == 8 && f[13] == 0 {
		return 14 + int(f[16])<<8 + int(f[17])
	}
	return 42
}

func TestTaggedPacketsAreDropped(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	for _, f := range good(t) {
		if f.open {
			continue
		}
		in := f.in
		in.frame = tagged(f.in.frame, 0x8100)
		checkDrop(t, in, b.run(t, in), kernel.DropVLAN, true)
	}
}

func TestFragmentsAndOptionsPassLikeOthers(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	for name, change := range map[string]func(*layers.IPv4){"first": firstFragment, "later": laterFragment, "options": options} {
		t.Run(name, func(t *testing.T) {
			bridged, through := udp(t, web2MAC, "10.0.1.5", 40, change), udp(t, routerMAC, "10.0.2.5", 40, change)
			near := fixture{in: input{program: "from_port", frame: bridged}, pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1}
			near.check(t, b)
			far := fixture{
				in: input{program: "from_port", frame: through}, frame: routed(t, through, db2MAC),
				pass: kernel.PassToTunnel, ifindex: uplinkIndex, remote: true, ports: 1, places: 1,
			}
			far.check(t, b)
		})
	}
}

// A wrong header checksum must stay wrong, or the router would vouch for a broken header.
func TestWrongChecksumStaysWrong(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	broken := udp(t, routerMAC, "10.0.2.4", 20)
	want := routed(t, broken, db1MAC)
	broken[24] ^= 0x10
	out := b.run(t, input{program: "from_port", frame: broken})
	if out.verdict != redirected || bytes.Equal(out.frame, want) {
		t.Errorf("verdict %d; the checksum was mended", out.verdict)
	}
}

func TestChecksumOfEveryTTL(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	for n := 2; n < 256; n++ {
		f := udp(t, routerMAC, "10.0.2.4", 20, ttl(uint8(n)))
		if out := b.run(t, input{program: "from_port", frame: f}); !bytes.Equal(out.frame, routed(t, f, db1MAC)) {
			t.Fatalf("TTL %d: %x", n, out.frame)
		}
	}
}

func TestFailingHelpersDrop(t *testing.T) {
	for _, c := range []struct {
		helper asm.BuiltinFunc
		frame  []byte
		reason kernel.DropReason
	}{
		{asm.FnSkbSetTunnelKey, udp(t, web3MAC, "10.0.1.6", 20), kernel.DropEncap},
		{asm.FnSkbStoreBytes, udp(t, routerMAC, "10.0.2.4", 20), kernel.DropRewrite},
		{asm.FnSkbStoreBytes, echo(t, routerMAC, "10.0.1.1"), kernel.DropRewrite},
		{asm.FnSkbStoreBytes, arp(t, "10.0.1.1"), kernel.DropRewrite},
		{asm.FnSkbChangeType, udp(t, web2MAC, "10.0.1.5", 20), kernel.DropRewrite},
	} {
		t.Run(fmt.Sprint(c.helper), func(t *testing.T) {
			b := newRig(t, c.helper)
			redVPC(t, b)
			in := input{program: "from_port", frame: c.frame}
			checkDrop(t, in, b.run(t, in), c.reason, true)
		})
	}
}

// A super-packet counts as its segments, headers once for each; and each must fit.
func TestSuperPacketsCountAsSegments(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	segment := tcp(t, web2MAC, "10.0.1.5", 1400) // 20 + 32 header bytes
	for name, c := range map[string]struct {
		frame         []byte
		size, segs    uint32
		packets, more uint64
	}{
		"tcp":          {segment, 500, 3, 3, 2 * 52},
		"tcp-from-tap": {segment, 500, 0, 3, 2 * 52},
		"udp":          {udp(t, web2MAC, "10.0.1.5", 1400), 700, 2, 2, 28},
	} {
		t.Run(name, func(t *testing.T) {
			out := b.run(t, input{program: "from_port", frame: c.frame, gsoSize: c.size, gsoSegs: c.segs})
			want := count{reason: uint32(kernel.PassLocal), packets: c.packets, bytes: uint64(len(c.frame)-14) + c.more}
			if len(out.passes) != 1 || out.passes[0] != want {
				t.Errorf("counted %v, want %v", out.passes, want)
			}
			spoofed := slices.Clone(c.frame)
			spoofed[11] ^= 1
			out = b.run(t, input{program: "from_port", frame: spoofed, gsoSize: c.size, gsoSegs: c.segs})
			want = count{tenant: tenant, reason: uint32(kernel.DropSrcMACSpoof), packets: c.packets, bytes: want.bytes}
			if len(out.drops) != 1 || out.drops[0] != want {
				t.Errorf("dropped %v, want %v", out.drops, want)
			}
		})
	}
	long := tcp(t, web2MAC, "10.0.1.5", 2900)
	if out := b.run(t, input{program: "from_port", frame: long, gsoSize: mtu - 52, gsoSegs: 3}); out.verdict != redirected {
		t.Errorf("segments of the MTU: verdict %d, %v", out.verdict, out.drops)
	}
	out := b.run(t, input{program: "from_port", frame: long, gsoSize: mtu - 51, gsoSegs: 3})
	if len(out.drops) != 1 || out.drops[0].reason != uint32(kernel.DropTooBig) || out.drops[0].packets != 3 {
		t.Errorf("segments longer than the MTU: %v", out.drops)
	}
}

func TestPacketOfMTUPasses(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	f := fixture{in: input{program: "from_port", frame: udp(t, web2MAC, "10.0.1.5", mtu-28)}, pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1}
	f.check(t, b)
}

// The verifier walks fewer instructions than this; whoever needs more says so here.
func TestInstructionBudget(t *testing.T) {
	privtest.Require(t)
	spec := loadSpec(t)
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for name, budget := range map[string]struct{ length, walked int }{
		"from_port":    {5000, 80000},
		"from_uplink":  {700, 8000},
		"from_service": {700, 8000},
		"to_port":      {250, 2000},
	} {
		info, err := coll.Programs[name].Info()
		if err != nil {
			t.Fatal(err)
		}
		walked, _ := info.VerifiedInstructions()
		length := len(spec.Programs[name].Instructions)
		t.Logf("%s: %d instructions, verifier walked %d", name, length, walked)
		if length > budget.length || int(walked) > budget.walked {
			t.Errorf("%s: %d instructions (budget %d), verifier walked %d (budget %d)", name, length, budget.length, walked, budget.walked)
		}
	}
}
