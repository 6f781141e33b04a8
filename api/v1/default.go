// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Quotas where an operator wrote none.
var defaultQuota = Quota{VPCs: 100, Subnets: 1000, Ports: 100_000, RouteTables: 200, Routes: 8192}

// Effective returns the quota with defaults in place of zeros.
func (q Quota) Effective() Quota {
	for _, f := range []struct{ value, def *int }{
		{&q.VPCs, &defaultQuota.VPCs},
		{&q.Subnets, &defaultQuota.Subnets},
		{&q.Ports, &defaultQuota.Ports},
		{&q.RouteTables, &defaultQuota.RouteTables},
		{&q.Routes, &defaultQuota.Routes},
	} {
		if *f.value == 0 {
			*f.value = *f.def
		}
	}
	return q
}

// Default does nothing: zeros of a quota stand for the defaults.
func (t *Tenant) Default() {}

// Default makes a node without a role a host.
func (n *Node) Default() {
	if len(n.Spec.Roles) == 0 {
		n.Spec.Roles = []string{"host"}
	}
}

// Default does nothing: a VPC says all it needs.
func (v *VPC) Default() {}

// Default makes the first address of the first range the router's.
func (s *Subnet) Default() {
	if !s.Spec.Gateway.IsValid() && len(s.Spec.Prefixes) > 0 && s.Spec.Prefixes[0].IsValid() {
		s.Spec.Gateway = s.Spec.Prefixes[0].Masked().Addr().Next()
	}
}

// Default does nothing: address and MAC depend on other documents.
func (p *Port) Default() {}

// Default does nothing: a route table says all it needs.
func (r *RouteTable) Default() {}

// Clone returns a deep copy of a resource.
func Clone[T Object](o T) T {
	var out Object
	switch o := Object(o).(type) {
	case *Tenant:
		c := *o
		out = &c
	case *Node:
		c := *o
		c.Spec.Roles = slices.Clone(o.Spec.Roles)
		out = &c
	case *VPC:
		c := *o
		c.Spec.Prefixes = slices.Clone(o.Spec.Prefixes)
		c.Status.Applied.Waiting = slices.Clone(o.Status.Applied.Waiting)
		out = &c
	case *Subnet:
		c := *o
		c.Spec.Prefixes, c.Spec.DNS = slices.Clone(o.Spec.Prefixes), slices.Clone(o.Spec.DNS)
		c.Status.Applied.Waiting = slices.Clone(o.Status.Applied.Waiting)
		out = &c
	case *Port:
		c := *o
		c.Spec.Addresses, c.Status.Addresses = slices.Clone(o.Spec.Addresses), slices.Clone(o.Status.Addresses)
		c.Spec.AllowedSources = slices.Clone(o.Spec.AllowedSources)
		c.Status.Applied.Waiting = slices.Clone(o.Status.Applied.Waiting)
		out = &c
	case *RouteTable:
		c := *o
		c.Spec.Subnets, c.Spec.Routes = slices.Clone(o.Spec.Subnets), slices.Clone(o.Spec.Routes)
		c.Status.Applied.Waiting = slices.Clone(o.Status.Applied.Waiting)
		out = &c
	default:
		panic(fmt.Sprintf("v1: no clone for %T", o)) // a kind was added without it
	}
	m := out.Meta()
	if m.Labels != nil {
		labels := make(map[string]string, len(m.Labels))
		for k, v := range m.Labels {
			labels[k] = v
		}
		m.Labels = labels
	}
	return out.(T)
}

// SameSpec reports whether two resources of one kind ask for the same.
func SameSpec(a, b Object) bool {
	x, errX := json.Marshal(specOf(a))
	y, errY := json.Marshal(specOf(b))
	return errX == nil && errY == nil && string(x) == string(y)
}

// specOf returns the spec of a resource.
func specOf(o Object) any {
	switch o := o.(type) {
	case *Tenant:
		return o.Spec
	case *Node:
		return o.Spec
	case *VPC:
		return o.Spec
	case *Subnet:
		return o.Spec
	case *Port:
		return o.Spec
	case *RouteTable:
		return o.Spec
	}
	panic(fmt.Sprintf("v1: no spec for %T", o)) // a kind was added without it
}

// ID names a resource as people do: red/port/web-1, or node/host-1 for cluster kinds.
func ID(o Object) string {
	info, _ := KindByWord(string(o.GetKind()))
	if o.Meta().Tenant == "" {
		return info.Singular + "/" + o.Meta().Name
	}
	return o.Meta().Tenant + "/" + info.Singular + "/" + o.Meta().Name
}
