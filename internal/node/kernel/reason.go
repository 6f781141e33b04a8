// SPDX-License-Identifier: Apache-2.0

package kernel

import "fmt"

// DropReason says why a packet was dropped. The numbers are those of enum drop_reason and never change.
type DropReason uint16

// Why a packet was dropped.
const (
	DropNone              DropReason = 0 // not a drop
	DropPortUnknown       DropReason = 1
	DropShort             DropReason = 2
	DropEthertype         DropReason = 3
	DropVLAN              DropReason = 4
	DropSrcMACSpoof       DropReason = 5
	DropSrcIPSpoof        DropReason = 6
	DropARPSpoof          DropReason = 7
	DropARPMalformed      DropReason = 8
	DropARPUnknown        DropReason = 9
	DropBroadcast         DropReason = 10
	DropMulticast         DropReason = 11
	DropDstMAC            DropReason = 12
	DropIPMalformed       DropReason = 13
	DropIPv6Unsupported   DropReason = 14
	DropTTLExpired        DropReason = 15
	DropTooBig            DropReason = 16
	DropNoLocation        DropReason = 17
	DropNotLocal          DropReason = 18
	DropTunnelKey         DropReason = 19
	DropTunnelPeerUnknown DropReason = 20
	DropHostToPort        DropReason = 21
	DropRouterProto       DropReason = 22
	DropEncap             DropReason = 23
	DropToSelf            DropReason = 24
	DropRewrite           DropReason = 25
	DropChecksum          DropReason = 26
	DropExtHeader         DropReason = 27
	DropNDSpoof           DropReason = 28
	DropNDMalformed       DropReason = 29
	DropNDUnknown         DropReason = 30
	DropRAGuard           DropReason = 31
	DropRouterSolicit     DropReason = 32
	DropLinkLocal         DropReason = 33
	DropIPOptions         DropReason = 34
	DropPuntRate          DropReason = 35
	DropDHCPServer        DropReason = 36
	DropBlackhole         DropReason = 37
)

// dropTexts is the word and the sentence for each reason.
var dropTexts = [...]struct{ word, meaning string }{
	DropNone:              {"none", "not dropped"},
	DropPortUnknown:       {"port-unknown", "no port is known at the device"},
	DropShort:             {"short", "a header is cut off"},
	DropEthertype:         {"ethertype", "neither IP nor ARP, or ARP through the tunnel"},
	DropVLAN:              {"vlan", "an 802.1Q or 802.1ad tag"},
	DropSrcMACSpoof:       {"src-mac-spoof", "source MAC is not the port's"},
	DropSrcIPSpoof:        {"src-ip-spoof", "source address is not the port's"},
	DropARPSpoof:          {"arp-spoof", "ARP sender is not the port"},
	DropARPMalformed:      {"arp-malformed", "not Ethernet/IPv4 ARP, or an ARP reply nobody asked for"},
	DropARPUnknown:        {"arp-unknown", "ARP asks for an address that nobody has"},
	DropBroadcast:         {"broadcast", "to all stations of the segment"},
	DropMulticast:         {"multicast", "to a group"},
	DropDstMAC:            {"dst-mac", "to a MAC that is neither the router's nor the addressee's"},
	DropIPMalformed:       {"ip-malformed", "IP header that cannot be: version or length"},
	DropIPv6Unsupported:   {"ipv6-unsupported", "IPv6 from a port that has no IPv6 address"},
	DropTTLExpired:        {"ttl-expired", "TTL would fall to 0 at the router"},
	DropTooBig:            {"too-big", "longer than the overlay's MTU"},
	DropNoLocation:        {"no-location", "destination address lives nowhere in the VPC"},
	DropNotLocal:          {"not-local", "came through the tunnel for an address that is not at this node"},
	DropTunnelKey:         {"tunnel-key", "came to the tunnel device without tunnel data"},
	DropTunnelPeerUnknown: {"tunnel-peer-unknown", "outer source is not a node that may send this VNI"},
	DropHostToPort:        {"host-to-port", "from the host itself to a port"},
	DropRouterProto:       {"router-proto", "to the virtual router, other than ICMP echo"},
	DropEncap:             {"encap", "tunnel data could not be set"},
	DropToSelf:            {"to-self", "to the port's own address, which its own stack should have kept"},
	DropRewrite:           {"rewrite", "headers could not be rewritten: no memory"},
	DropChecksum:          {"checksum", "asks for a checksum to be written into a header that was checked"},
	DropExtHeader:         {"ext-header", "IPv6 extension headers: source routing, too many, or in the wrong place"},
	DropNDSpoof:           {"nd-spoof", "Neighbor Discovery whose sender is not the port"},
	DropNDMalformed:       {"nd-malformed", "Neighbor Discovery that cannot be: hop limit, length, option or fragment"},
	DropNDUnknown:         {"nd-unknown", "Neighbor Discovery asks for an address that nobody has"},
	DropRAGuard:           {"ra-guard", "router advertisement or redirect from a port"},
	DropRouterSolicit:     {"router-solicit", "asks somebody else than the router for an advertisement"},
	DropLinkLocal:         {"link-local", "between a link-local address and another than the router"},
	DropIPOptions:         {"ip-options", "IPv4 options that choose the way: source routes"},
	DropPuntRate:          {"punt-rate", "more to the agent than a port may send it"},
	DropDHCPServer:        {"dhcp-server", "a port answers as if it were a DHCP server"},
	DropBlackhole:         {"blackhole", "a route of the VPC says so"},
}

// DropReasons returns every reason, in order of number.
func DropReasons() []DropReason {
	var reasons []DropReason
	for r := DropNone + 1; int(r) < len(dropTexts); r++ {
		reasons = append(reasons, r)
	}
	return reasons
}

// String returns the word for the reason, as everybody sees it: src-ip-spoof.
func (r DropReason) String() string {
	if int(r) < len(dropTexts) {
		return dropTexts[r].word
	}
	return fmt.Sprintf("reason%d", uint16(r))
}

// Meaning returns the reason in a sentence.
func (r DropReason) Meaning() string {
	if int(r) < len(dropTexts) {
		return dropTexts[r].meaning
	}
	return "a reason that this build does not know"
}
