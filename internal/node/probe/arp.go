// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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
)

// resolve asks on the workload's device who has an address, past the kernel's own table, and returns the MAC that answers.
func resolve(ctx context.Context, ns string, r Request) (string, error) {
	to, err := netip.ParseAddr(r.To)
	if err != nil || !to.Is4() {
		return "", fmt.Errorf("%q is not an IPv4 address", r.To)
	}
	mac, own, err := ownAddress(ns)
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
	question := arpQuestion(mac, own, to)
	broadcast := &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Addr: [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}
	buf := make([]byte, 1<<16)
	if err := unix.Sendto(fd, question, 0, broadcast); err != nil {
		return "", err
	}
	for ctx.Err() == nil {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case err != nil:
			return "", err
		default:
			if who, ok := arpAnswer(buf[:n], to); ok {
				return who.String(), nil
			}
		}
	}
	return "", errors.New("no answer")
}

// ownAddress returns the MAC and the first IPv4 address of a workload's device.
func ownAddress(ns string) (mac net.HardwareAddr, addr netip.Addr, err error) {
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
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				addr = p.Addr()
				return nil
			}
		}
		return errors.New("the workload has no IPv4 address")
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
