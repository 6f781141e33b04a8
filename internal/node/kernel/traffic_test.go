// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// twoNodes is tenant 7's VPC on two nodes that are joined by a wire:
//
//	node a: web-1 10.0.1.4, web-2 10.0.1.5, db-1 10.0.2.4      node b: web-3 10.0.1.6, db-2 10.0.2.5
type twoNodes struct {
	a, b      *node
	workloads map[string]*testNS // by address
}

const testVNI = 4096

func newTwoNodes(t *testing.T) *twoNodes {
	t.Helper()
	w := &twoNodes{a: newNode(t, "a", "198.19.0.1"), b: newNode(t, "b", "198.19.0.2"), workloads: map[string]*testNS{}}
	w.wire(t)
	w.workload(t, w.a, "10.0.1.4")
	w.workload(t, w.a, "10.0.1.5")
	w.workload(t, w.a, "10.0.2.4")
	w.workload(t, w.b, "10.0.1.6")
	w.workload(t, w.b, "10.0.2.5")
	for i, n := range []*node{w.a, w.b} {
		other := Sender{Tenant: 7, Node: uint16(2 - i)}
		w.put(t, n.dp.Senders().Put(SenderKey{testVNI, w.tunnel(1 - i)}, other))
		for s := range 2 {
			router := netip.AddrFrom4([4]byte{10, 0, byte(s + 1), 1})
			w.put(t, n.dp.Locations().Put(LocationKey{testVNI, router}, Location{Kind: LocationRouter, Subnet: uint32(s + 1)}))
		}
	}
	return w
}

func (w *twoNodes) tunnel(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 19, 0, byte(i + 1)}) }

func (w *twoNodes) put(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wire joins the nodes, with offloads as a veth has them.
func (w *twoNodes) wire(t *testing.T) {
	t.Helper()
	w.a.do(t, func() error {
		peer, err := device.OpenNetNS(w.b.path)
		if err != nil {
			return err
		}
		defer peer.Close()
		v := netlink.NewVeth(netlink.LinkAttrs{Name: "up0", MTU: 1500})
		v.PeerName, v.PeerNamespace, v.PeerMTU = "up0", netlink.NsFd(int(peer)), 1500
		return netlink.LinkAdd(v)
	})
	for i, n := range []*node{w.a, w.b} {
		n.do(t, func() error { return configureUp(fmt.Sprintf("198.19.0.%d/24", i+1)) })
	}
}

func configureUp(address string) error {
	up, err := netlink.LinkByName("up0")
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(up, a), netlink.LinkSetUp(up))
}

// workload attaches a namespace with the address at n and tells the other node where it is.
func (w *twoNodes) workload(t *testing.T, n *node, address string) {
	t.Helper()
	addr := netip.MustParseAddr(address)
	b := addr.As4()
	p := Port{VNI: testVNI, Tenant: 7, Subnet: uint32(b[2]), MTU: 1450, Addr4: addr, MAC: [6]byte{2, 0, 0, 0, b[2], b[3]}}
	w.workloads[address] = newNS(t)
	n.attach(t, fmt.Sprintf("wp%d-%d", b[2], b[3]), w.workloads[address], p, 24, fmt.Sprintf("10.0.%d.1", b[2]))
	other, tunnel, number := w.b, w.tunnel(0), uint16(1)
	if n == w.b {
		other, tunnel, number = w.a, w.tunnel(1), 2
	}
	w.put(t, other.dp.Locations().Put(LocationKey{testVNI, addr},
		Location{Kind: LocationRemote, Tunnel: tunnel, Node: number, Subnet: p.Subnet, MAC: p.MAC}))
}

// ping sends an echo request of size bytes and waits for the answer.
func ping(to string, size int, patience time.Duration) error {
	conn, err := net.Dial("ip4:icmp", to)
	if err != nil {
		return err
	}
	defer conn.Close()
	request := append([]byte{8, 0, 0, 0, 0, 1, 0, 1}, bytes.Repeat([]byte{0xa5}, size)...)
	var sum uint32
	for i := 0; i+1 < len(request); i += 2 {
		sum += uint32(request[i])<<8 | uint32(request[i+1])
	}
	sum = sum&0xffff + sum>>16
	sum += sum >> 16
	request[2], request[3] = ^byte(sum>>8), ^byte(sum)
	if _, err := conn.Write(request); err != nil {
		return err
	}
	answer := make([]byte, 2048)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	n, _, err := conn.(*net.IPConn).ReadFrom(answer) // without the IP header, unlike Read
	if err != nil {
		return fmt.Errorf("ping %s: %w", to, err)
	}
	if n < 8 || answer[0] != 0 || !bytes.Equal(answer[4:n], request[4:]) {
		return fmt.Errorf("ping %s: wrong answer %x", to, answer[:min(n, 16)])
	}
	return nil
}

func TestPingEverywhere(t *testing.T) {
	w := newTwoNodes(t)
	for from := range w.workloads {
		for _, to := range []string{"10.0.1.4", "10.0.1.5", "10.0.2.4", "10.0.1.6", "10.0.2.5", "10.0.1.1", "10.0.2.1"} {
			if from == to {
				continue
			}
			w.workloads[from].do(t, func() error {
				if err := errors.Join(ping(to, 56, 2*time.Second), ping(to, 1450-28, 2*time.Second)); err != nil {
					return fmt.Errorf("from %s: %w", from, err)
				}
				return nil
			})
		}
	}
	for _, n := range []*node{w.a, w.b} {
		passes, err := n.dp.Passes()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range passes {
			if moving := p.Kind <= PassAnswered; moving != (p.Packets > 0) {
				t.Errorf("%s: %d packets", p.Kind, p.Packets)
			}
		}
	}
}

// listen accepts one TCP connection and returns the hash of all that comes.
func listen(t *testing.T, at *testNS, address string) <-chan [32]byte {
	t.Helper()
	var l net.Listener
	at.do(t, func() (err error) { l, err = net.Listen("tcp4", address+":80"); return err })
	sums := make(chan [32]byte, 1)
	go func() {
		defer l.Close()
		defer close(sums)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		h := sha256.New()
		if _, err := io.Copy(h, conn); err == nil {
			sums <- [32]byte(h.Sum(nil))
		}
	}()
	return sums
}

func TestTCPWithSuperPackets(t *testing.T) {
	w := newTwoNodes(t)
	data := bytes.Repeat([]byte("weft carries this from one workload to another. "), 40000)
	for _, to := range []string{"10.0.1.5", "10.0.2.4", "10.0.1.6", "10.0.2.5"} {
		sums := listen(t, w.workloads[to], to)
		w.workloads["10.0.1.4"].do(t, func() error {
			conn, err := net.DialTimeout("tcp4", to+":80", 3*time.Second)
			if err != nil {
				return err
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				return err
			}
			_, err = conn.Write(data)
			return err
		})
		select {
		case sum := <-sums:
			if sum != sha256.Sum256(data) {
				t.Errorf("%s received something else", to)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s did not receive it all", to)
		}
	}
	// Counted as on a wire: at least as many packets as the data needs at 1,450 bytes each, none longer.
	passes, err := w.a.dp.Passes()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []PassKind{PassLocal, PassToTunnel} {
		p := passes[kind]
		if least := uint64(2 * len(data) / 1398); p.Packets < least || p.Bytes > p.Packets*1450 {
			t.Errorf("%s: %d packets, %d bytes; want at least %d packets of at most 1450", kind, p.Packets, p.Bytes, least)
		}
	}
}

func TestStrangerThroughTunnelIsDropped(t *testing.T) {
	w := newTwoNodes(t)
	w.put(t, w.b.dp.Senders().Delete(SenderKey{testVNI, w.tunnel(0)}))
	w.workloads["10.0.1.4"].do(t, func() error {
		if ping("10.0.1.6", 56, 200*time.Millisecond) == nil {
			return errors.New("got an answer")
		}
		return nil
	})
	w.wantDrop(t, w.b, DropCount{Tenant: 0, Reason: DropTunnelPeerUnknown, Packets: 1, Bytes: 84})
}

func TestHostCannotSpeakToPort(t *testing.T) {
	w := newTwoNodes(t)
	w.a.do(t, func() error {
		l, _, err := device.FindLink("wp1-4")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		frame := append([]byte{2, 0, 0, 0, 1, 4, 2, 0, 0, 0, 9, 9, 8, 0}, make([]byte, 40)...)
		to := &unix.SockaddrLinklayer{Ifindex: l.Index, Protocol: 8}
		err = unix.Sendto(fd, frame, 0, to)
		if errors.Is(err, unix.ENOBUFS) { // what the sender is told of a drop
			return nil
		}
		return err
	})
	w.wantDrop(t, w.a, DropCount{Tenant: 7, Reason: DropHostToPort, Packets: 1, Bytes: 40})
}

func (w *twoNodes) wantDrop(t *testing.T, n *node, want DropCount) {
	t.Helper()
	drops, err := n.dp.Drops()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drops {
		if d == want {
			return
		}
	}
	t.Errorf("drops %+v, want %+v", drops, want)
}
