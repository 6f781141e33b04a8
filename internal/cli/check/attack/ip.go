// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"fmt"
	"net/netip"
	"slices"

	v1 "weft/api/v1"
)

// ipAttacks are on the IP header: addresses, lengths, options, protocols.
func ipAttacks() []Attack {
	return slices.Concat(sourceAttacks(), targetAttacks(), formAttacks(), optionAttacks(), sweeps())
}

// sources are addresses that no workload of a check may send from.
func sources(v int) map[string]netip.Addr {
	if v == 4 {
		return map[string]netip.Addr{
			"loopback": netip.AddrFrom4([4]byte{127, 0, 0, 1}), "link-local": netip.AddrFrom4([4]byte{169, 254, 1, 1}),
			"a group": netip.AddrFrom4([4]byte{224, 0, 0, 1}), "everybody": broadcast4, "nobody": zero4,
			"outside": netip.AddrFrom4([4]byte{192, 0, 2, 1}), "reserved": netip.AddrFrom4([4]byte{240, 0, 0, 1}),
			"the subnet": Place(4, 1, 0), "the whole subnet": Place(4, 1, 255),
		}
	}
	return map[string]netip.Addr{
		"loopback": netip.IPv6Loopback(), "the router's link-local": routerLink,
		"a group": allNodes, "nobody": zero6, "outside": netip.MustParseAddr("2001:db8::1"),
		"IPv4-compatible": netip.MustParseAddr("::10.99.1.16"), "site-local": netip.MustParseAddr("fec0::1"), "the subnet": Place(6, 1, 0),
	}
}

func from(pick func(a Aim, v int) netip.Addr) func(a Aim, v int) []Shot {
	return func(a Aim, v int) []Shot {
		p, q := a.packet(v), a.routed(v)
		p.src = pick(a, v)
		q.src = p.src
		if !p.src.IsValid() || p.src == a.From.Addr(v) {
			return nil
		}
		return drops("src-ip-spoof", p, q)
	}
}

func sourceAttacks() []Attack {
	out := []Attack{
		{Name: "source the target", Shots: from(func(a Aim, v int) netip.Addr { return a.To.Addr(v) })},
		{Name: "source the router", Shots: from(func(a Aim, v int) netip.Addr { return Gateway(a.From, v) })},
		{Name: "source a neighbour that is not", Shots: from(func(_ Aim, v int) netip.Addr { return Place(v, 1, nowhere(v)) })},
		{Name: "source a node's tunnel end", Shots: func(a Aim, v int) []Shot {
			var out []Shot
			for _, end := range a.tunnelEnds(v) {
				out = append(out, from(func(Aim, int) netip.Addr { return end })(a, v)...)
			}
			return out
		}},
		{Name: "source an IPv4 address in IPv6", Versions: only6, Shots: func(a Aim, v int) []Shot {
			p, q := a.packet(v), a.packet(v)
			p.src, q.src = netip.AddrFrom16(a.To.Addr4.As16()), netip.AddrFrom16(a.From.Addr4.As16())
			return drops("ip-malformed", p, q)
		}},
		{Name: "source link-local, past the router", Versions: only6, Shots: func(a Aim, v int) []Shot {
			p, q := a.packet(v), a.routed(v)
			p.src, q.src = a.From.Link(), a.From.Link()
			reason := "link-local"
			if a.Near == a.From {
				reason = "to-self"
			}
			return drops(reason, p, q)
		}},
	}
	for _, v := range []int{4, 6} {
		all := sources(v)
		for _, name := range sorted(all) {
			out = append(out, Attack{Name: "source " + name, Versions: []int{v}, Shots: from(func(Aim, int) netip.Addr { return all[name] })})
		}
	}
	return out
}

func targetAttacks() []Attack {
	to := func(name, reason string, v int, addr string) Attack {
		return Attack{Name: "to " + name, Versions: []int{v}, Shots: func(a Aim, v int) []Shot {
			p := a.routed(v)
			p.dst = netip.MustParseAddr(addr)
			return []Shot{dropped(reason, p)}
		}}
	}
	return []Attack{
		to("loopback", "no-location", 4, "127.0.0.1"), to("the metadata address", "no-location", 4, "169.254.169.254"),
		to("nobody", "no-location", 4, "0.0.0.0"), to("outside", "no-location", 4, "192.0.2.9"), to("a group", "multicast", 4, "224.0.0.251"),
		to("everybody", "broadcast", 4, "255.255.255.255"), to("the whole subnet", "no-location", 4, "10.99.1.255"),
		to("reserved", "no-location", 4, "240.0.0.1"),
		to("loopback", "no-location", 6, "::1"), to("nobody", "no-location", 6, "::"), to("outside", "no-location", 6, "2001:db8::9"),
		to("a group", "multicast", 6, "ff02::fb"), to("an IPv4 address in IPv6", "ip-malformed", 6, "::ffff:10.99.1.17"),
		to("metadata", "no-location", 6, "fd00:ec2::254"), to("somebody's link-local", "link-local", 6, "fe80::ff:fe00:9902"),
		{Name: "to a node's tunnel end", Shots: func(a Aim, v int) []Shot {
			var all []Packet
			for _, end := range a.tunnelEnds(v) {
				p, q := a.routed(v), a.routed(v)
				p.dst, q.dst = end, end
				q.proto, q.body = protoTCP, tcp(4000, 7444)
				all = append(all, p, q)
			}
			return drops("no-location", all...)
		}},
		{Name: "to an address that nobody has", Shots: func(a Aim, v int) []Shot {
			p := a.routed(v)
			p.dst = Place(v, 2, nowhere(v))
			return []Shot{dropped("no-location", p)}
		}},
		{Name: "to itself", Shots: func(a Aim, v int) []Shot {
			p := a.routed(v)
			p.dst = p.src
			return []Shot{dropped("to-self", p)}
		}},
		{Name: "UDP and TCP to the router", Shots: func(a Aim, v int) []Shot {
			p, q := a.toRouter(v), a.toRouter(v)
			q.proto, q.body = protoTCP, tcp(4000, 22)
			return drops("router-proto", p, q)
		}},
		{Name: "to the router past its MAC", Shots: func(a Aim, v int) []Shot {
			p := a.toRouter(v)
			p.dstMAC = a.To.MAC
			return []Shot{dropped("dst-mac", p)}
		}},
		{Name: "good", Shots: func(a Aim, v int) []Shot { return []Shot{a.arrives(a.packet(v))} }},
		{Name: "good, by the router's MAC", Shots: func(a Aim, v int) []Shot { return []Shot{a.arrives(a.routed(v))} }},
	}
}

// formAttacks are headers that cannot be.
func formAttacks() []Attack {
	malformed := func(name string, v int, changes ...func(*Packet)) Attack {
		return Attack{Name: name, Versions: []int{v}, Shots: func(a Aim, v int) []Shot {
			return drops("ip-malformed", change(a.packet(v), changes...), change(a.toRouter(v), changes...))
		}}
	}
	ihl := func(n byte) func(*Packet) { return func(p *Packet) { p.ihl = n } }
	length := func(n int) func(*Packet) { return func(p *Packet) { p.length = n } }
	version := func(n byte) func(*Packet) { return func(p *Packet) { p.version = n } }
	return []Attack{
		malformed("header of 0 words", 4, func(p *Packet) { p.ihl, p.version = 0, 4; p.cut = 0; p.options = nil; p.body = zeroIHL(p) }),
		malformed("header of 4 words", 4, ihl(4)), malformed("header longer than the packet", 4, ihl(15), length(40)),
		malformed("length below the header's", 4, length(19)), malformed("length of 1", 4, length(1)),
		malformed("length beyond the frame", 4, length(1400)), malformed("length of 65535", 4, length(65535)),
		malformed("version 6 under IPv4", 4, version(6)), malformed("version 5", 4, version(5)), malformed("version 15", 4, version(15)),
		malformed("length beyond the frame", 6, length(1400)), malformed("length of 65535", 6, length(65535)),
		malformed("version 4 under IPv6", 6, version(4)), malformed("version 15", 6, version(15)),
		{Name: "cut at every byte", Shots: func(a Aim, v int) []Shot {
			whole := len(a.packet(v).Frame(fmt.Sprintf("%*s", CanaryLength, "")))
			var short, cut []Packet
			for n := 14; n < whole; n++ {
				p := a.packet(v)
				if p.cut = n; n < 14+headers(v) {
					short = append(short, p)
				} else {
					cut = append(cut, p)
				}
			}
			return []Shot{dropped("short", short...), dropped("ip-malformed", cut...)}
		}},
		{Name: "every length", Once: true, Shots: func(a Aim, v int) []Shot {
			// Of a frame of n bytes, each length that is written in its header: too long ones are dropped, shorter ones arrive.
			right := len(a.packet(v).body(fmt.Sprintf("%*s", CanaryLength, "")))
			if v == 4 {
				right += 20
			}
			var cannot []Packet
			for n := right + 1; n < right+300; n++ {
				p := a.packet(v)
				p.length = n
				cannot = append(cannot, p)
			}
			return []Shot{dropped("ip-malformed", cannot...)}
		}},
		{Name: "TTL 0 and 1 through the router", Shots: func(a Aim, v int) []Shot {
			if !a.apart() {
				return nil
			}
			p, q := a.routed(v), a.routed(v)
			p.ttl, q.ttl = 0, 1
			return drops("ttl-expired", p, q)
		}},
	}
}

// zeroIHL is a body; the header's own word count is set to 0 by writing the version alone.
func zeroIHL(p *Packet) func(string) []byte {
	p.ihl = 16 // 0 in the four bits that there are
	return udp(4000, 4001)
}

func optionAttacks() []Attack {
	options := func(name, reason string, bytes ...byte) Attack {
		return Attack{Name: "options, " + name, Versions: only4, Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.options = bytes
			if reason == "" {
				return []Shot{a.arrives(p)}
			}
			return []Shot{dropped(reason, p)}
		}}
	}
	headers := func(name, reason string, ext ...extension) Attack {
		return Attack{Name: "headers, " + name, Versions: only6, Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.ext = ext
			if reason == "" {
				return []Shot{a.arrives(p)}
			}
			return []Shot{dropped(reason, p)}
		}}
	}
	pad := []byte{0, 1, 4, 0, 0, 0, 0}
	hops, dest := extension{protoHopByHop, pad}, extension{protoDestination, pad}
	routing := func(kind, left byte) extension {
		return extension{protoRouting, slices.Concat([]byte{2, kind, left, 0, 0, 0, 0}, Place(6, 1, 0x12).AsSlice())}
	}
	return []Attack{
		options("loose source route", "ip-options", 131, 7, 4, 10, 99, 1, 18, 0),
		options("strict source route", "ip-options", 137, 7, 4, 10, 99, 1, 18, 0),
		options("source route behind others", "ip-options", 1, 1, 7, 7, 4, 0, 0, 0, 0, 131, 7, 4, 10, 99, 1, 18),
		options("length 0", "ip-malformed", 7, 0, 0, 0), options("length 1", "ip-malformed", 7, 1, 0, 0),
		options("length beyond the header", "ip-malformed", 7, 9, 4, 0), options("no length", "ip-malformed", 1, 1, 1, 7),
		options("record route", "", 7, 7, 4, 0, 0, 0, 0, 0), options("timestamp", "", 68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		options("router alert", "", 148, 4, 0, 0), options("nothing behind the end", "", 0, 131, 7, 4),
		headers("source route of type 0", "ext-header", routing(0, 1)), headers("source route of type 0 behind others", "ext-header", hops, dest, routing(0, 1)),
		headers("source route that is done", "ext-header", routing(0, 0)),
		headers("hop-by-hop options late", "ext-header", dest, hops), headers("hop-by-hop options twice", "ext-header", hops, hops),
		headers("seven", "ext-header", slices.Repeat([]extension{dest}, 7)...), headers("six", "", slices.Repeat([]extension{dest}, 6)...),
		headers("longer than the packet", "ip-malformed", extension{protoDestination, []byte{255, 1, 4, 0, 0, 0, 0}}),
		headers("routing of mobility and segments", "", routing(2, 1), routing(4, 1)),
	}
}

// sweeps try every protocol.
func sweeps() []Attack {
	isExtension := func(v, n int) bool {
		return v == 6 && (n == protoHopByHop || n == protoRouting || n == protoFragment || n == protoDestination)
	}
	return []Attack{
		{Name: "protocols 0 to 255", Once: true, Shots: func(a Aim, v int) []Shot {
			var all []Packet
			for n := range 256 {
				p := a.packet(v)
				p.proto, p.body = byte(n), raw('w', 'e', 'f', 't', 0, 0, 0, 0)
				if !isExtension(v, n) {
					all = append(all, p)
				}
			}
			return each(a.arrives, all...)
		}},
		{Name: "protocols 0 to 255 to the router", Once: true, Shots: func(a Aim, v int) []Shot {
			var all []Packet
			for n := range 256 {
				p := a.toRouter(v)
				p.proto, p.body = byte(n), raw('w', 'e', 'f', 't', 0, 0, 0, 0)
				if !isExtension(v, n) {
					all = append(all, p)
				}
			}
			return []Shot{dropped("router-proto", all...)}
		}},
		{Name: "protocol 0 in another's name", Versions: only4, Shots: func(a Aim, v int) []Shot {
			if a.Near == a.From {
				return nil
			}
			p := a.packet(v)
			p.proto, p.src = 0, a.To.Addr(v)
			return []Shot{dropped("src-ip-spoof", p)}
		}},
		{Name: "echo request to the router that is none", Shots: func(a Aim, v int) []Shot {
			kind := map[int]byte{4: 8, 6: 128}[v]
			coded, fragment, answer := a.toRouter(v), a.toRouter(v), a.toRouter(v)
			for _, p := range []*Packet{&coded, &fragment, &answer} {
				p.proto, p.body = map[int]byte{4: protoICMP, 6: protoICMPv6}[v], raw(kind, 0, 0, 0, 0, 1, 0, 1)
			}
			coded.body, answer.body = raw(kind, 1, 0, 0, 0, 1, 0, 1), raw(map[int]byte{4: 0, 6: 129}[v], 0, 0, 0, 0, 1, 0, 1)
			fragment.fragment(0, true)
			return drops("router-proto", coded, fragment, answer)
		}},
		{Name: "the router's MAC as another's", Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.srcMAC, p.src = v1.RouterMAC, Gateway(a.From, v)
			return []Shot{dropped("src-mac-spoof", p)}
		}},
	}
}

func sorted[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
