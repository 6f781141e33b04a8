// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"net"
	"slices"
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

// TestChecksumOverCheckedHeaderOfIPv6IsDropped: the same for IPv6, whose header is longer and has no checksum.
func TestChecksumOverCheckedHeaderOfIPv6IsDropped(t *testing.T) {
	w := newDual(t, underlays["over-ipv4"])
	const ethernet, ip = 14, 40
	from, to := w.ports[0], w.ports[1]
	send := func(start, offset uint16) (dropped uint64, passed bool) {
		before, local := w.ends(t)
		vnet := make([]byte, 10)
		vnet[0] = 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM
		binary.LittleEndian.PutUint16(vnet[6:], start)
		binary.LittleEndian.PutUint16(vnet[8:], offset)
		header := []byte{0x60, 0, 0, 0, 0, 16, 17, 64}
		body := []byte{0x0f, 0xa0, 0x1f, 0x90, 0, 16, 0, 0, 'c', 'h', 'e', 'c', 'k', 's', 'u', 'm'}
		frame := slices.Concat(vnet, to.MAC[:], from.MAC[:], []byte{0x86, 0xdd}, header, from.Addr6.AsSlice(), to.Addr6.AsSlice(), body)
		from.do(t, func() error { return sendUnfinished(frame) })
		for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if after, now := w.ends(t); after != before || now != local {
				return after - before, now > local
			}
		}
		return 0, false
	}
	if n, passed := send(ethernet+ip, 6); n != 0 || !passed {
		t.Errorf("finished behind the IP header: %d dropped, passed %t", n, passed)
	}
	for name, c := range map[string][2]uint16{"source address": {ethernet + 8, 14}, "end of the destination": {ethernet + ip - 2, 8}} {
		if n, _ := send(c[0], c[1]); n != 1 {
			t.Errorf("%s: %d dropped", name, n)
		}
	}
}

// ends is how many packets the first node dropped for a checksum, and how many it gave to ports of its own.
func (w *dual) ends(t *testing.T) (checksum, local uint64) {
	t.Helper()
	drops, err := w.nodes[0].dp.Drops()
	must(t, err)
	passes, err := w.nodes[0].dp.Passes()
	must(t, err)
	return dropped(drops, DropChecksum), passes[PassLocal].Packets
}

// TestTagInTheDescriptorIsDropped: a VLAN tag that a workload sends is taken out of the frame before the programs see it, and
// is kept beside it. The frame without it is in order, and is dropped for the tag.
func TestTagInTheDescriptorIsDropped(t *testing.T) {
	w := newTwoNodes(t)
	for _, kind := range [][]byte{{0x81, 0, 0, 5}, {0x88, 0xa8, 0, 5}, {0x81, 0, 0, 0}} {
		before, err := w.a.dp.Drops()
		must(t, err)
		whole := unfinished(34, 6)
		frame := slices.Concat(make([]byte, 10), whole[10:22], kind, whole[22:])
		w.workloads["10.0.1.4"].do(t, func() error { return sendUnfinished(frame) })
		count := func() uint64 {
			after, err := w.a.dp.Drops()
			must(t, err)
			return dropped(after, DropVLAN) - dropped(before, DropVLAN)
		}
		for deadline := time.Now().Add(2 * time.Second); count() == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if n := count(); n != 1 {
			t.Errorf("tag %x: %d dropped for %s", kind, n, DropVLAN)
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
