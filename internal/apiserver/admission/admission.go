// SPDX-License-Identifier: Apache-2.0

// Package admission checks documents against all others and decides what they left open: addresses, MACs, numbers.
package admission

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	v1 "weft/api/v1"
	"weft/internal/control/ipam"
	"weft/internal/store"
)

// Bounds of numbers that the system gives out.
const (
	vniLeast  = 4096 // below are reserved ones
	vniMost   = 1<<24 - 1
	nodeMost  = 1<<16 - 1
	tenantTop = 1<<32 - 1
)

// Admission checks documents against all others, inside one transaction, and decides what they left open.
type Admission struct {
	tx    *store.Tx
	now   time.Time
	pools map[string]*ipam.Pool // by tenant/vpc
	count map[string]int        // by tenant/kind, this transaction's writes included
	self  bool                  // a node speaks of itself
	late  []func() error        // checks that need the whole set of documents written
	grown map[string]bool       // tenants whose route tables are to be weighed

	refused map[string]bool // documents of the set that were, by ID
}

// New returns the admission of one transaction. With self, a node speaks of itself.
func New(tx *store.Tx, now time.Time, self bool) *Admission {
	return &Admission{tx: tx, now: now, self: self, pools: make(map[string]*ipam.Pool), count: make(map[string]int), grown: make(map[string]bool), refused: make(map[string]bool)}
}

// Settle runs the checks that waited for the whole set. It comes after the last Put.
func (a *Admission) Settle() error {
	var errs v1.ErrorList
	for _, check := range a.late {
		if err := check(); err != nil {
			errs = append(errs, Errors(err)...)
		}
	}
	return errs.OrNil()
}

// Refuse makes an error about an object.
func Refuse(o v1.Object, status int, code, field, fix, format string, args ...any) *v1.Error {
	return &v1.Error{
		Status: status, Code: code, Object: v1.ID(o), Field: field, Message: fmt.Sprintf(format, args...), Fix: fix,
	}
}

// ErrFollows says that a document builds on one of the same set that was refused; that one's error says all.
var ErrFollows = errors.New("it builds on a document that was refused")

// follows reports whether a document builds on one of the same set that was refused. Against what is stored instead, it
// would get errors that are not its own.
func (a *Admission) follows(o v1.Object) bool {
	m := o.Meta()
	on := []v1.Object{&v1.Tenant{Metadata: v1.Metadata{Name: m.Tenant}}}
	switch o := o.(type) {
	case *v1.Subnet:
		on = append(on, &v1.VPC{Metadata: v1.Metadata{Tenant: m.Tenant, Name: o.Spec.VPC}})
	case *v1.Port:
		on = append(on, &v1.Subnet{Metadata: v1.Metadata{Tenant: m.Tenant, Name: o.Spec.Subnet}})
	case *v1.RouteTable:
		on = append(on, &v1.VPC{Metadata: v1.Metadata{Tenant: m.Tenant, Name: o.Spec.VPC}})
	}
	return slices.ContainsFunc(on, func(o v1.Object) bool { return a.refused[v1.ID(o)] })
}

// absent refuses a reference to a resource that is not there.
func absent(o v1.Object, what, field, format string, args ...any) *v1.Error {
	return Refuse(o, http.StatusUnprocessableEntity, v1.CodeNoReference, field,
		"create the "+what+" first, or put it into the same set of documents", format, args...)
}

// Put admits one document and writes it.
func (a *Admission) Put(doc v1.Object) (v1.ResultItem, error) {
	o := v1.Clone(doc)
	o.Default()
	if errs := o.Validate(); len(errs) > 0 {
		for _, e := range errs {
			e.Object = v1.ID(o)
		}
		return v1.ResultItem{}, errs
	}
	if a.follows(o) {
		return v1.ResultItem{}, ErrFollows
	}
	m := o.Meta()
	old, exists := a.tx.Get(o.GetKind(), m.Tenant, m.Name)
	if err := a.checkVersion(o, old); err != nil {
		return v1.ResultItem{}, err
	}
	o.ClearStatus()
	m.UID, m.Generation, m.CreatedAt, m.ResourceVersion = "", 0, time.Time{}, ""
	if exists {
		keepSystem(o, old)
	} else {
		m.UID, m.CreatedAt = uuid.NewString(), a.now
	}
	if err := a.check(o, old); err != nil {
		return v1.ResultItem{}, err
	}
	item := v1.ResultItem{Action: v1.ActionCreated, Kind: o.GetKind(), Tenant: m.Tenant, Name: m.Name}
	if exists {
		item.Action = v1.ActionConfigured
		sameSpec := v1.SameSpec(o, old)
		if sameSpec && sameLabels(m.Labels, old.Meta().Labels) {
			item.Action = v1.ActionUnchanged
			return item, nil
		}
		if !sameSpec {
			m.Generation++
		}
	} else {
		m.Generation = 1
		a.count[m.Tenant+"/"+string(o.GetKind())]++
	}
	a.tx.Put(o)
	return item, nil
}

func sameLabels(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// checkVersion refuses a write that was made for another version than the stored one.
func (a *Admission) checkVersion(o, old v1.Object) error {
	want := o.Meta().ResourceVersion
	switch {
	case want == "":
		return nil
	case old == nil:
		return Refuse(o, http.StatusConflict, v1.CodeConflict, "metadata.resourceVersion", "remove metadata.resourceVersion to create it",
			"the write is for version %s, but there is no such resource", want)
	case want != old.Meta().ResourceVersion:
		return Refuse(o, http.StatusConflict, v1.CodeConflict, "metadata.resourceVersion", "get the resource again, and change that",
			"the write is for version %s, but the stored one is %s: somebody changed it meanwhile", want, old.Meta().ResourceVersion)
	}
	return nil
}

// keepSystem copies from old what only the system writes.
func keepSystem(o, old v1.Object) {
	m, om := o.Meta(), old.Meta()
	m.UID, m.Generation, m.CreatedAt = om.UID, om.Generation, om.CreatedAt
	switch o := o.(type) {
	case *v1.Tenant:
		o.Status = old.(*v1.Tenant).Status
	case *v1.Node:
		o.Status = old.(*v1.Node).Status
	case *v1.VPC:
		o.Status = old.(*v1.VPC).Status
	case *v1.Subnet:
		o.Status = old.(*v1.Subnet).Status
	case *v1.Port:
		o.Status = old.(*v1.Port).Status
		o.Status.Addresses = slices.Clone(o.Status.Addresses)
	case *v1.RouteTable:
		o.Status = old.(*v1.RouteTable).Status
	}
}

// check runs the checks of the kind. It fills the object's status.
func (a *Admission) check(o, old v1.Object) error {
	if t := o.Meta().Tenant; t != "" {
		tenant, ok := a.tx.Get(v1.KindTenant, "", t)
		if !ok {
			return absent(o, "tenant", "metadata.tenant", "there is no tenant %q", t)
		}
		if err := a.quota(o, old, tenant.(*v1.Tenant)); err != nil {
			return err
		}
	}
	switch o := o.(type) {
	case *v1.Tenant:
		return a.number(o, &o.Status.Number)
	case *v1.Node:
		oldNode, _ := old.(*v1.Node)
		return a.node(o, oldNode)
	case *v1.VPC:
		return a.vpc(o)
	case *v1.Subnet:
		oldSubnet, _ := old.(*v1.Subnet)
		return a.subnet(o, oldSubnet)
	case *v1.Port:
		oldPort, _ := old.(*v1.Port)
		return a.port(o, oldPort)
	case *v1.RouteTable:
		oldTable, _ := old.(*v1.RouteTable)
		return a.table(o, oldTable)
	}
	return nil
}

// quota refuses what would exceed the tenant's.
func (a *Admission) quota(o, old v1.Object, t *v1.Tenant) error {
	if old != nil {
		return nil
	}
	kind, q := o.GetKind(), t.Spec.Quota.Effective()
	bound := map[v1.Kind]struct {
		most  int
		field string
	}{
		v1.KindVPC: {q.VPCs, "vpcs"}, v1.KindSubnet: {q.Subnets, "subnets"}, v1.KindPort: {q.Ports, "ports"},
		v1.KindRouteTable: {q.RouteTables, "routeTables"},
	}[kind]
	key := t.Name + "/" + string(kind)
	if _, known := a.count[key]; !known {
		a.count[key] = len(a.tx.List(kind, t.Name))
	}
	if a.count[key] >= bound.most {
		info, _ := v1.KindByWord(string(kind))
		return Refuse(o, http.StatusForbidden, v1.CodeQuota, "", fmt.Sprintf("delete some, or ask an operator to raise spec.quota.%s of tenant %s", bound.field, t.Name),
			"the tenant has %d %s, which is its quota", a.count[key], info.Plural)
	}
	return nil
}

func (a *Admission) number(o *v1.Tenant, n *uint32) error {
	if *n != 0 {
		return nil
	}
	next, err := a.tx.Next("tenant", 1, tenantTop)
	if err != nil {
		return Refuse(o, http.StatusInsufficientStorage, v1.CodeExhausted, "", "", "%v", err)
	}
	*n = uint32(next)
	return nil
}

// node checks a node. Its address is where others send to: while ports are attached there, only the node itself can say
// that it has moved.
func (a *Admission) node(o, old *v1.Node) error {
	if old != nil && old.Spec.Address != o.Spec.Address && !a.self {
		for _, p := range a.tx.List(v1.KindPort, "") {
			if p.(*v1.Port).Status.Node == o.Name {
				return Refuse(o, http.StatusConflict, v1.CodeImmutable, "spec.address", "start the agent with the new address: it says so itself; or detach the node's ports first",
					"the address is %s and stays so while ports such as %s are attached", old.Spec.Address, v1.ID(p))
			}
		}
	}
	for _, other := range a.tx.List(v1.KindNode, "") {
		if other.Meta().Name != o.Name && other.(*v1.Node).Spec.Address == o.Spec.Address {
			return Refuse(o, http.StatusConflict, v1.CodeInUse, "spec.address", "give each node an address of its own",
				"%s is the tunnel end of node %s", o.Spec.Address, other.Meta().Name)
		}
	}
	a.late = append(a.late, func() error { return a.nodeFamily(o) })
	if o.Status.Number != 0 {
		return nil
	}
	next, err := a.tx.Next("node", 1, nodeMost)
	if err != nil {
		return Refuse(o, http.StatusInsufficientStorage, v1.CodeExhausted, "", "", "%v", err)
	}
	o.Status.Number = uint16(next)
	return nil
}

// nodeFamily refuses a tunnel end that the other nodes cannot send to.
func (a *Admission) nodeFamily(o *v1.Node) error {
	for _, found := range a.tx.List(v1.KindNode, "") {
		other := found.(*v1.Node)
		if other.Spec.Address.Is4() != o.Spec.Address.Is4() {
			return Refuse(o, http.StatusConflict, v1.CodePrecondition, "spec.address", "give the node an "+familyOf(other.Spec.Address)+" address; to change the family, change all nodes at once",
				"%s is %s, but node %s has %s: the tunnel ends of a cluster are of one family", o.Spec.Address, familyOf(o.Spec.Address), other.Name, other.Spec.Address)
		}
	}
	return nil
}

// familyOf is the word for an address's family.
func familyOf(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func (a *Admission) vpc(o *v1.VPC) error {
	a.late = append(a.late, func() error { return a.vpcSubnets(o) })
	if o.Status.VNI != 0 {
		return nil
	}
	next, err := a.tx.Next("vni", vniLeast, vniMost)
	if err != nil {
		return Refuse(o, http.StatusInsufficientStorage, v1.CodeExhausted, "", "", "%v", err)
	}
	o.Status.VNI = uint32(next)
	return nil
}

// vpcSubnets refuses a change of a VPC that would leave one of its subnets without a place.
func (a *Admission) vpcSubnets(o *v1.VPC) error {
	for _, s := range a.subnetsOf(o.Tenant, o.Name) {
		for _, p := range s.Spec.Prefixes {
			if !insideAny(p, o.Spec.Prefixes) {
				return Refuse(o, http.StatusConflict, v1.CodeInUse, "spec.prefixes", fmt.Sprintf("keep a range that holds %s, or delete the subnet first", p),
					"subnet %s has %s, which would lie outside", s.Name, p)
			}
		}
	}
	return nil
}

// insideAny reports whether one of the ranges holds all of p.
func insideAny(p netip.Prefix, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Bits() <= p.Bits() && r.Contains(p.Addr()) })
}

func (a *Admission) subnetsOf(tenant, vpc string) []*v1.Subnet {
	var out []*v1.Subnet
	for _, o := range a.tx.List(v1.KindSubnet, tenant) {
		if s := o.(*v1.Subnet); s.Spec.VPC == vpc {
			out = append(out, s)
		}
	}
	return out
}

func (a *Admission) subnet(o, old *v1.Subnet) error {
	if old != nil && old.Spec.VPC != o.Spec.VPC {
		return Refuse(o, http.StatusConflict, v1.CodeImmutable, "spec.vpc", "make another subnet in the other VPC",
			"the subnet is in VPC %s and stays there", old.Spec.VPC)
	}
	found, ok := a.tx.Get(v1.KindVPC, o.Tenant, o.Spec.VPC)
	if !ok {
		return absent(o, "VPC", "spec.vpc", "tenant %s has no VPC %q", o.Tenant, o.Spec.VPC)
	}
	vpc := found.(*v1.VPC)
	siblings := a.subnetsOf(o.Tenant, o.Spec.VPC)
	highest := uint32(0)
	for i, p := range o.Spec.Prefixes {
		if !insideAny(p, vpc.Spec.Prefixes) {
			return Refuse(o, http.StatusUnprocessableEntity, v1.CodeOutside, fmt.Sprintf("spec.prefixes[%d]", i), "choose a range inside one of the VPC's, or add a range to the VPC",
				"%s is in none of the ranges of VPC %s: %s", p, vpc.Name, joinPrefixes(vpc.Spec.Prefixes))
		}
	}
	for _, s := range siblings {
		highest = max(highest, s.Status.Number)
		if s.Name == o.Name {
			continue
		}
		for i, p := range o.Spec.Prefixes {
			for _, q := range s.Spec.Prefixes {
				if p.Overlaps(q) {
					return Refuse(o, http.StatusConflict, v1.CodeOverlap, fmt.Sprintf("spec.prefixes[%d]", i), "choose a range that is free in the VPC",
						"%s overlaps %s of subnet %s in VPC %s", p, q, s.Name, vpc.Name)
				}
			}
		}
	}
	if o.Status.Number == 0 {
		o.Status.Number = highest + 1
	}
	if old == nil || len(o.Spec.Prefixes) > len(old.Spec.Prefixes) {
		a.weigh(o, "spec.prefixes")
	}
	if old != nil {
		a.late = append(a.late, func() error { return a.subnetPorts(o) })
	}
	return nil
}

// subnetPorts refuses a change of a subnet that would leave one of its ports without a place.
func (a *Admission) subnetPorts(o *v1.Subnet) error {
	for _, other := range a.tx.List(v1.KindPort, o.Tenant) {
		p := other.(*v1.Port)
		if p.Spec.Subnet != o.Name {
			continue
		}
		for _, addr := range p.Status.Addresses {
			inside := slices.ContainsFunc(o.Spec.Prefixes, func(q netip.Prefix) bool { return q.Contains(addr) })
			if why := o.Reserved(addr); !inside || why != "" {
				return Refuse(o, http.StatusConflict, v1.CodeInUse, "spec", "delete the port first, or keep its address possible",
					"port %s has %s, which would no longer be an address for it", p.Name, addr)
			}
		}
	}
	return nil
}

func joinPrefixes(list []netip.Prefix) string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return strings.Join(out, ", ")
}

// Refused notes that a document of the set was refused: those that build on it are not wrong themselves.
func (a *Admission) Refused(o v1.Object) { a.refused[v1.ID(o)] = true }

// Errors lists the errors of the API in err.
func Errors(err error) v1.ErrorList {
	var list v1.ErrorList
	var one *v1.Error
	switch {
	case errors.As(err, &list):
		return list
	case errors.As(err, &one):
		return v1.ErrorList{one}
	}
	return v1.ErrorList{{Status: http.StatusInternalServerError, Code: v1.CodeInternal, Message: err.Error()}}
}
