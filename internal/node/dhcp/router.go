// SPDX-License-Identifier: Apache-2.0

// Package dhcp tells workloads what they are: DHCPv4, DHCPv6 and router advertisements, each answer made of one port's row
// and sent to that port alone, always with the same addresses, for ever.
package dhcp

import (
	"net/netip"

	"weft/internal/southbound"
)

// Router is what the virtual router says of itself, the same to every port of a node.
type Router struct {
	MAC southbound.MAC
	MTU int // of the overlay, layer 3, bytes
}

// answerMost is the longest UDP payload that passes every link (RFC 8200 5: 1280 bytes, less the headers).
const answerMost = 1280 - 48

// Ports of UDP (RFC 2131 4.1, RFC 8415 7.2).
const (
	server4, client4 = 67, 68
	server6, client6 = 547, 546
)

// Answer returns the frame that answers a frame from the port, and what became of it; without an answer the frame is nil.
// The answer depends on nothing but the arguments. Its source MAC is left to the sender.
func (r Router) Answer(port southbound.Port, frame []byte) ([]byte, Result) {
	q, result := readFrame(port.MAC, frame)
	if result != 0 {
		return nil, result
	}
	switch q.service {
	case serviceDHCP4:
		return r.serve4(port, q)
	case serviceDHCP6:
		return r.serve6(port, q)
	default:
		return r.serveSolicitation(port, q)
	}
}

func (r Router) serve4(port southbound.Port, q question) ([]byte, Result) {
	own, ok := interface4(port)
	switch {
	case !ok:
		return nil, NoAddress
	case !q.src.IsUnspecified() && q.src != own.Address, q.dst != broadcast4 && q.dst != own.Gateway:
		return nil, Elsewhere
	}
	payload, message, result := r.answer4(port, q.payload)
	if !result.Answered() {
		return nil, result
	}
	if len(payload) > answerMost {
		return nil, TooLong
	}
	to, mac := broadcast4, southbound.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	switch { // RFC 2131 4.1
	case result == Nak:
	case !message.ClientIPAddr.IsUnspecified():
		to, mac = own.Address, port.MAC
	case !message.IsBroadcast():
		to, mac = own.Address, port.MAC
	}
	return udp4(mac, own.Gateway, to, payload), result
}

func (r Router) serve6(port southbound.Port, q question) ([]byte, Result) {
	if q.dst != servers6 || !q.src.IsLinkLocalUnicast() {
		return nil, Elsewhere
	}
	payload, result := r.answer6(port, q.payload)
	if !result.Answered() {
		return nil, result
	}
	if len(payload) > answerMost {
		return nil, TooLong
	}
	return udp6(port.MAC, q.src, payload), result
}

// serveSolicitation answers who asks for routers, at once and to it alone (RFC 4861 6.2.6); who has no address yet hears
// what all hear.
func (r Router) serveSolicitation(port southbound.Port, q question) ([]byte, Result) {
	own, ok := interface6(port)
	switch {
	case !ok:
		return nil, NoAddress
	case q.dst != routers6 && q.dst != router6 && q.dst != own.Gateway:
		return nil, Elsewhere
	case !q.src.IsUnspecified() && !q.src.IsLinkLocalUnicast() && q.src != own.Address:
		return nil, Elsewhere
	}
	to := q.src
	if to.IsUnspecified() {
		to = nodes6
	}
	return icmp6(port.MAC, to, r.advertisement(port, own)), RouterAdvert
}

// Unasked returns the frame that tells the port of its router without a question; nil where it has no IPv6 address.
func (r Router) Unasked(port southbound.Port) []byte {
	own, ok := interface6(port)
	if !ok {
		return nil
	}
	return icmp6(port.MAC, nodes6, r.advertisement(port, own))
}

// Addresses that have a meaning by themselves.
var (
	broadcast4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	router6    = netip.AddrFrom16([16]byte{0xfe, 0x80, 15: 1})
	nodes6     = netip.AddrFrom16([16]byte{0xff, 2, 15: 1})        // ff02::1
	routers6   = netip.AddrFrom16([16]byte{0xff, 2, 15: 2})        // ff02::2
	servers6   = netip.AddrFrom16([16]byte{0xff, 2, 13: 1, 15: 2}) // ff02::1:2
)
