// SPDX-License-Identifier: Apache-2.0

// Package state is the words of the control plane: what tenants wrote, with every reference resolved and every number
// decided, one VPC at a time. It holds types only.
package state

import "net/netip"

// Node is a machine that runs the agent.
type Node struct {
	Number  uint16
	Name    string
	Address netip.Addr // tunnel end
}

// VPC is one virtual network with all that is in it.
type VPC struct {
	VNI          uint32
	Tenant, Name string
	TenantNumber uint32
	Prefixes     []netip.Prefix
	Subnets      []Subnet     // ascending by number
	Ports        []Port       // ascending by name
	RouteTables  []RouteTable // that a subnet has, ascending by number
	Nodes        []Node       // that have a port of the VPC, ascending by number
}

// Subnet is a part of a VPC's addresses.
type Subnet struct {
	Number uint32 // inside the VPC, from 1
	Table  uint32 // number of the subnet's route table; 0: none
	Ranges []Range
	DNS    []netip.Addr
}

// Range is one prefix of a subnet, with the router's address in it.
type Range struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
}

// Port is an interface of a workload that is attached at a node. Ports that are attached nowhere are not part of the state.
type Port struct {
	Name      string
	Subnet    int // index in VPC.Subnets
	Addresses []netip.Addr
	MAC       [6]byte
	Sources   []netip.Prefix // that it may also send from, ascending
	Node      uint16
	Binding   string
}

// RouteTable is where packets go that leave the subnets that have it.
type RouteTable struct {
	Number uint32 // inside the VPC, from 1
	Routes []Route
}

// Route leads to a port, or, as a black hole, nowhere.
type Route struct {
	Prefix    netip.Prefix
	Blackhole bool
	Node      uint16 // of the port; 0: it is attached nowhere
	MAC       [6]byte
}
