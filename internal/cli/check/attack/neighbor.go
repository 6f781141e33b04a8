// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"encoding/binary"
	"net/netip"
	"slices"

	v1 "weft/api/v1"
)

// Operations of ARP and types of ICMPv6.
const (
	arpRequest = 1
	arpReply   = 2

	mldQuery        = 130
	routerSolicit   = 133
	routerAdvert    = 134
	neighborSolicit = 135
	neighborAdvert  = 136
	redirect        = 137

	optionSource = 1
	optionTarget = 2
)

var (
	noAddr     netip.Addr
	zero4      = netip.AddrFrom4([4]byte{})
	zero6      = netip.IPv6Unspecified()
	routerLink = netip.AddrFrom16([16]byte{0xfe, 0x80, 15: 1})
	allNodes   = netip.AddrFrom16([16]byte{0xff, 2, 15: 1})
	allRouters = netip.AddrFrom16([16]byte{0xff, 2, 15: 2})
)

// groupMAC is where packets to an IPv6 group go.
func groupMAC(group netip.Addr) v1.MAC {
	g := group.As16()
	return v1.MAC{0x33, 0x33, g[12], g[13], g[14], g[15]}
}

// arp is what the attacker says about sender, to everybody.
func (a Aim) arp(op uint16, mac v1.MAC, sender, about netip.Addr) Packet {
	body := binary.BigEndian.AppendUint16([]byte{0, 1, 8, 0, 6, 4}, op)
	body = slices.Concat(body, mac[:], sender.AsSlice(), make([]byte, 6), about.AsSlice())
	return Packet{dstMAC: broadcastMAC, srcMAC: a.From.MAC, ethertype: typeARP, body: raw(body...)}
}

// knows is a question that is answered, and heard by nobody else, where the attacker's tenant has the target in its
// subnet; else it is dropped.
func (a Aim) knows(reason string, p Packet) Shot {
	if !a.apart() || a.From.Subnet != a.To.Subnet {
		return dropped(reason, p)
	}
	return silent(p)
}

func neighborAttacks() []Attack { return slices.Concat(arpAttacks(), ndAttacks(), ndForms()) }

func arpAttacks() []Attack {
	in := func(name string, shots func(a Aim) []Shot) Attack {
		return Attack{Name: name, Versions: only4, Shots: func(a Aim, _ int) []Shot { return shots(a) }}
	}
	malformed := func(at int, value ...byte) func(a Aim) []Shot {
		return func(a Aim) []Shot {
			p := a.arp(arpRequest, a.From.MAC, a.From.Addr4, a.To.Addr4)
			body := p.body("")
			copy(body[at:], value)
			p.body = raw(body...)
			return []Shot{dropped("arp-malformed", p)}
		}
	}
	return []Attack{
		in("ARP reply for the router", func(a Aim) []Shot {
			p := a.arp(arpReply, a.From.MAC, Gateway(a.From, 4), a.To.Addr4)
			one := p
			one.dstMAC = a.To.MAC
			return drops("arp-malformed", p, one)
		}),
		in("ARP reply for the target", func(a Aim) []Shot {
			return []Shot{dropped("arp-malformed", a.arp(arpReply, a.From.MAC, a.To.Addr4, a.From.Addr4))}
		}),
		in("ARP request as the router", func(a Aim) []Shot {
			return []Shot{dropped("arp-spoof", a.arp(arpRequest, a.From.MAC, Gateway(a.From, 4), a.To.Addr4))}
		}),
		in("ARP request as the target", func(a Aim) []Shot {
			if a.Near == a.From {
				return nil
			}
			return []Shot{dropped("arp-spoof", a.arp(arpRequest, a.From.MAC, a.To.Addr4, Place(4, 1, nowhere(4))))}
		}),
		in("gratuitous ARP for the target", func(a Aim) []Shot {
			p := a.arp(arpRequest, a.From.MAC, a.To.Addr4, a.To.Addr4)
			if a.Near == a.From {
				return []Shot{silent(p)} // it is the attacker's own address
			}
			return []Shot{dropped("arp-spoof", p)}
		}),
		in("gratuitous ARP for the router", func(a Aim) []Shot {
			return []Shot{dropped("arp-spoof", a.arp(arpRequest, a.From.MAC, Gateway(a.From, 4), Gateway(a.From, 4)))}
		}),
		in("ARP with the target's MAC", func(a Aim) []Shot {
			if a.Near == a.From {
				return nil
			}
			return []Shot{dropped("arp-spoof", a.arp(arpRequest, a.To.MAC, a.From.Addr4, a.To.Addr4))}
		}),
		in("ARP with the router's MAC", func(a Aim) []Shot {
			return []Shot{dropped("arp-spoof", a.arp(arpRequest, v1.RouterMAC, a.From.Addr4, a.To.Addr4))}
		}),
		in("ARP from address 0", func(a Aim) []Shot {
			p := a.arp(arpRequest, a.From.MAC, zero4, a.To.Addr4)
			if a.Near == a.From {
				return []Shot{silent(p)}
			}
			return []Shot{a.knows("arp-unknown", p)}
		}),
		in("ARP from address 0 with another MAC", func(a Aim) []Shot {
			return []Shot{dropped("arp-spoof", a.arp(arpRequest, nowhereMAC, zero4, a.To.Addr4))}
		}),
		in("ARP to the target's MAC", func(a Aim) []Shot {
			if a.Near == a.From {
				return nil
			}
			p := a.arp(arpRequest, a.From.MAC, a.From.Addr4, a.To.Addr4)
			p.dstMAC = a.To.MAC
			return []Shot{a.knows("arp-unknown", p)}
		}),
		in("ARP for an address that nobody has", func(a Aim) []Shot {
			return []Shot{dropped("arp-unknown", a.arp(arpRequest, a.From.MAC, a.From.Addr4, Place(4, 1, nowhere(4))))}
		}),
		in("ARP with other hardware", malformed(1, 6)),
		in("ARP for IPv6", malformed(2, 0x86, 0xdd)),
		in("ARP with long MACs", malformed(4, 8)),
		in("ARP with long addresses", malformed(5, 16)),
		in("reverse ARP in ARP", malformed(7, 3)),
		in("inverse ARP", malformed(7, 8)),
		{Name: "2,000 ARP requests", Once: true, Versions: only4, Shots: func(a Aim, _ int) []Shot {
			var all []Packet
			for i := range floodSize {
				all = append(all, a.arp(arpRequest, a.From.MAC, a.From.Addr4, netip.AddrFrom4([4]byte{10, 99, byte(8 + i>>8), byte(i)})))
			}
			return []Shot{dropped("arp-unknown", all...)}
		}},
	}
}

// icmp6 is a message with its checksum. The canary is behind the IP packet, so that no option is added to it.
func (a Aim) icmp6(kind byte, src, dst netip.Addr, body ...byte) Packet {
	p := Packet{dstMAC: a.To.MAC, srcMAC: a.From.MAC, src: src, dst: dst, proto: protoICMPv6, ttl: 255, length: -CanaryLength}
	if dst.IsMulticast() {
		p.dstMAC = groupMAC(dst)
	}
	message := slices.Concat([]byte{kind, 0, 0, 0}, body)
	pseudo := slices.Concat(src.AsSlice(), dst.AsSlice(), []byte{0, 0, 0, byte(len(message)), 0, 0, 0, protoICMPv6})
	binary.BigEndian.PutUint16(message[2:], sum(pseudo, message))
	p.body = raw(message...)
	return p
}

// about is the body of a neighbour message: flags, target, and an option with a MAC.
func about(flags byte, target netip.Addr, option byte, mac v1.MAC) []byte {
	t := target.As16()
	out := slices.Concat([]byte{flags, 0, 0, 0}, t[:])
	if option == 0 {
		return out
	}
	return slices.Concat(out, []byte{option, 1}, mac[:])
}

// group is the solicited-node group of an address.
func group(a netip.Addr) netip.Addr {
	t := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
}

// asks is a good question for the target.
func (a Aim) asks() Packet {
	return a.icmp6(neighborSolicit, a.From.Addr6, group(a.To.Addr6), about(0, a.To.Addr6, optionSource, a.From.MAC)...)
}

// advert is the body of a router advertisement with a prefix that is not the router's.
func advert(mac v1.MAC) []byte {
	prefix := slices.Concat([]byte{3, 4, 64, 0xc0, 0, 0, 0xff, 0, 0, 0, 0xff, 0, 0, 0, 0, 0}, netip.MustParseAddr("2001:db8:bad::").AsSlice())
	return slices.Concat([]byte{64, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, optionSource, 1}, mac[:], prefix)
}

func ndAttacks() []Attack {
	in := func(name string, shots func(a Aim) []Shot) Attack {
		return Attack{Name: name, Versions: only6, Shots: func(a Aim, _ int) []Shot {
			if a.Near == a.From {
				return nil // the target's address is the attacker's own
			}
			return shots(a)
		}}
	}
	claim := func(a Aim, flags byte, who netip.Addr, dst netip.Addr) Packet {
		return a.icmp6(neighborAdvert, a.From.Addr6, dst, about(flags, who, optionTarget, a.From.MAC)...)
	}
	return []Attack{
		in("advertisement with the target's address", func(a Aim) []Shot {
			return drops("nd-spoof", claim(a, 0x20, a.To.Addr6, allNodes), claim(a, 0x60, a.To.Addr6, a.To.Addr6))
		}),
		in("advertisement in the target's name", func(a Aim) []Shot {
			return []Shot{dropped("nd-spoof", a.icmp6(neighborAdvert, a.To.Addr6, allNodes, about(0x20, a.To.Addr6, optionTarget, a.From.MAC)...))}
		}),
		in("advertisement with the router's addresses", func(a Aim) []Shot {
			return drops("nd-spoof", claim(a, 0xa0, routerLink, allNodes), claim(a, 0xa0, Gateway(a.From, 6), allNodes), claim(a, 0xe0, routerLink, a.To.Addr6))
		}),
		in("advertisement of the own address with another MAC", func(a Aim) []Shot {
			return []Shot{dropped("nd-spoof", a.icmp6(neighborAdvert, a.From.Addr6, allNodes, about(0x20, a.From.Addr6, optionTarget, a.To.MAC)...))}
		}),
		in("advertisement from nobody", func(a Aim) []Shot {
			return []Shot{dropped("nd-spoof", a.icmp6(neighborAdvert, zero6, allNodes, about(0x20, a.From.Addr6, optionTarget, a.From.MAC)...))}
		}),
		in("advertisement of the own address", func(a Aim) []Shot {
			return []Shot{silent(claim(a, 0x20, a.From.Addr6, allNodes)), silent(claim(a, 0x20, a.From.Addr6, a.To.Addr6))}
		}),
		in("solicitation with another's MAC", func(a Aim) []Shot {
			return []Shot{dropped("nd-spoof", a.icmp6(neighborSolicit, a.From.Addr6, group(a.To.Addr6), about(0, a.To.Addr6, optionSource, a.To.MAC)...))}
		}),
		in("solicitation as the target", func(a Aim) []Shot {
			return []Shot{dropped("nd-spoof", a.icmp6(neighborSolicit, a.To.Addr6, group(a.To.Addr6), about(0, a.To.Addr6, optionSource, a.From.MAC)...))}
		}),
		in("solicitation as the router", func(a Aim) []Shot {
			return []Shot{dropped("nd-spoof", a.icmp6(neighborSolicit, routerLink, group(a.To.Addr6), about(0, a.To.Addr6, optionSource, a.From.MAC)...))}
		}),
		in("probe for the target's address", func(a Aim) []Shot {
			return []Shot{a.knows("nd-unknown", a.icmp6(neighborSolicit, zero6, group(a.To.Addr6), about(0, a.To.Addr6, 0, a.From.MAC)...))}
		}),
		in("solicitation to the target itself", func(a Aim) []Shot {
			return []Shot{a.knows("nd-unknown", a.icmp6(neighborSolicit, a.From.Addr6, a.To.Addr6, about(0, a.To.Addr6, optionSource, a.From.MAC)...))}
		}),
		in("solicitation for an address that nobody has", func(a Aim) []Shot {
			who := Place(6, 1, nowhere(6))
			return []Shot{dropped("nd-unknown", a.icmp6(neighborSolicit, a.From.Addr6, group(who), about(0, who, optionSource, a.From.MAC)...))}
		}),
		in("router advertisement", func(a Aim) []Shot {
			return drops("ra-guard", a.icmp6(routerAdvert, a.From.Link(), allNodes, advert(a.From.MAC)...),
				a.icmp6(routerAdvert, a.From.Link(), a.To.Addr6, advert(a.From.MAC)...),
				a.icmp6(routerAdvert, a.From.Link(), a.To.Link(), advert(a.From.MAC)...),
				a.icmp6(routerAdvert, routerLink, allNodes, advert(v1.RouterMAC)...))
		}),
		in("redirect", func(a Aim) []Shot {
			t, d := a.From.Link().As16(), netip.MustParseAddr("2001:db8::1").As16()
			body := slices.Concat(make([]byte, 4), t[:], d[:])
			return drops("ra-guard", a.icmp6(redirect, a.From.Link(), a.To.Addr6, body...), a.icmp6(redirect, routerLink, a.To.Addr6, body...))
		}),
		in("router solicitation to the target", func(a Aim) []Shot {
			return []Shot{dropped("router-solicit", a.icmp6(routerSolicit, a.From.Link(), a.To.Addr6, 0, 0, 0, 0))}
		}),
		in("router solicitation with another's MAC", func(a Aim) []Shot {
			return []Shot{dropped("nd-spoof", a.icmp6(routerSolicit, a.From.Link(), allRouters, slices.Concat([]byte{0, 0, 0, 0, optionSource, 1}, a.To.MAC[:])...))}
		}),
		in("group query", func(a Aim) []Shot {
			return []Shot{dropped("multicast", a.icmp6(mldQuery, a.From.Link(), allNodes, make([]byte, 20)...))}
		}),
		in("group report to the target", func(a Aim) []Shot {
			return []Shot{silent(a.icmp6(143, a.From.Link(), a.To.Addr6, make([]byte, 4)...))}
		}),
		{Name: "2,000 solicitations", Once: true, Versions: only6, Shots: func(a Aim, _ int) []Shot {
			var all []Packet
			for i := range floodSize {
				who := Place(6, 1, uint16(0x8000+i))
				all = append(all, a.icmp6(neighborSolicit, a.From.Addr6, group(who), about(0, who, optionSource, a.From.MAC)...))
			}
			return []Shot{dropped("nd-unknown", all...)}
		}},
	}
}

// ndForms are messages that cannot be, or hide what they are.
func ndForms() []Attack {
	in := func(name string, shots func(a Aim) []Shot) Attack {
		return Attack{Name: name, Versions: only6, Shots: func(a Aim, _ int) []Shot { return shots(a) }}
	}
	options := func(rest ...byte) func(a Aim) []Shot {
		return func(a Aim) []Shot {
			return []Shot{dropped("nd-malformed", a.icmp6(neighborSolicit, a.From.Addr6, group(a.To.Addr6), slices.Concat(about(0, a.To.Addr6, 0, a.From.MAC), rest)...))}
		}
	}
	behind := func(p Packet, ext ...extension) Packet {
		p.ext = ext
		return p
	}
	filler := extension{protoDestination, []byte{0, 1, 4, 0, 0, 0, 0}}
	atom := extension{protoFragment, []byte{0, 0, 0, 0, 0, 0, 1}}
	first := extension{protoFragment, []byte{0, 0, 1, 0, 0, 0, 2}}
	return []Attack{
		in("hop limit below 255", func(a Aim) []Shot {
			one, two, three := a.asks(), a.asks(), a.icmp6(neighborAdvert, a.From.Addr6, allNodes, about(0x20, a.From.Addr6, optionTarget, a.From.MAC)...)
			one.ttl, two.ttl, three.ttl = 254, 1, 64
			return drops("nd-malformed", one, two, three)
		}),
		in("solicitation in a fragment", func(a Aim) []Shot {
			return drops("nd-malformed", behind(a.asks(), atom), behind(a.asks(), first))
		}),
		in("solicitation behind options", func(a Aim) []Shot {
			return drops("nd-malformed", behind(a.asks(), filler), behind(a.asks(), filler, atom))
		}),
		in("router advertisement in a fragment", func(a Aim) []Shot {
			p := a.icmp6(routerAdvert, a.From.Link(), allNodes, advert(a.From.MAC)...)
			return drops("ra-guard", behind(p, atom), behind(p, first), behind(p, filler, first))
		}),
		in("router advertisement behind options", func(a Aim) []Shot {
			p := a.icmp6(routerAdvert, a.From.Link(), a.To.Addr6, advert(a.From.MAC)...)
			hops := extension{protoHopByHop, filler.rest}
			return drops("ra-guard", behind(p, filler), behind(p, hops), behind(p, hops, filler, filler), behind(p, filler, filler, filler, filler, filler, filler))
		}),
		in("option of length 0", options(optionSource, 0, 0, 0, 0, 0, 0, 0)),
		in("option beyond the end", options(14, 2, 0, 0, 0, 0, 0, 0)),
		in("half an option", options(optionSource, 1, 0, 0)),
		in("five options", options(slices.Repeat([]byte{14, 1, 0, 0, 0, 0, 0, 0}, 5)...)),
		in("target a group", func(a Aim) []Shot {
			return []Shot{dropped("nd-malformed", a.icmp6(neighborSolicit, a.From.Addr6, group(a.To.Addr6), about(0, allNodes, optionSource, a.From.MAC)...))}
		}),
		in("target an IPv4 address", func(a Aim) []Shot {
			return []Shot{dropped("nd-malformed", a.icmp6(neighborSolicit, a.From.Addr6, group(a.To.Addr6), about(0, netip.AddrFrom16(a.To.Addr4.As16()), optionSource, a.From.MAC)...))}
		}),
		in("no target", func(a Aim) []Shot {
			return []Shot{dropped("nd-malformed", a.icmp6(neighborSolicit, a.From.Addr6, group(a.To.Addr6), 0, 0, 0, 0))}
		}),
		in("code that is none", func(a Aim) []Shot {
			p := a.asks()
			body := p.body("")
			body[1] = 1
			p.body = raw(body...)
			return []Shot{dropped("nd-malformed", p)}
		}),
	}
}
