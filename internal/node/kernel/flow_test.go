// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// flow sends numbered datagrams from one workload to another, without pause until it is ended, and notes which arrive.
type flow struct {
	name   string
	write  func(number uint64) error
	in     net.PacketConn
	stop   chan struct{}
	wg     sync.WaitGroup
	sent   atomic.Uint64
	failed error // of write; once the sender has ended

	arrived, twice uint64 // once the receiver has ended
}

const flowPace = 100 * time.Microsecond

// startFlow begins a flow of datagrams to a port of to.
func (w *twoNodes) startFlow(t *testing.T, from, to string, port uint16) *flow {
	t.Helper()
	f := w.listen(t, to, port)
	var out net.Conn
	w.workloads[from].do(t, func() error {
		if err := ping(to, 56, 2*time.Second); err != nil {
			return err
		}
		var err error
		out, err = net.Dial("udp4", netip.AddrPortFrom(netip.MustParseAddr(to), port).String())
		return err
	})
	t.Cleanup(func() { out.Close() })
	f.write = func(n uint64) error {
		_, err := out.Write(binary.BigEndian.AppendUint64(nil, n))
		return err
	}
	f.name = from + " to " + to
	f.run()
	return f
}

// startForged begins a flow from a workload whose source address is somebody else's.
func (w *twoNodes) startForged(t *testing.T, from, source, to string, port uint16) *flow {
	t.Helper()
	f := w.listen(t, to, port)
	fd := -1
	w.workloads[from].do(t, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	src, dst := netip.MustParseAddr(source).As4(), netip.MustParseAddr(to).As4()
	p := make([]byte, 20+8+8) // the kernel fills the IP header's length and checksum
	p[0], p[8], p[9] = 0x45, 64, unix.IPPROTO_UDP
	copy(p[12:], src[:])
	copy(p[16:], dst[:])
	binary.BigEndian.PutUint16(p[20:], port)
	binary.BigEndian.PutUint16(p[22:], port)
	binary.BigEndian.PutUint16(p[24:], 16)
	f.write = func(n uint64) error {
		binary.BigEndian.PutUint64(p[28:], n)
		return unix.Sendto(fd, p, 0, &unix.SockaddrInet4{Addr: dst})
	}
	f.name = from + " as " + source + " to " + to
	f.run()
	return f
}

func (w *twoNodes) listen(t *testing.T, at string, port uint16) *flow {
	t.Helper()
	f := &flow{stop: make(chan struct{})}
	w.workloads[at].do(t, func() (err error) {
		if f.in, err = net.ListenPacket("udp4", netip.AddrPortFrom(netip.MustParseAddr(at), port).String()); err != nil {
			return err
		}
		raw, err := f.in.(*net.UDPConn).SyscallConn()
		if err != nil {
			return err
		}
		var serr error // room for what comes while this process does not run
		err = raw.Control(func(fd uintptr) { serr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) })
		return errors.Join(err, serr)
	})
	t.Cleanup(func() { f.in.Close() })
	return f
}

func (f *flow) run() {
	f.wg.Go(func() {
		for {
			select {
			case <-f.stop:
				return
			case <-time.After(flowPace):
			}
			if f.failed = f.write(f.sent.Load()); f.failed != nil {
				return
			}
			f.sent.Add(1)
		}
	})
	f.wg.Go(func() {
		seen := map[uint64]bool{}
		for buffer := make([]byte, 64); ; {
			n, _, err := f.in.ReadFrom(buffer)
			if err != nil {
				return
			}
			if number := binary.BigEndian.Uint64(buffer[:n]); seen[number] {
				f.twice++
			} else {
				seen[number] = true
				f.arrived++
			}
		}
	})
}

// end stops the flow, waits for what is on its way, and returns how many were sent and how many arrived.
func (f *flow) end(t *testing.T) (sent, arrived uint64) {
	t.Helper()
	close(f.stop)
	if err := f.in.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil && !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	f.wg.Wait()
	if f.failed != nil {
		t.Errorf("%s: %v", f.name, f.failed)
	}
	if f.twice != 0 {
		t.Errorf("%s: %d came twice", f.name, f.twice)
	}
	return f.sent.Load(), f.arrived
}
