// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weft/internal/node/kernel"
)

// Values at the edge of a rule, where being wrong by one or by one bit would show, and nowhere else.
func TestEdges(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	port := func(f []byte) input { return input{program: "from_port", frame: f} }
	edit := func(f []byte, at int, v byte) []byte { f = slices.Clone(f); f[at] = v; return f }
	ports := func(from, to byte) gopacket.Payload { return gopacket.Payload{0, from, 0, to, 0, 24, 0, 0, 23: 0} }
	pieceOf := func(offset uint16, from, to byte) []byte {
		at := func(h *layers.IPv4) { h.FragOffset = offset }
		return frame(t, ether(web2MAC, web1MAC, layers.EthernetTypeIPv4), ip("10.0.1.5", layers.IPProtocolUDP, at), ports(from, to))
	}
	passes := func(name string, f []byte) fixture {
		return fixture{name: name, in: port(f), pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1}
	}
	echo6 := icmp6(t, routerMAC, web1MAC, web1IP6, "fe80::1", 64, 128, []byte{0, 1, 0, 1, 'h', 'e', 'y'})
	fixtures := []fixture{
		{name: "total-length-one-less-than-header", in: port(edit(udp(t, web2MAC, "10.0.1.5", 20), 17, 19)), drop: kernel.DropIPMalformed, ports: 1},
		{name: "total-length-is-header", in: port(edit(udp(t, web2MAC, "10.0.1.5", 20), 17, 20)), pass: kernel.PassLocal, ifindex: 15, peer: true, ports: 1, places: 1},
		{name: "first-piece-of-dhcp-answer", in: port(pieceOf(0, 67, 68)), drop: kernel.DropDHCPServer, ports: 1},
		{name: "router-echo-code", in: port(edit(echo(t, routerMAC, "10.0.1.1"), 35, 1)), drop: kernel.DropRouterProto, ports: 1, places: 1},
		{name: "router-echo6-code", in: port(edit(echo6, 55, 1)), drop: kernel.DropRouterProto, ports: 1},
	}
	question6 := slices.Concat([]byte{17, 0, 1, 4, 0, 0, 0, 0}, []byte{0x02, 0x22, 0x02, 0x23, 0, 8, 0, 0}) // behind an option header
	asked6 := ip6(t, [6]byte{0x33, 0x33, 0, 1, 0, 2}, web1Link, "ff02::1:2", 64, 60, question6)
	fixtures = append(fixtures, fixture{name: "dhcp6-behind-extension", in: port(asked6), drop: kernel.DropMulticast, ports: 1})
	for bit := range 13 { // what looks like ports in a later piece is payload
		fixtures = append(fixtures, passes("later-piece", pieceOf(1<<bit, 67, 68)))
	}
	for _, f := range fixtures {
		t.Run(f.name, func(t *testing.T) { f.check(t, b) })
	}
}

// A drop that finds no room in the table of counters is one all the same, and is counted as such.
func TestDropWithoutACounterIsCounted(t *testing.T) {
	b := newRig(t, asm.FnMapUpdateElem)
	redVPC(t, b)
	in := input{program: "from_port", frame: udp(t, web2MAC, "10.0.1.5", 20, from("10.0.1.5"))}
	out := b.run(t, in)
	want := count{reason: uint32(kernel.PassUncounted), packets: 1, bytes: uint64(len(in.frame) - 14)}
	if out.verdict != dropped || len(out.drops) != 0 || len(out.passes) != 1 || out.passes[0] != want {
		t.Errorf("verdict %d, drops %v, passes %v", out.verdict, out.drops, out.passes)
	}
}

// A sum of words that folds into more than 16 bits, and has to be folded once more: one packet in 65,536, all of them valid.
func TestChecksumThatFoldsTwice(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	echo6 := func(n int, to, from [6]byte, src, dst string, kind uint8) []byte {
		return icmp6(t, to, from, src, dst, 64, kind, []byte{0, 1, 0, 1, byte(n >> 8), byte(n)})
	}
	for n := range 1 << 16 {
		f := echo6(n, routerMAC, web1MAC, web1IP6, "fe80::1", 128)
		if f[56]|f[57] != 0 {
			continue
		}
		want := echo6(n, web1MAC, routerMAC, "fe80::1", web1IP6, 129)
		if out := b.run(t, input{program: "from_port", frame: f}); !slices.Equal(out.frame, want) {
			t.Errorf("answered by\n%x, want\n%x", out.frame, want)
		}
		break
	}
	for id := range 1 << 16 {
		numbered := func(h *layers.IPv4) { h.Id = uint16(id) }
		f := echo(t, routerMAC, "10.0.1.1", ttl(1), numbered)
		if binary.LittleEndian.Uint16(f[24:]) != 64-1-1 { // TTL, the first byte of its word, becomes 64
			continue
		}
		want := frame(t, ether(web1MAC, routerMAC, layers.EthernetTypeIPv4), ip("10.0.1.4", layers.IPProtocolICMPv4, from("10.0.1.1"), numbered))
		if out := b.run(t, input{program: "from_port", frame: f}); !slices.Equal(out.frame[24:26], checksumOf(out.frame)) || !slices.Equal(out.frame[26:34], want[26:34]) {
			t.Errorf("answered by %x", out.frame)
		}
		return
	}
	t.Error("no header folds twice")
}

// checksumOf is the right checksum of the IPv4 header of a frame.
func checksumOf(f []byte) []byte {
	var sum uint32
	for at := 14; at < 34; at += 2 {
		if at != 24 {
			sum += uint32(binary.BigEndian.Uint16(f[at:]))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return binary.BigEndian.AppendUint16(nil, ^uint16(sum))
}

// What a super-packet counts as, where its length leaves no rest, in both IP versions, and where it has no payload at all.
func TestSuperPacketsWithoutARest(t *testing.T) {
	b := newRig(t)
	dualVPC(t, b)
	h6 := &layers.TCP{SrcPort: 1000, DstPort: 80, ACK: true, Window: 100, DataOffset: 5}
	buffer := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{}, h6, gopacket.Payload(make([]byte, 1500))); err != nil {
		t.Fatal(err)
	}
	tcp6 := ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, layers.IPProtocolTCP, buffer.Bytes())
	for name, c := range map[string]struct {
		frame         []byte
		size, segs    uint32
		packets, more uint64
	}{
		"whole-segments":     {tcp(t, web2MAC, "10.0.1.5", 1500), 500, 0, 3, 2 * 52},
		"one-byte-more":      {tcp(t, web2MAC, "10.0.1.5", 1501), 500, 0, 4, 3 * 52},
		"ipv6-tcp":           {tcp6, 500, 0, 3, 2 * 60},
		"headers-only":       {tcp(t, web2MAC, "10.0.1.5", 0), 500, 0, 1, 0},
		"headers-only-three": {tcp(t, web2MAC, "10.0.1.5", 0), 500, 3, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			out := b.run(t, input{program: "from_port", frame: c.frame, gsoSize: c.size, gsoSegs: c.segs})
			want := count{reason: uint32(kernel.PassLocal), packets: c.packets, bytes: uint64(len(c.frame)-14) + c.more}
			if len(out.passes) != 1 || out.passes[0] != want {
				t.Errorf("counted %v, dropped %v, want %v", out.passes, out.drops, want)
			}
		})
	}
	// 1,390 bytes and 60 of headers are the MTU.
	for size, fits := range map[uint32]bool{mtu - 60: true, mtu - 59: false} {
		big := ip6(t, web2MAC, web1IP6, "fd00:1::5", 64, layers.IPProtocolTCP, append(slices.Clone(buffer.Bytes()[:20]), make([]byte, 2*int(size))...))
		if out := b.run(t, input{program: "from_port", frame: big, gsoSize: size, gsoSegs: 2}); (len(out.drops) == 0) != fits {
			t.Errorf("segments of %d bytes: %v", size, out.drops)
		}
	}
}
