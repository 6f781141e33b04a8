// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"weft/internal/southbound"
)

// Step is one thing that was decided on the way.
type Step struct {
	Node, Stage, Object, Decision, Detail string
}

// recorder collects the steps of one walk.
type recorder struct{ steps []Step }

func (n *Node) note(stage, object, decision, detail string) {
	if n.recorder != nil {
		n.recorder.steps = append(n.recorder.steps, Step{n.Name, stage, object, decision, detail})
	}
}

// Flow is a packet as people name it.
type Flow struct {
	To       netip.Addr
	Protocol byte   // 1 ICMP or ICMPv6 (echo request), 6 TCP (SYN), 17 UDP
	Port     uint16 // destination; not of ICMP
}

// Source is the port that a workload sends from: DHCP clients have one of their own. 0: any.
func (f Flow) Source() uint16 {
	switch {
	case f.Protocol == protoUDP && f.Port == dhcpServer && f.To.Is4():
		return dhcpClient
	case f.Protocol == protoUDP && f.Port == dhcp6Server && f.To.Is6():
		return dhcp6Client
	}
	return 0
}

// Source is the address that the workload of a port sends from: its own of that IP version; on the link, that of its link,
// which it makes of its MAC (RFC 4291, appendix A). The zero Addr: it has none.
func (n *Node) Source(id PortID, to netip.Addr) netip.Addr {
	port := n.ports[id]
	own := address(port, to.Is4())
	if own.Is6() && (to.IsLinkLocalUnicast() || to.IsLinkLocalMulticast()) {
		m := port.MAC
		return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
	}
	return own
}

// Frame builds the frame that a workload would send for a flow: its own address of that family, TTL 64, to the MAC that ARP
// or Neighbor Discovery tells, or to the router outside of its subnet. Where nobody in its subnet has the address, the
// workload gets no further than to ask, and that is the frame.
func (n *Node) Frame(id PortID, f Flow) ([]byte, error) {
	port, ok := n.ports[id]
	if !ok {
		return nil, fmt.Errorf("port %s is not attached at %s", id, n.Name)
	}
	src := n.Source(id, f.To)
	if !src.IsValid() {
		version := "IPv6"
		if f.To.Is4() {
			version = "IPv4"
		}
		return nil, fmt.Errorf("the port has no %s address", version)
	}
	dst, ask := n.nextMAC(port, src, f.To)
	switch {
	case ask != nil:
		return ask, nil
	case src.Is4():
		return slices.Concat(dst[:], port.MAC[:], []byte{typeIPv4 >> 8, typeIPv4 & 0xff}, packet4(src, f)), nil
	}
	return slices.Concat(dst[:], port.MAC[:], []byte{typeIPv6 >> 8, typeIPv6 & 0xff}, packet6(src, f)), nil
}

// nextMAC is where a workload sends a packet for an address: to the MAC of its group, to the one that it learns by ARP or
// Neighbor Discovery, or to the router outside of its subnet. Where nobody would answer it, ask is its question.
func (n *Node) nextMAC(port southbound.Port, src, to netip.Addr) (mac southbound.MAC, ask []byte) {
	if mac, is := groupMAC(port, to); is {
		return mac, nil
	}
	mac, subnet, known := n.Locate(port.VNI, to)
	switch {
	case known && subnet == port.Subnet:
		return mac, nil
	case to.IsLinkLocalUnicast() && to.Is6() && to != routerLink:
		return mac, askND(port, src, to)
	case known || !onLink(port, to):
		return n.cfg.RouterMAC, nil
	case to.Is4():
		return mac, askARP(port, src, to)
	}
	return mac, askND(port, src, to)
}

// groupMAC is where frames to many go (RFC 1112, RFC 2464), the broadcast address of a subnet of the port included.
func groupMAC(port southbound.Port, to netip.Addr) (mac southbound.MAC, is bool) {
	b := to.AsSlice()
	switch {
	case to == broadcastIP:
		return broadcastMAC, true
	case to.IsMulticast() && to.Is4():
		return southbound.MAC{0x01, 0x00, 0x5e, b[1] & 0x7f, b[2], b[3]}, true
	case to.IsMulticast():
		return southbound.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}, true
	}
	return broadcastMAC, slices.ContainsFunc(port.Interfaces, func(i southbound.Interface) bool {
		p := netip.PrefixFrom(i.Address, i.Bits)
		return to.Is4() && i.Bits < 31 && p.Contains(to) && !p.Contains(to.Next())
	})
}

func packet4(src netip.Addr, f Flow) []byte {
	payload := layer4(f)
	h := make([]byte, ipv4Len)
	h[0], h[8], h[9] = 0x45, 64, f.Protocol
	binary.BigEndian.PutUint16(h[2:], uint16(ipv4Len+len(payload)))
	copy(h[12:], src.AsSlice())
	copy(h[16:], f.To.AsSlice())
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, payload...)
}

func packet6(src netip.Addr, f Flow) []byte {
	payload, protocol := layer4(f), f.Protocol
	if protocol == protoICMP {
		protocol = protoICMP6
		payload = make([]byte, icmpLen)
		payload[0] = icmp6EchoRequest
		binary.BigEndian.PutUint16(payload[2:], checksum(pseudo(src, f.To, icmpLen, protocol), payload))
	}
	return slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(payload)), protocol, 64}, src.AsSlice(), f.To.AsSlice(), payload)
}

// onLink reports whether the workload takes an address for one of its own subnet.
func onLink(port southbound.Port, a netip.Addr) bool {
	for _, i := range port.Interfaces {
		if netip.PrefixFrom(i.Address, i.Bits).Contains(a) {
			return true
		}
	}
	return false
}

// askARP is the request for an address (RFC 826).
func askARP(port southbound.Port, src, target netip.Addr) []byte {
	f := append(append([]byte{}, broadcastMAC[:]...), port.MAC[:]...)
	f = append(f, typeARP>>8, typeARP&0xff, 0, 1, typeIPv4>>8, typeIPv4&0xff, 6, 4, 0, 1)
	s, t := src.As4(), target.As4()
	f = append(append(f, port.MAC[:]...), s[:]...)
	return append(append(f, 0, 0, 0, 0, 0, 0), t[:]...)
}

// askND is the solicitation for an address (RFC 4861), to the group of its last three bytes.
func askND(port southbound.Port, src, target netip.Addr) []byte {
	t := target.As16()
	group := netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	message := slices.Concat([]byte{ndNeighborSolicit, 0, 0, 0, 0, 0, 0, 0}, t[:], []byte{ndSourceMAC, 1}, port.MAC[:])
	binary.BigEndian.PutUint16(message[2:], checksum(pseudo(src, group, len(message), protoICMP6), message))
	head := slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(message)), protoICMP6, ndHopLimit}, src.AsSlice(), group.AsSlice())
	return slices.Concat([]byte{0x33, 0x33, 0xff, t[13], t[14], t[15]}, port.MAC[:], []byte{typeIPv6 >> 8, typeIPv6 & 0xff}, head, message)
}

// anyPort stands for any ephemeral port.
const anyPort = 40000

// layer4 builds the header behind IP, without checksums of TCP and UDP, which no node looks at.
func layer4(f Flow) []byte {
	source := cmp.Or(f.Source(), anyPort)
	switch f.Protocol {
	case protoTCP:
		b := make([]byte, 20)
		binary.BigEndian.PutUint16(b, source)
		binary.BigEndian.PutUint16(b[2:], f.Port)
		b[12], b[13] = 5<<4, 2 // header of five words, SYN
		return b
	case protoUDP:
		b := make([]byte, 8)
		binary.BigEndian.PutUint16(b, source)
		binary.BigEndian.PutUint16(b[2:], f.Port)
		binary.BigEndian.PutUint16(b[4:], 8)
		return b
	}
	b := make([]byte, icmpLen)
	b[0] = 8
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// Walk follows a frame from a port over the nodes (by number) to its end. The packet path takes one hop between nodes at
// most, and so does the walk, until a port has the packet. A port that is not the packet's addressee but the next hop of a
// route is an appliance: the walk goes on as if it routed the packet. It ends there if the packet leaves the VPC, which is the
// appliance's own business, or has come round to it.
func Walk(nodes map[uint16]*Node, start uint16, id PortID, frame []byte) ([]Step, Result) {
	rec := &recorder{}
	appliances := map[PortID]bool{}
	for {
		n, ok := nodes[start]
		if !ok {
			return rec.steps, Result{Verdict: Drop, Reason: reasonPortUnknown, Frame: frame}
		}
		r := n.recorded(rec, func() Result { return n.FromPort(id, frame) })
		if r.Verdict == Tunnel {
			start, r = rec.arrive(nodes, n, n.ports[id].VNI, r)
		}
		if r.Verdict != Local {
			return rec.steps, r
		}
		n, id = nodes[start], r.Port
		p := packet{frame: slices.Clone(r.Frame)}
		if p.ethernet() != "" || p.fixed() != "" || p.ip.dst == address(n.ports[id], p.ip.dst.Is4()) {
			return rec.steps, r
		}
		appliance := func(decision, detail string) {
			rec.steps = append(rec.steps, Step{n.Name, "appliance", "port/" + id.String(), decision, detail})
		}
		switch {
		case !n.inside(&p, n.ports[id]):
			appliance("end", fmt.Sprintf("%s is outside of the VPC: the rest of the way is the appliance's", p.ip.dst))
			return rec.steps, r
		case appliances[id]:
			appliance("drop", "it had the packet before: it goes round until its TTL is spent")
			return rec.steps, Result{Verdict: Drop, Reason: reasonTTL, Frame: r.Frame}
		case p.ip.ttl <= 1:
			return rec.steps, r // a router that gets it so ends it
		}
		appliances[id] = true
		appliance("forward", "not its own address: taken to route it on")
		frame = n.passOn(&p, n.ports[id])
	}
}

// arrive is the end of a tunnel: the node that the packet was sent to, and what becomes of it there. A node without rows
// takes part in no VPC.
func (rec *recorder) arrive(nodes map[uint16]*Node, from *Node, vni uint32, r Result) (uint16, Result) {
	at, ok := nodes[r.Node]
	if !ok {
		at = NewNode(from.names[r.Node], nil, from.cfg)
	}
	return r.Node, at.recorded(rec, func() Result { return at.FromUplink(vni, from.self[vni], r.Frame) })
}

// inside reports whether the VPC knows where a packet goes that a port routes: it has a route, or is for a subnet.
func (n *Node) inside(p *packet, port southbound.Port) bool {
	out := packet{dst: n.cfg.RouterMAC, ip: header{dst: p.ip.dst}}
	if _, ok := n.find(&out, port); ok {
		return true
	}
	return slices.ContainsFunc(n.subnets, func(s southbound.Subnet) bool { return s.VNI == port.VNI && s.Prefix.Contains(p.ip.dst) })
}

// passOn is the frame that the workload of a port sends when it routes the one that it has got.
func (n *Node) passOn(p *packet, port southbound.Port) []byte {
	mac, ask := n.nextMAC(port, address(port, p.ip.dst.Is4()), p.ip.dst)
	if ask != nil {
		return ask
	}
	p.setMACs(mac, port.MAC)
	p.setTTL(p.ip.ttl - 1)
	return p.frame
}

// recorded runs f with the node's steps going to rec.
func (n *Node) recorded(rec *recorder, f func() Result) Result {
	n.recorder = rec
	defer func() { n.recorder = nil }()
	return f()
}
