// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// CanaryPrefix begins every text that an ear listens for; CanaryLength bytes belong to it.
const (
	CanaryPrefix = "weft-canary-"
	CanaryLength = len(CanaryPrefix) + 12
	heardMost    = 1 << 17
	earBuffer    = 16 << 20 // bytes that may wait to be read; a bulk transfer is less
)

// packetSocket opens a socket that sends whole frames by a workload's device, and receives them.
func packetSocket(ns string) (fd int, index int, err error) {
	return openSocket(ns, binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)))
}

// sendSocket opens a socket that sends whole frames by a workload's device.
func sendSocket(ns string) (fd int, index int, err error) { return openSocket(ns, 0) }

func openSocket(ns string, protocol uint16) (fd int, index int, err error) {
	err = netns.Do(ns, func() error {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		index = link.Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol))
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index})
	})
	if err != nil {
		return 0, 0, fmt.Errorf("open packet socket in %s: %w", ns, err)
	}
	return fd, index, nil
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

// ear overhears a workload's device and keeps the canaries that came in. One that missed anything says so: its silence
// proves nothing.
type ear struct {
	fd   int // -1 when closed; run reads it without the lock, as close waits for run
	done chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex // guards below
	seen  map[string]bool
	order []string // of seen
	deaf  error    // why it may have missed a frame
}

// listen begins to overhear.
func listen(ns string) (*ear, error) {
	fd, _, err := packetSocket(ns)
	if err != nil {
		return nil, err
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, earBuffer),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("listen in %s: %w", ns, err)
	}
	e := &ear{fd: fd, done: make(chan struct{}), seen: make(map[string]bool)}
	e.wg.Go(e.run)
	return e, nil
}

// run reads frames until close, looking up at least every 100 ms.
func (e *ear) run() {
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
			e.mu.Lock()
			defer e.mu.Unlock()
			e.missedLocked(fmt.Errorf("the device cannot be overheard any more: %w", err))
			return
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
	canary := string(frame[i : i+CanaryLength])
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.seen[canary]:
		return
	case len(e.seen) < heardMost:
		e.seen[canary] = true
		e.order = append(e.order, canary)
		return
	}
	e.missedLocked(fmt.Errorf("more than %d canaries came in", heardMost))
}

// missedLocked keeps the first reason why silence means nothing.
func (e *ear) missedLocked(why error) {
	if e.deaf == nil {
		e.deaf = why
	}
}

// heard lists the canaries that came in after the first ones; an error says that there may have been more.
func (e *ear) heard(after int) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fd < 0 {
		return nil, errors.New("the workload is being removed")
	}
	st, err := unix.GetsockoptTpacketStats(e.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS) // the kernel counts from the last call
	switch {
	case err != nil:
		e.missedLocked(fmt.Errorf("count missed frames: %w", err))
	case st.Drops > 0:
		e.missedLocked(fmt.Errorf("%d frames came too fast to be overheard", st.Drops))
	}
	return slices.Clone(e.order[min(max(after, 0), len(e.order)):]), e.deaf
}

// close ends the listening, within 100 ms.
func (e *ear) close() {
	close(e.done)
	e.wg.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	unix.Close(e.fd)
	e.fd = -1
}
