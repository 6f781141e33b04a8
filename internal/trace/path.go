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

var (
	broadcastMAC = southbound.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	broadcastIP  = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	routerLink   = netip.MustParseAddr("fe80::1")   // the router, in every subnet
	allNodes     = netip.MustParseAddr("ff02::1")   // of a link
	allRouters   = netip.MustParseAddr("ff02::2")   // of a link
	allServers   = netip.MustParseAddr("ff02::1:2") // of DHCPv6, and relays
)

// Where on the path something is decided, as people read it.
const (
	stageFromPort   = "from port"
	stageARP        = "arp"
	stageNeighbour  = "neighbour"
	stageBridge     = "bridge"
	stageRoute      = "route"
	stageRouter     = "router"
	stageFromTunnel = "from tunnel"
	stageToPort     = "to port"
)

// Ports of DHCP (RFC 2131, RFC 8415).
const (
	dhcpServer, dhcpClient   = 67, 68
	dhcp6Server, dhcp6Client = 547, 546
)

// FromPort is bpf/from_port: a frame that the workload of a port sends. The order of checks is the program's.
func (n *Node) FromPort(id PortID, frame []byte) Result {
	p := packet{frame: slices.Clone(frame), stage: stageFromPort}
	object := "port/" + id.String()
	port, ok := n.ports[id]
	if !ok {
		return n.drop(&p, reasonPortUnknown, object, "no such port is attached here")
	}
	if reason := p.ethernet(); reason != "" {
		return n.drop(&p, reason, object, "")
	}
	if p.src != port.MAC {
		return n.drop(&p, reasonSrcMAC, object, fmt.Sprintf("source MAC %s, the port's is %s", p.src, port.MAC))
	}
	switch p.typ {
	case typeARP:
		return n.arp(&p, port)
	case typeIPv6:
		return n.fromPort6(&p, port)
	}
	return n.fromPort4(&p, port)
}

func (n *Node) fromPort4(p *packet, port southbound.Port) Result {
	object := objectOf(port)
	reason := p.ipv4()
	if reason == "" {
		reason = p.options()
	}
	if reason != "" {
		return n.drop(p, reason, object, "")
	}
	from, to := p.udp()
	if from == dhcpServer && to == dhcpClient {
		return n.drop(p, reasonDHCPServer, object, "ports are no DHCP servers")
	}
	if from == dhcpClient && to == dhcpServer && n.asks4(p, port) {
		return n.service(p, object, "DHCP")
	}
	if reason, why := n.mayPass4(p, port); reason != "" {
		return n.refuse(p, port, reason, object, why)
	}
	n.note(stageFromPort, object, "pass", passes(p, port))
	return n.onward(p, port)
}

func (n *Node) fromPort6(p *packet, port southbound.Port) Result {
	object := objectOf(port)
	if !address(port, false).IsValid() {
		return n.drop(p, reasonIPv6, object, "the port has no IPv6 address")
	}
	reason := p.ipv6()
	if reason == "" {
		reason = p.extensions()
	}
	if reason != "" {
		return n.drop(p, reason, object, "")
	}
	if kind, is := p.neighbourDiscovery(); is {
		return n.neighbour(p, port, kind)
	}
	from, to := p.udp()
	if from == dhcp6Server && to == dhcp6Client {
		return n.drop(p, reasonDHCPServer, object, "ports are no DHCP servers")
	}
	if from == dhcp6Client && to == dhcp6Server && !p.ip.fragment && p.ip.len == ipv6Len && p.ip.src.IsLinkLocalUnicast() && p.ip.dst == allServers {
		return n.service(p, object, "DHCPv6")
	}
	if reason, why := n.mayPass6(p, port); reason != "" {
		return n.refuse(p, port, reason, object, why)
	}
	n.note(stageFromPort, object, "pass", passes(p, port))
	if p.ip.dst == routerLink {
		return n.echo(p)
	}
	if to, ok := n.find(p, port); p.ip.src.IsLinkLocalUnicast() && (!ok || to.kind != router) {
		return n.drop(p, reasonLinkLocal, object, "link-local addresses speak with the router only")
	}
	return n.onward(p, port)
}

// passes tells why a port may send the packet.
func passes(p *packet, port southbound.Port) string {
	if p.ip.src != address(port, p.ip.src.Is4()) && allowed(port, p.ip.src) {
		return fmt.Sprintf("source MAC is the port's, %s is an allowed source", p.ip.src)
	}
	return "source MAC and address are the port's"
}

// onward takes a packet that may pass to where its destination is.
func (n *Node) onward(p *packet, port southbound.Port) Result {
	to, ok := n.find(p, port)
	p.stage = stageRoute
	if p.dst != n.cfg.RouterMAC {
		p.stage = stageBridge
	}
	switch {
	case !ok:
		return n.refuse(p, port, reasonNoLocation, n.vpc(port.VNI), fmt.Sprintf("%s lives nowhere in the VPC", p.ip.dst))
	case to.kind == nowhere:
		return n.refuse(p, port, reasonNoLocation, n.table(port), fmt.Sprintf("the next hop of %s is attached nowhere", to.via))
	case to.kind == blackhole:
		return n.refuse(p, port, reasonBlackhole, n.table(port), fmt.Sprintf("%s is a blackhole", to.via))
	case to.kind == local && to.port == PortID{port.Tenant, port.Name}:
		return n.refuse(p, port, reasonToSelf, n.table(port), fmt.Sprintf("%s leads back to the port itself", to.via))
	case to.kind == router:
		return n.echo(p)
	}
	return n.forward(p, port, to)
}

// asks4 reports whether a question for an IPv4 address is for the agent.
func (n *Node) asks4(p *packet, port southbound.Port) bool {
	own := address(port, true)
	if p.ip.fragment || !own.IsValid() || p.ip.src != own && !p.ip.src.IsUnspecified() {
		return false
	}
	to, ok := n.locations[locationKey{port.VNI, p.ip.dst}]
	return p.ip.dst == broadcastIP || ok && to.kind == router && p.dst == n.cfg.RouterMAC
}

// service hands the packet to the agent.
func (n *Node) service(p *packet, object, what string) Result {
	n.note("to agent", object, "deliver", what)
	return Result{Verdict: Service, Frame: p.frame}
}

// address is the port's own of a family; without one it is none that a packet can have.
func address(port southbound.Port, ipv4 bool) netip.Addr {
	for _, i := range port.Interfaces {
		if i.Address.Is4() == ipv4 {
			return i.Address
		}
	}
	return netip.Addr{}
}

// gateway is the router's address in the port's subnet.
func gateway(port southbound.Port, ipv4 bool) netip.Addr {
	for _, i := range port.Interfaces {
		if i.Address.Is4() == ipv4 {
			return i.Gateway
		}
	}
	return netip.Addr{}
}

// allowed reports whether a port may send from an address that is not its own.
func allowed(port southbound.Port, a netip.Addr) bool {
	return !special(a) && slices.ContainsFunc(port.Sources, func(s netip.Prefix) bool { return s.Contains(a) })
}

// ownLink reports whether an address is one that a port may speak IPv6 from: its own, or any link-local one but the
// router's.
func ownLink(port southbound.Port, a netip.Addr) bool {
	return a == address(port, false) || a.IsLinkLocalUnicast() && a != routerLink
}

// mayPass4 checks what a port may send.
func (n *Node) mayPass4(p *packet, port southbound.Port) (reason, why string) {
	own, first := address(port, true), p.ip.dst.As4()[0]
	switch {
	case p.dst == broadcastMAC:
		return reasonBroadcast, fmt.Sprintf("%s, to all stations of the segment", p.ip.dst)
	case p.dst[0]&1 != 0:
		return reasonMulticast, fmt.Sprintf("%s, to a group of stations", p.ip.dst)
	case p.ip.src != own && !allowed(port, p.ip.src):
		return reasonSrcIP, fmt.Sprintf("source address %s, the port's is %s", p.ip.src, own)
	case first >= 224 && first < 240:
		return reasonMulticast, fmt.Sprintf("%s is a group", p.ip.dst)
	case p.ip.dst == broadcastIP:
		return reasonBroadcast, "to everybody"
	case p.ip.dst == own:
		return reasonToSelf, "to the port's own address"
	}
	return n.fits(p)
}

func (n *Node) mayPass6(p *packet, port southbound.Port) (reason, why string) {
	switch own := address(port, false); {
	case p.dst[0]&1 != 0:
		return reasonMulticast, fmt.Sprintf("%s, to a group of stations", p.ip.dst)
	case !ownLink(port, p.ip.src) && !allowed(port, p.ip.src):
		return reasonSrcIP, fmt.Sprintf("source address %s, the port's is %s", p.ip.src, own)
	case p.ip.dst.IsMulticast():
		return reasonMulticast, fmt.Sprintf("%s is a group", p.ip.dst)
	case p.ip.dst == own:
		return reasonToSelf, "to the port's own address"
	case p.ip.dst.IsLinkLocalUnicast() && p.ip.dst != routerLink:
		return reasonLinkLocal, "link-local addresses speak with the router only"
	}
	return n.fits(p)
}

func (n *Node) fits(p *packet) (reason, why string) {
	if size := len(p.frame) - ethernetLen; size > n.cfg.MTU {
		return reasonTooBig, fmt.Sprintf("%d bytes, the overlay's MTU is %d", size, n.cfg.MTU)
	}
	return "", ""
}

// forward takes one step towards a location: routed where the frame is for the router, else bridged.
func (n *Node) forward(p *packet, port southbound.Port, to location) Result {
	if p.dst != n.cfg.RouterMAC {
		if p.dst != to.mac || to.subnet != port.Subnet {
			return n.refuse(p, port, reasonDstMAC, n.vpc(port.VNI), fmt.Sprintf("%s is neither the router's MAC nor that of %s in this subnet", p.dst, p.ip.dst))
		}
		n.note(stageBridge, n.vpc(port.VNI), "pass", "inside "+n.prefix(port.VNI, p.ip.dst))
	} else {
		if p.ip.ttl <= 1 {
			return n.refuse(p, port, reasonTTL, n.vpc(port.VNI), fmt.Sprintf("TTL %d at the router", p.ip.ttl))
		}
		before := p.ip.ttl
		p.setMACs(to.mac, n.cfg.RouterMAC)
		p.setTTL(before - 1)
		by, way := n.wayOf(p, port, to)
		n.note(stageRoute, by, "pass", fmt.Sprintf("%s, TTL %d to %d", way, before, before-1))
	}
	if to.kind == remote {
		n.note("to tunnel", "node/"+n.names[to.node], "pass", fmt.Sprintf("VNI %d, %s to %s", port.VNI, n.self[port.VNI], to.tunnel))
		return Result{Verdict: Tunnel, Frame: p.frame, Node: to.node, Remote: to.tunnel}
	}
	n.note(stageToPort, "port/"+to.port.String(), "deliver", "MAC "+to.mac.String())
	return Result{Verdict: Local, Frame: p.frame, Port: to.port}
}

// wayOf tells what leads a packet on, and how: a route of the table, or the subnet that it is for.
func (n *Node) wayOf(p *packet, port southbound.Port, to location) (by, way string) {
	if to.via.IsValid() {
		return n.table(port), fmt.Sprintf("%s by %s", to.via, n.hop(port.VNI, to))
	}
	return n.vpc(port.VNI), "to " + n.prefix(port.VNI, p.ip.dst)
}

// hop is the address of a route's next hop, of the route's IP version if it has one; without any its MAC.
func (n *Node) hop(vni uint32, to location) string {
	var best netip.Addr
	ipv4 := to.via.Addr().Is4()
	for key, l := range n.locations {
		if key.vni != vni || l.mac != to.mac || l.kind != local && l.kind != remote {
			continue
		}
		fits, fitted := key.addr.Is4() == ipv4, best.IsValid() && best.Is4() == ipv4
		if !best.IsValid() || fits && !fitted || fits == fitted && key.addr.Less(best) {
			best = key.addr
		}
	}
	if !best.IsValid() {
		return to.mac.String()
	}
	return best.String()
}

// prefix is the subnet of an address.
func (n *Node) prefix(vni uint32, a netip.Addr) string {
	for _, s := range n.subnets {
		if s.VNI == vni && s.Prefix.Contains(a) {
			return "subnet " + s.Prefix.String()
		}
	}
	return a.String()
}

// FromUplink is bpf/from_uplink: a frame that came through the tunnel from a tunnel end.
func (n *Node) FromUplink(vni uint32, from netip.Addr, frame []byte) Result {
	p := packet{frame: slices.Clone(frame), stage: stageFromTunnel}
	sender, ok := n.senders[locationKey{vni, from}]
	if !ok {
		return n.drop(&p, reasonPeerUnknown, from.String(), fmt.Sprintf("no node at %s may send VNI %d", from, vni))
	}
	reason := p.ethernet()
	if reason == "" {
		reason = p.fixed()
	}
	if reason != "" {
		return n.drop(&p, reason, from.String(), "")
	}
	n.note(stageFromTunnel, "node/"+n.names[sender], "pass", fmt.Sprintf("%s may send VNI %d, %s", from, vni, n.vpc(vni)))
	p.stage = stageToPort
	to, ok := n.locations[locationKey{vni, p.ip.dst}]
	here := ok && to.kind == local
	if !here || p.dst != to.mac {
		hop, routed := n.hops[hopKey{vni, p.dst}]
		switch {
		case routed:
			to = hop
		case !here:
			return n.drop(&p, reasonNotLocal, n.vpc(vni), fmt.Sprintf("%s is not at this node", p.ip.dst))
		default:
			return n.drop(&p, reasonDstMAC, "port/"+to.port.String(), fmt.Sprintf("for MAC %s, the port's is %s", p.dst, to.mac))
		}
	}
	n.note(stageToPort, "port/"+to.port.String(), "deliver", "MAC "+to.mac.String())
	return Result{Verdict: Local, Frame: p.frame, Port: to.port}
}

// FromService is bpf/from_service: a frame that the agent sends to a port.
func (n *Node) FromService(id PortID, frame []byte) Result {
	p := packet{frame: slices.Clone(frame), stage: "from agent"}
	if reason := p.ethernet(); reason != "" {
		return n.drop(&p, reason, "agent", "")
	}
	port, ok := n.ports[id]
	if !ok {
		return n.drop(&p, reasonPortUnknown, "port/"+id.String(), "no such port is attached here")
	}
	if p.dst[0]&1 == 0 && p.dst != port.MAC {
		return n.drop(&p, reasonDstMAC, objectOf(port), fmt.Sprintf("for MAC %s, the port's is %s", p.dst, port.MAC))
	}
	p.setMACs(p.dst, n.cfg.RouterMAC)
	n.note(stageToPort, objectOf(port), "deliver", "from the agent")
	return Result{Verdict: Local, Frame: p.frame, Port: id}
}

// FromHost is bpf/to_port: a frame that the node's own stack sends to a port.
func (n *Node) FromHost(id PortID, frame []byte) Result {
	p := packet{frame: slices.Clone(frame), stage: "from host"}
	return n.drop(&p, reasonHostToPort, "port/"+id.String(), "the node itself cannot speak to ports")
}

// arp answers for the router and for neighbours (RFC 826); probes with sender 0 as in RFC 5227.
func (n *Node) arp(p *packet, port southbound.Port) Result {
	object := objectOf(port)
	p.stage = stageARP
	if len(p.frame) < ethernetLen+arpLen {
		return n.drop(p, reasonShort, object, "")
	}
	a := p.frame[ethernetLen : ethernetLen+arpLen]
	const requestOfIPv4 = 0x0001_0800_0604_0001 // hardware, protocol, both lengths, operation
	if binary.BigEndian.Uint64(a) != requestOfIPv4 {
		return n.drop(p, reasonARPMalformed, object, "not a request for an IPv4 address")
	}
	senderMAC, sender, target := southbound.MAC(a[8:14]), netip.AddrFrom4([4]byte(a[14:18])), netip.AddrFrom4([4]byte(a[24:28]))
	own := address(port, true)
	if senderMAC != port.MAC || sender != own && !sender.IsUnspecified() && !allowed(port, sender) {
		return n.drop(p, reasonARPSpoof, object, fmt.Sprintf("sender %s at %s is not the port", sender, senderMAC))
	}
	if target == own || target == sender {
		n.note(stageARP, object, "consumed", "about its own address")
		return Result{Verdict: Consumed, Frame: p.frame}
	}
	to, ok := n.locations[locationKey{port.VNI, target}]
	if !ok || to.kind != router && to.subnet != port.Subnet {
		return n.drop(p, reasonARPUnknown, n.vpc(port.VNI), fmt.Sprintf("nobody in the subnet has %s", target))
	}
	n.note(stageARP, n.vpc(port.VNI), "answer", fmt.Sprintf("%s is at %s", target, to.mac))
	reply := make([]byte, 0, len(p.frame))
	reply = append(append(append(reply, p.src[:]...), to.mac[:]...), p.frame[12:14]...)
	reply = append(reply, a[:6]...)
	reply = append(append(reply, 0, 2), to.mac[:]...)
	reply = append(append(reply, a[24:28]...), a[8:18]...)
	reply = append(reply, p.frame[ethernetLen+arpLen:]...)
	return Result{Verdict: Answer, Frame: reply}
}

func (n *Node) vpc(vni uint32) string {
	v, ok := n.vpcs[vni]
	if !ok {
		return fmt.Sprintf("VNI %d", vni)
	}
	return "vpc/" + v.Tenant + "/" + v.Name
}

// table names the route table of a port.
func (n *Node) table(port southbound.Port) string {
	name := fmt.Sprint(port.Table)
	if n.cfg.Table != nil {
		name = cmp.Or(n.cfg.Table(port.VNI, port.Table), name)
	}
	return "routetable/" + port.Tenant + "/" + name
}

// objectOf names a port's row.
func objectOf(port southbound.Port) string { return "port/" + PortID{port.Tenant, port.Name}.String() }

// drop ends a walk; without why, the reason says it all.
func (n *Node) drop(p *packet, reason, object, why string) Result {
	n.note(p.stage, object, "drop", cmp.Or(why, reason))
	return Result{Verdict: Drop, Reason: reason, Frame: p.frame}
}
