// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// tellErrors lets a port of node a know the router's address of its subnet.
func (w *twoNodes) tellErrors(t *testing.T, name string) {
	t.Helper()
	var index int
	w.a.do(t, func() error {
		l, _, err := device.FindLink(name)
		index = l.Index
		return err
	})
	ports, err := w.a.dp.Ports().All()
	if err != nil {
		t.Fatal(err)
	}
	key := PortKey{uint32(index)}
	p := ports[key]
	b := p.Addr4.As4()
	p.Router4 = netip.AddrFrom4([4]byte{b[0], b[1], b[2], 1})
	w.put(t, w.a.dp.Ports().Put(key, p))
}

// told is what the error queue of a socket says of a packet that was sent.
type told struct {
	from       netip.Addr
	kind, code uint8
	mtu        uint32
}

// probe sends one UDP packet and returns the ICMP error that the kernel took for it.
func probe(to string, ttl, size int) (told, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return told{}, err
	}
	defer unix.Close(fd)
	err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1), unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE))
	if err != nil {
		return told{}, err
	}
	if err := unix.Sendto(fd, make([]byte, size), 0, &unix.SockaddrInet4{Port: 33434, Addr: netip.MustParseAddr(to).As4()}); err != nil {
		return told{}, fmt.Errorf("send: %w", err)
	}
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, 2000); err != nil || n == 0 {
		return told{}, fmt.Errorf("to %s: nothing was told: %w", to, errors.Join(err, unix.ETIMEDOUT))
	}
	control := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(fd, make([]byte, 64), control, unix.MSG_ERRQUEUE)
	if err != nil {
		return told{}, fmt.Errorf("read error queue: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) == 0 || len(messages[0].Data) < 24 {
		return told{}, fmt.Errorf("control messages %v, %w", messages, err)
	}
	d := messages[0].Data // struct sock_extended_err, then the sender
	return told{netip.AddrFrom4([4]byte(d[20:24])), d[5], d[6], binary.NativeEndian.Uint32(d[8:])}, nil
}

// What traceroute and path MTU discovery see: the router's address of the sender's own subnet, and the overlay's MTU.
func TestWorkloadIsToldOfErrors(t *testing.T) {
	w := newTwoNodes(t)
	w.tellErrors(t, "wp1-4")
	router := netip.MustParseAddr("10.0.1.1")
	longer := func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(eth0, 9000)
	}
	w.workloads["10.0.1.4"].do(t, longer)
	for name, c := range map[string]struct {
		to        string
		ttl, size int
		want      told
	}{
		"first-hop-near": {"10.0.2.4", 1, 20, told{router, 11, 0, 0}},
		"first-hop-far":  {"10.0.2.5", 1, 1000, told{router, 11, 0, 0}},
		"second-hop":     {"10.0.2.5", 2, 20, told{netip.MustParseAddr("10.0.2.5"), 3, 3, 0}}, // nobody listens there
		"too-big":        {"10.0.1.6", 64, 1423, told{router, 3, 4, 1450}},
		"too-big-by-far": {"10.0.2.5", 64, 8000, told{router, 3, 4, 1450}},
		"nobody":         {"10.0.9.9", 64, 20, told{router, 3, 1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			w.workloads["10.0.1.4"].do(t, func() error {
				got, err := probe(c.to, c.ttl, c.size)
				if err == nil && got != c.want {
					err = fmt.Errorf("told %+v, want %+v", got, c.want)
				}
				return err
			})
		})
	}
}

// A workload that believes in a longer MTU than the overlay's finds the right one, and its connection goes on.
func TestConnectionFindsTheMTU(t *testing.T) {
	w := newTwoNodes(t)
	w.tellErrors(t, "wp1-4")
	for _, at := range []string{"10.0.1.4", "10.0.2.5"} { // both, or the other's MSS would hide it
		w.workloads[at].do(t, func() error {
			eth0, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(eth0, 9000)
		})
	}
	sums := listen(t, w.workloads["10.0.2.5"], "10.0.2.5")
	w.workloads["10.0.1.4"].do(t, func() error {
		conn, err := net.DialTimeout("tcp4", "10.0.2.5:80", 3*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(make([]byte, 1<<20))
		return errors.Join(err, conn.SetDeadline(time.Now().Add(5*time.Second)))
	})
	select {
	case _, whole := <-sums:
		if !whole {
			t.Error("the connection broke")
		}
	case <-time.After(5 * time.Second):
		t.Error("the connection stands still")
	}
	drops, err := w.a.dp.Drops()
	if err != nil {
		t.Fatal(err)
	}
	tooBig := false
	for _, d := range drops {
		tooBig = tooBig || d.Reason == DropTooBig
	}
	if !tooBig {
		t.Errorf("nothing was too big: %v", drops)
	}
}
