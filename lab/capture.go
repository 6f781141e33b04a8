// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// frameMost is the largest frame that is kept whole: wires in a lab carry packets of up to 64 KiB before segmentation.
const frameMost = 256 << 10

// captureTurn is how often a capture without packets looks whether it should end.
const captureTurn = 100 * time.Millisecond

// CaptureConfig says what to capture.
type CaptureConfig struct {
	Target string    // NODE, NODE:DEVICE or TENANT/PORT; without a device all of them
	Out    io.Writer // gets a pcap file
	Count  int       // end after so many packets; 0: do not
}

// Capture writes packets as they pass, until ctx ends or Count is reached, and returns how many.
func (l *Lab) Capture(ctx context.Context, cfg CaptureConfig) (int, error) {
	target, device, _ := strings.Cut(cfg.Target, ":")
	ns, err := l.Target(target)
	if err != nil {
		return 0, err
	}
	fd, err := openCapture(ns, device)
	if err != nil {
		return 0, fmt.Errorf("capture on %s: %w", cfg.Target, err)
	}
	defer unix.Close(fd)
	w := pcapgo.NewWriterNanos(cfg.Out)
	if err := w.WriteFileHeader(frameMost, layers.LinkTypeEthernet); err != nil {
		return 0, fmt.Errorf("write capture: %w", err)
	}
	frame, control := make([]byte, frameMost), make([]byte, unix.CmsgSpace(16))
	count := 0
	for ctx.Err() == nil && (cfg.Count == 0 || count < cfg.Count) {
		n, cn, _, _, err := unix.Recvmsg(fd, frame, control, unix.MSG_TRUNC)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue // the turn is over
		}
		if err != nil {
			return count, fmt.Errorf("capture on %s: %w", cfg.Target, err)
		}
		info := gopacket.CaptureInfo{Timestamp: timestamp(control[:cn]), Length: n, CaptureLength: min(n, len(frame))}
		if err := w.WritePacket(info, frame[:info.CaptureLength]); err != nil {
			return count, fmt.Errorf("write capture: %w", err)
		}
		count++
	}
	return count, nil
}

// openCapture opens a socket that sees all frames of a device of the namespace, or of all devices.
func openCapture(ns, device string) (fd int, err error) {
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
		turn := unix.NsecToTimeval(captureTurn.Nanoseconds())
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
