// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// dual is tenant 7's VPC with both IP versions on two nodes, whose wire speaks one of them:
//
//	node 1: web-1 10.0.1.4 fd00:1::4, fw-1 ….9      node 2: db-1 10.0.2.5 fd00:2::5, fw-2 10.0.1.8 fd00:1::8
//
// The appliances have further addresses of the world, to which routes lead.
type dual struct {
	nodes [2]*node
	ports []*dualPort
}

type dualPort struct {
	*testNS
	node int
	Port
	index int
	world []string // further addresses
}

const dualMTU = 1500 - 70

func newDual(t *testing.T, tunnels [2]string) *dual {
	t.Helper()
	w := &dual{}
	for i, tunnel := range tunnels {
		w.nodes[i] = newNode(t, string(rune('a'+i)), tunnel)
	}
	w.wire(t, tunnels)
	w.port(t, 0, 1, 4)
	w.port(t, 0, 1, 9, "192.0.2.1", "2001:db8::1")
	w.port(t, 1, 2, 5)
	w.port(t, 1, 1, 8, "198.51.100.1", "2001:db8:5::1")
	for i, n := range w.nodes {
		other := netip.MustParseAddr(tunnels[1-i])
		must(t, n.dp.Senders().Put(SenderKey{testVNI, other}, Sender{Tenant: 7, Node: uint16(2 - i)}))
		for s := range uint32(2) {
			router := Location{Kind: LocationRouter, Subnet: s + 1, MAC: testRouterMAC}
			must(t, n.dp.Locations().Put(LocationKey{testVNI, router4(s + 1)}, router))
			must(t, n.dp.Locations().Put(LocationKey{testVNI, router6(s + 1)}, router))
		}
		for _, p := range w.ports {
			w.locate(t, i, p, other)
		}
	}
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func router4(subnet uint32) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(subnet), 1}) }
func router6(subnet uint32) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(subnet), 15: 1})
}

// wire joins the nodes.
func (w *dual) wire(t *testing.T, tunnels [2]string) {
	t.Helper()
	w.nodes[0].do(t, func() error {
		peer, err := device.OpenNetNS(w.nodes[1].path)
		if err != nil {
			return err
		}
		defer peer.Close()
		v := netlink.NewVeth(netlink.LinkAttrs{Name: "up0", MTU: 1500})
		v.PeerName, v.PeerNamespace, v.PeerMTU = "up0", netlink.NsFd(int(peer)), 1500
		return netlink.LinkAdd(v)
	})
	for i, n := range w.nodes {
		n.do(t, func() error {
			up, err := netlink.LinkByName("up0")
			if err != nil {
				return err
			}
			a, err := netlink.ParseAddr(tunnels[i] + "/24")
			if err != nil {
				return err
			}
			if a.IP.To4() == nil {
				a.Flags = unix.IFA_F_NODAD
			}
			return errors.Join(netlink.AddrAdd(up, a), netlink.LinkSetUp(up))
		})
	}
}

// port attaches a namespace at a node; one with addresses of the world may send from anything.
func (w *dual) port(t *testing.T, at int, subnet uint32, host byte, world ...string) {
	t.Helper()
	p := &dualPort{testNS: newNS(t), node: at, world: world}
	p.Port = Port{
		VNI: testVNI, Tenant: 7, Subnet: subnet, MTU: dualMTU, MAC: [6]byte{2, 0, 0, 0, byte(subnet), host},
		Addr4: netip.AddrFrom4([4]byte{10, 0, byte(subnet), host}), Addr6: netip.AddrFrom16([16]byte{0: 0xfd, 3: byte(subnet), 15: host}),
		Router4: router4(subnet), Router6: router6(subnet), Table: 1, Sources: len(world) > 0,
	}
	n := w.nodes[at]
	name := fmt.Sprintf("wp%d-%d", subnet, host)
	n.do(t, func() (err error) {
		p.index, err = device.CreateVeth(device.Veth{HostName: name, NetNS: p.path, PeerName: "eth0", MAC: p.MAC, MTU: dualMTU, Alias: "weft red/" + name})
		if err != nil {
			return err
		}
		return errors.Join(n.dp.AttachPort(p.index, name), device.ConfigurePeer(p.path, "eth0",
			[]netip.Prefix{netip.PrefixFrom(p.Addr4, 24), netip.PrefixFrom(p.Addr6, 64)},
			[]netip.Addr{p.Router4, netip.MustParseAddr("fe80::1")}, dualMTU))
	})
	must(t, n.dp.Ports().Put(PortKey{uint32(p.index)}, p.Port))
	p.do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		err = netlink.LinkSetUp(lo)
		for _, a := range world {
			addr := netip.MustParseAddr(a)
			err = errors.Join(err, netlink.AddrAdd(lo, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}))
		}
		return errors.Join(err, awaitLocal(append([]netip.Addr{p.Addr4, p.Addr6}, parse(world)...)))
	})
	w.ports = append(w.ports, p)
}

func parse(list []string) (addrs []netip.Addr) {
	for _, a := range list {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs
}

// awaitLocal waits until the namespace takes packets for its addresses: the kernel makes those of IPv6 effective later, in a
// queue of its own.
func awaitLocal(addrs []netip.Addr) error {
	deadline := time.Now().Add(5 * time.Second)
	for _, a := range addrs {
		for {
			routes, err := netlink.RouteGet(a.AsSlice())
			if err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s is not effective: %v, %w", a, routes, err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

// locate tells a node where a port's addresses are, and which routes lead to it.
func (w *dual) locate(t *testing.T, at int, p *dualPort, other netip.Addr) {
	t.Helper()
	dp := w.nodes[at].dp
	l := Location{Kind: LocationPeer, IfIndex: uint32(p.index), Subnet: p.Subnet, MAC: p.MAC, Node: uint16(p.node + 1)}
	if p.node != at {
		l.Kind, l.IfIndex, l.Tunnel = LocationRemote, 0, other
	}
	must(t, dp.Locations().Put(LocationKey{testVNI, p.Addr4}, l))
	must(t, dp.Locations().Put(LocationKey{testVNI, p.Addr6}, l))
	for _, a := range p.world {
		addr := netip.MustParseAddr(a)
		must(t, dp.Routes().Put(RouteKey{testVNI, 1, netip.PrefixFrom(addr, addr.BitLen()-8).Masked()}, l))
		if p.node == at {
			must(t, dp.Sources().Put(SourceKey{uint32(p.index), netip.PrefixFrom(addr, addr.BitLen()-8).Masked()}, Source{}))
			mac := p.MAC
			hop := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
			must(t, dp.Locations().Put(LocationKey{testVNI, hop}, l))
		}
	}
}

// underlays are the IP versions of the wire.
var underlays = map[string][2]string{"over-ipv4": {"198.19.0.1", "198.19.0.2"}, "over-ipv6": {"fd98::1", "fd98::2"}}

// echo sends a request of size bytes of either version and waits for the answer.
func echo(to netip.Addr, size int) error {
	if to.Is4() {
		return ping(to.String(), size, 2*time.Second)
	}
	conn, err := net.Dial("ip6:ipv6-icmp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	request := append([]byte{128, 0, 0, 0, 0, 1, 0, 1}, bytes.Repeat([]byte{0xa5}, size)...) // the kernel makes the checksum
	if _, err := conn.Write(request); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	answer := make([]byte, 2048)
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return fmt.Errorf("ping %s: %w", to, err)
		}
		if n >= 8 && answer[0] == 129 { // neighbours speak, too
			if !bytes.Equal(answer[4:n], request[4:]) {
				return fmt.Errorf("ping %s: wrong answer %x", to, answer[:min(n, 16)])
			}
			return nil
		}
	}
}

func TestBothVersionsOverBothUnderlays(t *testing.T) {
	for name, tunnels := range underlays {
		t.Run(name, func(t *testing.T) {
			w := newDual(t, tunnels)
			var targets []netip.Addr
			for _, p := range w.ports {
				targets = append(targets, p.Addr4, p.Addr6)
				for _, a := range p.world {
					targets = append(targets, netip.MustParseAddr(a))
				}
			}
			targets = append(targets, router4(1), router6(1), router4(2), router6(2))
			for _, from := range w.ports[:3] {
				for _, to := range targets {
					if to == from.Addr4 || to == from.Addr6 || slices.Contains(from.world, to.String()) {
						continue
					}
					headers := 28
					if to.Is6() {
						headers = 48
					}
					from.do(t, func() error {
						if err := errors.Join(echo(to, 56), echo(to, dualMTU-headers)); err != nil {
							return fmt.Errorf("from %s: %w", from.Addr4, err)
						}
						return nil
					})
				}
			}
			w.tcp(t)
			w.balance(t)
		})
	}
}

// tcp sends a file in super-packets to the other node.
func (w *dual) tcp(t *testing.T) {
	t.Helper()
	data := bytes.Repeat([]byte("weft carries this from one workload to another. "), 40000)
	from, to := w.ports[0], w.ports[2]
	sums := make(chan [32]byte, 1)
	var l net.Listener
	to.do(t, func() (err error) { l, err = net.Listen("tcp6", "[::]:80"); return err })
	go func() {
		defer close(sums)
		defer l.Close()
		for range 1 {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			h := sha256.New()
			if _, err := conn.(*net.TCPConn).WriteTo(h); err == nil {
				sums <- [32]byte(h.Sum(nil))
			}
		}
	}()
	from.do(t, func() error {
		conn, err := net.DialTimeout("tcp6", "["+to.Addr6.String()+"]:80", 3*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(data)
		return err
	})
	select {
	case sum := <-sums:
		if sum != sha256.Sum256(data) {
			t.Error("something else was received")
		}
	case <-time.After(5 * time.Second):
		t.Error("not all was received")
	}
}

// balance waits until what each node was given is what passed or was dropped, and compares with the kernel's own counts.
func (w *dual) balance(t *testing.T) {
	t.Helper()
	for _, n := range w.nodes {
		var given, ended uint64
		var frames [2]uint64 // from ports and from the tunnel, by us
		for range 40 {
			given, ended = 0, 0
			receives, err := n.dp.Receives()
			must(t, err)
			for _, r := range receives {
				given += r.Packets
			}
			frames = [2]uint64{receives[ReceiveFromPort].Frames, receives[ReceiveFromUplink].Frames}
			passes, err := n.dp.Passes()
			must(t, err)
			for _, p := range passes {
				ended += p.Packets
			}
			drops, err := n.dp.Drops()
			must(t, err)
			for _, d := range drops {
				ended += d.Packets
			}
			if given == ended {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if given != ended || given == 0 {
			t.Errorf("%d packets were given, %d ended", given, ended)
		}
		var kernel [2]uint64
		n.do(t, func() error {
			links, err := netlink.LinkList()
			for _, l := range links {
				if s := l.Attrs().Statistics; l.Attrs().Name[:2] == "wp" {
					kernel[0] += s.RxPackets
				} else if l.Attrs().Name == uplinkName {
					kernel[1] += s.RxPackets
				}
			}
			return err
		})
		if kernel != frames {
			t.Errorf("the kernel counts %v frames, the programs %v", kernel, frames)
		}
	}
}

// probe6 sends one UDP packet of IPv6 and returns the ICMPv6 error that the kernel took for it.
func probe6(to string, hops, size int) (told, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		return told{}, err
	}
	defer unix.Close(fd)
	err = errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1), unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, hops),
		unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE))
	if err != nil {
		return told{}, err
	}
	if err := unix.Sendto(fd, make([]byte, size), 0, &unix.SockaddrInet6{Port: 33434, Addr: netip.MustParseAddr(to).As16()}); err != nil {
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
	if err != nil || len(messages) == 0 || len(messages[0].Data) < 40 {
		return told{}, fmt.Errorf("control messages %v, %w", messages, err)
	}
	d := messages[0].Data // struct sock_extended_err, then struct sockaddr_in6 of the sender
	return told{netip.AddrFrom16([16]byte(d[24:40])), d[5], d[6], binary.NativeEndian.Uint32(d[8:])}, nil
}

func TestWorkloadIsToldOfErrorsOfIPv6(t *testing.T) {
	w := newDual(t, underlays["over-ipv6"])
	for _, n := range w.nodes {
		must(t, n.dp.Routes().Put(RouteKey{testVNI, 1, netip.MustParsePrefix("2001:db8:dead::/48")}, Location{Kind: LocationBlackhole}))
	}
	from := w.ports[0]
	from.do(t, func() error {
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(eth0, 9000)
	})
	for name, c := range map[string]struct {
		to         string
		hops, size int
		want       told
	}{
		"first-hop":     {"fd00:2::5", 1, 20, told{router6(1), 3, 0, 0}},
		"second-hop":    {"fd00:2::5", 2, 20, told{netip.MustParseAddr("fd00:2::5"), 1, 4, 0}}, // nobody listens there
		"too-big":       {"fd00:2::5", 64, dualMTU - 47, told{router6(1), 2, 0, dualMTU}},
		"too-big-again": {"fd00:1::9", 64, 8000, told{router6(1), 2, 0, dualMTU}},
		"nobody":        {"fd00:2::99", 64, 20, told{router6(1), 1, 0, 0}},
		"hole":          {"2001:db8:dead::1", 64, 20, told{router6(1), 1, 0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			from.do(t, func() error {
				got, err := probe6(c.to, c.hops, c.size)
				if err == nil && got != c.want {
					err = fmt.Errorf("told %+v, want %+v", got, c.want)
				}
				return err
			})
		})
	}
}

// What a workload asks goes to the agent's tap with the port in place of its destination, and the answer comes back; an
// answer for somebody else does not.
func TestServiceTap(t *testing.T) {
	w := newDual(t, underlays["over-ipv4"])
	n, p := w.nodes[0], w.ports[0]
	n.do(t, func() error {
		tap, err := OpenService()
		if err != nil {
			return err
		}
		defer tap.Close()
		heard := make(chan error, 1)
		ask := make(chan error, 1)
		frame := make([]byte, ServiceFrame)
		// A tap that was just opened loses what comes in its first moments.
		for tries := 0; !bytes.Contains(frame, []byte("who am I?")); tries++ {
			p.work <- func() { ask <- askBroadcast() }
			if err := errors.Join(<-ask, tap.SetDeadline(time.Now().Add(500*time.Millisecond))); err != nil {
				return err
			}
			for size, err := 0, error(nil); !bytes.Contains(frame[:size], []byte("who am I?")); {
				// Router solicitations may come first, other ports' too.
				if size, err = tap.Read(frame); errors.Is(err, os.ErrDeadlineExceeded) && tries < 10 {
					break
				}
				if err != nil {
					return fmt.Errorf("read from the tap: %w", err)
				}
			}
		}
		want := binary.BigEndian.AppendUint32([]byte{2, 0}, uint32(p.index))
		if !bytes.Equal(frame[:6], want) || !bytes.Equal(frame[6:12], p.MAC[:]) {
			return fmt.Errorf("frame begins with %x, want %x and the port's MAC", frame[:12], want)
		}
		p.work <- func() { heard <- hearUDP(time.Second) }
		time.Sleep(100 * time.Millisecond)
		answer := slices.Concat(p.MAC[:], []byte{2, 0}, binary.BigEndian.AppendUint32(nil, uint32(p.index)), udpFrame("10.0.1.1", "10.0.1.4", "you are"))
		_, err = tap.Write(answer)
		return errors.Join(err, <-heard)
	})
	w.balance(t)
}

// askBroadcast sends what a DHCP client would.
func askBroadcast() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1),
		unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "eth0"),
		unix.Bind(fd, &unix.SockaddrInet4{Port: 68}),
		unix.Sendto(fd, []byte("who am I?"), 0, &unix.SockaddrInet4{Port: 67, Addr: [4]byte{255, 255, 255, 255}}))
}

func hearUDP(patience time.Duration) error {
	conn, err := net.ListenPacket("udp4", ":68")
	if err != nil {
		return err
	}
	defer conn.Close()
	heard := make([]byte, 100)
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	n, _, err := conn.ReadFrom(heard)
	if err == nil && string(heard[:n]) != "you are" {
		err = fmt.Errorf("heard %q", heard[:n])
	}
	return err
}

// udpFrame is EtherType, IPv4 and UDP 67 to 68 around a text, without a UDP checksum.
func udpFrame(from, to, text string) []byte {
	src, dst := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	size := 28 + len(text)
	ip := slices.Concat([]byte{0x45, 0, byte(size >> 8), byte(size), 0, 0, 0, 0, 64, 17, 0, 0}, src[:], dst[:])
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum))
	return slices.Concat([]byte{8, 0}, ip, []byte{0, 67, 0, 68, 0, byte(8 + len(text)), 0, 0}, []byte(text))
}
