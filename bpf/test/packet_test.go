// SPDX-License-Identifier: Apache-2.0

package test

import (
	"net"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	web1MAC  = [6]byte{2, 0, 0, 0, 1, 4} // 10.0.1.4, the sender
	web2MAC  = [6]byte{2, 0, 0, 0, 1, 5} // 10.0.1.5, same node, same subnet
	web3MAC  = [6]byte{2, 0, 0, 0, 1, 6} // 10.0.1.6, other node, same subnet
	tapMAC   = [6]byte{2, 0, 0, 0, 1, 7} // 10.0.1.7, same node, same subnet, behind a tap
	db1MAC   = [6]byte{2, 0, 0, 0, 2, 4} // 10.0.2.4, same node, other subnet
	db2MAC   = [6]byte{2, 0, 0, 0, 2, 5} // 10.0.2.5, other node, other subnet
	otherMAC = [6]byte{2, 0, 0, 0, 9, 9} // nobody's
)

// frame makes a frame of layers, with lengths and checksums.
func frame(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buffer := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buffer, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, parts...)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(buffer.Bytes())
}

func ether(dst, src [6]byte, kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{DstMAC: dst[:], SrcMAC: src[:], EthernetType: kind}
}

// ip is an IPv4 header from web-1, unless it is changed.
func ip(dst string, protocol layers.IPProtocol, changes ...func(*layers.IPv4)) *layers.IPv4 {
	h := &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, Id: 4711, SrcIP: net.IP{10, 0, 1, 4}, DstIP: net.ParseIP(dst).To4()}
	for _, change := range changes {
		change(h)
	}
	return h
}

func from(src string) func(*layers.IPv4) {
	return func(h *layers.IPv4) { h.SrcIP = net.ParseIP(src).To4() }
}

func ttl(n uint8) func(*layers.IPv4) { return func(h *layers.IPv4) { h.TTL = n } }

func firstFragment(h *layers.IPv4) { h.Flags = layers.IPv4MoreFragments }
func laterFragment(h *layers.IPv4) { h.FragOffset = 100 }

// options is a record-route option for three addresses.
func options(h *layers.IPv4) {
	h.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 15, OptionData: append([]byte{4}, make([]byte, 12)...)}, {OptionType: 0}}
}

// udp is a whole frame from web-1 with a UDP packet of size payload bytes.
func udp(t testing.TB, dstMAC [6]byte, dst string, size int, changes ...func(*layers.IPv4)) []byte {
	t.Helper()
	h := ip(dst, layers.IPProtocolUDP, changes...)
	u := &layers.UDP{SrcPort: 1000, DstPort: 2000}
	if err := u.SetNetworkLayerForChecksum(h); err != nil {
		t.Fatal(err)
	}
	return frame(t, ether(dstMAC, web1MAC, layers.EthernetTypeIPv4), h, u, gopacket.Payload(make([]byte, size)))
}

// tcp is a whole frame from web-1 with a TCP segment of size payload bytes and a timestamp option.
func tcp(t testing.TB, dstMAC [6]byte, dst string, size int) []byte {
	t.Helper()
	h := ip(dst, layers.IPProtocolTCP)
	s := &layers.TCP{
		SrcPort: 1000, DstPort: 80, Seq: 1, Ack: 1, ACK: true, Window: 100,
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}},
	}
	if err := s.SetNetworkLayerForChecksum(h); err != nil {
		t.Fatal(err)
	}
	return frame(t, ether(dstMAC, web1MAC, layers.EthernetTypeIPv4), h, s, gopacket.Payload(make([]byte, size)))
}

// echo is a whole frame from web-1 with an echo request.
func echo(t testing.TB, dstMAC [6]byte, dst string, changes ...func(*layers.IPv4)) []byte {
	t.Helper()
	return frame(t, ether(dstMAC, web1MAC, layers.EthernetTypeIPv4), ip(dst, layers.IPProtocolICMPv4, changes...),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 1}, gopacket.Payload("are you there?"))
}

// echoReply is what the router makes of echo(t, routerMAC, dst).
func echoReply(t testing.TB, router string) []byte {
	t.Helper()
	return frame(t, ether(web1MAC, routerMAC, layers.EthernetTypeIPv4), ip("10.0.1.4", layers.IPProtocolICMPv4, from(router)),
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0), Id: 1, Seq: 1}, gopacket.Payload("are you there?"))
}

// arp is a whole frame with a request from web-1, unless it is changed.
func arp(t testing.TB, target string, changes ...func(*layers.ARP)) []byte {
	t.Helper()
	a := &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: web1MAC[:], SourceProtAddress: []byte{10, 0, 1, 4},
		DstHwAddress: make([]byte, 6), DstProtAddress: net.ParseIP(target).To4(),
	}
	for _, change := range changes {
		change(a)
	}
	return frame(t, ether(broadcastMAC, web1MAC, layers.EthernetTypeARP), a)
}

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// arpReply is the answer to arp(t, target) from sender.
func arpReply(t testing.TB, target string, mac [6]byte, sender []byte) []byte {
	t.Helper()
	return frame(t, ether(web1MAC, mac, layers.EthernetTypeARP), &layers.ARP{
		AddrType: layers.LinkTypeEthernet,
		Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPReply,
		SourceHwAddress: mac[:], SourceProtAddress: net.ParseIP(target).To4(), DstHwAddress: web1MAC[:], DstProtAddress: sender,
	})
}

// tagged puts a VLAN tag into a frame.
func tagged(f []byte, kind uint16) []byte {
	return slices.Concat(f[:12], []byte{byte(kind >> 8), byte(kind), 0, 5}, f[12:])
}

// routed is what the router makes of a frame: MACs, TTL and checksum; made anew by decoding, not by difference.
func routed(t testing.TB, f []byte, dst [6]byte) []byte {
	t.Helper()
	out := slices.Clone(f)
	copy(out, dst[:])
	copy(out[6:], routerMAC[:])
	size := int(out[14]&0xf) * 4
	out[22]--
	out[24], out[25] = 0, 0
	var sum uint32
	for i := 14; i < 14+size; i += 2 {
		sum += uint32(out[i])<<8 | uint32(out[i+1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	out[24], out[25] = ^byte(sum>>8), ^byte(sum)
	return out
}
