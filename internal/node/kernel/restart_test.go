// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// While packets flow between two ports, the agent is restarted with the same programs and with others. None is lost.
func TestNoPacketIsLostWhileProgramsAreReplaced(t *testing.T) {
	w := newTwoNodes(t)
	const total, rest = 600, time.Millisecond // the pace of the sender
	var receiver net.PacketConn
	var sender net.Conn
	w.workloads["10.0.1.5"].do(t, func() (err error) {
		receiver, err = net.ListenPacket("udp4", "10.0.1.5:2000")
		return err
	})
	defer receiver.Close()
	w.workloads["10.0.1.4"].do(t, func() (err error) { sender, err = net.Dial("udp4", "10.0.1.5:2000"); return err })
	defer sender.Close()
	sent := make(chan error, 1)
	go func() {
		for range total {
			if _, err := sender.Write([]byte("one of many")); err != nil {
				sent <- err
				return
			}
			time.Sleep(rest)
		}
		sent <- nil
	}()
	received := make(chan int, 1)
	go func() {
		n := 0
		for buffer := make([]byte, 64); n < total; n++ {
			if err := receiver.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				break
			}
			if _, _, err := receiver.ReadFrom(buffer); errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
		}
		received <- n
	}()
	w.a.reopen(t, "198.19.0.1")
	w.a.reopen(t, "198.19.0.9")
	w.a.reopen(t, "198.19.0.1")
	if w.a.dp.Writes() == 0 {
		t.Error("programs were not replaced")
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if n := <-received; n != total {
		t.Errorf("%d of %d packets arrived", n, total)
	}
}

// As Cilium's agent started, its programs were gone from the devices for a moment, and nothing was checked. Here an agent
// starts again and again, with the same programs and with others, while a workload sends in another's name.
func TestCVE_2023_27595_ChecksStandWhileTheAgentStarts(t *testing.T) {
	w := newTwoNodes(t)
	var heard, sent atomic.Uint64
	end := time.Now().Add(3 * time.Second)
	done := make(chan error, 2)
	w.workloads["10.0.2.4"].work <- func() { done <- hearForeign(&heard, end) }
	w.workloads["10.0.1.4"].work <- func() { done <- sendWhile(&sent, end, 99) }
	starts := 0
	for ; time.Now().Before(end); starts++ {
		w.a.reopen(t, []string{"198.19.0.1", "198.19.0.1", "198.19.0.9"}[starts%3])
	}
	for range 2 {
		w.put(t, <-done)
	}
	drops, err := w.a.dp.TenantDrops(7)
	w.put(t, err)
	if heard.Load() > 0 || drops[DropSrcIPSpoof] == 0 || starts < 6 {
		t.Errorf("%d starts, %d forged packets, %d of them heard; drops %v", starts, sent.Load(), heard.Load(), drops)
	}
	t.Logf("%d starts, %d forged packets, %d dropped", starts, sent.Load(), drops[DropSrcIPSpoof])
}
