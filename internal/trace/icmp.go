// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"fmt"
	"slices"

	"weft/internal/southbound"
)

// Types and codes of ICMP.
const (
	icmpUnreachable   = 3
	icmpQuench        = 4
	icmpRedirect      = 5
	icmpEchoRequest   = 8
	icmpTimeExceeded  = 11
	icmpParameter     = 12
	icmpHost          = 1 // code of unreachable
	icmpFragNeeded    = 4 // code of unreachable
	icmp6Unreachable  = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6Messages     = 128 // errors are below
	icmp6EchoRequest  = 128
	icmp6EchoReply    = 129

	quoteMost = 128 // bytes of a packet that an error repeats
	errorTOS  = 0xc0
)

// echo answers an echo request to the router in place (RFC 792, RFC 4443). Requests in fragments, with options or behind
// extension headers are not answered.
func (n *Node) echo(p *packet) Result {
	protocol, size, request, answer := byte(protoICMP), ipv4Len, byte(icmpEchoRequest), byte(0)
	if p.typ == typeIPv6 {
		protocol, size, request, answer = protoICMP6, ipv6Len, icmp6EchoRequest, icmp6EchoReply
	}
	p.stage = stageRouter
	if p.dst != n.cfg.RouterMAC {
		return n.drop(p, reasonDstMAC, p.ip.dst.String(), fmt.Sprintf("for MAC %s, the router's is %s", p.dst, n.cfg.RouterMAC))
	}
	if p.ip.protocol != protocol || p.ip.fragment || p.ip.len != size {
		return n.drop(p, reasonRouterProto, p.ip.dst.String(), "the router answers echo requests only")
	}
	if len(p.frame) < ethernetLen+size+icmpLen || p.typ == typeIPv6 && p.ip.total < size+icmpLen {
		return n.drop(p, reasonShort, p.ip.dst.String(), "")
	}
	icmp := p.frame[ethernetLen+size:]
	if icmp[0] != request || icmp[1] != 0 {
		return n.drop(p, reasonRouterProto, p.ip.dst.String(), "the router answers echo requests only")
	}
	icmp[0] = answer
	replaceSum(icmp[2:4], uint16(request)<<8, uint16(answer)<<8)
	p.setMACs(p.src, n.cfg.RouterMAC)
	p.setTTL(replyTTL)
	addresses := p.frame[ethernetLen+size-2*len(p.ip.src.AsSlice()) : ethernetLen+size]
	copy(addresses, slices.Concat(p.ip.dst.AsSlice(), p.ip.src.AsSlice()))
	n.note(stageRouter, p.ip.dst.String(), "answer", "echo reply")
	return Result{Verdict: Answer, Frame: p.frame}
}

// refuse ends a packet and tells the port why, where the rules allow it (RFC 792, RFC 1191, RFC 1812 4.3, RFC 4443).
func (n *Node) refuse(p *packet, port southbound.Port, reason, object, why string) Result {
	r := n.drop(p, reason, object, why)
	message := n.errorFor(p, reason)
	source := gateway(port, p.typ != typeIPv6)
	if message == nil || !source.IsValid() || !p.mayBeTold() {
		return r
	}
	quote := p.frame[ethernetLen:][:min(p.ip.total, quoteMost)]
	size := icmpLen + len(quote)
	var head []byte
	src, dst := source.AsSlice(), p.ip.src.AsSlice()
	if p.typ == typeIPv6 {
		binary.BigEndian.PutUint16(message[2:], checksum(pseudo(source, p.ip.src, size, protoICMP6), message, quote))
		head = slices.Concat([]byte{0x60, 0, 0, 0, byte(size >> 8), byte(size), protoICMP6, replyTTL}, src, dst)
	} else {
		binary.BigEndian.PutUint16(message[2:], checksum(message, quote))
		size += ipv4Len
		head = slices.Concat([]byte{0x45, errorTOS, byte(size >> 8), byte(size), 0, 0, dontFragment >> 8, 0, replyTTL, protoICMP, 0, 0}, src, dst)
		binary.BigEndian.PutUint16(head[10:], checksum(head))
	}
	r.Told = slices.Concat(p.src[:], n.cfg.RouterMAC[:], p.frame[12:14], head, message, quote)
	return r
}

// errorFor is the first 8 bytes of the error for a reason, without checksum; nil: none.
func (n *Node) errorFor(p *packet, reason string) []byte {
	mtu := []byte{byte(n.cfg.MTU >> 24), byte(n.cfg.MTU >> 16), byte(n.cfg.MTU >> 8), byte(n.cfg.MTU)}
	none := make([]byte, 4)
	ipv6 := p.typ == typeIPv6
	switch {
	case reason == reasonTTL && ipv6:
		return append([]byte{icmp6TimeExceeded, 0, 0, 0}, none...)
	case reason == reasonTTL:
		return append([]byte{icmpTimeExceeded, 0, 0, 0}, none...)
	case reason == reasonTooBig && ipv6:
		return append([]byte{icmp6TooBig, 0, 0, 0}, mtu...)
	case reason == reasonTooBig && p.ip.dontFragment:
		return append([]byte{icmpUnreachable, icmpFragNeeded, 0, 0}, mtu...)
	case reason != reasonNoLocation && reason != reasonBlackhole || p.dst != n.cfg.RouterMAC:
		return nil
	case ipv6:
		return append([]byte{icmp6Unreachable, 0, 0, 0}, none...)
	}
	return append([]byte{icmpUnreachable, icmpHost, 0, 0}, none...)
}

// mayBeTold reports whether an error may follow the packet: no error, no later fragment, nothing link-local.
func (p *packet) mayBeTold() bool {
	if p.ip.later || p.typ == typeIPv6 && p.ip.src.IsLinkLocalUnicast() {
		return false
	}
	kind, ok := p.upper()
	switch {
	case p.typ == typeIPv6 && p.ip.protocol == protoICMP6:
		return ok && kind >= icmp6Messages && kind != ndRedirect
	case p.typ != typeIPv6 && p.ip.protocol == protoICMP:
		return ok && !slices.Contains([]byte{icmpUnreachable, icmpQuench, icmpRedirect, icmpTimeExceeded, icmpParameter}, kind)
	}
	return true
}

// Tells is what the sender of a dropped packet is told; "": nothing.
func (r Result) Tells() string {
	p := packet{frame: r.Told}
	if r.Told == nil || p.ethernet() != "" || p.fixed() != "" {
		return ""
	}
	icmp, ipv6 := p.frame[ethernetLen+p.ip.len:], p.typ == typeIPv6
	mtu := binary.BigEndian.Uint32(icmp[4:])
	switch kind, code := icmp[0], icmp[1]; {
	case !ipv6 && kind == icmpTimeExceeded, ipv6 && kind == icmp6TimeExceeded:
		return "time exceeded"
	case !ipv6 && kind == icmpUnreachable && code == icmpFragNeeded:
		return fmt.Sprintf("fragmentation needed, MTU %d", mtu)
	case ipv6 && kind == icmp6TooBig:
		return fmt.Sprintf("packet too big, MTU %d", mtu)
	case ipv6:
		return "unreachable, no route"
	}
	return "host unreachable"
}
