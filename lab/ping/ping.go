// SPDX-License-Identifier: Apache-2.0

// Package ping sends echo requests from inside a namespace, so that a lab needs no program of the machine to show that it works.
package ping

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"weft/internal/netns"
)

// ErrNoReply says that not every echo request was answered.
var ErrNoReply = errors.New("no reply")

// Times of a ping.
const (
	pingEvery  = 200 * time.Millisecond
	pingWithin = time.Second
)

// icmpProtocol is the number of ICMP in IPv4 (RFC 792).
const icmpProtocol = 1

// Run sends count echo requests from a namespace, called target in what is written, to an IPv4 address and writes a line for each.
// The error is ErrNoReply unless all were answered.
func Run(ctx context.Context, ns, target string, to netip.Addr, count int, out io.Writer) error {
	var conn *icmp.PacketConn
	err := netns.Do(ns, func() (err error) {
		conn, err = icmp.ListenPacket("ip4:icmp", "0.0.0.0")
		return err
	})
	if err != nil {
		return fmt.Errorf("ping from %s: %w", target, err)
	}
	defer conn.Close()
	lost := 0
	for seq := 1; seq <= count; seq++ {
		took, ttl, err := echo(conn, to, seq)
		switch {
		case err != nil:
			lost++
			fmt.Fprintf(out, "%s to %s: request %d: %v\n", target, to, seq, err)
		default:
			fmt.Fprintf(out, "%s to %s: reply %d, TTL %d, %.3f ms\n", target, to, seq, ttl, float64(took.Microseconds())/1000)
		}
		if seq == count {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pingEvery):
		}
	}
	if lost > 0 {
		return fmt.Errorf("%s to %s: %d of %d requests: %w", target, to, lost, count, ErrNoReply)
	}
	return nil
}

// echo sends one request and waits for its reply.
func echo(conn *icmp.PacketConn, to netip.Addr, seq int) (took time.Duration, ttl int, err error) {
	p := conn.IPv4PacketConn()
	if err := p.SetControlMessage(ipv4.FlagTTL, true); err != nil {
		return 0, 0, err
	}
	id := os.Getpid() & 0xffff
	wire, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: seq, Data: []byte("weft lab ping")}}).Marshal(nil)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if _, err := p.WriteTo(wire, nil, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return 0, 0, err
	}
	if err := p.SetReadDeadline(start.Add(pingWithin)); err != nil {
		return 0, 0, err
	}
	buf := make([]byte, 1500)
	for {
		n, cm, from, err := p.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, 0, ErrNoReply
		}
		if err != nil {
			return 0, 0, err
		}
		m, err := icmp.ParseMessage(icmpProtocol, buf[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply || from.String() != to.String() {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == id && e.Seq == seq {
			if cm != nil {
				ttl = cm.TTL
			}
			return time.Since(start), ttl, nil
		}
	}
}
