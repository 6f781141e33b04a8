// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// Layout of an ARP packet for IPv4 on Ethernet, header included, in bytes.
const (
	arpFrame    = 42
	arpOp       = 20
	arpSender   = 22 // MAC, then address
	arpTarget   = 32 // MAC, then address
	arpRequest  = 1
	arpReply    = 2
	etherHeader = 14

	ndFrame  = etherHeader + 40 + 32 // with the sender's MAC as option
	ndType   = etherHeader + 40
	ndTarget = ndType + 8
	ndOption = ndTarget + 16 // type, length in 8 bytes, MAC
	ndAsk    = 135
	ndTell   = 136
)

// resolve asks on the workload's device who has an address, past the kernel's own table, and returns the MAC that answers.
func resolve(ctx context.Context, ns string, r Request) (string, error) {
	to, err := netip.ParseAddr(r.To)
	if err != nil {
		return "", err
	}
	mac, own, err := ownAddress(ns, to.Is4())
	if err != nil {
		return "", err
	}
	fd, index, err := packetSocket(ns)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		return "", err
	}
	question, answer := arpQuestion(mac, own, to), arpAnswer
	if to.Is6() {
		question, answer = ndQuestion(mac, own, to), ndAnswer
	}
	buf := make([]byte, 1<<16)
	if err := unix.Sendto(fd, question, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Addr: [8]byte(question[:8])}); err != nil {
		return "", err
	}
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case err != nil:
			return "", err
		default:
			if who, ok := answer(buf[:n], to); ok {
				return who.String(), nil
			}
		}
	}
	return "", errors.New("no answer")
}

// ownAddress returns the MAC of a workload's device and its first address of an IP version that is not link-local.
func ownAddress(ns string, v4 bool) (mac net.HardwareAddr, addr netip.Addr, err error) {
	err = netns.Do(ns, func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		mac = link.HardwareAddr
		addrs, err := link.Addrs()
		if err != nil {
			return err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() == v4 && p.Addr().IsGlobalUnicast() {
				addr = p.Addr()
				return nil
			}
		}
		return errors.New("the workload has no address of this IP version")
	})
	return mac, addr, err
}

// arpQuestion is the frame that asks everybody for the MAC of an address.
func arpQuestion(mac net.HardwareAddr, own, to netip.Addr) []byte {
	f := make([]byte, arpFrame)
	copy(f, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	copy(f[6:], mac)
	binary.BigEndian.PutUint16(f[12:], unix.ETH_P_ARP)
	copy(f[etherHeader:], []byte{0, 1, 8, 0, 6, 4, 0, arpRequest}) // Ethernet, IPv4, lengths of both, operation
	copy(f[arpSender:], mac)
	copy(f[arpSender+6:], own.AsSlice())
	copy(f[arpTarget+6:], to.AsSlice())
	return f
}

// arpAnswer reads who says to have an address.
func arpAnswer(f []byte, to netip.Addr) (net.HardwareAddr, bool) {
	if len(f) < arpFrame || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_ARP || binary.BigEndian.Uint16(f[arpOp:]) != arpReply {
		return nil, false
	}
	if from, ok := netip.AddrFromSlice(f[arpSender+6 : arpSender+10]); !ok || from != to {
		return nil, false
	}
	return net.HardwareAddr(f[arpSender : arpSender+6]), true
}

// ndQuestion is the frame that asks the group of an address for its MAC.
func ndQuestion(mac net.HardwareAddr, own, to netip.Addr) []byte {
	target := to.As16()
	group := [16]byte{0xff, 2, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]}
	body := append(append([]byte{ndAsk, 0, 0, 0, 0, 0, 0, 0}, target[:]...), 1, 1)
	return ip6Frame(append(net.HardwareAddr{0x33, 0x33}, group[12:]...), mac, own, netip.AddrFrom16(group), unix.IPPROTO_ICMPV6, append(body, mac...), 2)
}

// ndAnswer reads who says to have an address.
func ndAnswer(f []byte, to netip.Addr) (net.HardwareAddr, bool) {
	if len(f) < ndFrame || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IPV6 || f[etherHeader+6] != unix.IPPROTO_ICMPV6 || f[ndType] != ndTell {
		return nil, false
	}
	if target, ok := netip.AddrFromSlice(f[ndTarget:ndOption]); !ok || target != to || f[ndOption] != 2 {
		return nil, false
	}
	return net.HardwareAddr(f[ndOption+2 : ndOption+8]), true
}
