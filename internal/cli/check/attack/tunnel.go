// SPDX-License-Identifier: Apache-2.0

package attack

import "net/netip"

// tunnelAttacks are tunnels that a workload makes itself: towards a node there is no way, and inside the VPC they are
// packets like any other.
func tunnelAttacks() []Attack {
	// Every body is tried towards each node's tunnel end, and to the target.
	tunnel := func(name string, make func(a Aim, v int) Packet) Attack {
		return Attack{Name: name, Shots: func(a Aim, v int) []Shot {
			out := []Shot{a.arrives(make(a, v))}
			for _, end := range a.tunnelEnds(v) {
				p := make(a, v)
				p.dst, p.dstMAC = end, a.routed(v).dstMAC
				out = append(out, dropped("no-location", p))
			}
			return out
		}}
	}
	with := func(proto byte, body func(a Aim, v int) func(string) []byte) func(a Aim, v int) Packet {
		return func(a Aim, v int) Packet {
			p := a.packet(v)
			p.proto, p.body = proto, body(a, v)
			return p
		}
	}
	inner := func(a Aim, v int) Packet { // what the target would take from its own neighbour
		p := a.packet(v)
		p.dstMAC, p.srcMAC = a.To.MAC, a.From.MAC
		return p
	}
	bytesOf := func(p Packet) func(string) []byte {
		return func(canary string) []byte { return p.Frame(canary)[14:] }
	}
	return []Attack{
		tunnel("VXLAN with the own VNI", with(protoUDP, func(a Aim, v int) func(string) []byte { return vxlan(a.FromVNI, inner(a, v)) })),
		tunnel("VXLAN with the other tenant's VNI", with(protoUDP, func(a Aim, v int) func(string) []byte { return vxlan(a.ToVNI, inner(a, v)) })),
		tunnel("VXLAN in VXLAN", with(protoUDP, func(a Aim, v int) func(string) []byte {
			p := inner(a, v)
			p.body = vxlan(a.ToVNI, inner(a, v))
			return vxlan(a.FromVNI, p)
		})),
		tunnel("VXLAN with reserved bits", with(protoUDP, func(a Aim, v int) func(string) []byte {
			return func(canary string) []byte {
				b := vxlan(a.ToVNI, inner(a, v))(canary)
				b[8], b[15] = 0xff, 0xff
				return b
			}
		})),
		tunnel("VXLAN to the old port", with(protoUDP, func(a Aim, v int) func(string) []byte {
			return func(canary string) []byte {
				b := vxlan(a.ToVNI, inner(a, v))(canary)
				b[2], b[3] = 8472>>8, 8472&0xff
				return b
			}
		})),
		tunnel("Geneve with the other tenant's VNI", with(protoUDP, func(a Aim, v int) func(string) []byte {
			n := a.ToVNI
			return func(canary string) []byte {
				h := []byte{0, 0, 0x65, 0x58, byte(n >> 16), byte(n >> 8), byte(n), 0}
				return udp(4000, 6081, append(h, inner(a, v).Frame(canary)...)...)("")
			}
		})),
		tunnel("GRE", with(47, func(a Aim, v int) func(string) []byte {
			return func(canary string) []byte {
				return append([]byte{0, 0, map[int]byte{4: 0x08, 6: 0x86}[v], map[int]byte{4: 0, 6: 0xdd}[v]}, bytesOf(inner(a, v))(canary)...)
			}
		})),
		tunnel("IPv4 in IP", with(4, func(a Aim, _ int) func(string) []byte { return bytesOf(inner(a, 4)) })),
		tunnel("IPv6 in IP", with(41, func(a Aim, _ int) func(string) []byte { return bytesOf(inner(a, 6)) })),
		tunnel("Ethernet in IP", with(143, func(a Aim, v int) func(string) []byte { return func(c string) []byte { return inner(a, v).Frame(c) } })),
		tunnel("ESP and AH", with(50, func(Aim, int) func(string) []byte { return raw(0, 0, 1, 0, 0, 0, 0, 1) })),
	}
}

// controlAttacks speak the protocols by which a network is run, where nobody listens to a tenant.
func controlAttacks() []Attack {
	// Towards the router each is dropped as what the router does not speak; towards a node there is no way; to the target it
	// is a packet like any other.
	control := func(name string, proto byte, ttl byte, body func(string) []byte) Attack {
		return Attack{Name: name, Shots: func(a Aim, v int) []Shot {
			set := func(p *Packet) { p.proto, p.ttl, p.body = proto, ttl, body }
			out := []Shot{dropped("router-proto", change(a.toRouter(v), set))}
			if a.From.Subnet == a.To.Subnet || a.Near == nil || a.Near == a.From {
				out = append(out, a.arrives(change(a.packet(v), set)))
			}
			for _, end := range a.tunnelEnds(v) {
				out = append(out, dropped("no-location", change(a.routed(v), set, func(p *Packet) { p.dst = end })))
			}
			return out
		}}
	}
	group := func(name string, v4, v6 string, proto byte, body func(string) []byte) Attack {
		return Attack{Name: name, Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.proto, p.ttl, p.body = proto, 1, body
			p.dst = netip.MustParseAddr(map[int]string{4: v4, 6: v6}[v])
			p.dstMAC = groupMAC(netip.MustParseAddr(v6))
			return []Shot{dropped("multicast", p)}
		}}
	}
	bfd := []byte{0x20, 0x40, 3, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x40, 0, 0x0f, 0x42, 0x40, 0, 0, 0, 0}
	return []Attack{
		control("BFD, one hop", protoUDP, 255, udp(49152, 3784, bfd...)), control("BFD, several hops", protoUDP, 255, udp(49152, 4784, bfd...)),
		control("BFD echo", protoUDP, 255, udp(49152, 3785, bfd...)), control("BGP", protoTCP, 255, tcp(4000, 179)),
		control("BGP with TTL 1", protoTCP, 1, tcp(4000, 179)), control("the agents' stream", protoTCP, 64, tcp(4000, 7444)),
		control("the API", protoTCP, 64, tcp(4000, 7443)), control("DNS", protoUDP, 64, udp(4000, 53, 0, 1, 1, 0, 0, 1)),
		control("HTTP", protoTCP, 64, tcp(4000, 80)), control("RSVP", 46, 64, raw(0x10, 1, 0, 0)),
		group("OSPF", "224.0.0.5", "ff02::5", 89, raw(2, 1, 0, 44)), group("VRRP", "224.0.0.18", "ff02::12", 112, raw(0x31, 1, 100, 0)),
		group("mDNS", "224.0.0.251", "ff02::fb", protoUDP, udp(5353, 5353)), group("PIM", "224.0.0.13", "ff02::d", 103, raw(0x20, 0, 0, 0)),
		group("RIP", "224.0.0.9", "ff02::9", protoUDP, udp(520, 521)),
	}
}
