// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"fmt"
	"net/netip"
)

// reservedFirst is how many addresses at the beginning of a subnet's range the system keeps: network, router, resolver,
// spare.
const reservedFirst = 4

// lengths bounds how long a range may be, for each address family.
type lengths struct{ least4, most4, least6, most6 int }

// What VPCs and subnets may have. Below the narrowest of a subnet, too little is left beside the reserved addresses.
var (
	vpcLengths    = lengths{8, 28, 16, 124}
	subnetLengths = lengths{8, 29, 16, 124}
)

// of returns the bounds for the family of a range.
func (l lengths) of(p netip.Prefix) (least, most int) {
	if p.Addr().Is4() {
		return l.least4, l.most4
	}
	return l.least6, l.most6
}

// special are ranges that are no host's. Sources: RFC 1122, RFC 3927, RFC 4291, RFC 3879, RFC 5771, RFC 6890.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "this network"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link local"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "reserved"},
	{netip.MustParsePrefix("::/8"), "unspecified, loopback, and IPv4 in IPv6"},
	{netip.MustParsePrefix("fe80::/10"), "link local"},
	{netip.MustParsePrefix("fec0::/10"), "site local, which is obsolete"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
}

// unusable names the special range that p touches, or returns "".
func unusable(p netip.Prefix) string {
	for _, r := range special {
		if r.prefix.Overlaps(p) {
			return fmt.Sprintf("%s (%s)", r.prefix, r.what)
		}
	}
	return ""
}

// inSpecial names the special range that holds all of p, or returns "".
func inSpecial(p netip.Prefix) string {
	for _, r := range special {
		if r.prefix.Bits() <= p.Bits() && r.prefix.Contains(p.Addr()) {
			return fmt.Sprintf("%s (%s)", r.prefix, r.what)
		}
	}
	return ""
}

// family is the word for an address's family.
func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// prefixes checks a list of ranges; it returns those that are right by themselves.
func (c *checker) prefixes(field string, list []netip.Prefix, bounds lengths) []netip.Prefix {
	if len(list) == 0 {
		c.add(CodeRequired, field, "write at least one range, for example 10.0.0.0/16 or fd00::/48", "no range is given")
	}
	if len(list) > prefixesMost {
		c.add(CodeTooLarge, field, "join ranges, or make several networks", "there are %d ranges; at most %d are possible", len(list), prefixesMost)
		return nil
	}
	var good []netip.Prefix
	for i, p := range list {
		f := fmt.Sprintf("%s[%d]", field, i)
		if !c.prefix(f, p, bounds) {
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

// prefix checks a range in which hosts live.
func (c *checker) prefix(field string, p netip.Prefix, bounds lengths) bool {
	least, most := bounds.of(p)
	switch {
	case !c.masked(field, p):
	case inSpecial(p) != "":
		c.add(CodeInvalid, field, "choose a private range such as 10.0.0.0/16 or fd00::/48", "%s lies in %s", p, inSpecial(p))
	case p.Bits() < least || p.Bits() > most:
		c.add(CodeInvalid, field, fmt.Sprintf("choose a length from /%d to /%d", least, most), "the length /%d of %s is not possible here", p.Bits(), p)
	case unusable(p) != "":
		c.add(CodeInvalid, field, "choose a private range such as 10.0.0.0/16 or fd00::/48", "%s holds %s", p, unusable(p))
	default:
		return true
	}
	return false
}

// target checks a range that packets are sent to or from, of any length: 0.0.0.0/0 and ::/0 are all of a family.
func (c *checker) target(field string, p netip.Prefix) bool {
	if !c.masked(field, p) {
		return false
	}
	if in := inSpecial(p); in != "" {
		c.add(CodeInvalid, field, "choose a range of hosts; 0.0.0.0/0 and ::/0 are all of them", "%s lies in %s, which is never routed", p, in)
		return false
	}
	return true
}

// masked checks that a range is one, without bits behind its length.
func (c *checker) masked(field string, p netip.Prefix) bool {
	switch {
	case !p.IsValid():
		c.add(CodeInvalid, field, "write an address and a length, for example 10.0.0.0/16 or fd00::/48", "it is not a range of addresses")
	case p != p.Masked():
		c.errs = append(c.errs, hostBits(field, p))
	default:
		return true
	}
	return false
}

// addr checks an address of a host.
func (c *checker) addr(field string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		c.add(CodeInvalid, field, "write an address such as 10.0.1.4 or fd00::4", "it is not an address")
	case a.Is4In6():
		c.add(CodeInvalid, field, "write "+a.Unmap().String(), "%s is an IPv4 address in IPv6 form", a)
	case a.Zone() != "":
		c.add(CodeInvalid, field, "write "+a.WithZone("").String(), "%s names an interface, which means something on one machine only", a)
	case unusable(netip.PrefixFrom(a, a.BitLen())) != "":
		c.add(CodeInvalid, field, "choose an address of a host", "%s lies in %s", a, unusable(netip.PrefixFrom(a, a.BitLen())))
	default:
		return true
	}
	return false
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
		if a.Is4() && a == Last(p) {
			return "it is the broadcast address"
		}
	}
	return ""
}
