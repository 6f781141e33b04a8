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
	Subnets      []Subnet // ascending by number
	Ports        []Port   // ascending by name
	Nodes        []Node   // that have a port of the VPC, ascending by number
}

// Subnet is a part of a VPC's addresses.
type Subnet struct {
	Number uint32 // inside the VPC, from 1
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
	Node      uint16
	Binding   string
}
