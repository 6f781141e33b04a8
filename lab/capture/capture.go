// SPDX-License-Identifier: Apache-2.0

// Package capture writes what passes in a namespace to pcap files.
package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// frameMost is the largest frame that is kept whole: wires in a lab carry packets of up to 64 KiB before segmentation.
const frameMost = 256 << 10

// turnTime is how often a capture without packets looks whether it should end.
const turnTime = 100 * time.Millisecond

// Run writes packets of a device of a namespace as they pass, or of all its devices, until ctx ends or there are count of them (0: any
// number), and returns how many.
func Run(ctx context.Context, ns, device string, out io.Writer, most int) (int, error) {
	fd, err := open(ns, device)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	w := pcapgo.NewWriterNanos(out)
	if err := w.WriteFileHeader(frameMost, layers.LinkTypeEthernet); err != nil {
		return 0, fmt.Errorf("write capture: %w", err)
	}
	frame, control := make([]byte, frameMost), make([]byte, unix.CmsgSpace(16))
	count := 0
	for ctx.Err() == nil && (most == 0 || count < most) {
		n, cn, _, _, err := unix.Recvmsg(fd, frame, control, unix.MSG_TRUNC)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue // the turn is over
		}
		if err != nil {
			return count, err
		}
		info := gopacket.CaptureInfo{Timestamp: timestamp(control[:cn]), Length: n, CaptureLength: min(n, len(frame))}
		if err := w.WritePacket(info, frame[:info.CaptureLength]); err != nil {
			return count, fmt.Errorf("write capture: %w", err)
		}
		count++
	}
	return count, nil
}

// open opens a socket that sees all frames of a device of the namespace, or of all devices.
func open(ns, device string) (fd int, err error) {
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL)) // in network order
	err = netns.Do(ns, func() error {
		index := 0
		if device != "" {
			i, err := net.InterfaceByName(device)
			if err != nil {
				return fmt.Errorf("device %s: %w", device, err)
			}
			index = i.Index
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		turn := unix.NsecToTimeval(turnTime.Nanoseconds())
		err := errors.Join(
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &turn),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}))
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	return fd, err
}

// timestamp finds the kernel's time in the control messages of a packet.
func timestamp(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= 16 {
			return time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:])))
		}
	}
	return time.Now()
}
