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
	addressesMost = 2  // of a port: one for each address family
	vpcBitsLeast  = 8  // the widest IPv4 prefix of a VPC
	vpcBitsMost   = 28 // the narrowest
	subnetBits    = 29 // the narrowest IPv4 prefix of a subnet: below, nothing is left beside the reserved addresses
	reservedFirst = 4  // addresses at the beginning of a subnet that the system keeps: network, router, resolver, spare
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

// prefixes checks a list of ranges; it returns those that are right by themselves.
func (c *checker) prefixes(field string, list []netip.Prefix, least, most int) []netip.Prefix {
	if len(list) == 0 {
		c.add(CodeRequired, field, "write at least one range, for example 10.0.0.0/16", "no range is given")
	}
	if len(list) > prefixesMost {
		c.add(CodeTooLarge, field, "join ranges, or make several networks", "there are %d ranges; at most %d are possible", len(list), prefixesMost)
		return nil
	}
	var good []netip.Prefix
	for i, p := range list {
		f := fmt.Sprintf("%s[%d]", field, i)
		if !c.prefix(f, p, least, most) {
			continue
		}
		for _, o := range good {
			if o.Overlaps(p) {
				c.add(CodeOverlap, f, "remove one, or choose ranges that are apart", "%s overlaps %s in the same list", p, o)
			}
		}
		good = append(good, p)
	}
	return good
}

func (c *checker) prefix(field string, p netip.Prefix, least, most int) bool {
	switch {
	case !p.IsValid():
		c.add(CodeInvalid, field, "write an address and a length, for example 10.0.0.0/16", "it is not a range of addresses")
	case !p.Addr().Is4():
		c.add(CodeUnsupported, field, "use an IPv4 range such as 10.0.0.0/16", "%s is IPv6; this version carries IPv4 only", p)
	case p != p.Masked():
		c.errs = append(c.errs, hostBits(field, p))
	case p.Bits() < least || p.Bits() > most:
		c.add(CodeInvalid, field, fmt.Sprintf("choose a length from /%d to /%d", least, most), "the length /%d of %s is not possible here", p.Bits(), p)
	case unusable(p) != "":
		c.add(CodeInvalid, field, "choose a private range such as 10.0.0.0/16", "%s lies in %s", p, unusable(p))
	default:
		return true
	}
	return false
}

// unusable names the special range that p touches, or returns "". Sources: RFC 1122, RFC 3927, RFC 5771, RFC 6890.
func unusable(p netip.Prefix) string {
	for _, r := range []struct{ prefix, what string }{
		{"0.0.0.0/8", "0.0.0.0/8 (this network)"},
		{"127.0.0.0/8", "127.0.0.0/8 (loopback)"},
		{"169.254.0.0/16", "169.254.0.0/16 (link local)"},
		{"224.0.0.0/4", "224.0.0.0/4 (multicast)"},
		{"240.0.0.0/4", "240.0.0.0/4 (reserved)"},
	} {
		if netip.MustParsePrefix(r.prefix).Overlaps(p) {
			return r.what
		}
	}
	return ""
}

// addr checks a unicast IPv4 address.
func (c *checker) addr(field string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		c.add(CodeInvalid, field, "write an address such as 10.0.1.4", "it is not an address")
	case !a.Is4():
		c.add(CodeUnsupported, field, "use an IPv4 address", "%s is IPv6; this version carries IPv4 only", a)
	case unusable(netip.PrefixFrom(a, 32)) != "":
		c.add(CodeInvalid, field, "choose an address of a host", "%s lies in %s", a, unusable(netip.PrefixFrom(a, 32)))
	default:
		return true
	}
	return false
}

// Validate checks the document by itself.
func (t *Tenant) Validate() ErrorList {
	var c checker
	c.meta(&t.TypeMeta, &t.Metadata, KindTenant, false)
	for _, q := range []struct {
		field string
		value int
	}{{"vpcs", t.Spec.Quota.VPCs}, {"subnets", t.Spec.Quota.Subnets}, {"ports", t.Spec.Quota.Ports}} {
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
	c.prefixes("spec.prefixes", v.Spec.Prefixes, vpcBitsLeast, vpcBitsMost)
	return c.errs
}

// Validate checks the document by itself.
func (s *Subnet) Validate() ErrorList {
	var c checker
	c.meta(&s.TypeMeta, &s.Metadata, KindSubnet, true)
	c.name("spec.vpc", "VPC", s.Spec.VPC)
	good := c.prefixes("spec.prefixes", s.Spec.Prefixes, vpcBitsLeast, subnetBits)
	if g := s.Spec.Gateway; g.IsValid() && len(good) > 0 && c.addr("spec.gateway", g) {
		first := s.Spec.Prefixes[0]
		switch {
		case !first.Contains(g):
			c.add(CodeOutside, "spec.gateway", "write "+first.Addr().Next().String()+", or leave it out", "%s is not in %s, the subnet's first range", g, first)
		case g == first.Addr() || g == Last(first):
			c.add(CodeReserved, "spec.gateway", "write "+first.Addr().Next().String()+", or leave it out", "%s is the network's own or its broadcast address", g)
		}
	}
	if n := len(s.Spec.DNS); n > dnsMost {
		c.add(CodeTooLarge, "spec.dns", "name fewer", "there are %d resolvers; at most %d are possible", n, dnsMost)
	}
	for i, d := range s.Spec.DNS[:min(len(s.Spec.DNS), dnsMost)] {
		c.addr(fmt.Sprintf("spec.dns[%d]", i), d)
	}
	return c.errs
}

// Validate checks the document by itself.
func (p *Port) Validate() ErrorList {
	var c checker
	c.meta(&p.TypeMeta, &p.Metadata, KindPort, true)
	c.name("spec.subnet", "subnet", p.Spec.Subnet)
	for i, a := range p.Spec.Addresses[:min(len(p.Spec.Addresses), addressesMost)] {
		f := fmt.Sprintf("spec.addresses[%d]", i)
		if c.addr(f, a) && i > 0 {
			c.add(CodeInvalid, f, "make another port for another address", "a port has one address of each family at most")
		}
	}
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

// Last returns the last address of a range: in an IPv4 subnet, the broadcast address.
func Last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Gateway returns the router's address in one of the subnet's ranges: spec.gateway where the range holds it, the range's
// first address elsewhere.
func (s *Subnet) Gateway(in netip.Prefix) netip.Addr {
	if in.Contains(s.Spec.Gateway) {
		return s.Spec.Gateway
	}
	return in.Masked().Addr().Next()
}

// Reserved says why a port cannot have an address of the subnet, or returns "".
func (s *Subnet) Reserved(a netip.Addr) string {
	if a == s.Spec.Gateway {
		return "it is the subnet's router"
	}
	for _, p := range s.Spec.Prefixes {
		if !p.Contains(a) {
			continue
		}
		kept := p.Addr()
		for _, what := range [reservedFirst]string{"it names the network", "it is kept for the router", "it is kept for the resolver", "it is kept for later use"} {
			if a == kept {
				return what
			}
			kept = kept.Next()
		}
		if a == Last(p) {
			return "it is the broadcast address"
		}
	}
	return ""
}
