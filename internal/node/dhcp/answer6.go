// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"net"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"weft/internal/southbound"
)

// Bounds of what one message may ask for. A DUID has 128 bytes and its type (RFC 8415 11.1).
const (
	duidMost       = 130
	identitiesMost = 8
	strangersMost  = 8
)

// request6 is a client's message, as far as a server looks at it.
type request6 struct {
	kind        dhcpv6.MessageType
	transaction dhcpv6.TransactionID
	client      dhcpv6.DUID // nil: it names none
	server      dhcpv6.DUID
	rapid       bool
	addresses   []*dhcpv6.OptIANA
	temporary   [][4]byte // identifiers of IA_TA
	prefixes    [][4]byte // identifiers of IA_PD
}

// identities counts what the client wants to have something for.
func (q request6) identities() int { return len(q.addresses) + len(q.temporary) + len(q.prefixes) }

// read6 reads a message. Options that no answer depends on are not looked into.
func read6(b []byte) (q request6, result Result) {
	if len(b) < dhcpv6.MessageHeaderSize {
		return q, Malformed
	}
	q.kind = dhcpv6.MessageType(b[0])
	if q.kind == dhcpv6.MessageTypeRelayForward || q.kind == dhcpv6.MessageTypeRelayReply {
		return q, Relayed
	}
	copy(q.transaction[:], b[1:])
	var options dhcpv6.Options
	if options.FromBytesWithParser(b[dhcpv6.MessageHeaderSize:], readOption6) != nil {
		return q, Malformed
	}
	m := dhcpv6.MessageOptions{Options: options}
	q.client, q.server, q.addresses = m.ClientID(), m.ServerID(), m.IANA()
	q.rapid = m.GetOne(dhcpv6.OptionRapidCommit) != nil
	for _, o := range options {
		g, ok := o.(*dhcpv6.OptionGeneric)
		if !ok || g.OptionCode != dhcpv6.OptionIATA && g.OptionCode != dhcpv6.OptionIAPD {
			continue
		}
		if len(g.OptionData) < 4 {
			return q, Malformed
		}
		if g.OptionCode == dhcpv6.OptionIATA {
			q.temporary = append(q.temporary, [4]byte(g.OptionData))
		} else {
			q.prefixes = append(q.prefixes, [4]byte(g.OptionData))
		}
	}
	return q, 0
}

// readOption6 reads the options that matter, and keeps the others as bytes.
func readOption6(code dhcpv6.OptionCode, data []byte) (dhcpv6.Option, error) {
	switch code {
	case dhcpv6.OptionClientID, dhcpv6.OptionServerID, dhcpv6.OptionIANA:
		return dhcpv6.ParseOption(code, data)
	}
	return &dhcpv6.OptionGeneric{OptionCode: code, OptionData: data}, nil
}

// answer6 returns the DHCPv6 message that answers request (RFC 8415 18.3).
func (r Router) answer6(port southbound.Port, request []byte) ([]byte, Result) {
	q, result := read6(request)
	if result != 0 {
		return nil, result
	}
	own, ok := interface6(port)
	if !ok {
		return nil, NoAddress
	}
	if result := r.refuse6(q); result != 0 {
		return nil, result
	}
	out := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: q.transaction}
	result = Reply
	if q.client != nil {
		out.AddOption(dhcpv6.OptClientID(q.client))
	}
	out.AddOption(dhcpv6.OptServerID(r.duid()))
	switch q.kind {
	case dhcpv6.MessageTypeSolicit:
		if q.rapid {
			dhcpv6.WithRapidCommit(out)
		} else {
			out.MessageType, result = dhcpv6.MessageTypeAdvertise, Advertise
			// The highest preference: the client need not wait for other servers (RFC 8415 18.2.1).
			out.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionPreference, OptionData: []byte{255}})
		}
		grant(out, q, own)
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind:
		grant(out, q, own)
	case dhcpv6.MessageTypeConfirm:
		code, asked := confirm(q, own)
		if !asked {
			return nil, NoQuestion
		}
		out.AddOption(&dhcpv6.OptStatusCode{StatusCode: code})
	case dhcpv6.MessageTypeDecline:
		result = ReplyDeclined
		acknowledge(out, q, own)
	case dhcpv6.MessageTypeRelease:
		acknowledge(out, q, own)
	}
	if dns := resolvers(port, netip.Addr.Is6); len(dns) > 0 {
		out.AddOption(dhcpv6.OptDNS(dns...))
	}
	return out.ToBytes(), result
}

// duid names the server: the virtual router, which is the same on every node, so that a workload that moves goes on.
func (r Router) duid() dhcpv6.DUID {
	return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: r.MAC[:]}
}

// refuse6 says why a message is not answered, whatever it asks for (RFC 8415 16).
func (r Router) refuse6(q request6) Result {
	if q.client != nil && len(q.client.ToBytes()) > duidMost || q.identities() > identitiesMost {
		return TooLong
	}
	var needsServer, mayHaveServer bool
	switch q.kind {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		needsServer, mayHaveServer = true, true
	case dhcpv6.MessageTypeInformationRequest:
		mayHaveServer = true
		if q.identities() > 0 {
			return Malformed
		}
	default:
		return NoQuestion
	}
	switch {
	case q.client == nil && q.kind != dhcpv6.MessageTypeInformationRequest,
		q.server == nil && needsServer, q.server != nil && !mayHaveServer:
		return Malformed
	case q.server != nil && !q.server.Equal(r.duid()):
		return OtherServer
	}
	return 0
}

// grant answers every identity: one of them has the port's address, for ever; there is nothing for the others.
func grant(out *dhcpv6.Message, q request6, own southbound.Interface) {
	held := q.kind == dhcpv6.MessageTypeRenew || q.kind == dhcpv6.MessageTypeRebind
	none, noPrefix := iana.StatusNoAddrsAvail, iana.StatusNoPrefixAvail
	if held {
		none, noPrefix = iana.StatusNoBinding, iana.StatusNoBinding
	}
	chosen := max(0, slices.IndexFunc(q.addresses, func(ia *dhcpv6.OptIANA) bool { return has(ia, own.Address) }))
	for i, ia := range q.addresses {
		switch {
		case q.kind == dhcpv6.MessageTypeRequest && !onLink(ia, own):
			out.AddOption(status(ia.IaId, iana.StatusNotOnLink))
		case i != chosen:
			out.AddOption(status(ia.IaId, none))
		default:
			out.AddOption(lease(ia, own, held))
		}
	}
	for _, id := range q.temporary {
		out.AddOption(&dhcpv6.OptIATA{IaId: id, Options: statusOptions(none)})
	}
	for _, id := range q.prefixes {
		out.AddOption(&dhcpv6.OptIAPD{IaId: id, Options: dhcpv6.PDOptions(statusOptions(noPrefix))})
	}
}

// lease gives the port's address; what else the client says to hold ends now.
func lease(ia *dhcpv6.OptIANA, own southbound.Interface, held bool) dhcpv6.Option {
	out := &dhcpv6.OptIANA{IaId: ia.IaId, T1: forever, T2: forever}
	out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: own.Address.AsSlice(), PreferredLifetime: forever, ValidLifetime: forever})
	if !held {
		return out
	}
	for i, a := range ia.Options.Addresses() {
		if !a.IPv6Addr.Equal(own.Address.AsSlice()) && i < strangersMost {
			out.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.IPv6Addr})
		}
	}
	return out
}

// confirm says whether all that the client holds is its own here; asked is false if it holds nothing.
func confirm(q request6, own southbound.Interface) (code iana.StatusCode, asked bool) {
	for _, ia := range q.addresses {
		for _, a := range ia.Options.Addresses() {
			asked = true
			if !a.IPv6Addr.Equal(own.Address.AsSlice()) {
				code = iana.StatusNotOnLink
			}
		}
	}
	return code, asked
}

// acknowledge answers a release or a decline, which change nothing: the address is the port's whatever its workload says.
func acknowledge(out *dhcpv6.Message, q request6, own southbound.Interface) {
	out.AddOption(&dhcpv6.OptStatusCode{StatusCode: iana.StatusSuccess})
	for _, ia := range q.addresses {
		if !has(ia, own.Address) {
			out.AddOption(status(ia.IaId, iana.StatusNoBinding))
		}
	}
	for _, id := range q.prefixes {
		out.AddOption(&dhcpv6.OptIAPD{IaId: id, Options: dhcpv6.PDOptions(statusOptions(iana.StatusNoBinding))})
	}
}

func has(ia *dhcpv6.OptIANA, address netip.Addr) bool {
	return slices.ContainsFunc(ia.Options.Addresses(), func(a *dhcpv6.OptIAAddress) bool {
		return a.IPv6Addr.Equal(net.IP(address.AsSlice()))
	})
}

// onLink reports whether all that the client asks for lies in the port's subnet.
func onLink(ia *dhcpv6.OptIANA, own southbound.Interface) bool {
	subnet := netip.PrefixFrom(own.Address, own.Bits)
	return !slices.ContainsFunc(ia.Options.Addresses(), func(a *dhcpv6.OptIAAddress) bool {
		got, ok := netip.AddrFromSlice(a.IPv6Addr)
		return !ok || !got.IsUnspecified() && !subnet.Contains(got)
	})
}

func status(id [4]byte, code iana.StatusCode) dhcpv6.Option {
	return &dhcpv6.OptIANA{IaId: id, Options: statusOptions(code)}
}

func statusOptions(code iana.StatusCode) dhcpv6.IdentityOptions {
	return dhcpv6.IdentityOptions{Options: dhcpv6.Options{&dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: code.String()}}}
}
