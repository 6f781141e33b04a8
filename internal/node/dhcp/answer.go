// SPDX-License-Identifier: Apache-2.0

// Package dhcp gives workloads the addresses of their ports by DHCPv4: always the port's own, for ever, and to its MAC only.
package dhcp

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"weft/internal/southbound"
)

// ErrIgnored is the error of a well-formed message that needs no answer, or not one of ours.
var ErrIgnored = errors.New("no answer")

// maxRequest is longer than what a client sends on any link of ours, and bounds the work for one message.
const maxRequest = 1500

// forever is the lease time that never ends (RFC 2131, 3.3).
const forever = math.MaxUint32 * time.Second

// Answer returns the DHCP message that answers request, the payload of a UDP packet from the port. It depends on nothing
// but its arguments: the port's row is the lease.
func Answer(port southbound.Port, mtu int, request []byte) (reply []byte, err error) {
	if len(request) > maxRequest {
		return nil, fmt.Errorf("read request: %d bytes are too many", len(request))
	}
	req, err := dhcpv4.FromBytes(request)
	if err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	own, ok := address4(port)
	if err := refuse(port, req, ok); err != nil {
		return nil, err
	}
	kind, err := answerType(own, req)
	if err != nil {
		return nil, err
	}
	out, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(kind), dhcpv4.WithServerIP(own.Gateway.AsSlice()))
	if err != nil {
		return nil, fmt.Errorf("make answer: %w", err)
	}
	out.UpdateOption(dhcpv4.OptServerIdentifier(own.Gateway.AsSlice()))
	if kind == dhcpv4.MessageTypeNak {
		out.ServerIPAddr = net.IPv4zero
		out.SetBroadcast() // the client has no address that it could be reached by
		return out.ToBytes(), nil
	}
	if req.MessageType() == dhcpv4.MessageTypeInform {
		out.ClientIPAddr = own.Address.AsSlice()
	} else {
		out.YourIPAddr = own.Address.AsSlice()
		out.UpdateOption(dhcpv4.OptIPAddressLeaseTime(forever))
	}
	configure(out, port, own, mtu)
	return out.ToBytes(), nil
}

// refuse says why a message is not answered, whatever it asks for.
func refuse(port southbound.Port, req *dhcpv4.DHCPv4, hasAddress bool) error {
	switch {
	case !hasAddress:
		return fmt.Errorf("%w: the port has no IPv4 address with a router", ErrIgnored)
	case req.OpCode != dhcpv4.OpcodeBootRequest:
		return fmt.Errorf("%w: not a request", ErrIgnored)
	case !bytes.Equal(req.ClientHWAddr, port.MAC[:]):
		return fmt.Errorf("%w: for %s, not for the port's own MAC", ErrIgnored, req.ClientHWAddr)
	case !req.GatewayIPAddr.IsUnspecified():
		return fmt.Errorf("%w: relayed by %s", ErrIgnored, req.GatewayIPAddr)
	}
	return nil
}

// answerType chooses the kind of answer.
func answerType(own southbound.Interface, req *dhcpv4.DHCPv4) (dhcpv4.MessageType, error) {
	server := req.ServerIdentifier()
	switch kind := req.MessageType(); {
	case server != nil && !server.Equal(own.Gateway.AsSlice()):
		return 0, fmt.Errorf("%w: the client chose server %s", ErrIgnored, server)
	case kind == dhcpv4.MessageTypeDiscover:
		return dhcpv4.MessageTypeOffer, nil
	case kind == dhcpv4.MessageTypeRequest:
		wanted := req.RequestedIPAddress()
		if wanted == nil {
			wanted = req.ClientIPAddr
		}
		if !wanted.Equal(own.Address.AsSlice()) {
			return dhcpv4.MessageTypeNak, nil
		}
		return dhcpv4.MessageTypeAck, nil
	case kind == dhcpv4.MessageTypeInform && req.ClientIPAddr.Equal(own.Address.AsSlice()):
		return dhcpv4.MessageTypeAck, nil
	default: // release and decline change nothing: the address is the port's whatever its workload says
		return 0, fmt.Errorf("%w: %s", ErrIgnored, kind)
	}
}

// configure adds what a workload has to know beside its address.
func configure(out *dhcpv4.DHCPv4, port southbound.Port, own southbound.Interface, mtu int) {
	router := net.IP(own.Gateway.AsSlice())
	out.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(own.Bits, 32)))
	out.UpdateOption(dhcpv4.OptRouter(router))
	out.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(mtu)})
	out.UpdateOption(dhcpv4.OptHostName(port.Name))
	// Clients that know this option pass over the router option (RFC 3442), so it names the default route as well.
	out.UpdateOption(dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Router: router}))
	var dns []net.IP
	for _, a := range port.DNS {
		if a.Is4() {
			dns = append(dns, a.AsSlice())
		}
	}
	if len(dns) > 0 {
		out.UpdateOption(dhcpv4.OptDNS(dns...))
	}
}

// address4 returns the port's IPv4 interface.
func address4(port southbound.Port) (southbound.Interface, bool) {
	for _, i := range port.Interfaces {
		if i.Address.Is4() && i.Gateway.Is4() {
			return i, true
		}
	}
	return southbound.Interface{}, false
}
