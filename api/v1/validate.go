// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// RouterMAC is the Ethernet address of the virtual router, the same in every subnet and on every node.
var RouterMAC = MAC{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}

// Bounds of what a document may hold.
const (
	nameMost      = 63
	labelsMost    = 64
	labelMost     = 63
	prefixesMost  = 64
	dnsMost       = 8
	rolesMost     = 8
	addressesMost = 2    // of a port: one for each address family
	sourcesMost   = 32   // of a port
	subnetsMost   = 1000 // of a route table
	routesMost    = 1000 // of a route table
)

var (
	namePattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	labelPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)
)

// checker collects the errors of one document.
type checker struct{ errs ErrorList }

func (c *checker) add(code, field, fix, format string, args ...any) {
	c.errs = append(c.errs, &Error{
		Status: http.StatusUnprocessableEntity, Code: code, Field: field, Message: fmt.Sprintf(format, args...), Fix: fix,
	})
}

// name checks a name where one must be.
func (c *checker) name(field, what, name string) {
	switch {
	case name == "":
		c.add(CodeRequired, field, fmt.Sprintf("write the name of the %s, for example web-1", what), "the name of the %s is missing", what)
	case len(name) > nameMost:
		c.add(CodeInvalid, field, "choose a shorter name", "the name has %d characters; at most %d are possible", len(name), nameMost)
	case !namePattern.MatchString(name):
		c.add(CodeInvalid, field, "use lower-case letters, digits and '-' between them, for example web-1", "%q cannot be a name", name)
	}
}

// meta checks what every document has.
func (c *checker) meta(t *TypeMeta, m *Metadata, kind Kind, tenanted bool) {
	if t.APIVersion != APIVersion {
		c.add(CodeUnknownKind, "apiVersion", "write apiVersion: "+APIVersion, "apiVersion is %q", t.APIVersion)
	}
	if t.Kind != kind {
		c.add(CodeUnknownKind, "kind", "write kind: "+string(kind), "kind is %q where a %s was expected", t.Kind, kind)
	}
	c.name("metadata.name", strings.ToLower(string(kind)), m.Name)
	if tenanted {
		c.name("metadata.tenant", "tenant", m.Tenant)
	} else if m.Tenant != "" {
		c.add(CodeInvalid, "metadata.tenant", "remove metadata.tenant", "a %s belongs to the cluster, not to a tenant", kind)
	}
	if len(m.Labels) > labelsMost {
		c.add(CodeTooLarge, "metadata.labels", "remove some", "there are %d labels; at most %d are possible", len(m.Labels), labelsMost)
	}
	for _, k := range slices.Sorted(maps.Keys(m.Labels)) {
		v := m.Labels[k]
		if len(k) > labelMost || !labelPattern.MatchString(k) {
			c.add(CodeInvalid, "metadata.labels", "use letters, digits and '-', '_', '.', '/' between them, at most 63", "%q cannot be the key of a label", k)
		}
		if v != "" && (len(v) > labelMost || !labelPattern.MatchString(v)) {
			c.add(CodeInvalid, "metadata.labels."+k, "use letters, digits and '-', '_', '.', '/' between them, at most 63", "%q cannot be the value of a label", v)
		}
	}
}

// Validate checks the document by itself.
func (t *Tenant) Validate() ErrorList {
	var c checker
	c.meta(&t.TypeMeta, &t.Metadata, KindTenant, false)
	for _, q := range []struct {
		field string
		value int
	}{
		{"vpcs", t.Spec.Quota.VPCs},
		{"subnets", t.Spec.Quota.Subnets},
		{"ports", t.Spec.Quota.Ports},
		{"routeTables", t.Spec.Quota.RouteTables},
		{"routes", t.Spec.Quota.Routes},
	} {
		if q.value < 0 {
			c.add(CodeInvalid, "spec.quota."+q.field, "write a number above 0, or leave it out for the default", "%d is below 0", q.value)
		}
	}
	return c.errs
}

// Validate checks the document by itself.
func (n *Node) Validate() ErrorList {
	var c checker
	c.meta(&n.TypeMeta, &n.Metadata, KindNode, false)
	if !n.Spec.Address.IsValid() {
		c.add(CodeRequired, "spec.address", "write the address of the node's tunnel end", "the node's underlay address is missing")
	} else {
		c.addr("spec.address", n.Spec.Address)
	}
	if s := n.Spec.Site; s != "" {
		c.name("spec.site", "site", s)
	}
	if len(n.Spec.Roles) == 0 {
		c.add(CodeRequired, "spec.roles", "write roles: [host]", "the node has no role")
	}
	if len(n.Spec.Roles) > rolesMost {
		c.add(CodeTooLarge, "spec.roles", "write each role once", "there are %d roles; at most %d are possible", len(n.Spec.Roles), rolesMost)
		return c.errs
	}
	for i, r := range n.Spec.Roles {
		if r != "host" && r != "edge" {
			c.add(CodeInvalid, fmt.Sprintf("spec.roles[%d]", i), "use host or edge", "%q is no role of this version", r)
		}
		if slices.Contains(n.Spec.Roles[:i], r) {
			c.add(CodeDuplicate, fmt.Sprintf("spec.roles[%d]", i), "remove it", "%q is there twice", r)
		}
	}
	return c.errs
}

// Validate checks the document by itself.
func (v *VPC) Validate() ErrorList {
	var c checker
	c.meta(&v.TypeMeta, &v.Metadata, KindVPC, true)
	c.prefixes("spec.prefixes", v.Spec.Prefixes, vpcLengths)
	return c.errs
}

// Validate checks the document by itself.
func (s *Subnet) Validate() ErrorList {
	var c checker
	c.meta(&s.TypeMeta, &s.Metadata, KindSubnet, true)
	c.name("spec.vpc", "VPC", s.Spec.VPC)
	good := c.prefixes("spec.prefixes", s.Spec.Prefixes, subnetLengths)
	if g := s.Spec.Gateway; g.IsValid() && len(good) > 0 && c.addr("spec.gateway", g) {
		c.gateway(g, good)
	}
	if n := len(s.Spec.DNS); n > dnsMost {
		c.add(CodeTooLarge, "spec.dns", "name fewer", "there are %d resolvers; at most %d are possible", n, dnsMost)
	}
	for i, d := range s.Spec.DNS[:min(len(s.Spec.DNS), dnsMost)] {
		c.addr(fmt.Sprintf("spec.dns[%d]", i), d)
	}
	return c.errs
}

// gateway checks that one of the subnet's ranges holds the router's address, and has it free.
func (c *checker) gateway(g netip.Addr, ranges []netip.Prefix) {
	i := slices.IndexFunc(ranges, func(p netip.Prefix) bool { return p.Contains(g) })
	if i < 0 {
		c.add(CodeOutside, "spec.gateway", "write "+ranges[0].Addr().Next().String()+", or leave it out", "%s is in none of the subnet's ranges", g)
		return
	}
	in := ranges[i]
	switch {
	case g == in.Addr():
		c.add(CodeReserved, "spec.gateway", "write "+in.Addr().Next().String()+", or leave it out", "%s names the network itself", g)
	case g.Is4() && g == Last(in):
		c.add(CodeReserved, "spec.gateway", "write "+in.Addr().Next().String()+", or leave it out", "%s is the broadcast address", g)
	}
}

// Validate checks the document by itself.
func (p *Port) Validate() ErrorList {
	var c checker
	c.meta(&p.TypeMeta, &p.Metadata, KindPort, true)
	c.name("spec.subnet", "subnet", p.Spec.Subnet)
	c.portAddresses(p.Spec.Addresses)
	c.sources(p.Spec.AllowedSources)
	switch m := p.Spec.MAC; {
	case m.IsZero():
	case !m.IsUnicast():
		c.add(CodeInvalid, "spec.mac", "use an address such as 02:00:00:00:00:01, or leave it out", "%s is a group address", m)
	case m == RouterMAC:
		c.add(CodeReserved, "spec.mac", "choose another, or leave it out", "%s is the virtual router's", m)
	}
	if p.Spec.Node != "" {
		c.name("spec.node", "node", p.Spec.Node)
	}
	return c.errs
}

// portAddresses wants one address of each family at most.
func (c *checker) portAddresses(addrs []netip.Addr) {
	if len(addrs) > addressesMost {
		c.add(CodeTooLarge, "spec.addresses", "make another port for another address", "there are %d addresses; a port has one IPv4 and one IPv6 address at most", len(addrs))
		return
	}
	for i, a := range addrs {
		f := fmt.Sprintf("spec.addresses[%d]", i)
		if c.addr(f, a) && i > 0 && a.Is4() == addrs[0].Is4() {
			c.add(CodeInvalid, f, "make another port for another address", "%s and %s are both %s; a port has one address of each family at most", addrs[0], a, family(a))
		}
	}
}

// sources checks what a port may send from besides its own addresses.
func (c *checker) sources(list []netip.Prefix) {
	const field = "spec.allowedSources"
	if len(list) > sourcesMost {
		c.add(CodeTooLarge, field, "join ranges: a shorter length holds more", "there are %d ranges; at most %d are possible", len(list), sourcesMost)
		return
	}
	for i, p := range list {
		f := fmt.Sprintf("%s[%d]", field, i)
		if c.target(f, p) && slices.Contains(list[:i], p) {
			c.add(CodeDuplicate, f, "remove it", "%s is there twice", p)
		}
	}
}

// Validate checks the document by itself.
func (r *RouteTable) Validate() ErrorList {
	var c checker
	c.meta(&r.TypeMeta, &r.Metadata, KindRouteTable, true)
	c.name("spec.vpc", "VPC", r.Spec.VPC)
	if n := len(r.Spec.Subnets); n > subnetsMost {
		c.add(CodeTooLarge, "spec.subnets", "make several tables", "there are %d subnets; at most %d are possible", n, subnetsMost)
		return c.errs
	}
	named := make(map[string]bool)
	for i, s := range r.Spec.Subnets {
		f := fmt.Sprintf("spec.subnets[%d]", i)
		c.name(f, "subnet", s)
		if s != "" && named[s] {
			c.add(CodeDuplicate, f, "remove it", "subnet %s is there twice", s)
		}
		named[s] = true
	}
	if n := len(r.Spec.Routes); n > routesMost {
		c.add(CodeTooLarge, "spec.routes", "join routes: a shorter length holds more", "there are %d routes; at most %d are possible", n, routesMost)
		return c.errs
	}
	seen := make(map[netip.Prefix]int)
	for i, route := range r.Spec.Routes {
		f := fmt.Sprintf("spec.routes[%d]", i)
		if c.target(f+".to", route.To) {
			if first, twice := seen[route.To]; twice {
				c.add(CodeDuplicate, f+".to", "remove one of the two", "%s is the destination of spec.routes[%d] already", route.To, first)
			} else {
				seen[route.To] = i
			}
		}
		c.via(f+".via", route)
	}
	return c.errs
}

// via checks where a route leads.
func (c *checker) via(field string, r Route) {
	port, isPort := r.Port()
	switch {
	case isPort:
		c.name(field, "port", port)
	case r.Via == "":
		c.add(CodeRequired, field, "write port/NAME or blackhole", "the route leads nowhere")
	case r.Via != ViaBlackhole:
		c.add(CodeInvalid, field, "write port/NAME, for example port/fw-1, or blackhole", "%q is no way that a route can take", r.Via)
	}
}
