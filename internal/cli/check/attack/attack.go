// SPDX-License-Identifier: Apache-2.0

// Package attack lists what a workload may try against another tenant's network, and what must come of each packet: the
// reason for which it is dropped, or who may hear it. It makes frames and sends none.
package attack

import (
	"net/netip"

	v1 "weft/api/v1"
)

// Workload is what frames are made of.
type Workload struct {
	Addr4, Addr6 netip.Addr
	MAC          v1.MAC
	Subnet       int // 1 or 2
}

// Addr is the workload's address of an IP version.
func (w *Workload) Addr(v int) netip.Addr {
	if v == 4 {
		return w.Addr4
	}
	return w.Addr6
}

// Link is the link-local address that the workload's MAC makes.
func (w *Workload) Link() netip.Addr {
	m := w.MAC
	return netip.AddrFrom16([16]byte{0xfe, 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

// Place is an address in a subnet of a check, by IP version.
func Place(v, subnet int, host uint16) netip.Addr {
	if v == 4 {
		return netip.AddrFrom4([4]byte{10, 99, byte(subnet), byte(host)})
	}
	return netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x99, 7: byte(subnet), 14: byte(host >> 8), 15: byte(host)})
}

// Gateway is the router's address in a workload's subnet.
func Gateway(w *Workload, v int) netip.Addr { return Place(v, w.Subnet, 1) }

// Aim is an attacker and the workload of the other tenant that it means to reach.
type Aim struct {
	From, To       *Workload
	Near           *Workload    // of the attacker's own tenant, at the target's address; nil: there is none
	MTU            int          // of the workloads' devices
	Tunnels        []netip.Addr // the nodes' tunnel ends
	FromVNI, ToVNI uint32       // of both tenants' networks
}

// Attack is one thing that a workload may try. Its shots are made for one attacker and one target.
type Attack struct {
	Name     string
	Versions []int // IP versions in which it is tried; nil: both
	Once     bool  // it does not depend on the target
	Shots    func(a Aim, v int) []Shot
}

// Shot is frames that the attacker sends in one go, and what must come of each: a drop, or that the attacker's own
// neighbour hears it. With neither, nobody may hear it and nothing is counted.
type Shot struct {
	Packets []Packet
	Reason  string
	Least   int // so many drops at least; 0: as many as frames
	Arrives bool
}

// Group is attacks of one kind.
type Group struct {
	Name    string
	Attacks []Attack
}

// Groups lists all attacks, in the order in which to run them.
func Groups() []Group {
	return []Group{
		{"l2", l2Attacks()},
		{"neighbor", neighborAttacks()},
		{"dhcp", dhcpAttacks()},
		{"ip", ipAttacks()},
		{"fragment", fragmentAttacks()},
		{"tunnel", tunnelAttacks()},
		{"control", controlAttacks()},
	}
}

var (
	only4 = []int{4}
	only6 = []int{6}
)

// headers is the length of an IP header without options.
func headers(v int) int {
	if v == 4 {
		return 20
	}
	return 40
}

// Hop is the MAC that a packet goes to first.
func Hop(from, to *Workload) v1.MAC {
	if from.Subnet == to.Subnet {
		return to.MAC
	}
	return v1.RouterMAC
}

// Good is a packet that nothing is wrong with, and what must come of it.
func (a Aim) Good(v int) Shot { return a.arrives(a.packet(v)) }

// Frame is a good packet as a frame, to the target's own MAC.
func (a Aim) Frame(v int, canary string) []byte {
	p := a.packet(v)
	p.dstMAC = a.To.MAC
	return p.Frame(canary)
}

// packet is one that nothing is wrong with: UDP from the attacker to the target's address.
func (a Aim) packet(v int) Packet {
	return Packet{dstMAC: Hop(a.From, a.To), srcMAC: a.From.MAC, src: a.From.Addr(v), dst: a.To.Addr(v), proto: protoUDP, ttl: 64, body: udp(4000, 4001)}
}

// routed is the same to the router's MAC.
func (a Aim) routed(v int) Packet {
	p := a.packet(v)
	p.dstMAC = v1.RouterMAC
	return p
}

// toRouter is the same to the router's address.
func (a Aim) toRouter(v int) Packet {
	p := a.routed(v)
	p.dst = Gateway(a.From, v)
	return p
}

// dropped is packets that are dropped for a reason, each.
func dropped(reason string, packets ...Packet) Shot { return Shot{Packets: packets, Reason: reason} }

// silent is packets that nobody hears, and that are no drops: they were answered, or meant for the node itself.
func silent(packets ...Packet) Shot { return Shot{Packets: packets} }

// arrives is packets with nothing wrong for a tenant to send: the attacker's own neighbour hears them. Where its tenant
// has nobody at the address, or the attacker itself is there, they are dropped.
func (a Aim) arrives(packets ...Packet) Shot {
	switch a.Near {
	case nil:
		return dropped("no-location", packets...)
	case a.From:
		return dropped("to-self", packets...)
	}
	return Shot{Packets: packets, Arrives: true}
}

// apart tells whether the target is another workload's address in the attacker's own network.
func (a Aim) apart() bool { return a.Near != nil && a.Near != a.From }

// tunnelEnds are those of an IP version.
func (a Aim) tunnelEnds(v int) []netip.Addr {
	var out []netip.Addr
	for _, end := range a.Tunnels {
		if end.Is4() == (v == 4) {
			out = append(out, end)
		}
	}
	return out
}

// change applies changes to a packet.
func change(p Packet, changes ...func(*Packet)) Packet {
	for _, c := range changes {
		c(&p)
	}
	return p
}

// each makes a Shot of its own of every packet.
func each(make func(...Packet) Shot, packets ...Packet) []Shot {
	var out []Shot
	for _, p := range packets {
		out = append(out, make(p))
	}
	return out
}

// drops is each packet in a Shot of its own, all for one reason.
func drops(reason string, packets ...Packet) []Shot {
	return each(func(p ...Packet) Shot { return dropped(reason, p...) }, packets...)
}
