// SPDX-License-Identifier: Apache-2.0

package model

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"weft/internal/southbound"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

var (
	strange4 = addrs("192.0.2.7", "198.51.100.9", "203.0.113.3", "255.255.255.255", "224.0.0.5", "127.0.0.1", "169.254.1.1", "0.0.0.0", "10.0.0.99")
	strange6 = addrs("2001:db8::7", "2001:db8:1::9", "2001:4860::1", "ff02::1", "ff02::2", "ff02::1:2", "fe80::1", "fe80::5", "::", "::1",
		"::ffff:10.0.1.4", "fd00::99")
	groups = []southbound.MAC{{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}, {0x33, 0x33, 0, 0, 0, 1}}
)

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// often picks the usual, and now and then something else.
func often[T any](r *rand.Rand, usual T, list ...T) T {
	if len(list) == 0 || r.IntN(4) > 0 {
		return usual
	}
	return pick(r, list...)
}

// own is the sender's address of a version; without one, somebody's.
func (n *network) own(r *rand.Rand, ipv4 bool) netip.Addr {
	for _, i := range n.local[0].Interfaces {
		if i.Address.Is4() == ipv4 {
			return i.Address
		}
	}
	return n.any(r, ipv4)
}

// any is an address of a version: mostly one that somebody has.
func (n *network) any(r *rand.Rand, ipv4 bool) netip.Addr {
	strange := strange6
	if ipv4 {
		strange = strange4
	}
	for range 8 {
		if a := pick(r, n.addrs...); a.Is4() == ipv4 && r.IntN(4) > 0 {
			return a
		}
	}
	return pick(r, strange...)
}

// macOf is the MAC of an address, or another, or the router's.
func (n *network) macOf(r *rand.Rand, vni uint32, to netip.Addr) southbound.MAC {
	if r.IntN(2) == 0 {
		return routerMAC
	}
	for _, l := range n.all {
		if l.VNI == vni && l.Address == to && r.IntN(4) > 0 {
			return l.MAC
		}
	}
	return often(r, pick(r, n.macs...), groups...)
}

// random is a frame for one of the programs, nearly right more often than not.
func (n *network) random(r *rand.Rand) input {
	switch r.IntN(12) {
	case 0, 1, 2:
		return n.fromUplink(r)
	case 3:
		return n.fromService(r)
	case 4:
		return input{program: "to_port", frame: n.fromPort(r), mark: pick[uint32](r, 0, 0, mark, mark+1)}
	}
	return input{program: "from_port", frame: n.fromPort(r), mark: pick[uint32](r, 0, mark)}
}

func (n *network) fromPort(r *rand.Rand) []byte {
	from := n.local[0]
	if r.IntN(6) == 0 {
		return mutate(r, n.arp(r, from))
	}
	ipv4 := r.IntN(2) == 0
	if len(from.Interfaces) == 1 && r.IntN(8) > 0 {
		ipv4 = from.Interfaces[0].Address.Is4()
	}
	src, dst := often(r, n.own(r, ipv4), n.any(r, ipv4)), n.any(r, ipv4)
	if !ipv4 {
		src = often(r, src, netip.MustParseAddr("fe80::77"), linkLocal(from.MAC), netip.IPv6Unspecified())
	}
	body := n.ip(r, src, dst)
	return mutate(r, slices.Concat(mac(n.macOf(r, from.VNI, dst)), mac(from.MAC), body))
}

func mac(m southbound.MAC) []byte { return m[:] }

func linkLocal(m southbound.MAC) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// fromUplink is a frame out of a tunnel: of a node, or of a stranger.
func (n *network) fromUplink(r *rand.Rand) input {
	ipv4 := r.IntN(2) == 0
	in := input{program: "from_uplink", vni: often(r, n.vnis[r.IntN(2)], 4098, 1), from: often(r, n.tunnels[1+r.IntN(2)], n.tunnels[0], netip.MustParseAddr("198.19.0.9"), netip.Addr{})}
	if in.from.IsValid() && in.from.Is4() != n.tunnels[0].Is4() {
		in.from = netip.Addr{} // the helper refuses the other version
	}
	dst := n.any(r, ipv4)
	in.frame = mutate(r, slices.Concat(mac(n.macOf(r, in.vni, dst)), mac(pick(r, n.macs...)), n.ip(r, n.any(r, ipv4), dst)))
	return in
}

// fromService is a frame that the agent sends to a port, or believes to.
func (n *network) fromService(r *rand.Rand) input {
	index := uint32(loopback)
	port := n.local[0]
	if i := r.IntN(len(n.local)); i > 0 {
		index, port = uint32(100+i), n.local[i]
	}
	index = often(r, index, 0, 7)
	src := binary.BigEndian.AppendUint32([]byte{2, pick[byte](r, 0, 0, 0, 1)}, index)
	dst := often(r, port.MAC, append(n.macs, groups...)...)
	ipv4 := r.IntN(2) == 0
	return input{program: "from_service", frame: mutate(r, slices.Concat(mac(dst), src, n.ip(r, n.any(r, ipv4), n.any(r, ipv4))))}
}

func (n *network) arp(r *rand.Rand, from southbound.Port) []byte {
	s, t := often(r, n.own(r, true), n.any(r, true)).As4(), n.any(r, true).As4()
	if r.IntN(8) == 0 {
		t = s
	}
	f := slices.Concat(mac(often(r, groups[0], n.macs...)), mac(from.MAC), []byte{0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1})
	f = slices.Concat(f, from.MAC[:], s[:], make([]byte, 6), t[:])
	return append(f, make([]byte, r.IntN(20))...) // padding
}

// ip is a packet of the version of its addresses, from EtherType on.
func (n *network) ip(r *rand.Rand, src, dst netip.Addr) []byte {
	if src.Is4() && dst.Is4() {
		return n.ipv4(r, src, dst)
	}
	return n.ipv6(r, src, dst)
}

var optionLists = [][]byte{
	{},
	{},
	{},
	{},
	{},
	{},
	{1, 1, 1, 0},
	{148, 4, 0, 0},
	{131, 7, 4, 10, 0, 2, 4, 0},
	{137, 3, 4, 0},
	{7, 9, 0, 0},
	{7, 1, 0, 0},
	{1, 1, 1, 7},
	slices.Concat([]byte{68, 36, 5, 0}, make([]byte, 36)),
	{0, 131, 3, 0},
}

func (n *network) ipv4(r *rand.Rand, src, dst netip.Addr) []byte {
	options, protocol := pick(r, optionLists...), pick[byte](r, 1, 6, 17, 17, 0, 255)
	body := n.upper(r, protocol, mtu-20-len(options))
	h := make([]byte, 20, 60)
	h[0], h[8], h[9] = byte(0x40|(20+len(options))/4), often(r, byte(64), 0, 1, 2), protocol
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+len(options)+len(body)))
	binary.BigEndian.PutUint16(h[6:], often[uint16](r, pick[uint16](r, 0, 0x4000), 0x2000, 0x0010, 0x2001))
	binary.BigEndian.PutUint16(h[10:], uint16(r.Uint32())) // its checksum is nobody's business
	s, d := src.As4(), dst.As4()
	copy(h[12:], s[:])
	copy(h[16:], d[:])
	return append(slices.Concat([]byte{0x08, 0}, h, options, body), make([]byte, r.IntN(3)*r.IntN(20))...) // padding
}

// upper is what lies behind an IP header.
func (n *network) upper(r *rand.Rand, protocol byte, room int) []byte {
	body := make([]byte, pick(r, 0, 4, 8, 20, 100, 1000, room, room+1))
	switch {
	case protocol == 1 && len(body) > 0:
		body[0] = pick[byte](r, 8, 8, 8, 0, 3, 4, 5, 11, 12, 13)
	case protocol == 17 && len(body) >= 4:
		ports := pick(r, [2]uint16{68, 67}, [2]uint16{68, 67}, [2]uint16{67, 68}, [2]uint16{546, 547}, [2]uint16{547, 546}, [2]uint16{4000, 53}, [2]uint16{67, 67})
		binary.BigEndian.PutUint16(body, ports[0])
		binary.BigEndian.PutUint16(body[2:], ports[1])
	}
	for i := 8; i < len(body) && i < 64; i++ {
		body[i] = byte(r.Uint32())
	}
	return body
}

func (n *network) ipv6(r *rand.Rand, src, dst netip.Addr) []byte {
	next := pick[byte](r, 17, 17, 6, 58, 58, 58, 58, 59, 50, 51)
	hops := often(r, byte(64), 0, 1, 2, 255)
	var body []byte
	if next == 58 {
		body = n.icmp6(r)
		hops = often(r, byte(255), 64, 1)
	} else {
		body = n.upper(r, next, mtu-40)
	}
	for range pick(r, 0, 0, 0, 0, 0, 1, 1, 2, 3, 6, 7) {
		next, body = extension(r, next, body)
	}
	s, d := src.As16(), dst.As16()
	h := slices.Concat([]byte{0x60, byte(r.Uint32()) & 0xf, 1, 2, byte(len(body) >> 8), byte(len(body)), next, hops}, s[:], d[:])
	return append(slices.Concat([]byte{0x86, 0xdd}, h, body), make([]byte, r.IntN(3)*r.IntN(20))...) // padding
}

// extension puts one more header in front.
func extension(r *rand.Rand, next byte, body []byte) (byte, []byte) {
	kind := pick[byte](r, 0, 43, 44, 60, 60)
	h := []byte{next, 0, byte(r.IntN(5)), byte(r.IntN(2)), 0, 0, 0, 0}
	switch kind {
	case 44:
		h[2], h[3] = 0, byte(pick(r, 0, 1, 8, 9))
	default:
		h[1] = byte(r.IntN(3))
		h = append(h, make([]byte, 8*int(h[1]))...)
		h[1] += pick[byte](r, 0, 0, 0, 0, 0, 0, 0, 200)
	}
	return kind, append(h, body...)
}

// icmp6 is a message: echo, errors, Neighbor Discovery, group membership.
func (n *network) icmp6(r *rand.Rand) []byte {
	kind := pick[byte](r, 128, 128, 129, 1, 2, 130, 131, 132, 133, 133, 134, 135, 135, 135, 136, 136, 137, 138, 143)
	b := []byte{kind, often[byte](r, 0, 1), byte(r.Uint32()), byte(r.Uint32()), byte(r.Uint32()), 0, 0, 0}
	if kind == 135 || kind == 136 || kind == 137 {
		target := often(r, n.any(r, false), n.own(r, false), netip.MustParseAddr("fe80::1"), linkLocal(n.local[0].MAC), netip.MustParseAddr("fe80::abcd")).As16()
		b = append(b, target[:]...)
	}
	if kind < 133 && r.IntN(2) == 0 {
		b = append(b, make([]byte, pick(r, 0, 16, 500))...)
	}
	for range pick(r, 0, 0, 1, 1, 1, 2, 4, 5) {
		b = slices.Concat(b, []byte{pick[byte](r, 1, 1, 2, 14, 5), often[byte](r, 1, 0, 2)}, mac(often(r, n.local[0].MAC, n.macs...)))
	}
	return b
}

// mutate breaks a part of the frames: single bytes, length, whole fields.
func mutate(r *rand.Rand, f []byte) []byte {
	switch r.IntN(12) {
	case 0, 1:
		f[r.IntN(min(len(f), 100))] = byte(r.Uint32())
	case 2:
		f[r.IntN(min(len(f), 100))] ^= 1 << r.IntN(8)
	case 3:
		f = f[:14+r.IntN(len(f)-14)]
	case 4:
		copy(f[12:], pick(r, []byte{0x81, 0}, []byte{0x88, 0xa8}, []byte{0x88, 0xcc}, []byte{0x86, 0xdd}, []byte{8, 6}, []byte{8, 0}, []byte{0, 60}))
	case 5:
		copy(f, mac(pick(r, groups...)))
	}
	return f
}
