// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	v1 "weft/api/v1"
	"weft/internal/control/ipam"
)

// port checks a port and gives it address and MAC where it names none.
func (a *Admission) port(o, old *v1.Port) error {
	if old != nil && old.Spec.Subnet != o.Spec.Subnet {
		return Refuse(o, http.StatusConflict, v1.CodeImmutable, "spec.subnet", "make another port in the other subnet",
			"the port is in subnet %s and stays there", old.Spec.Subnet)
	}
	found, ok := a.tx.Get(v1.KindSubnet, o.Tenant, o.Spec.Subnet)
	if !ok {
		return absent(o, "subnet", "spec.subnet", "tenant %s has no subnet %q", o.Tenant, o.Spec.Subnet)
	}
	subnet := found.(*v1.Subnet)
	vpc, ok := a.tx.Get(v1.KindVPC, o.Tenant, subnet.Spec.VPC)
	if !ok {
		return Refuse(o, http.StatusUnprocessableEntity, v1.CodeNoReference, "spec.subnet", "", "the VPC %q of subnet %s is gone", subnet.Spec.VPC, subnet.Name)
	}
	o.Status.VPC, o.Status.VNI = subnet.Spec.VPC, vpc.(*v1.VPC).Status.VNI
	if err := a.portNode(o); err != nil {
		return err
	}
	if old != nil && old.Status.Node != "" && changesInterface(o, old) {
		return Refuse(o, http.StatusConflict, v1.CodePrecondition, "spec", fmt.Sprintf("detach it first: weft detach %s/%s on node %s", o.Tenant, o.Name, old.Status.Node),
			"address and MAC of a port cannot change while it is attached")
	}
	if old != nil && len(old.Spec.AllowedSources) > 0 && len(o.Spec.AllowedSources) == 0 {
		a.late = append(a.late, func() error { return a.portRoutes(o) })
	}
	pool := a.pool(o.Tenant, subnet.Spec.VPC)
	if err := takeAddresses(pool, o, subnet); err != nil {
		return err
	}
	return takeMAC(pool, o)
}

// changesInterface reports whether a spec asks for another address or MAC than the port has.
func changesInterface(o, old *v1.Port) bool {
	return (len(o.Spec.Addresses) > 0 && !slices.Equal(byFamily(o.Spec.Addresses), byFamily(old.Status.Addresses))) ||
		(!o.Spec.MAC.IsZero() && o.Spec.MAC != old.Status.MAC)
}

// portNode checks that the node which a port must be at exists, and that the port is not attached elsewhere.
func (a *Admission) portNode(o *v1.Port) error {
	if o.Spec.Node == "" {
		return nil
	}
	if _, ok := a.tx.Get(v1.KindNode, "", o.Spec.Node); !ok {
		return Refuse(o, http.StatusUnprocessableEntity, v1.CodeNoReference, "spec.node", "'weft get nodes' lists the nodes; leave it out to attach anywhere",
			"there is no node %q", o.Spec.Node)
	}
	if o.Status.Node != "" && o.Status.Node != o.Spec.Node {
		return Refuse(o, http.StatusConflict, v1.CodeWrongNode, "spec.node", "detach the port first",
			"the port is attached at node %s", o.Status.Node)
	}
	return nil
}

// pool returns what is taken in a VPC, read once a transaction.
func (a *Admission) pool(tenant, vpc string) *ipam.Pool {
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

// byFamily returns the addresses of a port in the order in which its status has them: IPv4 first.
func byFamily(addrs []netip.Addr) []netip.Addr {
	return slices.SortedFunc(slices.Values(addrs), netip.Addr.Compare)
}

// takeAddresses gives the port the addresses that it names, those that it has, or the lowest free one of each family that
// its subnet has.
func takeAddresses(pool *ipam.Pool, o *v1.Port, s *v1.Subnet) error {
	if len(o.Spec.Addresses) == 0 && len(o.Status.Addresses) > 0 {
		return nil
	}
	if len(o.Spec.Addresses) == 0 {
		return chooseAddresses(pool, o, s)
	}
	for _, had := range o.Status.Addresses {
		pool.Release(had, ipam.MAC{}, o.Name)
	}
	for i, addr := range o.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		if !slices.ContainsFunc(s.Spec.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return Refuse(o, http.StatusUnprocessableEntity, v1.CodeOutside, field, "choose an address of the subnet, or leave it out to get one",
				"%s is not in subnet %s (%s)", addr, s.Name, joinPrefixes(s.Spec.Prefixes))
		}
		if why := s.Reserved(addr); why != "" {
			return Refuse(o, http.StatusUnprocessableEntity, v1.CodeReserved, field, "choose another address, or leave it out to get one",
				"%s cannot be a port's: %s", addr, why)
		}
		if other, ok := pool.Take(addr, o.Name); !ok {
			return Refuse(o, http.StatusConflict, v1.CodeInUse, field, "choose another address, or leave it out to get one",
				"%s is the address of port %s", addr, other)
		}
	}
	o.Status.Addresses = byFamily(o.Spec.Addresses)
	return nil
}

// chooseAddresses gives the port the lowest free address of each family that the subnet has.
func chooseAddresses(pool *ipam.Pool, o *v1.Port, s *v1.Subnet) error {
	reserved := func(a netip.Addr) bool { return s.Reserved(a) != "" }
	var out []netip.Addr
	for _, is4 := range []bool{true, false} {
		ranges := slices.DeleteFunc(slices.Clone(s.Spec.Prefixes), func(p netip.Prefix) bool { return p.Addr().Is4() != is4 })
		if len(ranges) == 0 {
			continue
		}
		addr, ok := netip.Addr{}, false
		for _, p := range ranges {
			if addr, ok = pool.Lowest(p, reserved, o.Name); ok {
				break
			}
		}
		if !ok {
			for _, a := range out {
				pool.Release(a, ipam.MAC{}, o.Name)
			}
			fix := "delete ports, or add a range to the subnet"
			if len(ranges) < len(s.Spec.Prefixes) {
				fix += "; a port that names its addresses may do with one family"
			}
			return Refuse(o, http.StatusConflict, v1.CodeExhausted, "spec.addresses", fix,
				"no %s address is free in %s of subnet %s", familyOf(ranges[0].Addr()), joinPrefixes(ranges), s.Name)
		}
		out = append(out, addr)
	}
	o.Status.Addresses = out
	return nil
}

// takeMAC gives the port the MAC that it names, the one that it has, or one that is free.
func takeMAC(pool *ipam.Pool, o *v1.Port) error {
	switch {
	case !o.Spec.MAC.IsZero():
		if other, ok := pool.TakeMAC(o.Spec.MAC, o.Name); !ok {
			return Refuse(o, http.StatusConflict, v1.CodeInUse, "spec.mac", "choose another, or leave it out to get one",
				"%s is the MAC of port %s in the same VPC", o.Spec.MAC, other)
		}
		o.Status.MAC = o.Spec.MAC
	case o.Status.MAC.IsZero():
		o.Status.MAC = pool.ChooseMAC(o.Status.VNI, o.Name, v1.RouterMAC)
	}
	return nil
}
