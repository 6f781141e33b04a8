// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"slices"
)

// manyIDs is how many datagrams are begun and never finished.
const manyIDs = 2000

// fragmentAttacks are pieces of datagrams. Inside a VPC nothing forbids them: nothing behind the IP header decides where a
// packet goes, so they arrive as they are, and it is the receiver's stack that puts them together or not. What must hold
// is that they are judged as whole packets are, and go nowhere else.
func fragmentAttacks() []Attack {
	piece := func(a Aim, v int, offset uint16, more bool, body func(string) []byte) Packet {
		p := a.packet(v)
		p.id, p.body = 4711, body
		p.fragment(offset, more)
		return p
	}
	lone := func(name string, offset uint16, more bool, body func(string) []byte) Attack {
		return Attack{Name: name, Shots: func(a Aim, v int) []Shot { return []Shot{a.arrives(piece(a, v, offset, more, body))} }}
	}
	head := tcp(4000, 4001)("")
	return []Attack{
		lone("tiny first fragment", 0, true, raw(head[:8]...)), lone("first fragment alone", 0, true, udp(4000, 4001)),
		lone("later fragment without a first", 1000&^7, true, raw()), lone("last fragment without a first", 1000&^7, false, raw()),
		lone("offset 8, over the header", 8, true, raw(head[8:]...)), lone("atomic fragment", 0, false, udp(4000, 4001)),
		lone("offset beyond 64 KiB", 65528, false, raw(make([]byte, 800)...)),
		{Name: "header of TCP in two fragments", Shots: func(a Aim, v int) []Shot {
			return each(a.arrives, piece(a, v, 0, true, raw(head[:8]...)), piece(a, v, 8, false, raw(head[8:]...)))
		}},
		{Name: "overlapping fragments", Shots: func(a Aim, v int) []Shot {
			return each(a.arrives, piece(a, v, 0, true, udp(4000, 4001)), piece(a, v, 8, true, raw(make([]byte, 40)...)), piece(a, v, 0, false, udp(4002, 4003)))
		}},
		{Name: "in another's name", Shots: func(a Aim, v int) []Shot {
			if a.Near == a.From {
				return nil
			}
			var all []Packet
			for _, p := range []Packet{piece(a, v, 0, true, udp(4000, 4001)), piece(a, v, 800, true, raw()), piece(a, v, 800, false, raw())} {
				p.src = a.To.Addr(v)
				all = append(all, p)
			}
			return drops("src-ip-spoof", all...)
		}},
		{Name: "later fragments to nobody and to the router", Shots: func(a Aim, v int) []Shot {
			p, q := piece(a, v, 800, false, raw()), piece(a, v, 800, false, raw())
			p.dstMAC, q.dstMAC = a.routed(v).dstMAC, a.routed(v).dstMAC
			p.dst, q.dst = Place(v, 2, nowhere(v)), Gateway(a.From, v)
			return []Shot{dropped("no-location", p), dropped("router-proto", q)}
		}},
		{Name: "TTL 1 of a later fragment", Shots: func(a Aim, v int) []Shot {
			if !a.apart() {
				return nil
			}
			p := piece(a, v, 800, false, raw())
			p.dstMAC, p.ttl = a.routed(v).dstMAC, 1
			return []Shot{dropped("ttl-expired", p)}
		}},
		{Name: "inside a chain of headers", Versions: only6, Shots: func(a Aim, v int) []Shot {
			pad := []byte{0, 1, 4, 0, 0, 0, 0}
			p, q := piece(a, v, 0, true, udp(4000, 4001)), piece(a, v, 800, true, raw())
			p.ext = slices.Concat([]extension{{protoHopByHop, pad}, {protoDestination, pad}}, p.ext, []extension{{protoDestination, pad}})
			q.ext = slices.Concat([]extension{{protoHopByHop, pad}, {protoDestination, pad}}, q.ext)
			return each(a.arrives, p, q)
		}},
		{Name: "a source route in a first fragment", Versions: only6, Shots: func(a Aim, v int) []Shot {
			p := piece(a, v, 0, true, udp(4000, 4001))
			p.ext = append(p.ext, extension{protoRouting, slices.Concat([]byte{2, 0, 1, 0, 0, 0, 0}, Place(6, 1, 0x12).AsSlice())})
			return []Shot{dropped("ext-header", p)}
		}},
		{Name: "headers longer than the first fragment", Versions: only6, Shots: func(a Aim, v int) []Shot {
			p := piece(a, v, 0, true, raw())
			p.ext = append(p.ext, extension{protoDestination, []byte{200, 1, 4, 0, 0, 0, 0}})
			return []Shot{dropped("ip-malformed", p)}
		}},
		{Name: "first fragment of headers alone", Versions: only6, Shots: func(a Aim, v int) []Shot {
			// What the packet is comes in its next fragment, where nobody looks at it: an answer of a DHCP server, for example.
			p := piece(a, v, 0, true, raw())
			p.length = -CanaryLength
			q := change(p, func(q *Packet) {
				q.ext = append(slices.Clone(q.ext), extension{protoDestination, []byte{0, 1, 4, 0, 0, 0, 0}})
			})
			r := change(q, func(q *Packet) { q.proto = protoICMPv6 })
			return drops("ext-header", p, q, r)
		}},
		{Name: "2,000 datagrams that never end", Once: true, Shots: func(a Aim, v int) []Shot {
			var all []Packet
			for i := range manyIDs {
				p := a.packet(v)
				p.id = uint16(i)
				p.fragment(0, true)
				all = append(all, p)
			}
			return []Shot{a.arrives(all...)}
		}},
	}
}
