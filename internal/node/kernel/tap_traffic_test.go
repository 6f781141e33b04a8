// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// Values in struct virtio_net_hdr, which here is 10 bytes long.
const (
	vnetNeedsCsum  = 1
	vnetUDPSegment = 5
)

// segments are what one send of a workload or a guest is to be cut into.
const (
	segments    = 20
	segmentSize = 1000
)

// tapBeside is a node with a workload at 10.0.1.4 in a namespace, and a tap of 10.0.1.5 that the test has open.
type tapBeside struct {
	*node
	workload *testNS
	tap      *os.File
}

func newTapBeside(t *testing.T, flags uint16) *tapBeside {
	t.Helper()
	b := &tapBeside{node: newNode(t, "a", "198.19.0.1"), workload: newNS(t)}
	p := Port{VNI: testVNI, Tenant: 7, Subnet: 1, MTU: 1450, Addr4: netip.MustParseAddr("10.0.1.4"), MAC: [6]byte{2, 0, 0, 0, 1, 4}}
	b.attach(t, "wp1-4", b.workload, p, 24, "10.0.1.1")
	p.Addr4, p.MAC[5] = netip.MustParseAddr("10.0.1.5"), 5
	b.do(t, func() error {
		index, err := device.CreateTap(testTap)
		if err != nil {
			return err
		}
		if err := b.dp.Ports().Put(PortKey{uint32(index)}, p); err != nil {
			return err
		}
		local := Location{Kind: LocationDevice, IfIndex: uint32(index), Subnet: 1, Node: 1, MAC: p.MAC}
		if err := b.dp.Locations().Put(LocationKey{testVNI, p.Addr4}, local); err != nil {
			return err
		}
		if err := b.dp.AttachPort(index, testTap.Name); err != nil {
			return err
		}
		if b.tap, err = openTap(testTap.Name, flags); err != nil {
			return err
		}
		// The kernel sends nothing into a tap until it has taken note of its carrier, in a queue of its own.
		for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			link, err := netlink.LinkByName(testTap.Name)
			if err != nil || link.Attrs().OperState == netlink.OperUp {
				return err
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s is %s", testTap.Name, link.Attrs().OperState)
			}
		}
	})
	t.Cleanup(func() {
		b.tap.Close()
		b.do(t, func() error { return device.DeleteLink(testTap.Name) })
	})
	return b
}

// A tap whose user takes no super-packets and finishes no checksums gets neither.
func TestTapWithoutOffloadsGetsWholeSegments(t *testing.T) {
	b := newTapBeside(t, 0)
	b.workload.do(t, func() error {
		c, err := net.Dial("udp4", "10.0.1.5:9")
		if err != nil {
			return err
		}
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		if cerr := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, segmentSize)
		}); cerr != nil || err != nil {
			return fmt.Errorf("ask for segments: %w, %w", cerr, err)
		}
		_, err = c.Write(bytes.Repeat([]byte{0xa5}, segments*segmentSize))
		return err
	})
	if err := b.tap.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	for got := 0; got < segments; {
		n, err := b.tap.Read(buf)
		if err != nil {
			t.Fatalf("%d segments of %d came: %v", got, segments, err)
		}
		frame := buf[:n]
		if len(frame) < 42 || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP || frame[23] != unix.IPPROTO_UDP {
			continue
		}
		got++
		if n != 42+segmentSize || !udpSumHolds(frame[14:]) {
			t.Fatalf("segment %d: %d bytes, want %d; checksum holds: %v", got, n, 42+segmentSize, udpSumHolds(frame[14:]))
		}
	}
}

// A guest may leave cutting and the checksum to us: the neighbour gets whole datagrams, and each counts.
func TestGuestsSuperPacketArrivesWhole(t *testing.T) {
	b := newTapBeside(t, unix.IFF_VNET_HDR)
	var conn net.PacketConn
	b.workload.do(t, func() (err error) { conn, err = net.ListenPacket("udp4", "10.0.1.4:9"); return err })
	defer conn.Close()
	if _, err := b.tap.Write(superPacket(segmentSize)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	for i := range segments {
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := conn.ReadFrom(buf); err != nil || n != segmentSize {
			t.Fatalf("datagram %d: %d bytes, %v", i, n, err)
		}
	}
	passes, err := b.dp.Passes()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range passes {
		if p.Kind == PassLocal && p.Packets != segments {
			t.Errorf("%d packets counted, want %d", p.Packets, segments)
		}
	}

	// Segments that are longer than the port's MTU are no way around it.
	if _, err := b.tap.Write(superPacket(1800)); err != nil {
		t.Fatal(err)
	}
	drops, err := b.dp.Drops()
	if err != nil || dropped(drops, DropTooBig) == 0 {
		t.Errorf("drops %v, %v", drops, err)
	}

	// Nor is a frame of which hardly the Ethernet header lies where it can be read at once.
	plain := superPacket(segmentSize)
	clear(plain[:10])
	if _, err := b.tap.Write(plain); err != nil {
		t.Fatal(err)
	}
	before := dropped(drops, DropTooBig)
	if drops, err = b.dp.Drops(); err != nil || dropped(drops, DropTooBig) != before+1 {
		t.Errorf("drops %v, %v", drops, err)
	}
}

// superPacket is a UDP packet from 10.0.1.5 to 10.0.1.4 behind a virtio header: to be cut into segments of size bytes, with
// a checksum to be finished.
func superPacket(size int) []byte {
	const ipHeader, udpHeader = 20, 8
	payload := segments * size
	vnet := []byte{vnetNeedsCsum, vnetUDPSegment, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.LittleEndian.PutUint16(vnet[2:], 14+ipHeader+udpHeader)
	binary.LittleEndian.PutUint16(vnet[4:], uint16(size))
	binary.LittleEndian.PutUint16(vnet[6:], 14+ipHeader)
	binary.LittleEndian.PutUint16(vnet[8:], 6) // of the UDP header
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 10, 0, 1, 5, 10, 0, 1, 4}
	binary.BigEndian.PutUint16(ip[2:], uint16(ipHeader+udpHeader+payload))
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum16(ip)))
	udp := []byte{0, 9, 0, 9, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(udp[4:], uint16(udpHeader+payload))
	pseudo := sum16(ip[12:20]) + unix.IPPROTO_UDP + uint32(udpHeader+payload)
	binary.BigEndian.PutUint16(udp[6:], fold(pseudo)) // of the pseudo-header: the rest is to be added
	frame := append(vnet, 2, 0, 0, 0, 1, 4, 2, 0, 0, 0, 1, 5, 0x08, 0x00)
	return append(append(append(frame, ip...), udp...), make([]byte, payload)...)
}

// udpSumHolds checks the checksum of a UDP packet in IPv4 without options.
func udpSumHolds(ip []byte) bool {
	udp := ip[20:]
	return fold(sum16(ip[12:20])+unix.IPPROTO_UDP+uint32(len(udp))+sum16(udp)) == 0xffff
}

func sum16(b []byte) (sum uint32) {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}
