// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"

	"weft/internal/netns"
)

// Ports of DHCP.
const (
	dhcpServer  = 67
	dhcpClient  = 68
	dhcp6Client = 546
	dhcp6Server = 547
)

// holdPorts keeps a workload's stack from telling whoever answers that nobody listens: the exchange runs past the stack.
func holdPorts(ns string) (stop func(), err error) {
	var held []net.PacketConn
	stop = func() {
		for _, c := range held {
			c.Close()
		}
	}
	err = netns.Do(ns, func() error {
		for _, one := range []struct{ network, address string }{{"udp4", fmt.Sprintf(":%d", dhcpClient)}, {"udp6", fmt.Sprintf(":%d", dhcp6Client)}} {
			c, err := net.ListenPacket(one.network, one.address)
			if err != nil {
				return err
			}
			held = append(held, c)
		}
		return nil
	})
	return stop, err
}

// asker sends questions from a workload's device and waits for what comes back.
type asker struct {
	fd, index int
	mac       net.HardwareAddr
}

func newAsker(ns string) (*asker, error) {
	fd, index, err := packetSocket(ns)
	if err != nil {
		return nil, err
	}
	a := &asker{fd: fd, index: index}
	err = netns.Do(ns, func() error {
		link, err := net.InterfaceByName(device)
		if err == nil {
			a.mac = link.HardwareAddr
		}
		return err
	})
	if err = errors.Join(err, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return a, nil
}

func (a *asker) close() { unix.Close(a.fd) }

// ask sends a frame, again each second, until take has what it wants of a frame that came in.
func (a *asker) ask(ctx context.Context, frame []byte, take func(frame []byte) bool) error {
	buf := make([]byte, 1<<16)
	var next time.Time
	for ctx.Err() == nil {
		if time.Now().After(next) {
			if err := unix.Sendto(a.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: a.index, Halen: 6, Addr: [8]byte(frame[:8])}); err != nil {
				return err
			}
			next = time.Now().Add(time.Second)
		}
		n, from, err := unix.Recvfrom(a.fd, buf, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		case err != nil:
			return err
		default:
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING && take(buf[:n]) {
				return nil
			}
		}
	}
	return errors.New("no answer")
}

// link is the link-local address that the workload's MAC makes.
func (a *asker) link() netip.Addr {
	m := a.mac
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// lease asks for the workload's address of the version of r.To, takes it, and tells what it was told.
func lease(ctx context.Context, ns string, r Request) (string, error) {
	to, err := netip.ParseAddr(r.To)
	if err != nil {
		return "", err
	}
	a, err := newAsker(ns)
	if err != nil {
		return "", err
	}
	defer a.close()
	if to.Is4() {
		return a.lease4(ctx)
	}
	return a.lease6(ctx)
}

// lease4 is DISCOVER, OFFER, REQUEST, ACK.
func (a *asker) lease4(ctx context.Context) (string, error) {
	question, err := dhcpv4.NewDiscovery(a.mac)
	if err != nil {
		return "", err
	}
	offer, err := a.exchange4(ctx, question)
	if err != nil {
		return "", fmt.Errorf("discover: %w", err)
	}
	if question, err = dhcpv4.NewRequestFromOffer(offer); err != nil {
		return "", err
	}
	ack, err := a.exchange4(ctx, question)
	if err != nil {
		return "", fmt.Errorf("request: %w", err)
	}
	if ack.MessageType() != dhcpv4.MessageTypeAck {
		return "", fmt.Errorf("a request for the offer is answered by %s", ack.MessageType())
	}
	bits, _ := ack.SubnetMask().Size()
	mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options)
	if err != nil {
		return "", fmt.Errorf("mtu: %w", err)
	}
	return fmt.Sprintf("%s/%d by %s, MTU %d", ack.YourIPAddr, bits, ack.Router(), mtu), nil
}

func (a *asker) exchange4(ctx context.Context, question *dhcpv4.DHCPv4) (answer *dhcpv4.DHCPv4, err error) {
	frame := udpFrame(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, a.mac, netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}),
		dhcpClient, dhcpServer, question.ToBytes())
	err = a.ask(ctx, frame, func(f []byte) bool {
		body, ok := udpBody(f, unix.ETH_P_IP, dhcpServer, dhcpClient)
		if !ok {
			return false
		}
		answer, err = dhcpv4.FromBytes(body)
		return err == nil && answer.TransactionID == question.TransactionID
	})
	return answer, err
}

// lease6 is SOLICIT, ADVERTISE, REQUEST, REPLY.
func (a *asker) lease6(ctx context.Context) (string, error) {
	question, err := dhcpv6.NewSolicit(a.mac)
	if err != nil {
		return "", err
	}
	offer, err := a.exchange6(ctx, question)
	if err != nil {
		return "", fmt.Errorf("solicit: %w", err)
	}
	if question, err = dhcpv6.NewRequestFromAdvertise(offer); err != nil {
		return "", err
	}
	reply, err := a.exchange6(ctx, question)
	if err != nil {
		return "", fmt.Errorf("request: %w", err)
	}
	one := reply.Options.OneIANA()
	if one == nil || one.Options.OneAddress() == nil {
		return "", errors.New("the reply has no address")
	}
	return one.Options.OneAddress().IPv6Addr.String(), nil
}

func (a *asker) exchange6(ctx context.Context, question *dhcpv6.Message) (answer *dhcpv6.Message, err error) {
	group := netip.AddrFrom16([16]byte{0xff, 2, 13: 1, 15: 2})
	frame := udpFrame(net.HardwareAddr{0x33, 0x33, 0, 1, 0, 2}, a.mac, a.link(), group, dhcp6Client, dhcp6Server, question.ToBytes())
	err = a.ask(ctx, frame, func(f []byte) bool {
		body, ok := udpBody(f, unix.ETH_P_IPV6, dhcp6Server, dhcp6Client)
		if !ok {
			return false
		}
		answer, err = dhcpv6.MessageFromBytes(body)
		return err == nil && answer.TransactionID == question.TransactionID
	})
	return answer, err
}

// advert asks for a router and tells what its advertisement says.
func advert(ctx context.Context, ns string) (said string, err error) {
	a, err := newAsker(ns)
	if err != nil {
		return "", err
	}
	defer a.close()
	group := netip.AddrFrom16([16]byte{0xff, 2, 15: 2})
	question := ip6Frame(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 2}, a.mac, a.link(), group, unix.IPPROTO_ICMPV6, append([]byte{133, 0, 0, 0, 0, 0, 0, 0, 1, 1}, a.mac...), 2)
	err = a.ask(ctx, question, func(f []byte) bool {
		if len(f) < etherHeader+40+16 || binary.BigEndian.Uint16(f[12:]) != unix.ETH_P_IPV6 || f[etherHeader+6] != unix.IPPROTO_ICMPV6 || f[etherHeader+40] != 134 {
			return false
		}
		said = advertSays(f)
		return true
	})
	return said, err
}

// advertSays is an advertisement in words: who, flags, MTU, prefix.
func advertSays(f []byte) string {
	from, _ := netip.AddrFromSlice(f[etherHeader+8 : etherHeader+24])
	message := f[etherHeader+40:]
	said := fmt.Sprintf("%s, flags %02x, lifetime %d s", from, message[5], binary.BigEndian.Uint16(message[6:]))
	for o := message[16:]; len(o) >= 8 && o[1] > 0 && len(o) >= int(o[1])*8; o = o[int(o[1])*8:] {
		switch {
		case o[0] == 5:
			said += fmt.Sprintf(", MTU %d", binary.BigEndian.Uint32(o[4:]))
		case o[0] == 3 && len(o) >= 32:
			prefix, _ := netip.AddrFromSlice(o[16:32])
			said += fmt.Sprintf(", %s/%d flags %02x", prefix, o[2], o[3])
		}
	}
	return said
}

// udpFrame is a frame with a UDP packet, checksums and all.
func udpFrame(dstMAC, srcMAC net.HardwareAddr, src, dst netip.Addr, from, to uint16, body []byte) []byte {
	u := make([]byte, 8, 8+len(body))
	binary.BigEndian.PutUint16(u, from)
	binary.BigEndian.PutUint16(u[2:], to)
	binary.BigEndian.PutUint16(u[4:], uint16(8+len(body)))
	u = append(u, body...)
	if dst.Is6() {
		return ip6Frame(dstMAC, srcMAC, src, dst, unix.IPPROTO_UDP, u, 6)
	}
	h := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(u)))
	h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(h[10:], checksum(0, h))
	binary.BigEndian.PutUint16(u[6:], checksum(uint32(unix.IPPROTO_UDP+len(u)), h[12:20], u))
	f := append(append([]byte{}, dstMAC...), srcMAC...)
	return append(append(append(f, 8, 0), h...), u...)
}

// ip6Frame is a frame with an IPv6 packet, whose body has its checksum at a byte.
func ip6Frame(dstMAC, srcMAC net.HardwareAddr, src, dst netip.Addr, next byte, body []byte, at int) []byte {
	h := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(h[4:], uint16(len(body)))
	h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(body[at:], checksum(uint32(int(next)+len(body)), h[8:40], body))
	f := append(append([]byte{}, dstMAC...), srcMAC...)
	return append(append(append(f, 0x86, 0xdd), h...), body...)
}

// udpBody is what a frame of this EtherType carries from one port to another.
func udpBody(f []byte, ethertype, from, to uint16) ([]byte, bool) {
	at := etherHeader + 40
	if ethertype == unix.ETH_P_IP {
		at = etherHeader + 20
	}
	if len(f) < at+8 || binary.BigEndian.Uint16(f[12:]) != ethertype || binary.BigEndian.Uint16(f[at:]) != from || binary.BigEndian.Uint16(f[at+2:]) != to {
		return nil, false
	}
	return f[at+8:], true
}

// checksum is that of the Internet, over parts of which only the last may have an odd length.
func checksum(sum uint32, parts ...[]byte) uint16 {
	for _, data := range parts {
		for i := 0; i+1 < len(data); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(data[i:]))
		}
		if len(data)%2 == 1 {
			sum += uint32(data[len(data)-1]) << 8
		}
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
