// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzNeighbor: only a whole answer about the very address that was asked for is one, in both IP versions; a question is
// none.
func FuzzNeighbor(f *testing.F) {
	mac, own4, own6 := net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("fd00::4")
	arp := arpQuestion(mac, own4, netip.MustParseAddr("10.0.1.5"))
	arp[arpOp+1] = arpReply
	nd := ndQuestion(mac, own6, netip.MustParseAddr("fd00::5"))
	nd[ndType], nd[ndOption] = ndTell, 2
	f.Add(arp, own4.AsSlice())
	f.Add(nd, netip.MustParseAddr("fd00::5").AsSlice())
	f.Fuzz(func(t *testing.T, frame, address []byte) {
		to, ok := netip.AddrFromSlice(address)
		if !ok {
			return
		}
		answer, least, question := arpAnswer, arpFrame, arpQuestion(mac, own4, to)
		if to.Is6() {
			answer, least, question = ndAnswer, ndFrame, ndQuestion(mac, own6, to)
		}
		if _, ok := answer(question, to); ok {
			t.Errorf("the question for %s is taken for its answer", to)
		}
		who, ok := answer(frame, to)
		if !ok {
			return
		}
		if len(who) != 6 || len(frame) < least || !strings.Contains(string(frame), string(address)) {
			t.Errorf("%x tells that %s is at %s", frame, to, who)
		}
		if _, ok := answer(frame[:least-1], to); ok {
			t.Errorf("%x is an answer when it is cut off, too", frame)
		}
		if _, ok := answer(frame, to.Next()); ok && to.Next().IsValid() {
			t.Errorf("%x answers for %s and %s", frame, to, to.Next())
		}
	})
}

// FuzzQuote: only "time exceeded" that quotes a packet from our own port is taken for one, in both IP versions.
func FuzzQuote(f *testing.F) {
	quote4, quote6 := make([]byte, 36), make([]byte, 56)
	quote4[0], quote6[0] = 11, 3
	binary.BigEndian.PutUint16(quote4[28:], 4000)
	binary.BigEndian.PutUint16(quote6[48:], 4000)
	f.Add(true, quote4, uint16(4000))
	f.Add(false, quote6, uint16(4000))
	f.Add(true, quote4[:29], uint16(4000))
	f.Fuzz(func(t *testing.T, ipv4 bool, message []byte, port uint16) {
		v, kind := versionOf(netip.IPv6Loopback()), byte(3)
		if ipv4 {
			v, kind = versionOf(netip.AddrFrom4([4]byte{127, 0, 0, 1})), 11
		}
		if !quotes(message, v, &net.UDPAddr{Port: int(port)}) {
			return
		}
		if at := 8 + v.header; len(message) < at+2 || message[0] != kind || binary.BigEndian.Uint16(message[at:]) != port {
			t.Errorf("%x is believed to quote port %d", message, port)
		}
		if quotes(message, v, &net.UDPAddr{Port: int(port) + 1}) {
			t.Errorf("%x quotes two ports", message)
		}
	})
}

// FuzzLease: what was put into a frame comes out of it, and of any other frame only what lies behind the ports that were
// asked for; an advertisement of the router is told in one line, with as many parts as it has options.
func FuzzLease(f *testing.F) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	four, six := netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("fe80::4")
	f.Add(udpFrame(mac, mac, four, four, 67, 68, []byte("body")), uint16(67), uint16(68), true)
	f.Add(udpFrame(mac, mac, six, six, 547, 546, []byte("odd")), uint16(547), uint16(546), false)
	advert := ip6Frame(mac, mac, six, six, unix.IPPROTO_ICMPV6, []byte{134, 0, 0, 0, 64, 0xc0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 5, 0xaa}, 2)
	f.Add(advert, uint16(0), uint16(0), false)
	f.Fuzz(func(t *testing.T, frame []byte, from, to uint16, ipv4 bool) {
		kind, ip, at := uint16(unix.ETH_P_IPV6), six, etherHeader+48
		if ipv4 {
			kind, ip, at = unix.ETH_P_IP, four, etherHeader+28
		}
		if body, ok := udpBody(frame, kind, from, to); ok && (len(body) != len(frame)-at || binary.BigEndian.Uint16(frame[at-8:]) != from) {
			t.Errorf("%x carries %x from %d", frame, body, from)
		}
		if len(frame) < 1500 {
			made := udpFrame(mac, mac, ip, ip, from, to, frame)
			if body, ok := udpBody(made, kind, from, to); !ok || !slices.Equal(body, frame) {
				t.Errorf("%x came back as %x", frame, body)
			}
			if _, ok := udpBody(made, kind, from, to+1); ok {
				t.Errorf("%x is to port %d and to the next", made, to)
			}
			if ipv4 && checksum(0, made[etherHeader:etherHeader+20]) != 0 {
				t.Errorf("%x has a wrong checksum", made)
			}
		}
		if len(frame) >= etherHeader+40+16 { // what advert asks before
			said := advertSays(frame)
			if parts := strings.Count(said, ", "); strings.Contains(said, "\n") || parts < 2 || parts > 2+(len(frame)-etherHeader-56)/8 {
				t.Errorf("%x says %q", frame, said)
			}
		}
	})
}
