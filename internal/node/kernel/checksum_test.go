// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unfinished is a UDP packet from 10.0.1.4 to 10.0.1.5 whose sender leaves a checksum over everything from start on to be
// written at start+offset (counted from the Ethernet header), as struct virtio_net_hdr tells.
func unfinished(start, offset uint16) []byte {
	vnet := make([]byte, 10)
	vnet[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
	binary.LittleEndian.PutUint16(vnet[6:], start)
	binary.LittleEndian.PutUint16(vnet[8:], offset)
	eth := append(append([]byte{2, 0, 0, 0, 1, 5}, 2, 0, 0, 0, 1, 4), 0x08, 0x00)
	ip := []byte{0x45, 0, 0, 36, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 1, 4, 10, 0, 1, 5}
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	udp := []byte{0x0f, 0xa0, 0x1f, 0x90, 0, 16, 0, 0, 'c', 'h', 'e', 'c', 'k', 's', 'u', 'm'}
	return append(append(append(vnet, eth...), ip...), udp...)
}

// TestChecksumOverCheckedHeaderIsDropped has a workload ask that a checksum be written into its IP header behind the checks:
// over its source address, its protocol, the start of its UDP header. Only what begins behind the IP header passes.
func TestChecksumOverCheckedHeaderIsDropped(t *testing.T) {
	w := newTwoNodes(t)
	const ethernet, ip = 14, 20
	for _, c := range []struct {
		name          string
		start, offset uint16
		passes        bool
	}{
		{"finished behind the IP header", ethernet + ip, 6, true},
		{"source address", ethernet + 6, 6, false},
		{"from inside the IP header into UDP", ethernet + ip - 2, 8, false},
	} {
		before, err := w.a.dp.Drops()
		if err != nil {
			t.Fatal(err)
		}
		heard := make(chan bool, 1)
		w.workloads["10.0.1.5"].do(t, func() error {
			conn, err := net.ListenPacket("udp4", "10.0.1.5:8080")
			if err != nil {
				return err
			}
			go func() {
				buf := make([]byte, 64)
				_ = conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)) // a socket that is open takes a deadline
				_, _, err := conn.ReadFrom(buf)
				conn.Close() // before the next one listens
				heard <- err == nil
			}()
			return nil
		})
		w.workloads["10.0.1.4"].do(t, func() error { return sendUnfinished(unfinished(c.start, c.offset)) })
		if got := <-heard; got != c.passes {
			t.Errorf("%s: heard %v, want %v", c.name, got, c.passes)
		}
		after, err := w.a.dp.Drops()
		if err != nil {
			t.Fatal(err)
		}
		if grew := dropped(after, DropChecksum) - dropped(before, DropChecksum); (grew == 0) != c.passes {
			t.Errorf("%s: %d dropped for %s", c.name, grew, DropChecksum)
		}
	}
}

func dropped(all []DropCount, reason DropReason) (n uint64) {
	for _, d := range all {
		if d.Reason == reason {
			n += d.Packets
		}
	}
	return n
}

// sendUnfinished gives a frame behind a virtio_net_hdr to the workload's device.
func sendUnfinished(frame []byte) error {
	link, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return err
	}
	to := &unix.SockaddrLinklayer{Protocol: 0x0008, Ifindex: link.Index, Halen: 6, Addr: [8]byte{2, 0, 0, 0, 1, 5}}
	return unix.Sendto(fd, frame, 0, to)
}
