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
	arpLen      = 28
	icmpLen     = 8

	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeVLAN = 0x8100
	typeQinQ = 0x88a8
	typeIPv6 = 0x86dd

	protoICMP = 1

	fragmentBits = 0x3fff // more fragments, or not the first
	replyTTL     = 64
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
	reasonRouterProto  = "router-proto"
	reasonToSelf       = "to-self"
)

// packet is a frame taken apart as far as the packet path looks.
type packet struct {
	frame    []byte // a copy: rewritten in place
	dst, src southbound.MAC
	typ      uint16
	ip       ipv4
}

// ipv4 is what is read of an IPv4 header.
type ipv4 struct {
	headerLen int
	src, dst  netip.Addr
	protocol  byte
	ttl       byte
	fragment  bool
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

func (p *packet) ipv4Header() string {
	switch {
	case p.typ == typeIPv6:
		return reasonIPv6
	case p.typ != typeIPv4:
		return reasonEthertype
	case len(p.frame) < ethernetLen+ipv4Len:
		return reasonShort
	}
	h := p.frame[ethernetLen:]
	total := int(binary.BigEndian.Uint16(h[2:]))
	p.ip.headerLen = int(h[0]&0xf) * 4
	if h[0]>>4 != 4 || p.ip.headerLen < ipv4Len || total < p.ip.headerLen || total > len(h) {
		return reasonIPMalformed
	}
	p.ip.src, p.ip.dst = netip.AddrFrom4([4]byte(h[12:16])), netip.AddrFrom4([4]byte(h[16:20]))
	p.ip.ttl, p.ip.protocol = h[8], h[9]
	p.ip.fragment = binary.BigEndian.Uint16(h[6:])&fragmentBits != 0
	return ""
}

func (p *packet) setMACs(dst, src southbound.MAC) {
	copy(p.frame[0:], dst[:])
	copy(p.frame[6:], src[:])
}

// setTTL changes TTL and, by difference, the header's checksum: one that was wrong stays wrong (RFC 1624).
func (p *packet) setTTL(ttl byte) {
	h := p.frame[ethernetLen:]
	before := binary.BigEndian.Uint16(h[8:])
	h[8] = ttl
	replaceSum(h[10:12], before, binary.BigEndian.Uint16(h[8:]))
	p.ip.ttl = ttl
}

// replaceSum changes an Internet checksum for one 16-bit word that was before and is now after (RFC 1624, equation 3).
func replaceSum(sum []byte, before, after uint16) {
	s := uint32(^binary.BigEndian.Uint16(sum)) + uint32(^before) + uint32(after)
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	binary.BigEndian.PutUint16(sum, ^uint16(s))
}
