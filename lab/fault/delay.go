// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"weft/internal/netns"
	"weft/lab"
)

// Bounds of a delay.
const (
	delayMost  = 10 * time.Second
	waitingMax = 1 << 16 // frames under way in one direction; more are lost, as in a queue that is full
)

// delay splices a relay into a link, in one direction or both: a program sends what leaves by the device to a tap, and a
// process takes it from there, waits, and sends it by the device as it was, past the program.
//
//	stack -> device's tcx program -> tap -> relay, after a time -> device
func delay(ctx context.Context, w *work) error {
	wire, err := w.wire()
	if err != nil {
		return err
	}
	if w.fault.By <= 0 || w.fault.By > delayMost {
		return fmt.Errorf("%w: --by is more than 0 and at most %s", ErrArgument, delayMost)
	}
	ends := wire[:1]
	if w.fault.Both {
		ends = wire[:]
	}
	for _, e := range ends {
		if err := w.relay(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// relay starts a relay for what leaves by one end of a link, and then leads packets to it.
func (w *work) relay(ctx context.Context, e lab.WireEnd) error {
	name := fmt.Sprintf("delay-%d", w.fault.ID)
	w.fault.Relays = append(w.fault.Relays, Relay{e.Node, name})
	if err := w.save(); err != nil {
		return err
	}
	weft, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	for _, p := range w.l.Processes { // where this is not weft itself
		if p.Program == "server" {
			weft = withoutClock(p.Args)[0]
		}
	}
	if err := w.l.Run(e.Node, name, weft, "lab", "fault", "relay", e.Device, name, w.fault.By.String()); err != nil {
		return err
	}
	tap, err := w.tap(ctx, e.Node, name)
	if err != nil {
		return err
	}
	return w.attach(End{e.Node, e.Device}, ebpf.AttachTCXEgress, asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(tap)), asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(), // out of the tap
		asm.JNE.Imm(asm.R0, tcxRedirect, "drop"),
		asm.Return(),
	})
}

// tap waits for the relay's tap and sets it up.
func (w *work) tap(ctx context.Context, node, name string) (index int, err error) {
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	for index == 0 {
		err = netns.Inside(w.netNS(node), func(ns *netns.Namespace) error {
			links, err := ns.Links()
			for _, link := range links {
				if link.Name == name {
					index = link.Index
					return ns.SetUp(name)
				}
			}
			return err
		})
		if err != nil {
			return 0, err
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("the relay at %s does not start; see its log in %s", node, w.l.Dir())
		}
		time.Sleep(time.Millisecond)
	}
	return index, nil
}

// undelay takes the program off, and lets the relay send what it has: what comes meanwhile passes that.
func undelay(ctx context.Context, w *work) error {
	if err := unpin(ctx, w); err != nil {
		return err
	}
	for _, r := range w.fault.Relays { // asked to end, it sends what it has first
		if err := w.l.Signal(r.Node, r.Program, syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, lab.ErrTarget) {
			return err
		}
	}
	deadline := time.Now().Add(w.fault.By + endWithin)
	for _, r := range w.fault.Relays {
		for time.Now().Before(deadline) && ctx.Err() == nil && w.l.Signal(r.Node, r.Program, 0) == nil {
			time.Sleep(lookEvery)
		}
		if err := w.l.Kill(r.Node, r.Program); err != nil {
			return err
		}
	}
	return nil
}

// RelayFrames is the relay's own process: it runs in the node's namespace until ctx ends, and sends what it has then.
func RelayFrames(ctx context.Context, device, tapName string, by time.Duration) error {
	own, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("find device %s: %w", device, err)
	}
	out, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	defer unix.Close(out)
	// Past the queueing layer, and so past the program that led the packet here.
	if err := unix.SetsockoptInt(out, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return fmt.Errorf("set up a packet socket: %w", err)
	}
	tap, err := openTap(tapName)
	if err != nil {
		return err
	}
	defer unix.Close(tap)
	type frame struct {
		due   time.Time
		bytes []byte
	}
	waiting := make(chan frame, waitingMax)
	var sender sync.WaitGroup
	defer sender.Wait()
	defer close(waiting)
	sender.Go(func() {
		for f := range waiting {
			time.Sleep(time.Until(f.due))
			_ = unix.Sendto(out, f.bytes, 0, &unix.SockaddrLinklayer{Ifindex: own.Index}) // a link that is down loses it
		}
	})
	buf := make([]byte, 1<<16)
	for {
		ready := []unix.PollFd{{Fd: int32(tap), Events: unix.POLLIN}}
		n, err := unix.Poll(ready, int(lookEvery/time.Millisecond))
		if n == 0 && ctx.Err() != nil {
			return nil
		}
		if n == 0 || errors.Is(err, syscall.EINTR) {
			continue
		}
		n, err = unix.Read(tap, buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if errors.Is(err, syscall.EIO) && ctx.Err() == nil { // the tap is not up yet
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			return fmt.Errorf("read from %s: %w", tapName, err)
		}
		if n < 14 || !bytes.Equal(buf[6:12], own.HardwareAddr) {
			continue // what the kernel says by the tap itself
		}
		select {
		case waiting <- frame{time.Now().Add(by), bytes.Clone(buf[:n])}:
		default: // the queue is full
		}
	}
}

// openTap makes a tap that is gone with this process.
func openTap(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("make tap %s: %w", name, err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("make tap %s: %w", name, err)
	}
	return fd, nil
}
