// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"

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
	Protocol byte   // 1 ICMP (echo request), 6 TCP (SYN), 17 UDP
	Port     uint16 // destination; not of ICMP
}

// Frame builds the frame that a workload would send for a flow: its own addresses, TTL 64, to the MAC that ARP tells, or
// to the router outside of its subnet. Where nobody in its subnet has the address, the workload gets no further than to
// ask by ARP, and that is the frame.
func (n *Node) Frame(id PortID, f Flow) ([]byte, error) {
	port, ok := n.ports[id]
	if !ok {
		return nil, fmt.Errorf("port %s is not attached at %s", id, n.Name)
	}
	src := address(port, true)
	if !src.Is4() || !f.To.Is4() {
		return nil, fmt.Errorf("%s to %s is not IPv4", id, f.To)
	}
	dst := n.cfg.RouterMAC
	mac, subnet, known := n.Locate(port.VNI, f.To)
	switch {
	case known && subnet == port.Subnet:
		dst = mac
	case !known && onLink(port, f.To):
		return askARP(port, src, f.To), nil
	}
	payload := layer4(f)
	frame := make([]byte, ethernetLen+ipv4Len, ethernetLen+ipv4Len+len(payload))
	copy(frame[0:], dst[:])
	copy(frame[6:], port.MAC[:])
	binary.BigEndian.PutUint16(frame[12:], typeIPv4)
	h := frame[ethernetLen:]
	h[0], h[8], h[9] = 0x45, 64, f.Protocol
	binary.BigEndian.PutUint16(h[2:], uint16(ipv4Len+len(payload)))
	s, d := src.As4(), f.To.As4()
	copy(h[12:], s[:])
	copy(h[16:], d[:])
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(frame, payload...), nil
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

// SourcePort stands for any ephemeral port.
const SourcePort = 40000

// layer4 builds the header behind IP, without checksums of TCP and UDP, which no node looks at.
func layer4(f Flow) []byte {
	switch f.Protocol {
	case protoTCP:
		b := make([]byte, 20)
		binary.BigEndian.PutUint16(b, SourcePort)
		binary.BigEndian.PutUint16(b[2:], f.Port)
		b[12], b[13] = 5<<4, 2 // header of five words, SYN
		return b
	case protoUDP:
		b := make([]byte, 8)
		binary.BigEndian.PutUint16(b, SourcePort)
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
// most, and so does the walk.
func Walk(nodes map[uint16]*Node, start uint16, id PortID, frame []byte) ([]Step, Result) {
	rec := &recorder{}
	n, ok := nodes[start]
	if !ok {
		return nil, Result{Verdict: Drop, Reason: reasonPortUnknown, Frame: frame}
	}
	r := n.recorded(rec, func() Result { return n.FromPort(id, frame) })
	if r.Verdict != Tunnel {
		return rec.steps, r
	}
	other, ok := nodes[r.Node]
	if !ok {
		rec.steps = append(rec.steps, Step{fmt.Sprintf("node %d", r.Node), "from tunnel", r.Remote.String(), "unknown", "the node has no rows here: it does not host the VPC"})
		return rec.steps, r
	}
	port := n.ports[id]
	r = other.recorded(rec, func() Result { return other.FromUplink(port.VNI, n.self[port.VNI], r.Frame) })
	return rec.steps, r
}

// recorded runs f with the node's steps going to rec.
func (n *Node) recorded(rec *recorder, f func() Result) Result {
	n.recorder = rec
	defer func() { n.recorder = nil }()
	return f()
}
