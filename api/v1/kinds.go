// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Tenant is a customer: the owner of VPCs, and the unit of isolation, quota and accounting.
type Tenant struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     TenantSpec   `json:"spec,omitzero"`
	Status   TenantStatus `json:"status,omitzero" readOnly:"true"`
}

// TenantSpec is what an operator decides about a tenant.
type TenantSpec struct {
	Quota Quota `json:"quota,omitzero" doc:"Upper bounds; 0 or absent means the default."`
}

// Quota bounds how many resources a tenant may have.
type Quota struct {
	VPCs        int `json:"vpcs,omitempty" doc:"VPCs of the tenant. Default 100." minimum:"0" must:"a whole number, 0 or more" example:"10"`
	Subnets     int `json:"subnets,omitempty" doc:"Subnets of the tenant. Default 1000." minimum:"0" must:"a whole number, 0 or more" example:"200"`
	Ports       int `json:"ports,omitempty" doc:"Ports of the tenant. Default 100000." minimum:"0" must:"a whole number, 0 or more" example:"5000"`
	RouteTables int `json:"routeTables,omitempty" doc:"Route tables of the tenant. Default 200." minimum:"0" must:"a whole number, 0 or more" example:"20"`
	Routes      int `json:"routes,omitempty" doc:"Entries of all route tables of the tenant: of each its routes, and two for each range of its VPC's subnets. Nodes share room for 65536. Default 8192." minimum:"0" must:"a whole number, 0 or more" example:"2000"`
}

// TenantStatus is what the system knows about a tenant.
type TenantStatus struct {
	Number uint32 `json:"number,omitempty" doc:"Number that stands for the tenant in counters."`
}

// Node is a machine that runs the agent.
type Node struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     NodeSpec   `json:"spec"`
	Status   NodeStatus `json:"status,omitzero" readOnly:"true"`
}

// NodeSpec is what an operator (or the node, when it joins) decides about a node.
type NodeSpec struct {
	Address netip.Addr `json:"address" doc:"Underlay address of the node's tunnel end (VTEP), IPv4 or IPv6: of one family in the whole cluster." example:"198.19.0.3" must:"an address of the node itself, neither loopback nor multicast, that no other node has"`
	Roles   []string   `json:"roles" doc:"What the node does: host, edge." example:"[\"host\"]" must:"one or more of host and edge, each once"`
	Site    string     `json:"site,omitempty" doc:"Data centre of the node." must:"a name: lower-case letters, digits and '-' between them, at most 63" example:"north"`
	Drained bool       `json:"drained,omitempty" doc:"No further ports are attached at the node; those that are stay until they are detached or moved." must:"true or false" example:"true"`
}

// States of a node.
const (
	NodeReady    = "Ready"    // its agent is connected and in sync
	NodeSyncing  = "Syncing"  // connected, and not in sync
	NodeDegraded = "Degraded" // in sync, except what its status says
	NodeGone     = "Gone"     // silent for 2.5 s
	NodeNever    = "Never"    // not seen since the server started
)

// NodeStatus is what the system knows about a node.
type NodeStatus struct {
	Number   uint16    `json:"number,omitempty" doc:"Number that stands for the node in rows; never given to another node."`
	Machine  string    `json:"machine,omitempty" doc:"Identity of the machine that is the node, which its agent made when it first started."`
	Ready    bool      `json:"ready" doc:"The node's agent is connected and in sync."`
	State    string    `json:"state,omitempty" doc:"Ready, Syncing, Degraded (the node itself is not as it should be, and what runs there goes on), Gone (silent for 2.5 s) or Never (not seen since the server started)."`
	Reason   string    `json:"reason,omitempty" doc:"Degraded: what is wrong."`
	Ports    int       `json:"ports" doc:"Ports attached at the node."`
	Rows     int       `json:"rows" doc:"Rows that the node holds."`
	Version  string    `json:"version,omitempty" doc:"Build of the agent."`
	Kernel   string    `json:"kernel,omitempty" doc:"Kernel release of the node."`
	LastSeen time.Time `json:"lastSeen,omitzero" doc:"When the node was last heard."`

	CertificateEnds time.Time `json:"certificateEnds,omitzero" doc:"When the certificate ends by which the node is known, unless it is renewed before; absent: it was not connected since the server started."`
}

// VPC is a tenant's private network: addresses of the tenant's own choice behind one distributed virtual router.
type VPC struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     VPCSpec   `json:"spec"`
	Status   VPCStatus `json:"status,omitzero" readOnly:"true"`
}

// VPCSpec is what a tenant decides about a VPC.
type VPCSpec struct {
	Prefixes []netip.Prefix `json:"prefixes" doc:"Address ranges of the VPC, IPv4 (/8 to /28) and IPv6 (/16 to /124) in any mix; they may overlap with other VPCs and with the underlay." example:"[\"10.0.0.0/16\",\"fd00::/48\"]" must:"at most 64 ranges that are apart, without bits beyond their length: IPv4 /8 to /28, IPv6 /16 to /124"`
}

// VPCStatus is what the system decided and knows about a VPC.
type VPCStatus struct {
	VNI     uint32  `json:"vni,omitempty" doc:"VXLAN network identifier (24 bits) of the VPC."`
	Applied Applied `json:"applied,omitzero" doc:"Where the VPC is in effect."`
}

// Subnet is a range of a VPC's addresses with the router as its first hop.
type Subnet struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     SubnetSpec   `json:"spec"`
	Status   SubnetStatus `json:"status,omitzero" readOnly:"true"`
}

// SubnetSpec is what a tenant decides about a subnet.
type SubnetSpec struct {
	VPC      string         `json:"vpc" doc:"Name of the VPC." example:"main" must:"a VPC of the tenant; it cannot change"`
	Prefixes []netip.Prefix `json:"prefixes" doc:"Ranges of the subnet, inside a prefix of the VPC and apart from its other subnets: IPv4 (to /29), IPv6 (to /124) or both." example:"[\"10.0.1.0/24\",\"fd00:0:0:1::/64\"]" must:"at most 64 ranges without bits beyond their length, inside the VPC's, apart from other subnets: IPv4 to /29, IPv6 to /124"`
	Gateway  netip.Addr     `json:"gateway,omitzero" doc:"Address of the virtual router in the range that holds it; in each other range it has the first address. Default: the first address of the first range." example:"10.0.1.1" must:"an address in one of the subnet's ranges, neither its first nor, in IPv4, its last"`
	DNS      []netip.Addr   `json:"dns,omitempty" doc:"Resolvers that workloads are told." must:"at most 8 addresses" example:"[\"10.0.9.53\"]"`
}

// SubnetStatus is what the system decided and knows about a subnet.
type SubnetStatus struct {
	Number  uint32  `json:"number,omitempty" doc:"Number that stands for the subnet inside its VPC."`
	Applied Applied `json:"applied,omitzero" doc:"Where the subnet is in effect."`
}

// Port is one interface of a workload.
type Port struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     PortSpec   `json:"spec"`
	Status   PortStatus `json:"status,omitzero" readOnly:"true"`
}

// PortSpec is what a tenant decides about a port.
type PortSpec struct {
	Subnet         string         `json:"subnet" doc:"Name of the subnet." example:"web" must:"a subnet of the tenant; it cannot change"`
	Addresses      []netip.Addr   `json:"addresses,omitempty" doc:"Addresses of the port, one of each family at most. Default: the lowest free one of each family that the subnet has. What is named here is all that the port has." example:"[\"10.0.1.4\",\"fd00:0:0:1::4\"]" must:"one address of each family at most, in the subnet, free, and not one of its first four or, in IPv4, its last"`
	MAC            MAC            `json:"mac,omitzero" doc:"Ethernet address: unicast, locally administered unless it is a real card's. Default: made by the system." example:"02:00:00:00:00:01" must:"a unicast address that no other port of the VPC has"`
	Node           string         `json:"node,omitempty" doc:"Node on which the port may be attached. Default: any." must:"the name of a node; it cannot change while the port is attached elsewhere" example:"host-1"`
	AllowedSources []netip.Prefix `json:"allowedSources,omitempty" doc:"Ranges that the port may send from besides its own addresses, at most 32: for a workload that routes, or shares an address with others. 0.0.0.0/0 and ::/0 are all of a family. A route via the port needs one." example:"[\"0.0.0.0/0\"]" must:"at most 32 ranges without bits beyond their length, each once"`
}

// PortStatus is what the system decided and knows about a port.
type PortStatus struct {
	Addresses []netip.Addr `json:"addresses,omitempty" doc:"Addresses of the port, given or chosen."`
	MAC       MAC          `json:"mac,omitzero" doc:"Ethernet address of the port, given or chosen."`
	VPC       string       `json:"vpc,omitempty" doc:"VPC of the port's subnet."`
	VNI       uint32       `json:"vni,omitempty" doc:"VXLAN network identifier of the VPC."`
	Node      string       `json:"node,omitempty" doc:"Node at which the port is attached."`
	Binding   string       `json:"binding,omitempty" doc:"Identity of the attachment; a new attach or move has another." readOnly:"true"`
	State     string       `json:"state,omitempty" doc:"Detached, Attached (its node has it in effect), Pending (claimed, not in effect yet) or NodeGone."`
	Applied   Applied      `json:"applied,omitzero" doc:"Where the port's location is in effect."`
}

// RouteTable says for some subnets of a VPC where packets go that leave the subnet, instead of straight to their
// destination.
type RouteTable struct {
	TypeMeta
	Metadata `json:"metadata"`
	Spec     RouteTableSpec   `json:"spec"`
	Status   RouteTableStatus `json:"status,omitzero" readOnly:"true"`
}

// RouteTableSpec is what a tenant decides about a route table.
type RouteTableSpec struct {
	VPC     string   `json:"vpc" doc:"Name of the VPC." example:"main" must:"a VPC of the tenant; it cannot change"`
	Subnets []string `json:"subnets,omitempty" doc:"Subnets of the VPC whose packets to the router ask the table, at most 1000. A subnet has one table at most." example:"[\"web\"]" must:"at most 1000 subnets of the VPC that no other table has"`
	Routes  []Route  `json:"routes,omitempty" doc:"At most 1000. The longest prefix wins, over the VPC's subnets, too; what no route takes goes as without a table."`
}

// Route is one entry of a route table.
type Route struct {
	To  netip.Prefix `json:"to" doc:"Destinations that the route takes, once in a table." example:"0.0.0.0/0" must:"a range without bits beyond its length, once in a table"`
	Via string       `json:"via" doc:"port/NAME: to this port of the VPC, which needs allowedSources, because it sends on what is not its own. blackhole: nowhere; the sender is told." example:"port/fw-1" must:"port/NAME of a port of the VPC that has allowedSources, or blackhole"`
}

// ViaBlackhole is the way of a route that leads nowhere.
const ViaBlackhole = "blackhole"

// Port returns the name of the port that the route leads to; ok is false where it leads to none.
func (r Route) Port() (name string, ok bool) { return strings.CutPrefix(r.Via, "port/") }

// Uses reports whether a route of the table leads to the port.
func (r *RouteTable) Uses(port string) bool {
	return slices.ContainsFunc(r.Spec.Routes, func(route Route) bool { p, ok := route.Port(); return ok && p == port })
}

// RouteTableStatus is what the system decided and knows about a route table.
type RouteTableStatus struct {
	Number  uint32  `json:"number,omitempty" doc:"Number that stands for the table inside its VPC."`
	Applied Applied `json:"applied,omitzero" doc:"Where the table is in effect."`
}

// GetKind returns KindTenant.
func (*Tenant) GetKind() Kind { return KindTenant }

// GetKind returns KindNode.
func (*Node) GetKind() Kind { return KindNode }

// GetKind returns KindVPC.
func (*VPC) GetKind() Kind { return KindVPC }

// GetKind returns KindSubnet.
func (*Subnet) GetKind() Kind { return KindSubnet }

// GetKind returns KindPort.
func (*Port) GetKind() Kind { return KindPort }

// GetKind returns KindRouteTable.
func (*RouteTable) GetKind() Kind { return KindRouteTable }

// ClearStatus empties the status.
func (t *Tenant) ClearStatus() { t.Status = TenantStatus{} }

// ClearStatus empties the status.
func (n *Node) ClearStatus() { n.Status = NodeStatus{} }

// ClearStatus empties the status.
func (v *VPC) ClearStatus() { v.Status = VPCStatus{} }

// ClearStatus empties the status.
func (s *Subnet) ClearStatus() { s.Status = SubnetStatus{} }

// ClearStatus empties the status.
func (p *Port) ClearStatus() { p.Status = PortStatus{} }

// ClearStatus empties the status.
func (r *RouteTable) ClearStatus() { r.Status = RouteTableStatus{} }
