// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	v1 "weft/api/v1"
	"weft/internal/control/ipam"
)

// port checks a port and gives it address and MAC where it names none.
func (a *admission) port(o, old *v1.Port) error {
	if old != nil && old.Spec.Subnet != o.Spec.Subnet {
		return refuse(o, http.StatusConflict, v1.CodeImmutable, "spec.subnet", "make another port in the other subnet",
			"the port is in subnet %s and stays there", old.Spec.Subnet)
	}
	found, ok := a.tx.Get(v1.KindSubnet, o.Tenant, o.Spec.Subnet)
	if !ok {
		return refuse(o, http.StatusUnprocessableEntity, v1.CodeNoReference, "spec.subnet", "create the subnet first, or put it into the same set of documents",
			"tenant %s has no subnet %q", o.Tenant, o.Spec.Subnet)
	}
	subnet := found.(*v1.Subnet)
	vpc, ok := a.tx.Get(v1.KindVPC, o.Tenant, subnet.Spec.VPC)
	if !ok {
		return refuse(o, http.StatusUnprocessableEntity, v1.CodeNoReference, "spec.subnet", "", "the VPC %q of subnet %s is gone", subnet.Spec.VPC, subnet.Name)
	}
	o.Status.VPC, o.Status.VNI = subnet.Spec.VPC, vpc.(*v1.VPC).Status.VNI
	if err := a.portNode(o); err != nil {
		return err
	}
	if old != nil && old.Status.Node != "" && changesInterface(o, old) {
		return refuse(o, http.StatusConflict, v1.CodePrecondition, "spec", fmt.Sprintf("detach it first: weft detach %s/%s on node %s", o.Tenant, o.Name, old.Status.Node),
			"address and MAC of a port cannot change while it is attached")
	}
	pool := a.pool(o.Tenant, subnet.Spec.VPC)
	if err := takeAddress(pool, o, subnet); err != nil {
		return err
	}
	return takeMAC(pool, o)
}

// changesInterface reports whether a spec asks for another address or MAC than the port has.
func changesInterface(o, old *v1.Port) bool {
	return (len(o.Spec.Addresses) > 0 && !slices.Equal(o.Spec.Addresses, old.Status.Addresses)) ||
		(!o.Spec.MAC.IsZero() && o.Spec.MAC != old.Status.MAC)
}

// portNode checks that the node which a port must be at exists, and that the port is not attached elsewhere.
func (a *admission) portNode(o *v1.Port) error {
	if o.Spec.Node == "" {
		return nil
	}
	if _, ok := a.tx.Get(v1.KindNode, "", o.Spec.Node); !ok {
		return refuse(o, http.StatusUnprocessableEntity, v1.CodeNoReference, "spec.node", "'weft get nodes' lists the nodes; leave it out to attach anywhere",
			"there is no node %q", o.Spec.Node)
	}
	if o.Status.Node != "" && o.Status.Node != o.Spec.Node {
		return refuse(o, http.StatusConflict, v1.CodeWrongNode, "spec.node", "detach the port first",
			"the port is attached at node %s", o.Status.Node)
	}
	return nil
}

// pool returns what is taken in a VPC, read once a transaction.
func (a *admission) pool(tenant, vpc string) *ipam.Pool {
	key := tenant + "/" + vpc
	if p, ok := a.pools[key]; ok {
		return p
	}
	p := ipam.NewPool()
	for _, o := range a.tx.List(v1.KindPort, tenant) {
		port := o.(*v1.Port)
		if port.Status.VPC != vpc {
			continue
		}
		for _, addr := range port.Status.Addresses {
			p.Take(addr, port.Name)
		}
		p.TakeMAC(port.Status.MAC, port.Name)
	}
	a.pools[key] = p
	return p
}

// takeAddress gives the port the address that it names, the one that it has, or the lowest that is free.
func takeAddress(pool *ipam.Pool, o *v1.Port, s *v1.Subnet) error {
	if len(o.Spec.Addresses) == 0 && len(o.Status.Addresses) > 0 {
		return nil
	}
	if len(o.Spec.Addresses) == 0 {
		for _, p := range s.Spec.Prefixes {
			reserved := func(a netip.Addr) bool { return s.Reserved(a) != "" }
			if addr, ok := pool.Lowest(p, reserved, o.Name); ok {
				o.Status.Addresses = []netip.Addr{addr}
				return nil
			}
		}
		return refuse(o, http.StatusConflict, v1.CodeExhausted, "spec.addresses", "delete ports, or add a range to the subnet",
			"no address is free in %s of subnet %s", joinPrefixes(s.Spec.Prefixes), s.Name)
	}
	for _, had := range o.Status.Addresses {
		pool.Release(had, ipam.MAC{}, o.Name)
	}
	o.Status.Addresses = nil
	for i, addr := range o.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		if !slices.ContainsFunc(s.Spec.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return refuse(o, http.StatusUnprocessableEntity, v1.CodeOutside, field, "choose an address of the subnet, or leave it out to get one",
				"%s is not in subnet %s (%s)", addr, s.Name, joinPrefixes(s.Spec.Prefixes))
		}
		if why := s.Reserved(addr); why != "" {
			return refuse(o, http.StatusUnprocessableEntity, v1.CodeReserved, field, "choose another address, or leave it out to get one",
				"%s cannot be a port's: %s", addr, why)
		}
		if other, ok := pool.Take(addr, o.Name); !ok {
			return refuse(o, http.StatusConflict, v1.CodeInUse, field, "choose another address, or leave it out to get one",
				"%s is the address of port %s", addr, other)
		}
		o.Status.Addresses = append(o.Status.Addresses, addr)
	}
	return nil
}

// takeMAC gives the port the MAC that it names, the one that it has, or one that is free.
func takeMAC(pool *ipam.Pool, o *v1.Port) error {
	switch {
	case !o.Spec.MAC.IsZero():
		if other, ok := pool.TakeMAC(o.Spec.MAC, o.Name); !ok {
			return refuse(o, http.StatusConflict, v1.CodeInUse, "spec.mac", "choose another, or leave it out to get one",
				"%s is the MAC of port %s in the same VPC", o.Spec.MAC, other)
		}
		o.Status.MAC = o.Spec.MAC
	case o.Status.MAC.IsZero():
		o.Status.MAC = pool.ChooseMAC(o.Status.VNI, o.Name, v1.RouterMAC)
	}
	return nil
}
