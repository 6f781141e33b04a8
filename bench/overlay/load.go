// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// End is one end of a way: a namespace, and its address there (IPv4).
type End struct {
	NetNS   string
	Address netip.Addr
}

// way carries packets between two ends.
type way struct {
	name     string
	from, to End
}

// Sockets are plain descriptors and calls that block, on threads of their own: what Go's poller would add to each turn is more than
// what the ways differ by.
const (
	chunk     = 256 << 10              // bytes that a stream writes at once
	warmMost  = 150 * time.Millisecond // before it is measured; as long as the measurement, if that is shorter
	replyWait = time.Second            // of a turn that was lost
	small     = 22                     // bytes of UDP payload in a frame of 64
	port      = 5201
)

// socket opens one in a namespace, bound to its address there; port 0 is any.
func socket(e End, kind, port int) (int, error) {
	var fd int
	err := netns.Do(e.NetNS, func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
			unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: e.Address.As4()}))
		if err != nil {
			unix.Close(fd)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("open a socket at %s in %s: %w", e.Address, e.NetNS, err)
	}
	return fd, nil
}

// bound lets no call on a connected socket block for ever. A call with a bound is not begun again by itself after a signal.
func bound(fd int) error {
	tv := unix.NsecToTimeval(int64(replyWait))
	return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv))
}

// thread runs what blocks.
func thread(all *sync.WaitGroup, do func()) {
	all.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		do()
	})
}

// connect makes n connections of TCP.
func (w way) connect(n int) (from, to []int, err error) {
	l, err := socket(w.to, unix.SOCK_STREAM, port)
	if err != nil {
		return nil, nil, err
	}
	defer unix.Close(l)
	if err := unix.Listen(l, n); err != nil {
		return nil, nil, os.NewSyscallError("listen", err)
	}
	for range n {
		fd, err := socket(w.from, unix.SOCK_STREAM, 0)
		if err == nil {
			from = append(from, fd)
			err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: w.to.Address.As4()})
		}
		if err == nil {
			fd, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC)
		}
		if err == nil {
			to = append(to, fd)
			err = errors.Join(bound(fd), bound(from[len(from)-1]))
		}
		if err != nil {
			shut(append(from, to...))
			return nil, nil, fmt.Errorf("connect %s to %s: %w", w.from.Address, w.to.Address, err)
		}
	}
	return from, to, nil
}

func shut(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// streamed is what streams of TCP carried.
type streamed struct {
	rate float64 // Gbit/s of payload
	cpu  float64 // seconds of all processors for each Gbit
}

// stream sends as much as goes.
func (w way) stream(streams int, within time.Duration) (streamed, error) {
	from, to, err := w.connect(streams)
	if err != nil {
		return streamed{}, err
	}
	var read atomic.Int64
	var ended atomic.Bool
	var all sync.WaitGroup
	for i := range streams {
		thread(&all, func() {
			data := make([]byte, chunk)
			for !ended.Load() {
				if _, err := unix.Write(from[i], data); err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
					return
				}
			}
		})
		thread(&all, func() {
			data := make([]byte, chunk)
			for {
				n, err := unix.Read(to[i], data)
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if n <= 0 {
					return
				}
				read.Add(int64(n))
			}
		})
	}
	time.Sleep(min(warmMost, within))
	begin, bytes, busy := time.Now(), read.Load(), processors()
	time.Sleep(within)
	took, carried, worked := time.Since(begin), read.Load()-bytes, processors()-busy
	ended.Store(true)
	for _, fd := range append(slices.Clone(from), to...) {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // wakes who waits
	}
	all.Wait()
	shut(append(from, to...))
	gbit := float64(carried) * 8 / 1e9
	if gbit == 0 {
		return streamed{}, fmt.Errorf("nothing arrived from %s at %s", w.from.Address, w.to.Address)
	}
	return streamed{gbit / took.Seconds(), worked.Seconds() / gbit}, nil
}

// processors is how long all processors have worked (proc_stat(5)); what interrupts took is in it.
func processors() time.Duration {
	text, _ := os.ReadFile("/proc/stat") // always there
	line, _, _ := strings.Cut(string(text), "\n")
	var ticks int
	for i, f := range strings.Fields(line) {
		n, err := strconv.Atoi(f)
		if err == nil && i != 4 && i != 5 && i < 8 { // idle, iowait and steal are not work
			ticks += n
		}
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// turns sends one byte and waits for one, again and again, and returns how long the median and the slowest of a hundred turns took, in µs.
func (w way) turns(within time.Duration) (p50, p99 float64, err error) {
	from, to, err := w.connect(1)
	if err != nil {
		return 0, 0, err
	}
	for _, fd := range []int{from[0], to[0]} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return 0, 0, os.NewSyscallError("setsockopt", err)
		}
	}
	var all sync.WaitGroup
	thread(&all, func() {
		data := make([]byte, 1)
		for {
			n, err := unix.Read(to[0], data)
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if n <= 0 {
				return
			}
			_, _ = unix.Write(to[0], data) // the other side tells
		}
	})
	var took []float64
	thread(&all, func() {
		defer func() { _ = unix.Shutdown(from[0], unix.SHUT_RDWR) }()
		data := make([]byte, 1)
		for warmed, end := time.Now().Add(min(warmMost, within)), time.Now().Add(min(warmMost, within)+within); ; {
			start := time.Now()
			if start.After(end) {
				return
			}
			if _, err = unix.Write(from[0], data); err == nil {
				_, err = unix.Read(from[0], data)
			}
			if errors.Is(err, unix.EINTR) {
				err = nil
				continue
			}
			if err != nil {
				return
			}
			if start.After(warmed) {
				took = append(took, float64(time.Since(start))/float64(time.Microsecond))
			}
		}
	})
	all.Wait()
	shut(append(from, to...))
	if err != nil || len(took) == 0 {
		return 0, 0, fmt.Errorf("turns between %s and %s: %w", w.from.Address, w.to.Address, err)
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], nil
}

// packets sends frames of 64 bytes as fast as one thread can, and returns how many a second arrived, in millions.
func (w way) packets(within time.Duration) (float64, error) {
	to, err := socket(w.to, unix.SOCK_DGRAM, port)
	if err != nil {
		return 0, err
	}
	from, err := socket(w.from, unix.SOCK_DGRAM, 0)
	if err != nil {
		unix.Close(to)
		return 0, err
	}
	defer shut([]int{from, to})
	if err := errors.Join(bound(from), bound(to)); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(from, &unix.SockaddrInet4{Port: port, Addr: w.to.Address.As4()}); err != nil {
		return 0, os.NewSyscallError("connect", err)
	}
	var read atomic.Int64
	var ended atomic.Bool
	var all sync.WaitGroup
	thread(&all, func() {
		data := make([]byte, small)
		for !ended.Load() {
			_, _ = unix.Write(from, data) // one that finds no room is one less
		}
	})
	thread(&all, func() {
		data := make([]byte, small)
		for {
			n, err := unix.Read(to, data)
			switch {
			case n == small:
				read.Add(1)
			case errors.Is(err, unix.EINTR):
			case ended.Load():
				return
			}
		}
	})
	time.Sleep(min(warmMost, within))
	begin, count := time.Now(), read.Load()
	time.Sleep(within)
	rate := float64(read.Load()-count) / time.Since(begin).Seconds()
	ended.Store(true)
	_ = unix.Shutdown(to, unix.SHUT_RDWR) // wakes who waits
	all.Wait()
	if rate == 0 {
		return 0, fmt.Errorf("nothing arrived from %s at %s", w.from.Address, w.to.Address)
	}
	return rate / 1e6, nil
}
