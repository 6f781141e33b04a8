// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"net"
	"os"
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
