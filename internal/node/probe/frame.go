// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// CanaryPrefix begins every text that an ear listens for; CanaryLength bytes belong to it.
const (
	CanaryPrefix = "weft-canary-"
	CanaryLength = len(CanaryPrefix) + 12
	heardMost    = 4096
)

// packetSocket opens a socket for whole frames of a workload's device.
func packetSocket(ns string) (fd int, index int, err error) {
	err = netns.Do(ns, func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		index = link.Index
		proto := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(proto))
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: index})
	})
	if err != nil {
		return 0, 0, fmt.Errorf("open packet socket in %s: %w", ns, err)
	}
	return fd, index, nil
}

// inject sends a frame from the workload's device.
func inject(ns string, frame []byte) error {
	if len(frame) < 14 {
		return errors.New("the frame has no Ethernet header")
	}
	fd, index, err := packetSocket(ns)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index, Halen: 6, Addr: [8]byte(append(frame[:6:6], 0, 0))})
}

// mtuOf returns the MTU of a workload's device.
func mtuOf(ns string) (mtu int, err error) {
	err = netns.Do(ns, func() error {
		link, err := net.InterfaceByName(device)
		if err == nil {
			mtu = link.MTU
		}
		return err
	})
	return mtu, err
}

// setMTU changes the MTU of a workload's device, as the workload itself could.
func setMTU(ns string, mtu int) error {
	return netns.Do(ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		req, err := unix.NewIfreq(device)
		if err != nil {
			return err
		}
		req.SetUint32(uint32(mtu))
		return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, req)
	})
}

// ear overhears a workload's device and keeps the canaries that came in.
type ear struct {
	fd   int
	done chan struct{}
	wg   sync.WaitGroup

	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// listen begins to overhear.
func listen(ns string) (*ear, error) {
	fd, _, err := packetSocket(ns)
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen in %s: %w", ns, err)
	}
	e := &ear{fd: fd, done: make(chan struct{}), seen: make(map[string]bool)}
	e.wg.Go(e.run)
	return e, nil
}

// run reads frames until close, looking up at least every 100 ms.
func (e *ear) run() {
	defer unix.Close(e.fd)
	buf := make([]byte, 1<<17)
	for {
		select {
		case <-e.done:
			return
		default:
		}
		n, from, err := unix.Recvfrom(e.fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return // the device is gone
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			e.note(buf[:n])
		}
	}
}

// note keeps the first canary of a frame.
func (e *ear) note(frame []byte) {
	i := bytes.Index(frame, []byte(CanaryPrefix))
	if i < 0 || i+CanaryLength > len(frame) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.seen) < heardMost {
		e.seen[string(frame[i:i+CanaryLength])] = true
	}
}

func (e *ear) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]string, 0, len(e.seen))
	for c := range e.seen {
		out = append(out, c)
	}
	return out
}

// close ends the listening, within 100 ms.
func (e *ear) close() {
	close(e.done)
	e.wg.Wait()
}
