// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"weft/internal/southbound"
)

var (
	testRouter = Router{MAC: southbound.MAC{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}, MTU: 1450}
	web1       = southbound.Port{
		VNI: 4096, Tenant: "red", Name: "web-1", MAC: southbound.MAC{2, 0, 0, 0, 0, 1},
		DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("fd00::53")},
		Interfaces: []southbound.Interface{
			{Address: netip.MustParseAddr("10.0.1.4"), Bits: 24, Gateway: netip.MustParseAddr("10.0.1.1")},
			{Address: netip.MustParseAddr("fd00:0:0:1::4"), Bits: 64, Gateway: netip.MustParseAddr("fd00:0:0:1::1")},
		},
	}
	linkLocal = netip.MustParseAddr("fe80::ff:fe00:1")
)

// message4 is a message from web-1 with what a test changes in it.
func message4(t testing.TB, kind dhcpv4.MessageType, change ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(web1.MAC[:]), dhcpv4.WithMessageType(kind)}, change...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.ToBytes()
}

// read4 is an answer's message.
func read4(t testing.TB, port southbound.Port, request []byte) (*dhcpv4.DHCPv4, Result) {
	t.Helper()
	reply, _, result := testRouter.answer4(port, request)
	if result.Answered() != (reply != nil) {
		t.Fatalf("answer %x with result %s", reply, result)
	}
	if reply == nil {
		return nil, result
	}
	m, err := dhcpv4.FromBytes(reply)
	if err != nil {
		t.Fatal(err)
	}
	return m, result
}

func wants(address string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(address)))
}

func server(address string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(address)))
}

func option4(code dhcpv4.OptionCode, value []byte) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptGeneric(code, value))
}

func TestAnswer4IsOfTheRightKind(t *testing.T) {
	own := dhcpv4.WithClientIP(net.IP{10, 0, 1, 4})
	long := bytes.Repeat([]byte{1}, 300)
	for name, tc := range map[string]struct {
		request []byte
		want    Result
	}{
		"discover":          {message4(t, dhcpv4.MessageTypeDiscover), Offer},
		"discover_other":    {message4(t, dhcpv4.MessageTypeDiscover, wants("10.0.1.9")), Offer},
		"discover_rapid":    {message4(t, dhcpv4.MessageTypeDiscover, option4(dhcpv4.OptionRapidCommit, nil)), Ack},
		"selecting":         {message4(t, dhcpv4.MessageTypeRequest, wants("10.0.1.4"), server("10.0.1.1")), Ack},
		"selecting_other":   {message4(t, dhcpv4.MessageTypeRequest, wants("10.0.1.5"), server("10.0.1.1")), Nak},
		"init_reboot":       {message4(t, dhcpv4.MessageTypeRequest, wants("10.0.1.4")), Ack},
		"init_reboot_other": {message4(t, dhcpv4.MessageTypeRequest, wants("192.168.7.7")), Nak},
		"renew":             {message4(t, dhcpv4.MessageTypeRequest, own), Ack},
		"renew_other":       {message4(t, dhcpv4.MessageTypeRequest, dhcpv4.WithClientIP(net.IP{10, 0, 1, 9})), Nak},
		"rebind":            {message4(t, dhcpv4.MessageTypeRequest, own, dhcpv4.WithBroadcast(true)), Ack},
		"request_nothing":   {message4(t, dhcpv4.MessageTypeRequest), Nak},
		"request_elsewhere": {message4(t, dhcpv4.MessageTypeRequest, wants("10.0.1.4"), server("10.0.1.2")), OtherServer},
		"inform":            {message4(t, dhcpv4.MessageTypeInform, own), Ack},
		"inform_other":      {message4(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IP{10, 0, 1, 9})), Elsewhere},
		"release":           {message4(t, dhcpv4.MessageTypeRelease, own), Released},
		"decline":           {message4(t, dhcpv4.MessageTypeDecline, wants("10.0.1.4")), Declined},
		"other_mac":         {message4(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 2})), OtherMAC},
		"short_mac":         {message4(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0})), OtherMAC},
		"relayed":           {message4(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IP{10, 0, 9, 9})), Relayed},
		"bootp":             {message4(t, dhcpv4.MessageTypeNone), NoQuestion},
		"from_a_server":     {message4(t, dhcpv4.MessageTypeOffer), NoQuestion},
		"long_client":       {message4(t, dhcpv4.MessageTypeDiscover, option4(dhcpv4.OptionClientIdentifier, long)), TooLong},
		"long_agent":        {message4(t, dhcpv4.MessageTypeDiscover, option4(dhcpv4.OptionRelayAgentInformation, long)), TooLong},
		"empty":             {nil, Malformed},
		"cut":               {message4(t, dhcpv4.MessageTypeDiscover)[:230], Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			if _, result := read4(t, web1, tc.request); result != tc.want {
				t.Errorf("result %s, want %s", result, tc.want)
			}
		})
	}
}

func TestOfferTellsAllThatTheWorkloadNeeds(t *testing.T) {
	client, agent := []byte{1, 2, 3, 4}, []byte{1, 2, 9, 9}
	m, _ := read4(t, web1, message4(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true),
		option4(dhcpv4.OptionClientIdentifier, client), option4(dhcpv4.OptionRelayAgentInformation, agent)))
	if !m.YourIPAddr.Equal(net.IP{10, 0, 1, 4}) || !m.IsBroadcast() || !bytes.Equal(m.ClientHWAddr, web1.MAC[:]) ||
		!m.ServerIPAddr.IsUnspecified() {
		t.Errorf("address, broadcast, MAC or next server wrong: %s", m.Summary())
	}
	for code, want := range map[dhcpv4.OptionCode][]byte{
		dhcpv4.OptionSubnetMask:            {255, 255, 255, 0},
		dhcpv4.OptionRouter:                {10, 0, 1, 1},
		dhcpv4.OptionServerIdentifier:      {10, 0, 1, 1},
		dhcpv4.OptionDomainNameServer:      {10, 0, 0, 53},
		dhcpv4.OptionInterfaceMTU:          {0x05, 0xaa},
		dhcpv4.OptionIPAddressLeaseTime:    {0xff, 0xff, 0xff, 0xff},
		dhcpv4.OptionHostName:              []byte("web-1"),
		dhcpv4.OptionClasslessStaticRoute:  {0, 10, 0, 1, 1},
		dhcpv4.OptionClientIdentifier:      client,
		dhcpv4.OptionRelayAgentInformation: agent,
	} {
		if got := m.Options.Get(code); !bytes.Equal(got, want) {
			t.Errorf("option %s is %v, want %v", code, got, want)
		}
	}
	quiet := web1
	quiet.DNS = web1.DNS[1:]
	if m, _ := read4(t, quiet, message4(t, dhcpv4.MessageTypeDiscover)); m.Options.Has(dhcpv4.OptionDomainNameServer) {
		t.Error("a subnet without IPv4 resolvers offers some")
	}
}

func TestRouterOutsideOfTheSubnetIsOnTheLink(t *testing.T) {
	port := web1
	port.Interfaces = []southbound.Interface{{Address: netip.MustParseAddr("10.0.1.4"), Bits: 32, Gateway: netip.MustParseAddr("10.0.1.1")}}
	m, _ := read4(t, port, message4(t, dhcpv4.MessageTypeDiscover))
	want := []byte{32, 10, 0, 1, 1, 0, 0, 0, 0, 0, 10, 0, 1, 1}
	if got := m.Options.Get(dhcpv4.OptionClasslessStaticRoute); !bytes.Equal(got, want) {
		t.Errorf("routes %v, want %v", got, want)
	}
}

// A refusal says who refuses and to whom, and nothing that could be used.
func TestNakGivesNothing(t *testing.T) {
	client := option4(dhcpv4.OptionClientIdentifier, []byte{7, 7, 7})
	m, _ := read4(t, web1, message4(t, dhcpv4.MessageTypeRequest, wants("10.0.1.5"), client))
	if !m.YourIPAddr.IsUnspecified() || !m.ClientIPAddr.IsUnspecified() || !m.IsBroadcast() || len(m.Options) != 3 ||
		!m.Options.Has(dhcpv4.OptionServerIdentifier) || !m.Options.Has(dhcpv4.OptionClientIdentifier) {
		t.Errorf("the refusal says %s", m.Summary())
	}
}

func TestInformHasNoLease(t *testing.T) {
	m, _ := read4(t, web1, message4(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IP{10, 0, 1, 4})))
	if !m.YourIPAddr.IsUnspecified() || m.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || !m.Options.Has(dhcpv4.OptionInterfaceMTU) {
		t.Errorf("the answer says %s", m.Summary())
	}
}

// Who asks under many names gets the one address each time: there is nothing to run out of.
func TestManyClientsOfOnePortShareItsAddress(t *testing.T) {
	for i := range 1000 {
		id := []byte{0, byte(i >> 8), byte(i)}
		m, _ := read4(t, web1, message4(t, dhcpv4.MessageTypeDiscover, option4(dhcpv4.OptionClientIdentifier, id)))
		if !m.YourIPAddr.Equal(net.IP{10, 0, 1, 4}) {
			t.Fatalf("client %d is offered %s", i, m.YourIPAddr)
		}
	}
}

func TestPortWithoutAddressOrRouterIsNotAnswered(t *testing.T) {
	for name, interfaces := range map[string][]southbound.Interface{
		"none":      nil,
		"ipv6":      web1.Interfaces[1:],
		"no_router": {{Address: netip.MustParseAddr("10.0.1.4"), Bits: 24}},
	} {
		t.Run(name, func(t *testing.T) {
			port := web1
			port.Interfaces = interfaces
			if _, result := read4(t, port, message4(t, dhcpv4.MessageTypeDiscover)); result != NoAddress {
				t.Errorf("result %s", result)
			}
		})
	}
}

func FuzzAnswer4(f *testing.F) {
	for _, kind := range []dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform, dhcpv4.MessageTypeRelease,
	} {
		b := message4(f, kind, wants("10.0.1.4"), option4(dhcpv4.OptionClientIdentifier, []byte("fuzz")))
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _ := read4(t, web1, b)
		if m == nil {
			return
		}
		if len(m.ToBytes()) > answerMost {
			t.Fatalf("an answer of %d bytes", len(m.ToBytes()))
		}
		if !m.YourIPAddr.IsUnspecified() && !m.YourIPAddr.Equal(net.IP{10, 0, 1, 4}) || !bytes.Equal(m.ClientHWAddr, web1.MAC[:]) {
			t.Fatalf("answer for another: %s", m.Summary())
		}
	})
}
