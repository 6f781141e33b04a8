// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weft/internal/node/kernel"
)

// withRouter lets the port know the router's address of its subnet, so that errors are sent.
func withRouter(t testing.TB, b *rig) {
	t.Helper()
	redVPC(t, b)
	b.put(t, "port_info", []byte{portIndex, 0, 0, 0}, port{vni: vni, tenant: tenant, subnet: 1, mtu: mtu, addr: "10.0.1.4", router: "10.0.1.1", mac: web1MAC}.bytes())
}

const quoted = 128 // bytes of the packet that an error repeats

// icmpError is what the router says of a frame from web-1; made by layers, not by difference.
func icmpError(t testing.TB, in []byte, kind, code uint8, next uint16) []byte {
	t.Helper()
	quote := in[14:wireLen(in)]
	h := &layers.IPv4{
		Version: 4, TTL: 64, TOS: 0xc0, Flags: layers.IPv4DontFragment, Protocol: layers.IPProtocolICMPv4,
		SrcIP: net.IP{10, 0, 1, 1}, DstIP: net.IP{10, 0, 1, 4},
	}
	return frame(t, ether(web1MAC, routerMAC, layers.EthernetTypeIPv4), h,
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, code), Seq: next},
		gopacket.Payload(quote[:min(len(quote), quoted)]))
}

func dontFragment(h *layers.IPv4) { h.Flags |= layers.IPv4DontFragment }

// told checks that the packet was dropped for reason and that the port got want; nil: nothing.
func told(t *testing.T, in input, out output, reason kernel.DropReason, want []byte) {
	t.Helper()
	if want == nil {
		checkDrop(t, in, out, reason, true)
		return
	}
	if len(out.drops) != 1 || out.drops[0].reason != uint32(reason) || out.drops[0].bytes != uint64(len(in.frame)-14) || len(out.passes) != 0 {
		t.Errorf("drops %v, passes %v; want one %s", out.drops, out.passes, reason)
	}
	if out.verdict != redirected || out.noted.Redirect != 1 || out.noted.IfIndex != portIndex || out.mark != markDeliver {
		t.Errorf("verdict %d, way %d to %d, mark %#x", out.verdict, out.noted.Redirect, out.noted.IfIndex, out.mark)
	}
	if !bytes.Equal(out.frame, want) {
		t.Errorf("told\n%x, want\n%x", out.frame, want)
	}
}

func TestErrorsAreSentByTheRouter(t *testing.T) {
	b := newRig(t)
	withRouter(t, b)
	icmpOf := func(kind byte) func([]byte) []byte {
		return func(f []byte) []byte { f = slices.Clone(f); f[34] = kind; return f }
	}
	for name, c := range map[string]struct {
		frame      []byte
		reason     kernel.DropReason
		kind, code uint8
		next       uint16
		silent     bool
	}{
		"ttl":                 {frame: udp(t, routerMAC, "10.0.2.4", 20, ttl(1)), reason: kernel.DropTTLExpired, kind: 11},
		"ttl-0":               {frame: udp(t, routerMAC, "10.0.2.5", 21, ttl(0)), reason: kernel.DropTTLExpired, kind: 11},
		"ttl-empty":           {frame: udp(t, routerMAC, "10.0.2.4", 0, ttl(1)), reason: kernel.DropTTLExpired, kind: 11},
		"ttl-options":         {frame: udp(t, routerMAC, "10.0.2.4", 300, ttl(1), options), reason: kernel.DropTTLExpired, kind: 11},
		"ttl-first-fragment":  {frame: udp(t, routerMAC, "10.0.2.4", 300, ttl(1), firstFragment), reason: kernel.DropTTLExpired, kind: 11},
		"ttl-later-fragment":  {frame: udp(t, routerMAC, "10.0.2.4", 300, ttl(1), laterFragment), reason: kernel.DropTTLExpired, silent: true},
		"ttl-echo":            {frame: echo(t, routerMAC, "10.0.2.4", ttl(1)), reason: kernel.DropTTLExpired, kind: 11},
		"ttl-echo-reply":      {frame: icmpOf(0)(echo(t, routerMAC, "10.0.2.4", ttl(1))), reason: kernel.DropTTLExpired, kind: 11},
		"ttl-unreachable":     {frame: icmpOf(3)(echo(t, routerMAC, "10.0.2.4", ttl(1))), reason: kernel.DropTTLExpired, silent: true},
		"ttl-quench":          {frame: icmpOf(4)(echo(t, routerMAC, "10.0.2.4", ttl(1))), reason: kernel.DropTTLExpired, silent: true},
		"ttl-redirect":        {frame: icmpOf(5)(echo(t, routerMAC, "10.0.2.4", ttl(1))), reason: kernel.DropTTLExpired, silent: true},
		"ttl-time-exceeded":   {frame: icmpOf(11)(echo(t, routerMAC, "10.0.2.4", ttl(1))), reason: kernel.DropTTLExpired, silent: true},
		"ttl-parameter":       {frame: icmpOf(12)(echo(t, routerMAC, "10.0.2.4", ttl(1))), reason: kernel.DropTTLExpired, silent: true},
		"ttl-icmp-without":    {frame: frame(t, ether(routerMAC, web1MAC, layers.EthernetTypeIPv4), ip("10.0.2.4", layers.IPProtocolICMPv4, ttl(1))), reason: kernel.DropTTLExpired, silent: true},
		"too-big":             {frame: udp(t, web2MAC, "10.0.1.5", mtu-27, dontFragment), reason: kernel.DropTooBig, kind: 3, code: 4, next: mtu},
		"too-big-routed":      {frame: udp(t, routerMAC, "10.0.2.5", 3000, dontFragment), reason: kernel.DropTooBig, kind: 3, code: 4, next: mtu},
		"too-big-fragmented":  {frame: udp(t, routerMAC, "10.0.2.5", 3000), reason: kernel.DropTooBig, silent: true},
		"no-location":         {frame: udp(t, routerMAC, "10.0.1.99", 20), reason: kernel.DropNoLocation, kind: 3, code: 1},
		"no-location-bridged": {frame: udp(t, otherMAC, "10.0.1.99", 20), reason: kernel.DropNoLocation, silent: true},
		"spoof":               {frame: udp(t, routerMAC, "10.0.2.4", 20, ttl(1), from("0.0.0.0")), reason: kernel.DropSrcIPSpoof, silent: true},
		"broadcast":           {frame: udp(t, broadcastMAC, "10.0.2.4", 20, ttl(1)), reason: kernel.DropBroadcast, silent: true},
		"multicast":           {frame: udp(t, routerMAC, "224.0.0.5", 20, ttl(1)), reason: kernel.DropMulticast, silent: true},
	} {
		t.Run(name, func(t *testing.T) {
			in := input{program: "from_port", frame: c.frame}
			var want []byte
			if !c.silent {
				want = icmpError(t, c.frame, c.kind, c.code, c.next)
			}
			told(t, in, b.run(t, in), c.reason, want)
		})
	}
}

// What is padding of the frame is no part of the packet that is quoted; whatever its length, the sums are right.
func TestErrorsQuoteEveryLength(t *testing.T) {
	b := newRig(t)
	withRouter(t, b)
	for size := range 160 {
		f := udp(t, routerMAC, "10.0.2.4", size, ttl(1))
		in := input{program: "from_port", frame: slices.Concat(f, make([]byte, size%5))}
		told(t, in, b.run(t, in), kernel.DropTTLExpired, icmpError(t, f, 11, 0, 0))
	}
}

func TestSuperPacketIsToldItsMTU(t *testing.T) {
	b := newRig(t)
	withRouter(t, b)
	f := tcp(t, web2MAC, "10.0.1.5", 2900)
	f[20] = 0x40 // do not fragment
	out := b.run(t, input{program: "from_port", frame: f, gsoSize: mtu - 51, gsoSegs: 3})
	if len(out.drops) != 1 || out.drops[0].packets != 3 || out.verdict != redirected || !bytes.Equal(out.frame, icmpError(t, f, 3, 4, mtu)) {
		t.Errorf("verdict %d, drops %v, told %x", out.verdict, out.drops, out.frame)
	}
}

func TestNoErrorWithoutRouterAddress(t *testing.T) {
	b := newRig(t)
	redVPC(t, b)
	in := input{program: "from_port", frame: udp(t, routerMAC, "10.0.2.4", 20, ttl(1))}
	told(t, in, b.run(t, in), kernel.DropTTLExpired, nil)
}

func TestErrorThatCannotBeMadeIsADrop(t *testing.T) {
	for _, helper := range []asm.BuiltinFunc{asm.FnSkbChangeTail, asm.FnSkbAdjustRoom, asm.FnSkbStoreBytes} {
		t.Run(fmt.Sprint(helper), func(t *testing.T) {
			b := newRig(t, helper)
			withRouter(t, b)
			in := input{program: "from_port", frame: udp(t, routerMAC, "10.0.2.4", 20, ttl(1))}
			told(t, in, b.run(t, in), kernel.DropTTLExpired, nil)
		})
	}
}

// A port is told of so many errors in one go, then of one each 10 ms; all are counted.
func TestErrorsAreLimitedPerPort(t *testing.T) {
	b := newRig(t)
	withRouter(t, b)
	in := input{program: "from_port", frame: udp(t, routerMAC, "10.0.2.4", 20, ttl(1)), keep: true}
	burst := func() (sent int) {
		begin := time.Now()
		for range 200 {
			if b.run(t, in).verdict == redirected {
				sent++
			}
		}
		if most := 20 + int(time.Since(begin)/(10*time.Millisecond)); sent > most {
			t.Errorf("%d errors, at most %d allowed", sent, most)
		}
		return sent
	}
	if sent := burst(); sent < 20 {
		t.Errorf("%d errors at first, want 20", sent)
	}
	time.Sleep(60 * time.Millisecond)
	if sent := burst(); sent < 5 {
		t.Errorf("%d errors after a pause of 60 ms", sent)
	}
	time.Sleep(300 * time.Millisecond) // long enough to be owed more than a burst
	if sent := burst(); sent < 20 {
		t.Errorf("%d errors after a long pause, want 20", sent)
	}
}
