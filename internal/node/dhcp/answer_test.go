// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"weft/internal/southbound"
)

var web1 = southbound.Port{
	Tenant: "red", Name: "web-1", MAC: southbound.MAC{2, 0, 0, 0, 0, 1}, DNS: []netip.Addr{netip.MustParseAddr("10.0.0.53")},
	Interfaces: []southbound.Interface{{Address: netip.MustParseAddr("10.0.1.4"), Bits: 24, Gateway: netip.MustParseAddr("10.0.1.1")}},
}

// request is a message from web-1 with what a test changes in it.
func request(t testing.TB, kind dhcpv4.MessageType, change ...dhcpv4.Modifier) []byte {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(web1.MAC[:]), dhcpv4.WithMessageType(kind)}, change...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m.ToBytes()
}

func wants(address string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(address)))
}

func server(address string) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(address)))
}

func TestAnswerIsOfTheRightKind(t *testing.T) {
	own := dhcpv4.WithClientIP(net.IP{10, 0, 1, 4})
	const none = dhcpv4.MessageTypeNone
	for name, tc := range map[string]struct {
		request []byte
		want    dhcpv4.MessageType
	}{
		"discover":          {request(t, dhcpv4.MessageTypeDiscover), dhcpv4.MessageTypeOffer},
		"discover_other":    {request(t, dhcpv4.MessageTypeDiscover, wants("10.0.1.9")), dhcpv4.MessageTypeOffer},
		"request":           {request(t, dhcpv4.MessageTypeRequest, wants("10.0.1.4"), server("10.0.1.1")), dhcpv4.MessageTypeAck},
		"request_renew":     {request(t, dhcpv4.MessageTypeRequest, own), dhcpv4.MessageTypeAck},
		"request_other":     {request(t, dhcpv4.MessageTypeRequest, wants("10.0.1.5")), dhcpv4.MessageTypeNak},
		"request_nothing":   {request(t, dhcpv4.MessageTypeRequest), dhcpv4.MessageTypeNak},
		"request_elsewhere": {request(t, dhcpv4.MessageTypeRequest, wants("10.0.1.4"), server("10.0.1.2")), none},
		"inform":            {request(t, dhcpv4.MessageTypeInform, own), dhcpv4.MessageTypeAck},
		"inform_other":      {request(t, dhcpv4.MessageTypeInform, dhcpv4.WithClientIP(net.IP{10, 0, 1, 9})), none},
		"release":           {request(t, dhcpv4.MessageTypeRelease, own), none},
		"decline":           {request(t, dhcpv4.MessageTypeDecline, wants("10.0.1.4")), none},
		"other_mac":         {request(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithHwAddr(net.HardwareAddr{2, 0, 0, 0, 0, 2})), none},
		"relayed":           {request(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithGatewayIP(net.IP{10, 0, 9, 9})), none},
		"no_type":           {request(t, none), none},
		"empty":             {nil, none},
		"too_long":          {append(request(t, dhcpv4.MessageTypeDiscover), make([]byte, 1500)...), none},
	} {
		t.Run(name, func(t *testing.T) {
			reply, err := Answer(web1, 1450, tc.request)
			if tc.want == none {
				if reply != nil || err == nil {
					t.Fatalf("answer %x, error %v; want none and a reason", reply, err)
				}
				return
			}
			m, perr := dhcpv4.FromBytes(reply)
			if err != nil || perr != nil || m.MessageType() != tc.want {
				t.Fatalf("answer %v, errors %v, %v; want %s", m, err, perr, tc.want)
			}
		})
	}
}

func TestOfferTellsAllThatTheWorkloadNeeds(t *testing.T) {
	reply, err := Answer(web1, 1450, request(t, dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := dhcpv4.FromBytes(reply)
	if err != nil {
		t.Fatal(err)
	}
	if !m.YourIPAddr.Equal(net.IP{10, 0, 1, 4}) || !m.IsBroadcast() || !bytes.Equal(m.ClientHWAddr, web1.MAC[:]) {
		t.Errorf("address, broadcast or MAC wrong: %s", m.Summary())
	}
	for code, want := range map[dhcpv4.OptionCode][]byte{
		dhcpv4.OptionSubnetMask:           {255, 255, 255, 0},
		dhcpv4.OptionRouter:               {10, 0, 1, 1},
		dhcpv4.OptionServerIdentifier:     {10, 0, 1, 1},
		dhcpv4.OptionDomainNameServer:     {10, 0, 0, 53},
		dhcpv4.OptionInterfaceMTU:         {0x05, 0xaa},
		dhcpv4.OptionIPAddressLeaseTime:   {0xff, 0xff, 0xff, 0xff},
		dhcpv4.OptionHostName:             []byte("web-1"),
		dhcpv4.OptionClasslessStaticRoute: {0, 10, 0, 1, 1},
	} {
		if got := m.Options.Get(code); !bytes.Equal(got, want) {
			t.Errorf("option %s is %v, want %v", code, got, want)
		}
	}
	quiet := web1
	quiet.DNS = nil
	reply, err = Answer(quiet, 1450, request(t, dhcpv4.MessageTypeDiscover))
	if m, perr := dhcpv4.FromBytes(reply); err != nil || perr != nil || m.Options.Has(dhcpv4.OptionDomainNameServer) {
		t.Errorf("a subnet without DNS offers some (%v, %v)", err, perr)
	}
}

func TestPortWithoutIPv4IsNotAnswered(t *testing.T) {
	if _, err := Answer(southbound.Port{MAC: web1.MAC}, 1450, request(t, dhcpv4.MessageTypeDiscover)); !errors.Is(err, ErrIgnored) {
		t.Errorf("error %v", err)
	}
}

func FuzzAnswer(f *testing.F) {
	for _, kind := range []dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform, dhcpv4.MessageTypeRelease,
	} {
		b := request(f, kind, wants("10.0.1.4"))
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		reply, err := Answer(web1, 1450, b)
		if (reply == nil) == (err == nil) {
			t.Fatalf("answer %x, error %v; want one of them", reply, err)
		}
		if reply == nil {
			return
		}
		m, err := dhcpv4.FromBytes(reply)
		if err != nil {
			t.Fatal(err)
		}
		if !m.YourIPAddr.IsUnspecified() && !m.YourIPAddr.Equal(net.IP{10, 0, 1, 4}) || !bytes.Equal(m.ClientHWAddr, web1.MAC[:]) {
			t.Fatalf("answer for another: %s", m.Summary())
		}
	})
}
