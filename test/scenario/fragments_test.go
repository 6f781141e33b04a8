// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// How the pieces of a datagram are sent.
const (
	fragmentLen   = 1200 // payload of a piece; a multiple of 8
	datagramLen   = 3*fragmentLen + 100
	fragmentsPort = 7778
	hdrIncl6      = 36 // IPV6_HDRINCL
)

// fragments asks who an address is with a datagram in pieces, in several orders: each is to be answered, as long as no
// piece is missing. It prints the answer.
func fragments(address string) error {
	to, err := netip.ParseAddr(address)
	if err != nil {
		return err
	}
	c, err := net.ListenUDP("udp", &net.UDPAddr{Port: fragmentsPort})
	if err != nil {
		return err
	}
	defer c.Close()
	from, err := sourceFor(to)
	if err != nil {
		return err
	}
	pieces := cut(from, to)
	answers := ""
	for i, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {2, 0, 3, 1}, {1, 1, 0, 3, 2}, {0, 1, 3}, {1, 2, 3}} {
		for _, p := range order {
			setID(pieces[p], to.Is6(), uint16(100+i))
			if err := sendRaw(pieces[p], to); err != nil {
				return fmt.Errorf("order %v: %w", order, err)
			}
		}
		whole := len(order) >= len(pieces)
		answer, err := hear(c)
		if whole != (err == nil) {
			return fmt.Errorf("pieces in the order %v: heard %q, %w; whole: %t", order, answer, err, whole)
		}
		if whole {
			answers = answer
		}
	}
	fmt.Println(answers)
	return nil
}

// sourceFor is the address that packets to an address carry.
func sourceFor(to netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, echoPort)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

func hear(c *net.UDPConn) (string, error) {
	buf := make([]byte, 64)
	_ = c.SetReadDeadline(time.Now().Add(askFor))
	n, _, err := c.ReadFromUDPAddrPort(buf)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return hear(c)
	}
	return string(buf[:n]), err
}

// cut makes the IP packets of one UDP datagram; ids are set later.
func cut(from, to netip.Addr) [][]byte {
	udp := make([]byte, 8+datagramLen)
	binary.BigEndian.PutUint16(udp, fragmentsPort)
	binary.BigEndian.PutUint16(udp[2:], echoPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	if to.Is6() { // IPv4 may go without
		binary.BigEndian.PutUint16(udp[6:], udpSum(from, to, udp))
	}
	var pieces [][]byte
	for at := 0; at < len(udp); at += fragmentLen {
		end := min(at+fragmentLen, len(udp))
		more := end < len(udp)
		if to.Is6() {
			pieces = append(pieces, piece6(from, to, udp[at:end], at, more))
		} else {
			pieces = append(pieces, piece4(from, to, udp[at:end], at, more))
		}
	}
	return pieces
}

func piece4(from, to netip.Addr, data []byte, at int, more bool) []byte {
	h := []byte{0x45, 0, 0, 0, 0, 0, byte(at / 8 >> 8), byte(at / 8), 64, syscall.IPPROTO_UDP, 0, 0} // the kernel fills length and sum
	if more {
		h[6] |= 0x20
	}
	return slices.Concat(h, from.AsSlice(), to.AsSlice(), data)
}

func piece6(from, to netip.Addr, data []byte, at int, more bool) []byte {
	size := 8 + len(data)
	offset := uint16(at)
	if more {
		offset |= 1
	}
	h := slices.Concat([]byte{0x60, 0, 0, 0, byte(size >> 8), byte(size), 44, 64}, from.AsSlice(), to.AsSlice())
	return slices.Concat(h, []byte{syscall.IPPROTO_UDP, 0, byte(offset >> 8), byte(offset), 0, 0, 0, 0}, data)
}

func setID(piece []byte, ipv6 bool, id uint16) {
	if ipv6 {
		binary.BigEndian.PutUint16(piece[46:], id)
		return
	}
	binary.BigEndian.PutUint16(piece[4:], id)
}

// udpSum is the checksum over the pseudo header of IPv6 and the datagram, whose own field is 0.
func udpSum(from, to netip.Addr, udp []byte) uint16 {
	all := slices.Concat(from.AsSlice(), to.AsSlice(), binary.BigEndian.AppendUint32(nil, uint32(len(udp))), []byte{0, 0, 0, syscall.IPPROTO_UDP}, udp)
	var sum uint32
	for i := 0; i+1 < len(all); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(all[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// sendRaw sends a packet with its own IP header.
func sendRaw(packet []byte, to netip.Addr) error {
	family := syscall.AF_INET6
	var addr syscall.Sockaddr = &syscall.SockaddrInet6{Addr: to.As16()}
	if to.Is4() {
		family, addr = syscall.AF_INET, &syscall.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if to.Is6() {
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, hdrIncl6, 1); err != nil {
			return err
		}
	}
	return syscall.Sendto(fd, packet, 0, addr)
}
