// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// onCPU keeps the calling goroutine on one CPU until it ends.
func onCPU(n int) error {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(n % runtime.NumCPU())
	return unix.SchedSetaffinity(0, &set)
}

// frameSocket sends to, or hears from, eth0 of a namespace.
func frameSocket(protocol int) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return 0, err
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return 0, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: link.Attrs().Index, Protocol: uint16(protocol)})
}

// The kernel gives the room of an entry that goes to the next one at once, also while a program still looks at it. What the
// program then reads is another entry, maybe of another tenant: its packet must not go there.
func TestEntryThatIsReusedUnderAProgram(t *testing.T) {
	const otherVNI = testVNI + 1
	w := newTwoNodes(t)
	other := Port{VNI: otherVNI, Tenant: 8, Subnet: 1, MTU: 1450, Addr4: netip.MustParseAddr("10.0.2.4"), MAC: [6]byte{2, 0, 0, 0x77, 0, 4}}
	stranger := newNS(t)
	w.a.attach(t, "wp77", stranger, other, 24, "10.0.2.1")
	locations, ports := w.a.dp.Locations(), w.a.dp.Ports()
	located, err := locations.All()
	w.put(t, err)
	attached, err := ports.All()
	w.put(t, err)
	mine, theirs := LocationKey{testVNI, other.Addr4}, LocationKey{otherVNI, other.Addr4}
	var from, beside PortKey
	for k, p := range attached {
		switch {
		case p.VNI == otherVNI:
			beside = k
		case p.Addr4 == netip.MustParseAddr("10.0.1.4"):
			from = k
		}
	}
	for name, exchange := range map[string]func() error{
		"location": func() error {
			return errors.Join(locations.Delete(mine), locations.Put(theirs, located[theirs]), locations.Delete(theirs), locations.Put(mine, located[mine]))
		},
		// An entry that is written anew leaves its room, too.
		"port": func() error { return errors.Join(ports.Put(from, attached[from]), ports.Put(beside, attached[beside])) },
	} {
		t.Run(name, func(t *testing.T) {
			var heard, sent, turns atomic.Uint64
			end := time.Now().Add(3 * time.Second)
			done := make(chan error, 3)
			stranger.work <- func() { done <- hearForeign(&heard, end) }
			w.workloads["10.0.1.4"].work <- func() { done <- sendWhile(&sent, end, 4) }
			go func() {
				err := onCPU(0)
				for ; time.Now().Before(end) && err == nil; turns.Add(1) {
					err = exchange()
				}
				done <- err
			}()
			for range 3 {
				w.put(t, <-done)
			}
			t.Logf("%d packets, %d exchanges", sent.Load(), turns.Load())
			if n := heard.Load(); n > 0 {
				t.Errorf("%d of %d packets of a tenant reached another one", n, sent.Load())
			}
		})
	}
}

// hearForeign counts packets for 10.0.2.4.
func hearForeign(heard *atomic.Uint64, end time.Time) error {
	fd, err := frameSocket(int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for buf := make([]byte, 2048); time.Now().Before(end.Add(100 * time.Millisecond)); {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EAGAIN) {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return err
		}
		if n > 34 && bytes.Equal(buf[30:34], []byte{10, 0, 2, 4}) {
			heard.Add(1)
		}
	}
	return nil
}

// sendWhile sends routed packets from 10.0.1.4 to 10.0.2.4, in the name of 10.0.1.host.
func sendWhile(sent *atomic.Uint64, end time.Time, host byte) error {
	if err := onCPU(1); err != nil {
		return err
	}
	fd, err := frameSocket(0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frame := append(append(append([]byte{}, testRouterMAC[:]...), 2, 0, 0, 0, 1, 4, 8, 0),
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 1, host, 10, 0, 2, 4, 0, 9, 0, 9, 0, 8, 0, 0)
	for time.Now().Before(end) {
		for range 64 {
			_, err := unix.Write(fd, frame)
			if err == nil {
				sent.Add(1)
			} else if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
				return err
			}
		}
	}
	return nil
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }
