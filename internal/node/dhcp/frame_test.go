// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"encoding/binary"
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"

	"weft/internal/southbound"
)

// testIndex is the device of web-1.
const testIndex = 0x01020304

// packet is a question as another implementation writes it, with what a test changes.
type packet struct {
	mac  southbound.MAC
	ip4  *layers.IPv4
	ip6  *layers.IPv6
	udp  *layers.UDP
	rest []byte
}

func asks4(payload []byte) packet {
	return packet{
		mac: web1.MAC, rest: payload, udp: &layers.UDP{SrcPort: 68, DstPort: 67},
		ip4: &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero.To4(), DstIP: net.IPv4bcast.To4()},
	}
}

func asks6(payload []byte) packet {
	return packet{
		mac: web1.MAC, rest: payload, udp: &layers.UDP{SrcPort: 546, DstPort: 547},
		ip6: &layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolUDP, SrcIP: linkLocal.AsSlice(), DstIP: servers6.AsSlice()},
	}
}

// solicits is a router solicitation with options after its header.
func solicits(src netip.Addr, options ...byte) packet {
	body := append([]byte{133, 0, 0, 0, 0, 0, 0, 0}, options...)
	binary.BigEndian.PutUint16(body[2:], checksum(pseudo(src, routers6, 58, len(body)), body))
	return packet{
		mac: web1.MAC, rest: body,
		ip6: &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: layers.IPProtocolICMPv6, SrcIP: src.AsSlice(), DstIP: routers6.AsSlice()},
	}
}

// frame writes the packet as the tap delivers it.
func (p packet) frame(t testing.TB) []byte {
	t.Helper()
	eth := &layers.Ethernet{
		SrcMAC: p.mac[:], DstMAC: binary.BigEndian.AppendUint32([]byte{2, 0}, testIndex), EthernetType: layers.EthernetTypeIPv4,
	}
	all := []gopacket.SerializableLayer{eth}
	var network gopacket.NetworkLayer = p.ip4
	if p.ip4 != nil {
		all = append(all, p.ip4)
	} else {
		eth.EthernetType, network = layers.EthernetTypeIPv6, p.ip6
		all = append(all, p.ip6)
	}
	if p.udp != nil {
		if err := p.udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		all = append(all, p.udp)
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, append(all, gopacket.Payload(p.rest))...); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// with changes bytes of a frame.
func with(frame []byte, change func([]byte)) []byte {
	frame = slices.Clone(frame)
	change(frame)
	return frame
}

// resum4 writes the checksum of the IPv4 header anew.
func resum4(b []byte) {
	b[24], b[25] = 0, 0
	binary.BigEndian.PutUint16(b[24:], checksum(0, b[14:34]))
}

func TestFramesAreCheckedAgain(t *testing.T) {
	d4 := message4(t, dhcpv4.MessageTypeDiscover)
	d6 := message6(dhcpv6.MessageTypeSolicit, dhcpv6.OptClientID(testDUID), ia(1))
	lladdr := append([]byte{1, 1}, web1.MAC[:]...)
	f4, f6, rs := asks4(d4).frame(t), asks6(d6).frame(t), solicits(linkLocal, lladdr...).frame(t)
	change := func(p packet, f func(p *packet)) []byte { f(&p); return p.frame(t) }
	renew4 := asks4(message4(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IP{10, 0, 1, 4})))
	for name, tc := range map[string]struct {
		frame []byte
		want  Result
	}{
		"dhcp4":          {f4, Offer},
		"dhcp4_renew":    {change(renew4, func(p *packet) { p.ip4.SrcIP, p.ip4.DstIP = net.IP{10, 0, 1, 4}, net.IP{10, 0, 1, 1} }), Ack},
		"dhcp4_padded":   {append(slices.Clone(f4), 0, 0, 0), Offer},
		"dhcp4_no_sum":   {with(f4, func(b []byte) { b[40], b[41] = 0, 0 }), Offer},
		"dhcp4_bad_sum":  {with(f4, func(b []byte) { b[40] ^= 1 }), Malformed},
		"ip4_bad_sum":    {with(f4, func(b []byte) { b[24] ^= 1 }), Malformed},
		"ip4_fragment":   {with(f4, func(b []byte) { b[20] |= 0x20; resum4(b) }), Malformed},
		"ip4_length":     {with(f4, func(b []byte) { b[16], b[17] = 0xff, 0xff; resum4(b) }), Malformed},
		"ip4_short":      {with(f4, func(b []byte) { b[16], b[17] = 0, 21; resum4(b) }), Malformed},
		"ip4_header":     {with(f4, func(b []byte) { b[14] = 0x44; resum4(b) }), Malformed},
		"ip4_header_end": {with(f4, func(b []byte) { b[14] = 0x4f; resum4(b) }), Malformed},
		"ip4_as_ip6":     {with(f4, func(b []byte) { b[14] = 0x65 }), Malformed},
		"ip4_tcp":        {with(f4, func(b []byte) { b[23] = 6; resum4(b) }), Malformed},
		"udp_length":     {with(f4, func(b []byte) { b[38] = 0xff }), Malformed},
		"udp_short":      {with(f4, func(b []byte) { b[38], b[39] = 0, 7 }), Malformed},
		"udp_ports":      {change(asks4(d4), func(p *packet) { p.udp.SrcPort = 67 }), Malformed},
		"other_source":   {change(asks4(d4), func(p *packet) { p.ip4.SrcIP = net.IP{10, 0, 1, 5} }), Elsewhere},
		"other_router":   {change(asks4(d4), func(p *packet) { p.ip4.DstIP = net.IP{10, 0, 2, 1} }), Elsewhere},
		"other_mac":      {change(asks4(d4), func(p *packet) { p.mac[5]++ }), OtherMAC},
		"dhcp6":          {f6, Advertise},
		"dhcp6_no_sum":   {with(f6, func(b []byte) { b[60], b[61] = 0, 0 }), Malformed},
		"dhcp6_bad_sum":  {with(f6, func(b []byte) { b[60] ^= 1 }), Malformed},
		"dhcp6_global":   {change(asks6(d6), func(p *packet) { p.ip6.SrcIP = own6 }), Elsewhere},
		"dhcp6_unicast":  {change(asks6(d6), func(p *packet) { p.ip6.DstIP = router6.AsSlice() }), Elsewhere},
		"ip6_length":     {with(f6, func(b []byte) { b[18], b[19] = 0xff, 0xff }), Malformed},
		"ip6_extension":  {with(f6, func(b []byte) { b[20] = 0 }), Malformed},
		"ip6_as_ip4":     {with(f6, func(b []byte) { b[14] = 0x45 }), Malformed},
		"solicit":        {rs, RouterAdvert},
		"solicit_plain":  {solicits(linkLocal).frame(t), RouterAdvert},
		"solicit_none":   {solicits(netip.IPv6Unspecified()).frame(t), RouterAdvert},
		"solicit_own":    {solicits(netip.MustParseAddr("fd00:0:0:1::4")).frame(t), RouterAdvert},
		"solicit_other":  {solicits(netip.MustParseAddr("fd00:0:0:1::5")).frame(t), Elsewhere},
		"solicit_extra":  {solicits(linkLocal, 14, 1, 0, 0, 0, 0, 0, 0).frame(t), RouterAdvert},
		"solicit_lladdr": {solicits(linkLocal, 1, 1, 2, 2, 2, 2, 2, 2).frame(t), OtherMAC},
		"solicit_both":   {solicits(netip.IPv6Unspecified(), lladdr...).frame(t), Malformed},
		"solicit_zero":   {solicits(linkLocal, 1, 0, 2, 2, 2, 2, 2, 2).frame(t), Malformed},
		"solicit_over":   {solicits(linkLocal, 1, 2, 2, 2, 2, 2, 2, 2).frame(t), Malformed},
		"solicit_cut":    {solicits(linkLocal, 1, 1, 2, 2).frame(t), Malformed},
		"solicit_far":    {with(rs, func(b []byte) { b[21] = 254 }), Malformed},
		"solicit_sum":    {with(rs, func(b []byte) { b[56] ^= 1 }), Malformed},
		"arp":            {with(f4, func(b []byte) { b[13] = 6 }), Malformed},
		"short":          {f4[:13], Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			answer, result := testRouter.Answer(web1, tc.frame)
			if result != tc.want || (answer != nil) != tc.want.Answered() {
				t.Errorf("result %s, answer %x; want %s", result, answer, tc.want)
			}
		})
	}
	for _, frame := range [][]byte{f4, f6, rs} {
		for n := range frame {
			if _, result := testRouter.Answer(web1, frame[:n]); result != Malformed {
				t.Fatalf("a frame of %d bytes cut to %d: %s", len(frame), n, result)
			}
		}
	}
}

// decode reads an answer with another implementation, which checks lengths and checksums.
func decode(t testing.TB, frame []byte) gopacket.Packet {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("answer %x: %v", frame, e.Error())
	}
	for _, l := range p.Layers() {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err, bad := p.VerifyChecksums(); err != nil || len(bad) > 0 {
		t.Fatalf("answer %x: checksums %v, %v", frame, bad, err)
	}
	return p
}

func TestAnswersGoToTheClient(t *testing.T) {
	port := web1.MAC.String()
	discover := func(change ...dhcpv4.Modifier) packet {
		return asks4(message4(t, dhcpv4.MessageTypeDiscover, change...))
	}
	request := func(change ...dhcpv4.Modifier) packet {
		return asks4(message4(t, dhcpv4.MessageTypeRequest, change...))
	}
	for name, tc := range map[string]struct {
		question     packet
		mac, ip, src string
		from, to     layers.UDPPort
	}{
		"unicast":   {discover(dhcpv4.WithBroadcast(false)), port, "10.0.1.4", "10.0.1.1", 67, 68},
		"broadcast": {discover(dhcpv4.WithBroadcast(true)), "ff:ff:ff:ff:ff:ff", "255.255.255.255", "10.0.1.1", 67, 68},
		"renew":     {request(dhcpv4.WithBroadcast(true), dhcpv4.WithClientIP(net.IP{10, 0, 1, 4})), port, "10.0.1.4", "10.0.1.1", 67, 68},
		"refusal":   {request(wants("10.9.9.9")), "ff:ff:ff:ff:ff:ff", "255.255.255.255", "10.0.1.1", 67, 68},
		"dhcp6":     {asks6(message6(dhcpv6.MessageTypeSolicit, dhcpv6.OptClientID(testDUID))), port, linkLocal.String(), "fe80::1", 547, 546},
		"solicit":   {solicits(linkLocal), port, linkLocal.String(), "fe80::1", 0, 0},
		"nobody":    {solicits(netip.IPv6Unspecified()), "33:33:00:00:00:01", "ff02::1", "fe80::1", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			frame, result := testRouter.Answer(web1, tc.question.frame(t))
			if !result.Answered() {
				t.Fatal(result)
			}
			p := decode(t, frame)
			if got := p.LinkLayer().LinkFlow().Dst().String(); got != tc.mac {
				t.Errorf("to MAC %s, want %s", got, tc.mac)
			}
			if flow := p.NetworkLayer().NetworkFlow(); flow.Src().String() != tc.src || flow.Dst().String() != tc.ip {
				t.Errorf("answer %s, want %s->%s", flow, tc.src, tc.ip)
			}
			if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok != (tc.from != 0) || ok && (udp.SrcPort != tc.from || udp.DstPort != tc.to) {
				t.Errorf("UDP %v, want %d->%d", udp, tc.from, tc.to)
			}
		})
	}
}

func TestAdvertisementSaysAll(t *testing.T) {
	p := decode(t, testRouter.Unasked(web1))
	if ip := p.Layer(layers.LayerTypeIPv6).(*layers.IPv6); ip.HopLimit != 255 {
		t.Errorf("hop limit %d", ip.HopLimit)
	}
	ra := p.Layer(layers.LayerTypeICMPv6RouterAdvertisement).(*layers.ICMPv6RouterAdvertisement)
	if ra.HopLimit != 64 || !ra.ManagedAddressConfig() || !ra.OtherConfig() || ra.RouterLifetime != 9000 {
		t.Errorf("advertisement %+v", ra)
	}
	mtu := binary.BigEndian.AppendUint32([]byte{0, 0}, 1450)
	prefix := slices.Concat([]byte{64, 0x80}, bytes.Repeat([]byte{0xff}, 8), make([]byte, 4), net.ParseIP("fd00:0:0:1::"))
	dns := slices.Concat([]byte{0, 0}, binary.BigEndian.AppendUint32(nil, 9000), net.ParseIP("fd00::53"))
	want := []struct {
		kind layers.ICMPv6Opt
		data []byte
	}{{1, testRouter.MAC[:]}, {5, mtu}, {3, prefix}, {25, dns}}
	if len(ra.Options) != len(want) {
		t.Fatalf("%d options, want %d", len(ra.Options), len(want))
	}
	for i, o := range ra.Options {
		if o.Type != want[i].kind || !bytes.Equal(o.Data, want[i].data) {
			t.Errorf("option %d %x, want %d %x", o.Type, o.Data, want[i].kind, want[i].data)
		}
	}
	quiet := web1
	quiet.DNS = nil
	if len(testRouter.Unasked(quiet)) != len(testRouter.Unasked(web1))-24 {
		t.Error("a port without resolvers is told of some")
	}
	if math.MaxUint16 < frameMost {
		t.Error("sum() holds for 64 KiB")
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(asks4(message4(f, dhcpv4.MessageTypeDiscover)).frame(f))
	f.Add(asks6(message6(dhcpv6.MessageTypeSolicit, dhcpv6.OptClientID(testDUID), ia(1))).frame(f))
	f.Add(solicits(linkLocal, append([]byte{1, 1}, web1.MAC[:]...)...).frame(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := slices.Clone(b)
		answer, result := testRouter.Answer(web1, b)
		if result == 0 || result.Answered() != (answer != nil) || !bytes.Equal(b, before) {
			t.Fatalf("answer %x, result %s", answer, result)
		}
		if answer == nil {
			return
		}
		if mac := decode(t, answer).LinkLayer().LinkFlow().Dst().Raw(); mac[0]&1 == 0 && !bytes.Equal(mac, web1.MAC[:]) {
			t.Fatalf("answer goes to %x", mac)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	for name, frame := range map[string][]byte{
		"dhcp4":   asks4(message4(b, dhcpv4.MessageTypeDiscover)).frame(b),
		"dhcp6":   asks6(message6(dhcpv6.MessageTypeSolicit, dhcpv6.OptClientID(testDUID), ia(1))).frame(b),
		"solicit": solicits(linkLocal).frame(b),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, result := testRouter.Answer(web1, frame); !result.Answered() {
					b.Fatal(result)
				}
			}
		})
	}
}
