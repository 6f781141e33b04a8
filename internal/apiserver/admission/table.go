// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"net/http"
	"slices"

	v1 "weft/api/v1"
)

// table checks a route table and gives it a number in its VPC. What it refers to is looked at when the whole set of
// documents is written, so that a set can hand a subnet from one table to another.
func (a *Admission) table(o, old *v1.RouteTable) error {
	if old != nil && old.Spec.VPC != o.Spec.VPC {
		return Refuse(o, http.StatusConflict, v1.CodeImmutable, "spec.vpc", "make another route table in the other VPC",
			"the route table is in VPC %s and stays there", old.Spec.VPC)
	}
	if _, ok := a.tx.Get(v1.KindVPC, o.Tenant, o.Spec.VPC); !ok {
		return absent(o, "VPC", "spec.vpc", "tenant %s has no VPC %q", o.Tenant, o.Spec.VPC)
	}
	a.late = append(a.late, func() error { return a.tableRefers(o) })
	if old == nil || len(o.Spec.Routes) > len(old.Spec.Routes) {
		a.weigh(o, "spec.routes")
	}
	if o.Status.Number != 0 {
		return nil
	}
	for _, t := range a.tables(o.Tenant) {
		if t.Spec.VPC == o.Spec.VPC {
			o.Status.Number = max(o.Status.Number, t.Status.Number)
		}
	}
	o.Status.Number++
	return nil
}

// weigh has the quota of the tenant's routes looked at, once in a set, because of a document that makes them more.
func (a *Admission) weigh(o v1.Object, field string) {
	tenant := o.Meta().Tenant
	if a.grown[tenant] {
		return
	}
	a.grown[tenant] = true
	a.late = append(a.late, func() error { return a.routeQuota(o, field) })
}

// routeQuota bounds what the tenant's route tables take of the nodes' room, which all tenants share: each table has its
// routes, and of each range of the VPC's subnets the range itself and the router in it.
func (a *Admission) routeQuota(o v1.Object, field string) error {
	name := o.Meta().Tenant
	tables := a.tables(name)
	tenant, ok := a.tx.Get(v1.KindTenant, "", name)
	if !ok || len(tables) == 0 {
		return nil
	}
	ranges := make(map[string]int) // by VPC
	for _, s := range a.tx.List(v1.KindSubnet, name) {
		ranges[s.(*v1.Subnet).Spec.VPC] += len(s.(*v1.Subnet).Spec.Prefixes)
	}
	entries := 0
	for _, t := range tables {
		entries += len(t.Spec.Routes) + 2*ranges[t.Spec.VPC]
	}
	if most := tenant.(*v1.Tenant).Spec.Quota.Effective().Routes; entries > most {
		return Refuse(o, http.StatusForbidden, v1.CodeQuota, field, "have fewer routes, tables or subnets, or ask an operator to raise spec.quota.routes of tenant "+name,
			"the tenant's route tables would take %d entries (of each its routes, and two for each range of its VPC's subnets); the quota is %d", entries, most)
	}
	return nil
}

func (a *Admission) tables(tenant string) []*v1.RouteTable {
	var out []*v1.RouteTable
	for _, o := range a.tx.List(v1.KindRouteTable, tenant) {
		out = append(out, o.(*v1.RouteTable))
	}
	return out
}

// tableRefers checks the subnets and ports that a route table names, and returns every error.
func (a *Admission) tableRefers(o *v1.RouteTable) error {
	var errs v1.ErrorList
	holders := make(map[string]string) // subnet: the other table that has it
	for _, t := range a.tables(o.Tenant) {
		if t.Name == o.Name || t.Spec.VPC != o.Spec.VPC {
			continue
		}
		for _, s := range t.Spec.Subnets {
			holders[s] = t.Name
		}
	}
	for i, name := range o.Spec.Subnets {
		if e := a.tableSubnet(o, fmt.Sprintf("spec.subnets[%d]", i), name, holders[name]); e != nil {
			errs = append(errs, e)
		}
	}
	for i, r := range o.Spec.Routes {
		name, isPort := r.Port()
		if !isPort {
			continue
		}
		if e := a.tablePort(o, fmt.Sprintf("spec.routes[%d].via", i), name); e != nil {
			errs = append(errs, e)
		}
	}
	return errs[:min(len(errs), errorsMost)].OrNil()
}

// errorsMost bounds what one document is told.
const errorsMost = 20

func (a *Admission) tableSubnet(o *v1.RouteTable, field, name, holder string) *v1.Error {
	found, ok := a.tx.Get(v1.KindSubnet, o.Tenant, name)
	switch {
	case !ok:
		return absent(o, "subnet", field, "tenant %s has no subnet %q", o.Tenant, name)
	case found.(*v1.Subnet).Spec.VPC != o.Spec.VPC:
		return Refuse(o, http.StatusUnprocessableEntity, v1.CodeOutside, field, "name a subnet of VPC "+o.Spec.VPC,
			"subnet %s is in VPC %s, the route table in VPC %s", name, found.(*v1.Subnet).Spec.VPC, o.Spec.VPC)
	case holder != "":
		return Refuse(o, http.StatusConflict, v1.CodeInUse, field, "take it out of route table "+holder+" first, or in the same set of documents",
			"subnet %s has route table %s; it can have one only", name, holder)
	}
	return nil
}

func (a *Admission) tablePort(o *v1.RouteTable, field, name string) *v1.Error {
	found, ok := a.tx.Get(v1.KindPort, o.Tenant, name)
	if !ok {
		return absent(o, "port", field, "tenant %s has no port %q", o.Tenant, name)
	}
	p := found.(*v1.Port)
	switch {
	case p.Status.VPC != o.Spec.VPC:
		return Refuse(o, http.StatusUnprocessableEntity, v1.CodeOutside, field, "name a port of VPC "+o.Spec.VPC,
			"port %s is in VPC %s, the route table in VPC %s", name, p.Status.VPC, o.Spec.VPC)
	case len(p.Spec.AllowedSources) == 0:
		return Refuse(o, http.StatusConflict, v1.CodePrecondition, field, fmt.Sprintf("give port %s spec.allowedSources, for example [0.0.0.0/0] or [\"::/0\"]", name),
			"port %s may send from its own addresses only, so all that it sends on would be dropped", name)
	}
	return nil
}

// portRoutes refuses that a port which routes lead to may no longer send on what it gets.
func (a *Admission) portRoutes(o *v1.Port) error {
	if i := slices.IndexFunc(a.tables(o.Tenant), func(t *v1.RouteTable) bool { return t.Spec.VPC == o.Status.VPC && t.Uses(o.Name) }); i >= 0 {
		t := a.tables(o.Tenant)[i]
		return Refuse(o, http.StatusConflict, v1.CodeInUse, "spec.allowedSources", "keep at least one range, or take the routes out of "+v1.ID(t)+" first",
			"route table %s leads to the port, which could no longer send on what it gets", t.Name)
	}
	return nil
}
