// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"weft/internal/southbound"
)

var (
	own6      = net.ParseIP("fd00:0:0:1::4")
	testDUID  = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: web1.MAC[:]}
	otherDUID = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: []byte{2, 9, 9, 9, 9, 9}}
)

// message6 is a client's message with options of the test's.
func message6(kind dhcpv6.MessageType, options ...dhcpv6.Option) []byte {
	return (&dhcpv6.Message{MessageType: kind, TransactionID: [3]byte{1, 2, 3}, Options: dhcpv6.MessageOptions{Options: options}}).ToBytes()
}

// ia is an identity that the client has, or wants, addresses for.
func ia(id byte, addresses ...string) dhcpv6.Option {
	out := &dhcpv6.OptIANA{IaId: [4]byte{0, 0, 0, id}}
	for _, a := range addresses {
		out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(a)})
	}
	return out
}

func generic(code dhcpv6.OptionCode, data []byte) dhcpv6.Option {
	return &dhcpv6.OptionGeneric{OptionCode: code, OptionData: data}
}

// read6Answer is an answer's message.
func read6Answer(t testing.TB, port southbound.Port, request []byte) (*dhcpv6.Message, Result) {
	t.Helper()
	reply, result := testRouter.answer6(port, request)
	if result.Answered() != (reply != nil) {
		t.Fatalf("answer %x with result %s", reply, result)
	}
	if reply == nil {
		return nil, result
	}
	m, err := dhcpv6.MessageFromBytes(reply)
	if err != nil {
		t.Fatal(err)
	}
	return m, result
}

// outcome writes what an answer gives: for each identity its addresses, a "-" before those that end, or its status.
func outcome(m *dhcpv6.Message) []string {
	var out []string
	if s := m.Options.Status(); s != nil {
		out = append(out, s.StatusCode.String())
	}
	for _, ia := range m.Options.IANA() {
		text := string('0' + rune(ia.IaId[3]))
		for _, a := range ia.Options.Addresses() {
			sign := " "
			if a.ValidLifetime == 0 && a.PreferredLifetime == 0 {
				sign = " -"
			} else if a.ValidLifetime != forever || a.PreferredLifetime != forever || ia.T1 != forever || ia.T2 != forever {
				sign = " limited "
			}
			text += sign + a.IPv6Addr.String()
		}
		if s := ia.Options.Status(); s != nil {
			text += " " + s.StatusCode.String()
		}
		out = append(out, text)
	}
	for _, ia := range m.Options.IATA() {
		out = append(out, "temporary "+ia.Options.Status().StatusCode.String())
	}
	for _, ia := range m.Options.IAPD() {
		out = append(out, "prefix "+ia.Options.Status().StatusCode.String())
	}
	return out
}

func TestAnswer6IsOfTheRightKind(t *testing.T) {
	client, server, other := dhcpv6.OptClientID(testDUID), dhcpv6.OptServerID(testRouter.duid()), dhcpv6.OptServerID(otherDUID)
	rapid := generic(dhcpv6.OptionRapidCommit, nil)
	pd, ta := generic(dhcpv6.OptionIAPD, make([]byte, 12)), generic(dhcpv6.OptionIATA, make([]byte, 4))
	const (
		solicit, request, confirm, renew, rebind = dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind
		release, decline, information            = dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeInformationRequest
	)
	for name, tc := range map[string]struct {
		request []byte
		want    Result
		outcome []string
	}{
		"solicit":             {message6(solicit, client, ia(1)), Advertise, []string{"1 fd00:0:0:1::4"}},
		"solicit_hint":        {message6(solicit, client, ia(1, "fd00:0:0:1::9", "2001:db8::1")), Advertise, []string{"1 fd00:0:0:1::4"}},
		"solicit_two":         {message6(solicit, client, ia(1), ia(2)), Advertise, []string{"1 fd00:0:0:1::4", "2 NoAddrsAvail"}},
		"solicit_nothing":     {message6(solicit, client), Advertise, nil},
		"solicit_prefix":      {message6(solicit, client, ia(1), pd, ta), Advertise, []string{"1 fd00:0:0:1::4", "temporary NoAddrsAvail", "prefix NoPrefixAvail"}},
		"solicit_rapid":       {message6(solicit, client, ia(1), rapid), Reply, []string{"1 fd00:0:0:1::4"}},
		"solicit_server":      {message6(solicit, client, server, ia(1)), Malformed, nil},
		"solicit_anonymous":   {message6(solicit, ia(1)), Malformed, nil},
		"request":             {message6(request, client, server, ia(1, "fd00:0:0:1::4")), Reply, []string{"1 fd00:0:0:1::4"}},
		"request_other":       {message6(request, client, server, ia(1, "fd00:0:0:1::9")), Reply, []string{"1 fd00:0:0:1::4"}},
		"request_elsewhere":   {message6(request, client, server, ia(1, "2001:db8::1")), Reply, []string{"1 NotOnLink"}},
		"request_second":      {message6(request, client, server, ia(1), ia(2, "fd00:0:0:1::4")), Reply, []string{"1 NoAddrsAvail", "2 fd00:0:0:1::4"}},
		"request_of_other":    {message6(request, client, other, ia(1)), OtherServer, nil},
		"request_of_nobody":   {message6(request, client, ia(1)), Malformed, nil},
		"renew":               {message6(renew, client, server, ia(1, "fd00:0:0:1::4")), Reply, []string{"1 fd00:0:0:1::4"}},
		"renew_old":           {message6(renew, client, server, ia(1, "fd00:0:0:1::4", "fd00:0:0:9::4")), Reply, []string{"1 fd00:0:0:1::4 -fd00:0:0:9::4"}},
		"renew_second":        {message6(renew, client, server, ia(1), ia(2, "fd00:0:0:1::4"), pd), Reply, []string{"1 NoBinding", "2 fd00:0:0:1::4", "prefix NoBinding"}},
		"rebind":              {message6(rebind, client, ia(1, "fd00:0:0:1::4")), Reply, []string{"1 fd00:0:0:1::4"}},
		"rebind_moved":        {message6(rebind, client, ia(1, "fd00:0:0:9::4")), Reply, []string{"1 fd00:0:0:1::4 -fd00:0:0:9::4"}},
		"rebind_server":       {message6(rebind, client, server, ia(1)), Malformed, nil},
		"confirm":             {message6(confirm, client, ia(1, "fd00:0:0:1::4")), Reply, []string{"Success"}},
		"confirm_moved":       {message6(confirm, client, ia(1, "fd00:0:0:9::4")), Reply, []string{"NotOnLink"}},
		"confirm_nothing":     {message6(confirm, client, ia(1)), NoQuestion, nil},
		"release":             {message6(release, client, server, ia(1, "fd00:0:0:1::4")), Reply, []string{"Success"}},
		"release_other":       {message6(release, client, server, ia(1, "fd00:0:0:1::5"), pd), Reply, []string{"Success", "1 NoBinding", "prefix NoBinding"}},
		"decline":             {message6(decline, client, server, ia(1, "fd00:0:0:1::4")), ReplyDeclined, []string{"Success"}},
		"information":         {message6(information, client), Reply, nil},
		"information_nobody":  {message6(information), Reply, nil},
		"information_server":  {message6(information, client, server), Reply, nil},
		"information_other":   {message6(information, client, other), OtherServer, nil},
		"information_address": {message6(information, client, ia(1)), Malformed, nil},
		"advertise":           {message6(dhcpv6.MessageTypeAdvertise, client, server), NoQuestion, nil},
		"reconfigure":         {message6(dhcpv6.MessageTypeReconfigure, client, server), NoQuestion, nil},
		"relayed":             {append([]byte{12}, make([]byte, 60)...), Relayed, nil},
		"short_prefix":        {message6(solicit, client, generic(dhcpv6.OptionIAPD, []byte{1})), Malformed, nil},
		"empty":               {nil, Malformed, nil},
		"cut":                 {message6(solicit, client, ia(1))[:17], Malformed, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, result := read6Answer(t, web1, tc.request)
			if result != tc.want {
				t.Fatalf("result %s, want %s", result, tc.want)
			}
			if m == nil {
				return
			}
			if got := outcome(m); !slices.Equal(got, tc.outcome) {
				t.Errorf("outcome %q, want %q", got, tc.outcome)
			}
			if m.TransactionID != [3]byte{1, 2, 3} || !m.Options.ServerID().Equal(testRouter.duid()) || !m.Options.DNS()[0].Equal(net.ParseIP("fd00::53")) || len(m.Options.DNS()) != 1 {
				t.Errorf("transaction, server or DNS wrong: %s", m.Summary())
			}
			if rapid := m.GetOneOption(dhcpv6.OptionRapidCommit) != nil; rapid != (name == "solicit_rapid") {
				t.Errorf("rapid commit is %t", rapid)
			}
		})
	}
}

func TestServerIsTheSameOnEveryNode(t *testing.T) {
	want := []byte{0, 3, 0, 1, 0x02, 0x77, 0x65, 0x66, 0x74, 0x01}
	if got := testRouter.duid().ToBytes(); !bytes.Equal(got, want) {
		t.Errorf("server identifier %x, want %x: workloads that move hold on to it", got, want)
	}
}

// Oversized identifiers and options must neither be copied beyond their bounds nor make an answer that no link carries
// (CVE-2026-5367 in another product).
func TestAnswer6IsBoundedWhateverIsAsked(t *testing.T) {
	duid := func(n int) dhcpv6.Option { return generic(dhcpv6.OptionClientID, bytes.Repeat([]byte{0xab}, n)) }
	solicit := func(o ...dhcpv6.Option) []byte { return message6(dhcpv6.MessageTypeSolicit, o...) }
	var many, strangers []dhcpv6.Option
	var held []string
	for i := range 40 {
		many = append(many, ia(byte(i)))
		held = append(held, net.IP(binary.BigEndian.AppendUint16(slices.Clone(own6[:14]), uint16(100+i))).String())
	}
	strangers = append(strangers, dhcpv6.OptClientID(testDUID), ia(1, held...))
	lying := solicit(dhcpv6.OptClientID(testDUID))
	binary.BigEndian.PutUint16(lying[6:], 0xffff) // the length of the identifier
	for name, tc := range map[string]struct {
		request []byte
		want    Result
	}{
		"longest_client":  {solicit(duid(duidMost), ia(1)), Advertise},
		"long_client":     {solicit(duid(duidMost+1), ia(1)), TooLong},
		"huge_client":     {solicit(duid(1400), ia(1)), TooLong},
		"empty_client":    {solicit(duid(0), ia(1)), Malformed},
		"lying_length":    {lying, Malformed},
		"many_identities": {solicit(append(many, dhcpv6.OptClientID(testDUID))...), TooLong},
		"most_identities": {solicit(append(many[:identitiesMost:identitiesMost], duid(duidMost))...), Advertise},
		"many_addresses":  {message6(dhcpv6.MessageTypeRebind, strangers...), Reply},
		"huge_unknown":    {solicit(dhcpv6.OptClientID(testDUID), ia(1), generic(9999, make([]byte, 1300))), Advertise},
		"nested":          {solicit(dhcpv6.OptClientID(testDUID), generic(dhcpv6.OptionRelayMsg, bytes.Repeat([]byte{12}, 1300)), ia(1)), Advertise},
	} {
		t.Run(name, func(t *testing.T) {
			reply, result := testRouter.answer6(web1, tc.request)
			if result != tc.want {
				t.Errorf("result %s, want %s", result, tc.want)
			}
			if len(reply) > 600 {
				t.Errorf("an answer of %d bytes", len(reply))
			}
		})
	}
}

func TestManyClientsOfOnePortShareItsIPv6Address(t *testing.T) {
	for i := range 1000 {
		m, _ := read6Answer(t, web1, message6(dhcpv6.MessageTypeSolicit, generic(dhcpv6.OptionClientID, []byte{0, 9, byte(i >> 8), byte(i)}), ia(byte(i))))
		if got := m.Options.OneIANA().Options.OneAddress(); got == nil || !got.IPv6Addr.Equal(own6) {
			t.Fatalf("client %d is offered %v", i, got)
		}
	}
}

func TestPortWithoutIPv6GetsNeitherAddressNorRouter(t *testing.T) {
	port := web1
	port.Interfaces = web1.Interfaces[:1]
	if _, result := read6Answer(t, port, message6(dhcpv6.MessageTypeSolicit, dhcpv6.OptClientID(testDUID), ia(1))); result != NoAddress {
		t.Errorf("result %s", result)
	}
	if testRouter.Unasked(port) != nil {
		t.Error("it is told of a router")
	}
}

func FuzzAnswer6(f *testing.F) {
	client, server := dhcpv6.OptClientID(testDUID), dhcpv6.OptServerID(testRouter.duid())
	for kind := range dhcpv6.MessageType(14) {
		f.Add(message6(kind, client, ia(1, "fd00:0:0:1::4", "2001:db8::1"), generic(dhcpv6.OptionIAPD, make([]byte, 12))))
		f.Add(message6(kind, client, server, ia(1, "fd00:0:0:1::4"), generic(dhcpv6.OptionRapidCommit, nil)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, _ := read6Answer(t, web1, b)
		if m == nil {
			return
		}
		if size := len(m.ToBytes()); size > 1000 {
			t.Fatalf("an answer of %d bytes", size)
		}
		for _, ia := range m.Options.IANA() {
			for _, a := range ia.Options.Addresses() {
				if !a.IPv6Addr.Equal(own6) && a.ValidLifetime != 0 {
					t.Fatalf("gives %s away", a.IPv6Addr)
				}
			}
		}
		if q, _ := read6(b); q.client != nil && !bytes.Equal(q.client.ToBytes(), m.Options.ClientID().ToBytes()) {
			t.Fatalf("answer for client %x, asked by %x", m.Options.ClientID().ToBytes(), q.client.ToBytes())
		}
	})
}
