// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"net/netip"

	"weft/internal/southbound"
)

// Lengths and numbers of headers, as on the wire.
const (
	ethernetLen = 14
	ipv4Len     = 20
	ipv6Len     = 40
	arpLen      = 28
	icmpLen     = 8

	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
	typeIPv6 = 0x86dd

	protoICMP  = 1
	protoTCP   = 6
	protoUDP   = 17
	protoICMP6 = 58

	// Extension headers of IPv6 that are walked.
	protoHopByHop    = 0
	protoRouting     = 43
	protoFragment    = 44
	protoDestination = 60

	fragmentBits   = 0x3fff // more fragments, or not the first
	offsetBits     = 0x1fff
	dontFragment   = 0x4000
	offsetBits6    = 0xfff8
	extensionsMost = 6

	optionEnd    = 0
	optionNop    = 1
	optionLoose  = 131
	optionStrict = 137

	replyTTL = 64
)

// Words of the drop reasons that the model knows; they are those of the packet path.
const (
	reasonPortUnknown  = "port-unknown"
	reasonShort        = "short"
	reasonEthertype    = "ethertype"
	reasonVLAN         = "vlan"
	reasonSrcMAC       = "src-mac-spoof"
	reasonSrcIP        = "src-ip-spoof"
	reasonARPSpoof     = "arp-spoof"
	reasonARPMalformed = "arp-malformed"
	reasonARPUnknown   = "arp-unknown"
	reasonBroadcast    = "broadcast"
	reasonMulticast    = "multicast"
	reasonDstMAC       = "dst-mac"
	reasonIPMalformed  = "ip-malformed"
	reasonIPv6         = "ipv6-unsupported"
	reasonTTL          = "ttl-expired"
	reasonTooBig       = "too-big"
	reasonNoLocation   = "no-location"
	reasonNotLocal     = "not-local"
	reasonPeerUnknown  = "tunnel-peer-unknown"
	reasonHostToPort   = "host-to-port"
	reasonRouterProto  = "router-proto"
	reasonToSelf       = "to-self"
	reasonExtHeader    = "ext-header"
	reasonNDSpoof      = "nd-spoof"
	reasonNDMalformed  = "nd-malformed"
	reasonNDUnknown    = "nd-unknown"
	reasonRAGuard      = "ra-guard"
	reasonRS           = "router-solicit"
	reasonLinkLocal    = "link-local"
	reasonIPOptions    = "ip-options"
	reasonDHCPServer   = "dhcp-server"
	reasonBlackhole    = "blackhole"
)

// packet is a frame taken apart as far as the packet path looks.
type packet struct {
	frame    []byte // a copy: rewritten in place
	dst, src southbound.MAC
	typ      uint16
	ip       header
	stage    string // of the path, where it is: for who reads the walk
}

// header is what is read of an IP header of either version, extension headers included.
type header struct {
	len      int // up to the upper layer
	total    int // of the packet, as the header says
	src, dst netip.Addr
	protocol byte
	ttl      byte

	fragment, later, dontFragment bool // later: not the first fragment
}

// ethernet takes the frame apart; the reason is "" where it can be.
func (p *packet) ethernet() string {
	if len(p.frame) < ethernetLen {
		return reasonShort
	}
	p.dst, p.src = southbound.MAC(p.frame[0:6]), southbound.MAC(p.frame[6:12])
	p.typ = binary.BigEndian.Uint16(p.frame[12:])
	if p.typ == typeVLAN || p.typ == typeQinQ {
		return reasonVLAN
	}
	return ""
}

// fixed takes the fixed header of either version apart.
func (p *packet) fixed() string {
	if p.typ == typeIPv6 {
		return p.ipv6()
	}
	return p.ipv4()
}

func (p *packet) ipv4() string {
	switch {
	case p.typ != typeIPv4:
		return reasonEthertype
	case len(p.frame) < ethernetLen+ipv4Len:
		return reasonShort
	}
	h := p.frame[ethernetLen:]
	p.ip.total, p.ip.len = int(binary.BigEndian.Uint16(h[2:])), int(h[0]&0xf)*4
	if h[0]>>4 != 4 || p.ip.len < ipv4Len || p.ip.total < p.ip.len || p.ip.total > len(h) {
		return reasonIPMalformed
	}
	p.ip.src, p.ip.dst = netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
	p.ip.ttl, p.ip.protocol = h[8], h[9]
	fragment := binary.BigEndian.Uint16(h[6:])
	p.ip.fragment, p.ip.later, p.ip.dontFragment = fragment&fragmentBits != 0, fragment&offsetBits != 0, fragment&dontFragment != 0
	return ""
}

// options lets those of IPv4 pass that do not choose the way.
func (p *packet) options() string {
	h := p.frame[ethernetLen:]
	for at := ipv4Len; at < p.ip.len; {
		switch h[at] {
		case optionEnd:
			return ""
		case optionLoose, optionStrict:
			return reasonIPOptions
		case optionNop:
			at++
			continue
		}
		if at+2 > p.ip.len || h[at+1] < 2 || at+int(h[at+1]) > p.ip.len {
			return reasonIPMalformed
		}
		at += int(h[at+1])
	}
	return ""
}

func (p *packet) ipv6() string {
	if len(p.frame) < ethernetLen+ipv6Len {
		return reasonShort
	}
	h := p.frame[ethernetLen:]
	p.ip.len, p.ip.total = ipv6Len, ipv6Len+int(binary.BigEndian.Uint16(h[4:]))
	if h[0]>>4 != 6 || p.ip.total > len(h) || p.ip.total > 0xffff {
		return reasonIPMalformed
	}
	p.ip.src, p.ip.dst = netip.AddrFrom16([16]byte(h[8:24])), netip.AddrFrom16([16]byte(h[24:40]))
	p.ip.protocol, p.ip.ttl = h[6], h[7]
	if p.ip.src.Is4In6() || p.ip.dst.Is4In6() {
		return reasonIPMalformed
	}
	return ""
}

func isExtension(protocol byte) bool {
	return protocol == protoHopByHop || protocol == protoRouting || protocol == protoFragment || protocol == protoDestination
}

// extensions walks to the upper layer (RFC 8200 4.1), six headers at most. A first fragment has its beginning (RFC 7112 5).
func (p *packet) extensions() string {
	h := p.frame[ethernetLen:]
	for i := 0; !p.ip.later && isExtension(p.ip.protocol); i++ {
		at := p.ip.len
		if i == extensionsMost {
			return reasonExtHeader
		}
		if at+8 > p.ip.total {
			return reasonIPMalformed
		}
		if p.ip.protocol == protoHopByHop && i > 0 || p.ip.protocol == protoRouting && h[at+2] == 0 {
			return reasonExtHeader
		}
		size := 8
		if p.ip.protocol != protoFragment {
			size = (int(h[at+1]) + 1) * 8
		}
		if at+size > p.ip.total {
			return reasonIPMalformed
		}
		if p.ip.protocol == protoFragment {
			p.ip.fragment = true
			p.ip.later = binary.BigEndian.Uint16(h[at+2:])&offsetBits6 != 0
		}
		p.ip.protocol = h[at]
		p.ip.len += size
	}
	if p.ip.fragment && !p.ip.later && p.ip.len >= p.ip.total {
		return reasonExtHeader
	}
	return ""
}

// udp returns the ports of a packet that has them, else zeros.
func (p *packet) udp() (from, to uint16) {
	at := ethernetLen + p.ip.len
	if p.ip.protocol != protoUDP || p.ip.later || at+4 > len(p.frame) {
		return 0, 0
	}
	return binary.BigEndian.Uint16(p.frame[at:]), binary.BigEndian.Uint16(p.frame[at+2:])
}

// upper returns the byte at which the upper layer begins; ok is false where there is none.
func (p *packet) upper() (b byte, ok bool) {
	if p.ip.total <= p.ip.len {
		return 0, false
	}
	return p.frame[ethernetLen+p.ip.len], true
}

func (p *packet) setMACs(dst, src southbound.MAC) {
	copy(p.frame[0:], dst[:])
	copy(p.frame[6:], src[:])
}

// setTTL changes TTL or hop limit and, by difference, IPv4's checksum: one that was wrong stays wrong (RFC 1624).
func (p *packet) setTTL(ttl byte) {
	h := p.frame[ethernetLen:]
	p.ip.ttl = ttl
	if p.typ == typeIPv6 {
		h[7] = ttl
		return
	}
	before := binary.BigEndian.Uint16(h[8:])
	h[8] = ttl
	replaceSum(h[10:12], before, binary.BigEndian.Uint16(h[8:]))
}

// replaceSum changes an Internet checksum for one 16-bit word that was before and is now after (RFC 1624, equation 3).
func replaceSum(sum []byte, before, after uint16) {
	s := uint32(^binary.BigEndian.Uint16(sum)) + uint32(^before) + uint32(after)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	binary.BigEndian.PutUint16(sum, ^uint16(s))
}

// checksum is the Internet checksum of parts, one after the other, each but the last of an even length (RFC 1071).
func checksum(parts ...[]byte) uint16 {
	var s uint32
	for _, b := range parts {
		for i := 0; i < len(b); i += 2 {
			s += uint32(b[i]) << 8
			if i+1 < len(b) {
				s += uint32(b[i+1])
			}
		}
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// pseudo is what a checksum over IPv6 covers beside the message (RFC 8200 8.1).
func pseudo(src, dst netip.Addr, size int, protocol byte) []byte {
	s, d := src.As16(), dst.As16()
	b := append(s[:], d[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return append(b, 0, 0, 0, protocol)
}

// special is an address of no single station on a wire (RFC 6890).
func special(a netip.Addr) bool {
	b := a.AsSlice()
	if a.Is4() {
		return b[0] == 0 || b[0] == 127 || b[0] == 169 && b[1] == 254 || b[0] >= 224
	}
	return b[0] == 0 || b[0] == 0xff || a.IsLinkLocalUnicast()
}
