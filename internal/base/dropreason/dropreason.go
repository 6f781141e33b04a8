// SPDX-License-Identifier: Apache-2.0

// Package dropreason says for each reason for which the packet path drops a packet what it means, what is usually behind it, and
// what to do. Numbers are those of enum drop_reason in bpf/abi/drop.h and never change.
package dropreason

// Reason is why a packet was dropped.
type Reason struct {
	Word    string // as everybody sees it: src-ip-spoof
	Meaning string // in a sentence, as in bpf/abi/drop.h
	Why     string // what is usually behind it
	Mend    string // what to do
}

// ByNumber returns a reason; false if this build does not know it.
func ByNumber(n int) (Reason, bool) {
	if n < 0 || n >= len(reasons) {
		return Reason{}, false
	}
	return reasons[n], true
}

// ByWord finds a reason and its number.
func ByWord(word string) (n int, r Reason, ok bool) {
	for n, r := range reasons {
		if n > 0 && r.Word == word {
			return n, r, true
		}
	}
	return 0, Reason{}, false
}

// Count is the number of reasons; the first, 0, is no drop.
func Count() int { return len(reasons) }

const (
	nothing  = "Nothing: the rest of the workload's traffic is not touched."
	bug      = "If it counts on, report it with 'weft dump account' and 'weft dump drop' of the node."
	spoofing = "Find out who sends it: 'weft get drops' names tenant and node. Nothing of it gets through."
)

var reasons = [...]Reason{
	0: {"none", "not dropped", "", ""},
	1: {
		"port-unknown", "no port is known at the device",
		"The port was deleted or detached this moment, or its rows are not there yet.",
		"If it counts on: 'weft describe port' and 'weft status' say whether the node has the port's rows.",
	},
	2: {
		"short", "a header is cut off",
		"The frame ends before its own headers do: a broken driver, or somebody who tries what happens.", nothing,
	},
	3: {
		"ethertype", "neither IP nor ARP, or ARP through the tunnel",
		"The workload speaks a protocol of the link, such as LLDP or spanning tree. A VPC carries IPv4, IPv6 and ARP.", "Switch the protocol off in the workload, or leave it: it does no harm.",
	},
	4: {
		"vlan", "an 802.1Q or 802.1ad tag",
		"The workload sends on a VLAN interface.", "Configure the address on the interface itself, without a VLAN.",
	},
	5: {
		"src-mac-spoof", "source MAC is not the port's",
		"The workload bridges others, or has another MAC than the port: a copied machine, a changed interface.",
		"Give the interface the MAC that 'weft describe port' shows, or give each machine behind it a port of its own.",
	},
	6: {
		"src-ip-spoof", "source address is not the port's",
		"The workload routes, answers for a shared address, or has an address that was configured by hand.",
		"Use the address that 'weft describe port' shows; for a router or a shared address, write the ranges into allowedSources of the port.",
	},
	7: {
		"arp-spoof", "ARP sender is not the port",
		"The workload says in ARP that an address is its own that the port does not have.", "The same as for src-ip-spoof: use the port's address, or allowedSources.",
	},
	8: {
		"arp-malformed", "not Ethernet/IPv4 ARP, or an ARP reply nobody asked for",
		"Replies that nobody asked for are how addresses are announced on a wire. Here, the system knows where addresses live.", nothing,
	},
	9: {
		"arp-unknown", "ARP asks for an address that nobody has",
		"The workload looks for a neighbour that is not there, or not attached.", "'weft get ports' shows who has which address; attach the port, or correct the address in the workload.",
	},
	10: {
		"broadcast", "to all stations of the segment",
		"Nothing is flooded in a VPC; DHCP and ARP are answered at the port.", "Name the receiver: use unicast, or a name service.",
	},
	11: {
		"multicast", "to a group",
		"Groups are not carried. What IPv6 needs of them is answered at the port.", "Use unicast.",
	},
	12: {
		"dst-mac", "to a MAC that is neither the router's nor the addressee's",
		"The workload has an entry in its neighbour table that was written by hand, or is older than a port that was made anew.", "Clear the workload's neighbour table (ip neigh flush all).",
	},
	13: {
		"ip-malformed", "IP header that cannot be: version or length",
		"A broken program or driver in the workload, or somebody who tries what happens.", nothing,
	},
	14: {
		"ipv6-unsupported", "IPv6 from a port that has no IPv6 address",
		"Every system tries IPv6 as it starts.", "Nothing; or give the subnet an IPv6 range and the port an address of it.",
	},
	15: {
		"ttl-expired", "TTL would fall to 0 at the router",
		"That is how traceroute works; the sender is told. If not traceroute: packets that go round in a circle of appliances.", "'weft trace' shows the way that the packet takes.",
	},
	16: {
		"too-big", "longer than the overlay's MTU",
		"The sender has a larger MTU than the VPC, and forbids fragments; it is told the right MTU.",
		"Let the workload take its MTU by DHCP, and let ICMP through its own firewall.",
	},
	17: {
		"no-location", "destination address lives nowhere in the VPC",
		"No attached port has the address, and no route takes it; the sender is told.", "'weft trace' says what is missing: an attachment, an address, or a route.",
	},
	18: {
		"not-local", "came through the tunnel for an address that is not at this node",
		"The port has just moved, and the sender's node has not heard of it yet.", "If it counts on for seconds: 'weft status' says which node lags behind.",
	},
	19: {
		"tunnel-key", "came to the tunnel device without tunnel data",
		"Something on the node sends to weft-vx itself.", "Find the program on the node that sends to weft-vx, and stop it.",
	},
	20: {
		"tunnel-peer-unknown", "outer source is not a node that may send this VNI",
		"VXLAN from a machine that is no node, or from a node that does not host the VPC (any more). In the second after a port came or went, also from nodes that lag.",
		"If it counts on: find the sender on the underlay (UDP port 4789). It is an attack, or a machine that was removed and still runs.",
	},
	21: {
		"host-to-port", "from the host itself to a port",
		"A program of the node sends to a workload's device. Nodes and workloads have no way to each other.", "Reach the workload from a port of its VPC.",
	},
	22: {
		"router-proto", "to the virtual router, other than ICMP echo",
		"The router answers pings, and is no host: it serves neither DNS nor anything else.", "Address the service itself.",
	},
	23: {
		"encap", "tunnel data could not be set",
		"The kernel refused to prepare the tunnel.", bug,
	},
	24: {
		"to-self", "to the port's own address, which its own stack should have kept",
		"A route of the VPC leads an appliance's own packets back to it.", "Give the appliance's subnet a route table that does not lead to itself.",
	},
	25: {
		"rewrite", "headers could not be rewritten: no memory",
		"The node has no memory for packets.", "Look at the node's memory.",
	},
	26: {
		"checksum", "asks for a checksum to be written into a header that was checked",
		"A virtual machine asks its card to change what the port's checks have seen.", spoofing,
	},
	27: {
		"ext-header", "IPv6 extension headers: source routing, too many, or in the wrong place",
		"Headers that would let a packet choose its way, or hide what it is.", "Send without them.",
	},
	28: {
		"nd-spoof", "Neighbor Discovery whose sender is not the port",
		"The workload announces an IPv6 address or a MAC that the port does not have.", "The same as for src-ip-spoof: use the port's address, or allowedSources.",
	},
	29: {
		"nd-malformed", "Neighbor Discovery that cannot be: hop limit, length, option or fragment",
		"A broken program in the workload, or an attack on its neighbours.", spoofing,
	},
	30: {
		"nd-unknown", "Neighbor Discovery asks for an address that nobody has",
		"The workload looks for a neighbour that is not there, or not attached.", "'weft get ports' shows who has which address; attach the port, or correct the address in the workload.",
	},
	31: {
		"ra-guard", "router advertisement or redirect from a port",
		"The workload wants to be the router of its neighbours: a router's daemon that runs by mistake, or an attack.", "Stop the daemon; to route, be the target of a route table.",
	},
	32: {
		"router-solicit", "asks somebody else than the router for an advertisement",
		"A question for routers that names a single station.", nothing,
	},
	33: {
		"link-local", "between a link-local address and another than the router",
		"Link-local addresses (fe80::/10, 169.254.0.0/16) are good for the router only.", "Use the ports' own addresses between workloads.",
	},
	34: {
		"ip-options", "IPv4 options that choose the way: source routes",
		"Source routes would lead around the VPC's routes.", "Send without them.",
	},
	35: {
		"punt-rate", "more to the agent than a port may send it",
		"A workload asks for leases much more often than it needs: a client in a loop, or an attack on the agent.", "Find out why the workload's DHCP client starts again and again.",
	},
	36: {
		"dhcp-server", "a port answers as if it were a DHCP server",
		"A DHCP server runs in the workload. Addresses come from the system.", "Stop it, or let it serve its own inner networks only.",
	},
	37: {
		"blackhole", "a route of the VPC says so",
		"A route table has a route via blackhole that takes this destination; the sender is told.", "'weft trace' names the route table.",
	},
}
