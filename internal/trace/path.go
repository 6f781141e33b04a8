// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"weft/internal/southbound"
)

var (
	broadcastMAC = southbound.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	broadcastIP  = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// FromPort is bpf/from_port: a frame that the workload of a port sends. The order of checks is the program's.
func (n *Node) FromPort(id PortID, frame []byte) Result {
	p := packet{frame: slices.Clone(frame)}
	port, ok := n.ports[id]
	if !ok {
		return n.drop(&p, reasonPortUnknown, "port/"+id.String(), "no such port is attached here")
	}
	if reason := p.ethernet(); reason != "" {
		return n.drop(&p, reason, "port/"+id.String(), "")
	}
	if p.src != port.MAC {
		return n.drop(&p, reasonSrcMAC, "port/"+id.String(), fmt.Sprintf("source MAC %s, the port's is %s", p.src, port.MAC))
	}
	if p.typ == typeARP {
		return n.arp(&p, port)
	}
	if reason := p.ipv4Header(); reason != "" {
		return n.drop(&p, reason, "port/"+id.String(), "")
	}
	if reason, why := n.mayPass(&p, port); reason != "" {
		return n.drop(&p, reason, "port/"+id.String(), why)
	}
	n.note("from port", "port/"+id.String(), "pass", "source MAC and address are the port's")
	to, ok := n.locations[locationKey{port.VNI, p.ip.dst}]
	if !ok {
		return n.drop(&p, reasonNoLocation, n.vpc(port.VNI), fmt.Sprintf("%s lives nowhere in the VPC", p.ip.dst))
	}
	if to.kind == router {
		return n.echo(&p)
	}
	return n.forward(&p, port, to)
}

// addressOf4 is the port's IPv4 address; without one it is none that a packet can have.
func addressOf4(port southbound.Port) netip.Addr {
	for _, i := range port.Interfaces {
		if i.Address.Is4() {
			return i.Address
		}
	}
	return netip.Addr{}
}

// mayPass checks what a port may send.
func (n *Node) mayPass(p *packet, port southbound.Port) (reason, why string) {
	own, first := addressOf4(port), p.ip.dst.As4()[0]
	size := len(p.frame) - ethernetLen
	switch {
	case p.dst == broadcastMAC:
		return reasonBroadcast, "to all stations of the segment"
	case p.dst[0]&1 != 0:
		return reasonMulticast, "to a group of stations"
	case p.ip.src != own:
		return reasonSrcIP, fmt.Sprintf("source address %s, the port's is %s", p.ip.src, own)
	case first >= 224 && first < 240:
		return reasonMulticast, fmt.Sprintf("%s is a group", p.ip.dst)
	case p.ip.dst == broadcastIP:
		return reasonBroadcast, "to everybody"
	case p.ip.dst == own:
		return reasonToSelf, "to the port's own address"
	case size > n.cfg.MTU:
		return reasonTooBig, fmt.Sprintf("%d bytes, the overlay's MTU is %d", size, n.cfg.MTU)
	}
	return "", ""
}

// forward takes one step towards a location: routed where the frame is for the router, else bridged.
func (n *Node) forward(p *packet, port southbound.Port, to location) Result {
	if p.dst != n.cfg.RouterMAC {
		if p.dst != to.mac || to.subnet != port.Subnet {
			return n.drop(p, reasonDstMAC, n.vpc(port.VNI), fmt.Sprintf("%s is neither the router's MAC nor that of %s in this subnet", p.dst, p.ip.dst))
		}
		n.note("bridge", n.vpc(port.VNI), "pass", fmt.Sprintf("subnet %d", to.subnet))
	} else {
		if p.ip.ttl <= 1 {
			return n.drop(p, reasonTTL, n.vpc(port.VNI), fmt.Sprintf("TTL %d at the router", p.ip.ttl))
		}
		before := p.ip.ttl
		p.setMACs(to.mac, n.cfg.RouterMAC)
		p.setTTL(before - 1)
		n.note("route", n.vpc(port.VNI), "pass", fmt.Sprintf("subnet %d to subnet %d, TTL %d to %d", port.Subnet, to.subnet, before, before-1))
	}
	if to.kind == remote {
		n.note("to tunnel", "node/"+n.names[to.node], "pass", fmt.Sprintf("VNI %d, to %s", port.VNI, to.tunnel))
		return Result{Verdict: Tunnel, Frame: p.frame, Node: to.node, Remote: to.tunnel}
	}
	n.note("to port", "port/"+to.port.String(), "deliver", "")
	return Result{Verdict: Local, Frame: p.frame, Port: to.port}
}

// FromUplink is bpf/from_uplink: a frame that came through the tunnel from a tunnel end.
func (n *Node) FromUplink(vni uint32, from netip.Addr, frame []byte) Result {
	p := packet{frame: slices.Clone(frame)}
	if _, ok := n.senders[locationKey{vni, from}]; !ok {
		return n.drop(&p, reasonPeerUnknown, from.String(), fmt.Sprintf("no node at %s may send VNI %d", from, vni))
	}
	if reason := p.ethernet(); reason != "" {
		return n.drop(&p, reason, from.String(), "")
	}
	if reason := p.ipv4Header(); reason != "" {
		return n.drop(&p, reason, from.String(), "")
	}
	n.note("from tunnel", n.vpc(vni), "pass", fmt.Sprintf("%s may send VNI %d", from, vni))
	to, ok := n.locations[locationKey{vni, p.ip.dst}]
	if !ok || to.kind != local {
		return n.drop(&p, reasonNotLocal, n.vpc(vni), fmt.Sprintf("%s is not at this node", p.ip.dst))
	}
	if p.dst != to.mac {
		return n.drop(&p, reasonDstMAC, "port/"+to.port.String(), fmt.Sprintf("for MAC %s, the port's is %s", p.dst, to.mac))
	}
	n.note("to port", "port/"+to.port.String(), "deliver", "")
	return Result{Verdict: Local, Frame: p.frame, Port: to.port}
}

// arp answers for the router and for neighbours (RFC 826); probes with sender 0 as in RFC 5227.
func (n *Node) arp(p *packet, port southbound.Port) Result {
	object := "port/" + PortID{port.Tenant, port.Name}.String()
	if len(p.frame) < ethernetLen+arpLen {
		return n.drop(p, reasonShort, object, "")
	}
	a := p.frame[ethernetLen : ethernetLen+arpLen]
	const requestOfIPv4 = 0x0001_0800_0604_0001 // hardware, protocol, both lengths, operation
	if binary.BigEndian.Uint64(a) != requestOfIPv4 {
		return n.drop(p, reasonARPMalformed, object, "not a request for an IPv4 address")
	}
	senderMAC, sender, target := southbound.MAC(a[8:14]), netip.AddrFrom4([4]byte(a[14:18])), netip.AddrFrom4([4]byte(a[24:28]))
	own := addressOf4(port)
	if senderMAC != port.MAC || (sender != own && !sender.IsUnspecified()) {
		return n.drop(p, reasonARPSpoof, object, fmt.Sprintf("sender %s at %s is not the port", sender, senderMAC))
	}
	if target == own {
		n.note("arp", object, "consumed", "about its own address")
		return Result{Verdict: Consumed, Frame: p.frame}
	}
	to, ok := n.locations[locationKey{port.VNI, target}]
	if !ok || (to.kind != router && to.subnet != port.Subnet) {
		return n.drop(p, reasonARPUnknown, n.vpc(port.VNI), fmt.Sprintf("nobody in the subnet has %s", target))
	}
	n.note("arp", n.vpc(port.VNI), "answer", fmt.Sprintf("%s is at %s", target, to.mac))
	reply := make([]byte, 0, len(p.frame))
	reply = append(append(append(reply, p.src[:]...), to.mac[:]...), p.frame[12:14]...)
	reply = append(reply, a[:6]...)
	reply = append(append(reply, 0, 2), to.mac[:]...)
	reply = append(append(reply, a[24:28]...), a[8:18]...)
	reply = append(reply, p.frame[ethernetLen+arpLen:]...)
	return Result{Verdict: Answer, Frame: reply}
}

// echo answers an echo request to the router in place (RFC 792). Requests in fragments or with options are not answered.
func (n *Node) echo(p *packet) Result {
	if p.dst != n.cfg.RouterMAC {
		return n.drop(p, reasonDstMAC, "router", fmt.Sprintf("for MAC %s, the router's is %s", p.dst, n.cfg.RouterMAC))
	}
	if p.ip.protocol != protoICMP || p.ip.fragment || p.ip.headerLen != ipv4Len {
		return n.drop(p, reasonRouterProto, "router", "the router answers echo requests only")
	}
	if len(p.frame) < ethernetLen+ipv4Len+icmpLen {
		return n.drop(p, reasonShort, "router", "")
	}
	icmp := p.frame[ethernetLen+ipv4Len:]
	if icmp[0] != 8 || icmp[1] != 0 {
		return n.drop(p, reasonRouterProto, "router", "the router answers echo requests only")
	}
	icmp[0] = 0
	replaceSum(icmp[2:4], 8<<8, 0)
	p.setMACs(p.src, n.cfg.RouterMAC)
	p.setTTL(replyTTL)
	h := p.frame[ethernetLen:]
	src, dst := p.ip.src.As4(), p.ip.dst.As4()
	copy(h[12:], dst[:])
	copy(h[16:], src[:])
	n.note("router", p.ip.dst.String(), "answer", "echo reply")
	return Result{Verdict: Answer, Frame: p.frame}
}

func (n *Node) vpc(vni uint32) string {
	v, ok := n.vpcs[vni]
	if !ok {
		return fmt.Sprintf("VNI %d", vni)
	}
	return "vpc/" + v.Tenant + "/" + v.Name
}

// drop ends a walk.
func (n *Node) drop(p *packet, reason, object, why string) Result {
	n.note("drop", object, reason, why)
	return Result{Verdict: Drop, Reason: reason, Frame: p.frame}
}
