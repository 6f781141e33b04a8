// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"weft/internal/southbound"
)

// Lengths of headers and numbers on the wire.
const (
	ethernetLen, ip4Len, ip6Len, udpLen = 14, 20, 40, 8

	etherIPv4, etherIPv6                = 0x0800, 0x86dd
	protocolUDP, protocolICMP6          = 17, 58
	icmpRouterSolicit, icmpRouterAdvert = 133, 134
)

// service is what a frame asks for.
type service uint8

const (
	serviceDHCP4 service = iota + 1
	serviceDHCP6
	serviceRouter
)

// question is what a frame asks, of whom.
type question struct {
	service  service
	src, dst netip.Addr
	payload  []byte // of UDP
}

// readFrame reads a frame that the packet path took for a question. It believes nothing of it: whoever changes the
// programs should not have to think of what is read here.
func readFrame(from southbound.MAC, frame []byte) (question, Result) {
	if len(frame) < ethernetLen {
		return question{}, Malformed
	}
	if southbound.MAC(frame[6:12]) != from {
		return question{}, OtherMAC
	}
	switch packet := frame[ethernetLen:]; binary.BigEndian.Uint16(frame[12:]) {
	case etherIPv4:
		return readIPv4(packet)
	case etherIPv6:
		return readIPv6(from, packet)
	}
	return question{}, Malformed
}

func readIPv4(b []byte) (q question, result Result) {
	if len(b) < ip4Len || b[0]>>4 != 4 {
		return q, Malformed
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < ip4Len || total < header+udpLen || total > len(b) || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 ||
		b[9] != protocolUDP || checksum(0, b[:header]) != 0 {
		return q, Malformed
	}
	q = question{service: serviceDHCP4, src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:]))}
	q.payload, result = readUDP(q, b[header:total], client4, server4)
	return q, result
}

func readIPv6(from southbound.MAC, b []byte) (q question, result Result) {
	if len(b) < ip6Len || b[0]>>4 != 6 {
		return q, Malformed
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if ip6Len+length > len(b) {
		return q, Malformed
	}
	q = question{src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:]))}
	inner := b[ip6Len : ip6Len+length]
	switch next, hops := b[6], b[7]; {
	case next == protocolUDP:
		q.service = serviceDHCP6
		q.payload, result = readUDP(q, inner, client6, server6)
	case next == protocolICMP6 && hops == 255:
		q.service = serviceRouter
		result = checkSolicitation(q, from, inner)
	default:
		result = Malformed
	}
	return q, result
}

// readUDP returns the payload of a datagram between the two ports, whole and with a good checksum. Only IPv4 may go
// without one.
func readUDP(q question, b []byte, from, to uint16) ([]byte, Result) {
	if len(b) < udpLen || binary.BigEndian.Uint16(b) != from || binary.BigEndian.Uint16(b[2:]) != to {
		return nil, Malformed
	}
	length, sum := int(binary.BigEndian.Uint16(b[4:])), binary.BigEndian.Uint16(b[6:])
	if length < udpLen || length > len(b) {
		return nil, Malformed
	}
	if b = b[:length]; (sum != 0 || q.src.Is6()) && checksum(pseudo(q.src, q.dst, protocolUDP, length), b) != 0 {
		return nil, Malformed
	}
	return b[udpLen:], 0
}

// checkSolicitation says whether a router solicitation is as RFC 4861 6.1.1 wants it.
func checkSolicitation(q question, from southbound.MAC, b []byte) Result {
	if len(b) < 8 || b[0] != icmpRouterSolicit || b[1] != 0 ||
		checksum(pseudo(q.src, q.dst, protocolICMP6, len(b)), b) != 0 {
		return Malformed
	}
	for b = b[8:]; len(b) > 0; {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return Malformed
		}
		if b[0] == 1 && (q.src.IsUnspecified() || b[1] != 1) {
			return Malformed
		}
		if b[0] == 1 && southbound.MAC(b[2:8]) != from {
			return OtherMAC
		}
		b = b[int(b[1])*8:]
	}
	return 0
}

// udp4 makes a frame of a DHCPv4 message.
func udp4(to southbound.MAC, src, dst netip.Addr, payload []byte) []byte {
	header := []byte{0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocolUDP, 0, 0}
	binary.BigEndian.PutUint16(header[2:], uint16(ip4Len+udpLen+len(payload)))
	header = slices.Concat(header, src.AsSlice(), dst.AsSlice())
	binary.BigEndian.PutUint16(header[10:], checksum(0, header))
	return slices.Concat(ethernet(to, etherIPv4), header, udp(src, dst, server4, client4, payload))
}

// udp6 makes a frame of a DHCPv6 message.
func udp6(to southbound.MAC, dst netip.Addr, payload []byte) []byte {
	inner := udp(router6, dst, server6, client6, payload)
	return slices.Concat(ethernet(to, etherIPv6), ip6(protocolUDP, 64, dst, len(inner)), inner)
}

// icmp6 makes a frame of an ICMPv6 message, and writes its checksum.
func icmp6(to southbound.MAC, dst netip.Addr, message []byte) []byte {
	if dst.IsMulticast() {
		group := dst.As16()
		to = southbound.MAC{0x33, 0x33, group[12], group[13], group[14], group[15]}
	}
	sum := checksum(pseudo(router6, dst, protocolICMP6, len(message)), message)
	binary.BigEndian.PutUint16(message[2:], sum)
	return slices.Concat(ethernet(to, etherIPv6), ip6(protocolICMP6, 255, dst, len(message)), message)
}

// ethernet makes a header whose source is still to be written.
func ethernet(to southbound.MAC, kind uint16) []byte {
	return binary.BigEndian.AppendUint16(append(to[:], make([]byte, 6)...), kind)
}

// ip6 makes a header of a packet from the router.
func ip6(next, hops byte, dst netip.Addr, length int) []byte {
	b := []byte{0x60, 0, 0, 0, byte(length >> 8), byte(length), next, hops}
	return slices.Concat(b, router6.AsSlice(), dst.AsSlice())
}

func udp(src, dst netip.Addr, from, to uint16, payload []byte) []byte {
	b := make([]byte, udpLen, udpLen+len(payload))
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(udpLen+len(payload)))
	b = append(b, payload...)
	sum := checksum(pseudo(src, dst, protocolUDP, len(b)), b)
	if sum == 0 {
		sum = 0xffff // zero says that there is none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[6:], sum)
	return b
}

// pseudo sums the pseudo header of both versions of IP, which differ in form only (RFC 768, RFC 8200 8.1).
func pseudo(src, dst netip.Addr, protocol byte, length int) uint32 {
	return sum(sum(uint32(protocol)+uint32(length), src.AsSlice()), dst.AsSlice())
}

// checksum is the Internet checksum of b after a beginning; zero where b holds its right one (RFC 1071).
func checksum(begin uint32, b []byte) uint16 {
	s := sum(begin, b)
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// sum adds 16-bit words. It holds for 64 KiB, more than any frame has.
func sum(s uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}
