// SPDX-License-Identifier: Apache-2.0

package attack

import (
	"encoding/binary"
	"slices"

	v1 "weft/api/v1"
)

var (
	broadcastMAC = v1.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nowhereMAC   = v1.MAC{0x02, 0, 0, 0, 0x99, 0xee}
	stpMAC       = v1.MAC{0x01, 0x80, 0xc2, 0, 0, 0}
	pauseMAC     = v1.MAC{0x01, 0x80, 0xc2, 0, 0, 1}
	eapolMAC     = v1.MAC{0x01, 0x80, 0xc2, 0, 0, 3}
	lldpMAC      = v1.MAC{0x01, 0x80, 0xc2, 0, 0, 0x0e}
)

// floodSize is how many packets a flood has.
const floodSize = 2000

// nowhere is an address of a subnet of the check that nobody has.
func nowhere(v int) uint16 { return map[int]uint16{4: 200, 6: 0x200}[v] }

// l2Attacks are on the Ethernet header. The packet inside is good, so nothing else can be why it is dropped.
func l2Attacks() []Attack {
	return slices.Concat(macAttacks(), tagAttacks(), sizeAttacks())
}

func fromMAC(mac v1.MAC) func(a Aim, v int) []Shot {
	return func(a Aim, v int) []Shot {
		p := a.packet(v)
		p.srcMAC = mac
		return []Shot{dropped("src-mac-spoof", p)}
	}
}

func toMAC(reason string, mac v1.MAC) func(a Aim, v int) []Shot {
	return func(a Aim, v int) []Shot {
		p := a.packet(v)
		p.dstMAC = mac
		return []Shot{dropped(reason, p)}
	}
}

func macAttacks() []Attack {
	return []Attack{
		{Name: "source MAC of nobody", Shots: fromMAC(nowhereMAC)},
		{Name: "source MAC of the router", Shots: fromMAC(v1.RouterMAC)},
		{Name: "source MAC of all stations", Shots: fromMAC(broadcastMAC)},
		{Name: "source MAC of a group", Shots: fromMAC(v1.MAC{0x03, 0, 0, 0, 0x99, 1})},
		{Name: "source MAC zero", Shots: fromMAC(v1.MAC{})},
		{Name: "source MAC of the target", Shots: func(a Aim, v int) []Shot {
			if a.Near == a.From {
				return nil // it is the attacker's own, too
			}
			return fromMAC(a.To.MAC)(a, v)
		}},
		{Name: "2,000 source MACs", Once: true, Versions: only4, Shots: func(a Aim, v int) []Shot {
			var all []Packet
			for i := range floodSize {
				p := a.packet(v)
				p.srcMAC = v1.MAC{0x02, 0x66, 0, 0, byte(i >> 8), byte(i)}
				all = append(all, p)
			}
			return []Shot{dropped("src-mac-spoof", all...)}
		}},
		{Name: "MAC that nobody has", Shots: func(a Aim, v int) []Shot {
			if !a.apart() {
				return nil
			}
			return toMAC("dst-mac", nowhereMAC)(a, v)
		}},
		{Name: "MAC of the target, past the router", Shots: func(a Aim, v int) []Shot {
			if !a.apart() || a.From.Subnet == a.To.Subnet {
				return nil
			}
			return toMAC("dst-mac", a.To.MAC)(a, v)
		}},
		{Name: "MAC of the target under another's address", Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.dst, p.dstMAC = Place(v, 1, nowhere(v)), a.To.MAC
			return []Shot{dropped("no-location", p)}
		}},
		{Name: "broadcast of a packet for one", Shots: func(a Aim, v int) []Shot {
			return toMAC(map[int]string{4: "broadcast", 6: "multicast"}[v], broadcastMAC)(a, v)
		}},
		{Name: "group MAC of a packet for one", Shots: toMAC("multicast", v1.MAC{0x01, 0, 0x5e, 0, 0, 1})},
		{Name: "2,000 broadcasts", Once: true, Versions: only4, Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.dstMAC = broadcastMAC
			return []Shot{dropped("broadcast", slices.Repeat([]Packet{p}, floodSize)...)}
		}},
		{Name: "2,000 multicasts", Once: true, Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.dstMAC = v1.MAC{0x33, 0x33, 0, 0, 0, 1}
			return []Shot{dropped("multicast", slices.Repeat([]Packet{p}, floodSize)...)}
		}},
	}
}

// tagged is the good packet with bytes between its MACs and its EtherType.
func tagged(reason string, tags ...byte) func(a Aim, v int) []Shot {
	return func(a Aim, v int) []Shot {
		p := a.packet(v)
		p.tags = tags
		return []Shot{dropped(reason, p)}
	}
}

// protocol is a frame of another protocol, to a MAC.
func protocol(mac v1.MAC, ethertype uint16, body ...byte) func(a Aim, v int) []Shot {
	return func(a Aim, _ int) []Shot {
		p := Packet{dstMAC: mac, srcMAC: a.From.MAC, ethertype: ethertype, body: raw(body...)}
		toTarget := p
		toTarget.dstMAC = a.To.MAC
		return drops("ethertype", p, toTarget)
	}
}

// snap is an LLC/SNAP header in front of an EtherType, behind a length.
func snap(length uint16, tags ...byte) func(a Aim, v int) []Shot {
	reason := "ethertype"
	if len(tags) > 0 {
		reason = "vlan"
	}
	return func(a Aim, v int) []Shot {
		p := a.packet(v)
		inner := p.Frame("")[12:] // from the EtherType on
		if length == 0 {
			length = uint16(len(inner) + 6 + CanaryLength)
		}
		p.tags, p.ethertype = tags, length
		p.body = raw(slices.Concat([]byte{0xaa, 0xaa, 3, 0, 0, 0}, inner)...)
		p.src, p.dst = noAddr, noAddr
		return []Shot{dropped(reason, p)}
	}
}

func tagAttacks() []Attack {
	tag := func(tpid uint16, id byte) []byte { return append(binary.BigEndian.AppendUint16(nil, tpid), 0, id) }
	return []Attack{
		{Name: "VLAN tag 0", Shots: tagged("vlan", tag(typeVLAN, 0)...)},
		{Name: "VLAN tag 7", Shots: tagged("vlan", tag(typeVLAN, 7)...)},
		{Name: "provider tag", Shots: tagged("vlan", tag(0x88a8, 7)...)},
		{Name: "two tags", Shots: tagged("vlan", slices.Concat(tag(0x88a8, 7), tag(typeVLAN, 7))...)},
		{Name: "two VLAN tags 0", Shots: tagged("vlan", slices.Concat(tag(typeVLAN, 0), tag(typeVLAN, 0))...)},
		{Name: "tag of another make", Shots: tagged("ethertype", tag(0x9100, 7)...)},
		{Name: "LLC/SNAP", Shots: snap(0)},
		{Name: "LLC/SNAP with a wrong length", Shots: snap(46)},
		{Name: "LLC/SNAP behind VLAN tag 0", Shots: snap(0, tag(typeVLAN, 0)...)},
		{Name: "length where the EtherType is, one that is neither", Shots: func(a Aim, v int) []Shot {
			one, two := a.packet(v), a.packet(v)
			one.ethertype, two.ethertype = 1501, 1535
			return drops("ethertype", one, two)
		}},
		{Name: "EtherType of the other IP version", Shots: func(a Aim, v int) []Shot {
			p := a.packet(v)
			p.ethertype = map[int]uint16{4: typeIPv6, 6: typeIPv4}[v]
			return []Shot{dropped("ip-malformed", p)}
		}},
		{Name: "STP", Versions: only4, Shots: protocol(stpMAC, 38, 0x42, 0x42, 3, 0, 0, 0, 0, 0)},
		{Name: "LLDP", Versions: only4, Shots: protocol(lldpMAC, 0x88cc)},
		{Name: "PAUSE", Versions: only4, Shots: protocol(pauseMAC, 0x8808, 0, 1, 0xff, 0xff)},
		{Name: "LACP", Versions: only4, Shots: protocol(v1.MAC{0x01, 0x80, 0xc2, 0, 0, 2}, 0x8809, 1, 1)},
		{Name: "EAPOL", Versions: only4, Shots: protocol(eapolMAC, 0x888e, 1, 1, 0, 0)},
		{Name: "MACsec", Versions: only4, Shots: protocol(eapolMAC, 0x88e5)},
		{Name: "MPLS", Versions: only4, Shots: protocol(broadcastMAC, 0x8847, 0, 1, 1, 64)},
		{Name: "PPPoE", Versions: only4, Shots: protocol(broadcastMAC, 0x8863, 0x11, 9, 0, 0, 0, 0)},
		{Name: "RARP", Versions: only4, Shots: protocol(broadcastMAC, 0x8035, 0, 1, 8, 0, 6, 4, 0, 3)},
		{Name: "wake-on-LAN", Versions: only4, Shots: protocol(broadcastMAC, 0x0842, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)},
		{Name: "loopback test", Versions: only4, Shots: protocol(broadcastMAC, 0x9000)},
		{Name: "EtherType 0 and the last one", Versions: only4, Shots: func(a Aim, v int) []Shot {
			zero := Packet{dstMAC: a.To.MAC, srcMAC: a.From.MAC, tags: []byte{0, 0}, ethertype: typeIPv4, body: raw()}
			return append(protocol(broadcastMAC, 0xffff)(a, v), dropped("ethertype", zero))
		}},
	}
}

// long is the good packet with so many bytes from the IP header on.
func (a Aim) long(v, size int) Packet {
	p := a.packet(v)
	p.body = udp(4000, 4001, make([]byte, size-headers(v)-udpHeader-CanaryLength)...)
	return p
}

func sizeAttacks() []Attack {
	bigger := func(by func(a Aim) int) func(a Aim, v int) []Shot {
		return func(a Aim, v int) []Shot {
			if a.Near == a.From {
				return nil
			}
			return []Shot{dropped("too-big", a.long(v, by(a)))}
		}
	}
	return []Attack{
		{Name: "MTU-sized", Shots: func(a Aim, v int) []Shot { return []Shot{a.arrives(a.long(v, a.MTU))} }},
		{Name: "a byte larger than the MTU", Shots: bigger(func(a Aim) int { return a.MTU + 1 })},
		{Name: "jumbo", Shots: bigger(func(Aim) int { return 9000 })},
		{Name: "runts", Shots: func(a Aim, v int) []Shot {
			var all []Packet
			for n := 14; n < 14+headers(v); n++ {
				p := a.packet(v)
				p.cut = n
				all = append(all, p)
			}
			return []Shot{dropped("short", all...)}
		}},
		{Name: "ARP runts", Versions: only4, Shots: func(a Aim, _ int) []Shot {
			var all []Packet
			for n := 14; n < 14+28; n++ {
				p := a.arp(arpRequest, a.From.MAC, a.From.Addr4, a.To.Addr4)
				p.cut = n
				all = append(all, p)
			}
			return []Shot{dropped("short", all...)}
		}},
	}
}
