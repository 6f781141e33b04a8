// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"net/netip"
	"slices"

	v1 "weft/api/v1"
)

// Ports of DHCP.
const (
	dhcpServer  = 67
	dhcpClient  = 68
	dhcp6Client = 546
	dhcp6Server = 547
)

var (
	broadcast4  = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	dhcpServers = netip.AddrFrom16([16]byte{0xff, 2, 13: 1, 15: 2})
)

// bootp is a message of DHCPv4 of a client with a MAC: op 1 asks, 2 answers; kind is its option 53.
func bootp(op, kind byte, mac v1.MAC, id byte, rest ...byte) []byte {
	m := make([]byte, 240)
	copy(m, []byte{op, 1, 6, 0, 0x99, 0x99, 0x99, id})
	copy(m[28:], mac[:])
	copy(m[236:], []byte{0x63, 0x82, 0x53, 0x63})
	return slices.Concat(m, []byte{53, 1, kind}, rest, []byte{255})
}

// discover is a client's question to everybody.
func (a Aim) discover(mac v1.MAC, id byte, rest ...byte) Packet {
	p := a.packet(4)
	p.dstMAC, p.src, p.dst = broadcastMAC, zero4, broadcast4
	p.body = udp(dhcpClient, dhcpServer, bootp(1, 1, mac, id, rest...)...)
	return p
}

// solicit6 is the same in IPv6, with options.
func (a Aim) solicit6(options ...byte) Packet {
	p := a.packet(6)
	p.dstMAC, p.src, p.dst = groupMAC(dhcpServers), a.From.Link(), dhcpServers
	p.body = udp(dhcp6Client, dhcp6Server, slices.Concat([]byte{1, 0x99, 0x99, 0x99}, options)...)
	return p
}

// serve is a packet from a server's port to a client's.
func (a Aim) serve(v int) Packet {
	p := a.packet(v)
	if v == 4 {
		p.body = udp(dhcpServer, dhcpClient, bootp(2, 2, a.To.MAC, 1)...)
	} else {
		p.body = udp(dhcp6Server, dhcp6Client, 2, 0x99, 0x99, 0x99)
	}
	return p
}

// starved is how many of a flood of questions must be refused at least: a port may ask 20 in one go, and 20 a second.
const (
	starving = 300
	starved  = 200
)

func dhcpAttacks() []Attack {
	return []Attack{
		{Name: "offer to the target", Shots: func(a Aim, v int) []Shot { return []Shot{dropped("dhcp-server", a.serve(v))} }},
		{Name: "offer to everybody", Shots: func(a Aim, v int) []Shot {
			p := a.serve(v)
			p.dstMAC, p.dst = broadcastMAC, broadcast4
			if v == 6 {
				p.dstMAC, p.dst, p.src = groupMAC(allNodes), allNodes, a.From.Link()
			}
			return []Shot{dropped("dhcp-server", p)}
		}},
		{Name: "offer as the router", Shots: func(a Aim, v int) []Shot {
			p := a.serve(v)
			p.src = Gateway(a.From, v)
			if v == 6 {
				p.src = routerLink
			}
			return []Shot{dropped("dhcp-server", p)}
		}},
		{Name: "offer behind IP options", Shots: func(a Aim, v int) []Shot {
			p := a.serve(v)
			if v == 4 {
				p.options = []byte{1, 1, 1, 0}
			} else {
				p.ext = []extension{{protoHopByHop, []byte{0, 1, 4, 0, 0, 0, 0}}, {protoDestination, []byte{0, 1, 4, 0, 0, 0, 0}}}
			}
			return []Shot{dropped("dhcp-server", p)}
		}},
		{Name: "offer in fragments", Shots: func(a Aim, v int) []Shot {
			p := a.serve(v)
			p.id = 4711
			p.fragment(0, true)
			return []Shot{dropped("dhcp-server", p)}
		}},
		{Name: "question with another client's MAC", Versions: only4, Once: true, Shots: func(a Aim, _ int) []Shot {
			return []Shot{silent(a.discover(a.To.MAC, 1)), silent(a.discover(nowhereMAC, 1))}
		}},
		{Name: "question with another client's identifier", Versions: only4, Once: true, Shots: func(a Aim, _ int) []Shot {
			return []Shot{silent(a.discover(a.From.MAC, 1, slices.Concat([]byte{61, 7, 1}, a.To.MAC[:])...))}
		}},
		{Name: "question in the target's name", Versions: only4, Shots: func(a Aim, _ int) []Shot {
			if a.Near == a.From {
				return nil
			}
			p := a.discover(a.To.MAC, 1)
			p.src = a.To.Addr4
			return []Shot{dropped("broadcast", p)}
		}},
		{Name: "question to a server of its own", Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			if v == 4 {
				p.body = udp(dhcpClient, dhcpServer, bootp(1, 1, a.From.MAC, 1)...)
			} else {
				p.body = udp(dhcp6Client, dhcp6Server, 1, 0x99, 0x99, 0x99)
			}
			return []Shot{a.arrives(p)}
		}},
		{Name: "oversized and broken options", Versions: only6, Once: true, Shots: func(a Aim, _ int) []Shot {
			return []Shot{
				silent(a.solicit6(0, 1, 0xff, 0xff, 0, 3, 0, 1)), silent(a.solicit6(0, 1, 0)),
				silent(a.solicit6(slices.Concat([]byte{0, 1, 4, 0}, make([]byte, 1024))...)),
			}
		}},
		{Name: "300 questions of 300 clients", Once: true, Shots: func(a Aim, v int) []Shot {
			var all []Packet
			for i := range starving {
				if v == 4 {
					all = append(all, a.discover(v1.MAC{2, 0x66, 0, 0, byte(i >> 8), byte(i)}, byte(i)))
				} else {
					all = append(all, a.solicit6(0, 1, 0, 10, 0, 3, 0, 1, 2, 0x66, 0, 0, byte(i>>8), byte(i)))
				}
			}
			s := dropped("punt-rate", all...)
			s.Least = starved
			return []Shot{s}
		}},
		{Name: "300 router solicitations", Once: true, Versions: only6, Shots: func(a Aim, _ int) []Shot {
			s := dropped("punt-rate", slices.Repeat([]Packet{a.icmp6(routerSolicit, a.From.Link(), allRouters, 0, 0, 0, 0)}, starving)...)
			s.Least = starved
			return []Shot{s}
		}},
	}
}
