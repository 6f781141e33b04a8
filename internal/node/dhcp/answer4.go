// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"bytes"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"weft/internal/southbound"
)

// forever is the lease time that never ends (RFC 2131 3.3, RFC 8415 7.7).
const forever = math.MaxUint32 * time.Second

// optionMost is the longest value of an option that goes back to the client as it came.
const optionMost = 255

// answer4 returns the DHCPv4 message that answers request.
func (r Router) answer4(port southbound.Port, request []byte) ([]byte, *dhcpv4.DHCPv4, Result) {
	req, err := dhcpv4.FromBytes(request)
	if err != nil {
		return nil, nil, Malformed
	}
	own, ok := interface4(port)
	switch {
	case !ok:
		return nil, nil, NoAddress
	case req.OpCode != dhcpv4.OpcodeBootRequest:
		return nil, nil, NoQuestion
	case !bytes.Equal(req.ClientHWAddr, port.MAC[:]):
		return nil, nil, OtherMAC
	case !req.GatewayIPAddr.IsUnspecified():
		return nil, nil, Relayed
	case len(req.Options.Get(dhcpv4.OptionClientIdentifier)) > optionMost,
		len(req.Options.Get(dhcpv4.OptionRelayAgentInformation)) > optionMost:
		return nil, nil, TooLong
	}
	result := judge4(own, req)
	if !result.Answered() {
		return nil, nil, result
	}
	kind := map[Result]dhcpv4.MessageType{Offer: dhcpv4.MessageTypeOffer, Ack: dhcpv4.MessageTypeAck, Nak: dhcpv4.MessageTypeNak}[result]
	// The reply carries the client's identifier (RFC 6842) and what an agent on its way has added (RFC 3046 2.2).
	out, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(kind))
	if err != nil {
		return nil, nil, Malformed
	}
	out.HopCount, out.NumSeconds = 0, 0
	out.UpdateOption(dhcpv4.OptServerIdentifier(own.Gateway.AsSlice()))
	if result == Nak {
		out.ClientIPAddr = net.IPv4zero
		out.SetBroadcast() // the client has no address that it could be reached by
		return out.ToBytes(), out, result
	}
	if result == Ack && !req.ClientIPAddr.IsUnspecified() { // it has the address, and can be reached by it
		out.ClientIPAddr = own.Address.AsSlice()
	}
	if req.MessageType() != dhcpv4.MessageTypeInform {
		out.YourIPAddr = own.Address.AsSlice()
		out.UpdateOption(dhcpv4.OptIPAddressLeaseTime(forever))
	}
	if req.MessageType() == dhcpv4.MessageTypeDiscover && result == Ack {
		out.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))
	}
	r.configure4(out, port, own)
	return out.ToBytes(), out, result
}

// judge4 chooses the kind of answer (RFC 2131 4.3).
func judge4(own southbound.Interface, req *dhcpv4.DHCPv4) Result {
	server := req.ServerIdentifier()
	if server != nil && !server.Equal(own.Gateway.AsSlice()) {
		return OtherServer
	}
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		if req.Options.Has(dhcpv4.OptionRapidCommit) { // RFC 4039
			return Ack
		}
		return Offer
	case dhcpv4.MessageTypeRequest:
		wanted := req.RequestedIPAddress()
		if wanted == nil || wanted.IsUnspecified() {
			wanted = req.ClientIPAddr
		}
		if !wanted.Equal(own.Address.AsSlice()) {
			return Nak
		}
		return Ack
	case dhcpv4.MessageTypeInform:
		if !req.ClientIPAddr.Equal(own.Address.AsSlice()) {
			return Elsewhere
		}
		return Ack
	case dhcpv4.MessageTypeRelease:
		return Released
	case dhcpv4.MessageTypeDecline:
		return Declined
	}
	return NoQuestion
}

// configure4 adds what a workload has to know beside its address.
func (r Router) configure4(out *dhcpv4.DHCPv4, port southbound.Port, own southbound.Interface) {
	router := net.IP(own.Gateway.AsSlice())
	out.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(own.Bits, 32)))
	out.UpdateOption(dhcpv4.OptRouter(router))
	out.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(r.MTU)})
	if port.Name != "" {
		out.UpdateOption(dhcpv4.OptHostName(port.Name))
	}
	// Clients that know this option pass over the router option (RFC 3442), so it names the default route as well. A router
	// outside of the subnet is on the link all the same.
	var routes []*dhcpv4.Route
	if subnet := netip.PrefixFrom(own.Address, own.Bits); !subnet.Contains(own.Gateway) || own.Bits == 32 {
		routes = append(routes, &dhcpv4.Route{Dest: &net.IPNet{IP: router, Mask: net.CIDRMask(32, 32)}, Router: net.IPv4zero})
	}
	routes = append(routes, &dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Router: router})
	out.UpdateOption(dhcpv4.OptClasslessStaticRoute(routes...))
	if dns := resolvers(port, netip.Addr.Is4); len(dns) > 0 {
		out.UpdateOption(dhcpv4.OptDNS(dns...))
	}
}

// resolversMost bounds what an answer says of DNS; no stub resolver asks more than three.
const resolversMost = 8

// resolvers returns the DNS servers of one family.
func resolvers(port southbound.Port, family func(netip.Addr) bool) []net.IP {
	var out []net.IP
	for _, a := range port.DNS {
		if family(a) && len(out) < resolversMost {
			out = append(out, a.AsSlice())
		}
	}
	return out
}

// interface4 returns the port's IPv4 address, if it has a router.
func interface4(port southbound.Port) (southbound.Interface, bool) {
	for _, i := range port.Interfaces {
		if i.Address.Is4() && i.Gateway.Is4() {
			return i, true
		}
	}
	return southbound.Interface{}, false
}

// interface6 returns the port's IPv6 address. Its router is fe80::1 whatever the row says.
func interface6(port southbound.Port) (southbound.Interface, bool) {
	for _, i := range port.Interfaces {
		if i.Address.Is6() {
			return i, true
		}
	}
	return southbound.Interface{}, false
}
