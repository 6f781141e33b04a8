// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"encoding/binary"
	"net/netip"
	"slices"

	v1 "weft/api/v1"
)

// Numbers of protocols, as on the wire.
const (
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100

	protoHopByHop    = 0
	protoICMP        = 1
	protoTCP         = 6
	protoUDP         = 17
	protoRouting     = 43
	protoFragment    = 44
	protoICMPv6      = 58
	protoDestination = 60

	udpHeader = 8 // bytes
)

// CanaryLength is that of each canary, as the nodes' ears know it.
const CanaryLength = len("weft-canary-") + 12

// Packet is a frame in its parts. Each of them may be what it should not: lengths and version are written as they are
// set, and only made right where they are zero.
type Packet struct {
	dstMAC, srcMAC v1.MAC
	tags           []byte // between the MACs and the EtherType
	ethertype      uint16 // 0: that of the IP version

	src, dst netip.Addr
	proto    byte
	ttl      byte
	version  byte   // 0: of src
	ihl      byte   // IPv4: words of the header; 0: as it is
	length   int    // IPv4: total length; IPv6: payload length; 0: as it is; below 0: as much less
	id, frag uint16 // IPv4
	options  []byte // IPv4
	ext      []extension

	body func(canary string) []byte // behind the IP header
	cut  int                        // bytes that stay; 0: all
}

// extension is an IPv6 extension header, without its first byte: what comes next is filled in.
type extension struct {
	kind byte
	rest []byte
}

// Frame returns the bytes on the wire, with a canary in them.
func (p Packet) Frame(canary string) []byte {
	f := slices.Concat(p.dstMAC[:], p.srcMAC[:], p.tags)
	ethertype := p.ethertype
	if ethertype == 0 {
		ethertype = map[bool]uint16{true: typeIPv4, false: typeIPv6}[p.src.Is4()]
	}
	f = binary.BigEndian.AppendUint16(f, ethertype)
	body := p.body(canary)
	if p.src.IsValid() {
		if p.src.Is4() && p.dst.Is4() {
			body = p.ipv4(body)
		} else {
			body = p.ipv6(body)
		}
	}
	f = append(f, body...)
	if p.cut > 0 && p.cut < len(f) {
		f = f[:p.cut]
	}
	return f
}

func (p Packet) ipv4(body []byte) []byte {
	h := make([]byte, 20, 20+len(p.options)+len(body))
	ihl, version := byte(5+len(p.options)/4), byte(4)
	if p.ihl > 0 {
		ihl = p.ihl
	}
	if p.version > 0 {
		version = p.version
	}
	h[0] = version<<4 | ihl
	binary.BigEndian.PutUint16(h[2:], p.total(20+len(p.options)+len(body)))
	binary.BigEndian.PutUint16(h[4:], p.id)
	binary.BigEndian.PutUint16(h[6:], p.frag)
	h[8], h[9] = p.ttl, p.proto
	copy(h[12:], p.src.AsSlice())
	copy(h[16:], p.dst.AsSlice())
	h = append(h, p.options...)
	binary.BigEndian.PutUint16(h[10:], sum(h))
	return append(h, body...)
}

func (p Packet) ipv6(body []byte) []byte {
	h := make([]byte, 40, 40+len(body))
	h[0] = 0x60
	if p.version > 0 {
		h[0] = p.version << 4
	}
	next := &h[6]
	var chain []byte
	for _, e := range p.ext {
		*next = e.kind
		chain = append(append(chain, 0), e.rest...)
		next = &chain[len(chain)-1-len(e.rest)]
	}
	*next = p.proto
	h[7] = p.ttl
	src, dst := p.src.As16(), p.dst.As16()
	copy(h[8:], src[:])
	copy(h[24:], dst[:])
	binary.BigEndian.PutUint16(h[4:], p.total(len(chain)+len(body)))
	return slices.Concat(h, chain, body)
}

func (p Packet) total(right int) uint16 {
	switch {
	case p.length > 0:
		return uint16(p.length)
	case p.length < 0:
		return uint16(right + p.length)
	}
	return uint16(right)
}

// sum is the checksum of the Internet over data whose own checksum is 0.
func sum(parts ...[]byte) uint16 {
	var s uint32
	for _, data := range parts {
		for i := 0; i+1 < len(data); i += 2 {
			s += uint32(binary.BigEndian.Uint16(data[i:]))
		}
		if len(data)%2 == 1 {
			s += uint32(data[len(data)-1]) << 8
		}
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// raw is a body of these bytes, and the canary.
func raw(data ...byte) func(string) []byte {
	return func(canary string) []byte { return slices.Concat(data, []byte(canary)) }
}

// udp is a body with a header of these ports, without a checksum.
func udp(from, to uint16, data ...byte) func(string) []byte {
	return func(canary string) []byte {
		h := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
		h = binary.BigEndian.AppendUint16(h, uint16(8+len(data)+len(canary)))
		return slices.Concat(h, []byte{0, 0}, data, []byte(canary))
	}
}

// tcp is the beginning of a connection.
func tcp(from, to uint16) func(string) []byte {
	h := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	return raw(append(h, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0)...)
}

// vxlan is a body in UDP whose inner frame is in the network vni.
func vxlan(vni uint32, inner Packet) func(string) []byte {
	return func(canary string) []byte {
		h := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, vni<<8)
		return udp(4000, 4789, append(h, inner.Frame(canary)...)...)("")
	}
}

// datagram is UDP with its checksum, for an addressee that is to answer.
func datagram(src, dst netip.Addr, from, to uint16, data []byte) []byte {
	h := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
	h = binary.BigEndian.AppendUint16(h, uint16(8+len(data)))
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, protoUDP}, h[4:6])
	return slices.Concat(binary.BigEndian.AppendUint16(h, sum(pseudo, h, data)), data)
}

// Datagram is UDP with a text in fragments of at most size bytes each (a multiple of 8), in order.
func Datagram(from, to *Workload, v int, fromPort, toPort uint16, text []byte, size int) [][]byte {
	p := Packet{dstMAC: Hop(from, to), srcMAC: from.MAC, src: from.Addr(v), dst: to.Addr(v), proto: protoUDP, ttl: 64, id: 4711}
	return pieces(p, datagram(p.src, p.dst, fromPort, toPort, text), size)
}

// pieces divides the payload of an IP packet into fragments of at most size bytes each (a multiple of 8).
func pieces(p Packet, payload []byte, size int) [][]byte {
	var out [][]byte
	for at := 0; at < len(payload); at += size {
		end, more := min(at+size, len(payload)), uint16(1)
		if end == len(payload) {
			more = 0
		}
		one := p
		one.body = func(string) []byte { return payload[at:end] }
		one.fragment(uint16(at), more == 1)
		out = append(out, one.Frame(""))
	}
	return out
}

// fragment makes the packet a fragment that begins at an offset in bytes.
func (p *Packet) fragment(offset uint16, more bool) {
	var m uint16
	if more {
		m = 1
	}
	if p.src.Is4() {
		p.frag = offset/8 | m<<13
		return
	}
	word := offset | m
	p.ext = append(slices.Clone(p.ext), extension{protoFragment, []byte{0, byte(word >> 8), byte(word), 0, 0, byte(p.id >> 8), byte(p.id)}})
}
