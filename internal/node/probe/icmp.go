// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// icmpVersion is what ICMP is called in one IP version.
type icmpVersion struct {
	network, any      string
	protocol          int
	echo, reply       icmp.Type
	exceeded          icmp.Type
	header            int // bytes of the IP header
	level, mtu, probe int // socket option that forbids fragments, whatever the kernel believes of the path
	ttl               int // socket option of the TTL
}

func versionOf(a netip.Addr) icmpVersion {
	if a.Is4() {
		return icmpVersion{
			"ip4:icmp", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, ipv4.ICMPTypeTimeExceeded, 20,
			unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE, unix.IP_TTL,
		}
	}
	return icmpVersion{
		"ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, ipv6.ICMPTypeTimeExceeded, 40,
		unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE, unix.IPV6_UNICAST_HOPS,
	}
}

// listenICMP opens a raw socket in a namespace.
func listenICMP(ns string, v icmpVersion) (conn *icmp.PacketConn, err error) {
	err = netns.Do(ns, func() (err error) {
		conn, err = icmp.ListenPacket(v.network, v.any)
		return err
	})
	return conn, err
}

// ping sends an echo request and waits for its reply; one that fits into the MTU, with "don't fragment".
func ping(ctx context.Context, ns string, r Request) error {
	to, err := netip.ParseAddr(r.To)
	if err != nil {
		return err
	}
	v := versionOf(to)
	conn, err := listenICMP(ns, v)
	if err != nil {
		return err
	}
	defer conn.Close()
	mtu, err := mtuOf(ns)
	if err != nil {
		return err
	}
	if r.Size+v.header+8 <= mtu {
		if err := dontFragment(conn, v); err != nil {
			return err
		}
	}
	id, data := int(time.Now().UnixNano()&0xffff), payload(r.Canary, r.Size)
	for seq := range 3 {
		m := icmp.Message{Type: v.echo, Body: &icmp.Echo{ID: id, Seq: seq, Data: data}}
		wire, err := m.Marshal(nil) // the kernel writes the checksum of ICMPv6
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(wire, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(within / 3)); err != nil {
			return err
		}
		if awaitEcho(conn, v, to, id, data) {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.New("no reply")
}

func dontFragment(conn *icmp.PacketConn, v icmpVersion) error {
	var inner net.PacketConn
	if v.protocol == 1 {
		inner = conn.IPv4PacketConn().PacketConn
	} else {
		inner = conn.IPv6PacketConn().PacketConn
	}
	return setOption(inner.(syscall.Conn), v.level, v.mtu, v.probe)
}

func setOption(c syscall.Conn, level, option, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = raw.Control(func(fd uintptr) {
		serr = os.NewSyscallError("setsockopt", unix.SetsockoptInt(int(fd), level, option, value))
	})
	return errors.Join(err, serr)
}

// awaitEcho waits for a reply that brings back what was sent.
func awaitEcho(conn *icmp.PacketConn, v icmpVersion, from netip.Addr, id int, data []byte) bool {
	buf := make([]byte, 1<<16)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if err != nil {
			return false
		}
		m, err := icmp.ParseMessage(v.protocol, buf[:n])
		if err != nil || m.Type != v.reply || peer.String() != from.String() {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == id && bytes.Equal(e.Data, data) {
			return true
		}
	}
}

// hopsMost is how far trace looks: there is one router between any two workloads.
const hopsMost = 3

// trace sends UDP with growing TTL and notes who says that it ended there, up to the addressee itself.
func trace(ctx context.Context, ns string, r Request) ([]string, error) {
	to, err := netip.ParseAddr(r.To)
	if err != nil {
		return nil, err
	}
	v := versionOf(to)
	conn, err := listenICMP(ns, v)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	udp, err := dial(ctx, ns, "udp", netip.AddrPortFrom(to, Port).String())
	if err != nil {
		return nil, err
	}
	defer udp.Close()
	var hops []string
	for ttl := 1; ttl <= hopsMost; ttl++ {
		if err := setOption(udp.(syscall.Conn), v.level, v.ttl, ttl); err != nil {
			return hops, err
		}
		hop, arrived, err := oneHop(conn, udp, v)
		if err != nil {
			return hops, fmt.Errorf("%d hops away: %w", ttl, err)
		}
		hops = append(hops, hop)
		if arrived {
			return hops, nil
		}
	}
	return hops, fmt.Errorf("%s is farther than %s", to, strings.Join(hops, ", "))
}

// oneHop sends one packet and returns who answered: the addressee, or the router where it ended.
func oneHop(conn *icmp.PacketConn, udp net.Conn, v icmpVersion) (hop string, arrived bool, err error) {
	if _, err := udp.Write([]byte("how far?")); err != nil {
		return "", false, err
	}
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(within / 3); time.Now().Before(deadline); {
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			return "", false, err
		}
		if n, peer, err := conn.ReadFrom(buf); err == nil && quotes(buf[:n], v, udp.LocalAddr()) {
			return peer.String(), false, nil
		}
		if err := udp.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return "", false, err
		}
		if _, err := udp.Read(buf); err == nil {
			host, _, err := net.SplitHostPort(udp.RemoteAddr().String())
			return host, true, err
		}
	}
	return "", false, errors.New("nobody answers")
}

// quotes tells whether a message says "time exceeded" of a UDP packet from a port of ours.
func quotes(message []byte, v icmpVersion, from net.Addr) bool {
	m, err := icmp.ParseMessage(v.protocol, message)
	if err != nil || m.Type != v.exceeded {
		return false
	}
	body, ok := m.Body.(*icmp.TimeExceeded)
	udp, _ := from.(*net.UDPAddr)
	return ok && udp != nil && len(body.Data) >= v.header+2 && int(binary.BigEndian.Uint16(body.Data[v.header:])) == udp.Port
}
