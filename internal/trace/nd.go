// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"weft/internal/southbound"
)

// Messages of Neighbor Discovery and of group membership (RFC 4861, RFC 2710, RFC 3810).
const (
	mldQuery          = 130
	ndRouterSolicit   = 133
	ndRouterAdvert    = 134
	ndNeighborSolicit = 135
	ndNeighborAdvert  = 136
	ndRedirect        = 137
	mld2Report        = 143

	ndLen         = 24 // header and target
	ndHopLimit    = 255
	ndOptionsMost = 4
	ndSourceMAC   = 1
	ndTargetMAC   = 2

	flagRouter, flagSolicited, flagOverride = 0x80, 0x40, 0x20
)

// neighbourDiscovery reports whether a packet is about the link rather than to somebody, and its type.
func (p *packet) neighbourDiscovery() (kind byte, is bool) {
	kind, ok := p.upper()
	if p.ip.protocol != protoICMP6 || p.ip.later || !ok {
		return 0, false
	}
	return kind, kind >= mldQuery && kind <= ndRedirect || kind == mld2Report
}

// neighbour ends a message about the link.
func (n *Node) neighbour(p *packet, port southbound.Port, kind byte) Result {
	object := objectOf(port)
	p.stage = stageNeighbour
	switch {
	case kind == ndRouterAdvert || kind == ndRedirect:
		return n.drop(p, reasonRAGuard, object, "ports are no routers")
	case !p.ip.src.IsUnspecified() && !ownLink(port, p.ip.src) && !allowed(port, p.ip.src):
		return n.drop(p, reasonNDSpoof, object, fmt.Sprintf("source %s is not the port's", p.ip.src))
	case kind == mldQuery:
		return n.drop(p, reasonMulticast, object, "there are no groups to ask for")
	case kind != ndRouterSolicit && kind != ndNeighborSolicit && kind != ndNeighborAdvert:
		n.note(stageNeighbour, object, "consumed", "a group membership")
		return Result{Verdict: Consumed, Frame: p.frame}
	}
	size := ndLen
	if kind == ndRouterSolicit {
		size = icmpLen
	}
	if p.ip.ttl != ndHopLimit || p.ip.fragment || p.ip.len != ipv6Len || p.ip.total < ipv6Len+size {
		return n.drop(p, reasonNDMalformed, object, "hop limit, length, fragment or extension header")
	}
	message := p.frame[ethernetLen+ipv6Len:]
	if kind != ndRouterSolicit && (message[1] != 0 || message[8] == 0xff || netip.AddrFrom16([16]byte(message[8:24])).Is4In6()) {
		return n.drop(p, reasonNDMalformed, object, "code or target")
	}
	if reason := p.checkOptions(port, ipv6Len+size); reason != "" {
		return n.drop(p, reason, object, "an option")
	}
	if kind == ndRouterSolicit {
		return n.routerSolicit(p, object)
	}
	return n.neighbourMessage(p, port, kind, netip.AddrFrom16([16]byte(message[8:24])))
}

// checkOptions sees that every link-layer address in the options, from layer 3's byte at on, is the port's.
func (p *packet) checkOptions(port southbound.Port, at int) string {
	h := p.frame[ethernetLen:]
	for range ndOptionsMost {
		if at == p.ip.total {
			return ""
		}
		if at+8 > p.ip.total || h[at+1] == 0 {
			return reasonNDMalformed
		}
		kind, size := h[at], int(h[at+1])
		if (kind == ndSourceMAC || kind == ndTargetMAC) && (size != 1 || southbound.MAC(h[at+2:at+8]) != port.MAC) {
			return reasonNDSpoof
		}
		at += size * 8
	}
	if at != p.ip.total {
		return reasonNDMalformed
	}
	return ""
}

func (n *Node) routerSolicit(p *packet, object string) Result {
	if p.ip.dst != routerLink && p.ip.dst != allRouters {
		return n.drop(p, reasonRS, object, fmt.Sprintf("%s is not the router", p.ip.dst))
	}
	return n.service(p, object, "router solicitation")
}

// neighbourMessage answers a question about a neighbour, and hears a claim of the port's own.
func (n *Node) neighbourMessage(p *packet, port southbound.Port, kind byte, target netip.Addr) Result {
	object, probe := objectOf(port), p.ip.src.IsUnspecified()
	own := target == address(port, false)
	if kind == ndNeighborAdvert {
		own = !probe && (ownLink(port, target) || allowed(port, target))
		if !own {
			return n.drop(p, reasonNDSpoof, object, fmt.Sprintf("%s is not the port's", target))
		}
	}
	if own || probe && ownLink(port, target) {
		n.note(stageNeighbour, object, "consumed", "about its own address")
		return Result{Verdict: Consumed, Frame: p.frame}
	}
	to, ok := n.locations[locationKey{port.VNI, target}]
	flags := byte(flagOverride)
	switch {
	case target == routerLink || ok && to.kind == router:
		to.mac = n.cfg.RouterMAC
		flags |= flagRouter
	case !ok || to.subnet != port.Subnet:
		return n.drop(p, reasonNDUnknown, n.vpc(port.VNI), fmt.Sprintf("nobody in the subnet has %s", target))
	}
	n.note(stageNeighbour, n.vpc(port.VNI), "answer", fmt.Sprintf("%s is at %s", target, to.mac))
	return Result{Verdict: Answer, Frame: p.advertise(target, to.mac, flags)}
}

// advertise is the answer "target is at mac". Who probes has no address yet: all nodes are told.
func (p *packet) advertise(target netip.Addr, mac southbound.MAC, flags byte) []byte {
	dstMAC, dst := p.src, p.ip.src
	if p.ip.src.IsUnspecified() {
		dstMAC, dst = southbound.MAC{0x33, 0x33, 0, 0, 0, 1}, allNodes
	} else {
		flags |= flagSolicited
	}
	message := slices.Concat([]byte{ndNeighborAdvert, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice(), []byte{ndTargetMAC, 1}, mac[:])
	binary.BigEndian.PutUint16(message[2:], checksum(pseudo(target, dst, len(message), protoICMP6), message))
	head := slices.Concat([]byte{0x60, 0, 0, 0, 0, byte(len(message)), protoICMP6, ndHopLimit}, target.AsSlice(), dst.AsSlice())
	return slices.Concat(dstMAC[:], mac[:], p.frame[12:14], head, message)
}
