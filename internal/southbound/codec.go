// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"errors"
	"fmt"
	"net/netip"

	"weft/internal/southbound/pb"
)

// errUnknownRow is a row of a kind that this build does not know; a reader passes over it (N/N-1 skew).
var errUnknownRow = errors.New("row of an unknown kind")

// encodeRow turns a row into its wire form.
func encodeRow(r Row) *pb.Row {
	switch r := r.(type) {
	case VPC:
		m := &pb.VPC{Vni: r.VNI, TenantNumber: r.TenantNumber, Tenant: r.Tenant, Name: r.Name}
		for _, p := range r.Prefixes {
			m.Prefixes = append(m.Prefixes, encodePrefix(p))
		}
		return &pb.Row{Row: &pb.Row_Vpc{Vpc: m}}
	case Subnet:
		return &pb.Row{Row: &pb.Row_Subnet{Subnet: &pb.Subnet{
			Vni: r.VNI, Number: r.Number, Prefix: encodePrefix(r.Prefix), Gateway: r.Gateway.AsSlice(),
		}}}
	case Peer:
		return &pb.Row{Row: &pb.Row_Peer{Peer: &pb.Peer{
			Vni: r.VNI, Node: uint32(r.Node), Name: r.Name, Address: r.Address.AsSlice(),
		}}}
	case Port:
		return &pb.Row{Row: &pb.Row_Port{Port: encodePort(r)}}
	case Location:
		return &pb.Row{Row: &pb.Row_Location{Location: &pb.Location{
			Vni: r.VNI, Address: r.Address.AsSlice(), Node: uint32(r.Node), Mac: r.MAC[:], Subnet: r.Subnet,
		}}}
	case Route:
		return &pb.Row{Row: &pb.Row_Route{Route: &pb.Route{
			Vni: r.VNI, Table: r.Table, Prefix: encodePrefix(r.Prefix), Via: pb.Route_Via(r.Via),
			Node: uint32(r.Node), Mac: r.MAC[:],
		}}}
	}
	panic(fmt.Sprintf("southbound: no wire form for %T", r)) // a row type was added without its codec
}

func encodePort(r Port) *pb.Port {
	m := &pb.Port{
		Vni: r.VNI, Tenant: r.Tenant, Name: r.Name, TenantNumber: r.TenantNumber,
		Subnet: r.Subnet, Table: r.Table, Mac: r.MAC[:], Binding: r.Binding,
	}
	for _, p := range r.Sources {
		m.Sources = append(m.Sources, encodePrefix(p))
	}
	for _, i := range r.Interfaces {
		m.Interfaces = append(m.Interfaces, &pb.Interface{
			Address: i.Address.AsSlice(), Bits: uint32(i.Bits), Gateway: i.Gateway.AsSlice(),
		})
	}
	for _, d := range r.DNS {
		m.Dns = append(m.Dns, d.AsSlice())
	}
	return m
}

// encodeKey returns a wire row of which only the key is filled.
func encodeKey(k Key) *pb.Row {
	switch k.Table {
	case TableVPC:
		return encodeRow(VPC{VNI: k.VNI})
	case TableSubnet:
		return encodeRow(Subnet{VNI: k.VNI, Prefix: k.Prefix})
	case TablePeer:
		return encodeRow(Peer{VNI: k.VNI, Node: k.Node})
	case TablePort:
		return encodeRow(Port{VNI: k.VNI, Tenant: k.Tenant, Name: k.Name})
	case TableLocation:
		return encodeRow(Location{VNI: k.VNI, Address: k.Prefix.Addr()})
	case TableRoute:
		return encodeRow(Route{VNI: k.VNI, Table: k.RouteTable, Prefix: k.Prefix})
	}
	panic(fmt.Sprintf("southbound: no wire form for key %v", k))
}

// decoder turns wire values into typed ones and keeps the first error. A decoder of keys reads rows of which only the
// key is filled: what is not of the key may be missing.
type decoder struct {
	key bool
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// addr reads 4 or 16 bytes. An IPv4 address has one form: 4 bytes.
func (d *decoder) addr(b []byte) netip.Addr {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		d.fail("address of %d bytes", len(b))
	}
	if a.Is4In6() {
		d.fail("IPv4 address %s in 16 bytes", a.Unmap())
	}
	return a
}

// rest reads an address that is not part of the row's key.
func (d *decoder) rest(b []byte) netip.Addr {
	if d.key {
		return netip.Addr{}
	}
	return d.addr(b)
}

func (d *decoder) prefix(p *pb.Prefix) netip.Prefix {
	a := d.addr(p.GetAddress())
	if p.GetBits() > uint32(a.BitLen()) {
		d.fail("prefix length %d of %s", p.GetBits(), a)
		return netip.Prefix{}
	}
	out := netip.PrefixFrom(a, int(p.GetBits()))
	if out != out.Masked() {
		d.fail("%s has bits behind its prefix", out)
	}
	return out
}

func (d *decoder) prefixes(list []*pb.Prefix) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, d.prefix(p))
	}
	return out
}

func (d *decoder) mac(b []byte) (m MAC) {
	if d.key {
		return m
	}
	if len(b) != len(m) {
		d.fail("Ethernet address of %d bytes", len(b))
		return m
	}
	return MAC(b)
}

func (d *decoder) vni(v uint32) uint32 {
	if v == 0 || v >= 1<<24 {
		d.fail("VNI %d is not in 1..16777215", v)
	}
	return v
}

func (d *decoder) node(n uint32) uint16 {
	if n > 0xffff {
		d.fail("node number %d is above 65535", n)
	}
	return uint16(n)
}

func (d *decoder) via(v pb.Route_Via) RouteVia {
	switch {
	case v == pb.Route_VIA_BLACKHOLE, v == pb.Route_VIA_PORT, d.key:
		return RouteVia(v)
	}
	d.fail("a route via %s, which this version does not know", v)
	return 0
}

// decodeRow turns a wire row into a typed one. Nothing of a row with an error is used.
func decodeRow(m *pb.Row) (Row, error) {
	var d decoder
	return d.row(m)
}

// decodeKey returns the key of a wire row of which only the key need be filled.
func decodeKey(m *pb.Row) (Key, error) {
	d := decoder{key: true}
	r, err := d.row(m)
	if err != nil {
		return Key{}, err
	}
	return r.Key(), nil
}

func (d *decoder) row(m *pb.Row) (Row, error) {
	var row Row
	switch m := m.GetRow().(type) {
	case *pb.Row_Vpc:
		row = VPC{
			VNI: d.vni(m.Vpc.GetVni()), TenantNumber: m.Vpc.GetTenantNumber(), Tenant: m.Vpc.GetTenant(),
			Name: m.Vpc.GetName(), Prefixes: d.prefixes(m.Vpc.GetPrefixes()),
		}
	case *pb.Row_Subnet:
		row = Subnet{
			VNI: d.vni(m.Subnet.GetVni()), Number: m.Subnet.GetNumber(),
			Prefix: d.prefix(m.Subnet.GetPrefix()), Gateway: d.rest(m.Subnet.GetGateway()),
		}
	case *pb.Row_Peer:
		row = Peer{
			VNI: d.vni(m.Peer.GetVni()), Node: d.node(m.Peer.GetNode()), Name: m.Peer.GetName(),
			Address: d.rest(m.Peer.GetAddress()),
		}
	case *pb.Row_Port:
		row = d.port(m.Port)
	case *pb.Row_Location:
		row = Location{
			VNI: d.vni(m.Location.GetVni()), Address: d.addr(m.Location.GetAddress()),
			Node: d.node(m.Location.GetNode()), MAC: d.mac(m.Location.GetMac()), Subnet: m.Location.GetSubnet(),
		}
	case *pb.Row_Route:
		row = Route{
			VNI: d.vni(m.Route.GetVni()), Table: m.Route.GetTable(), Prefix: d.prefix(m.Route.GetPrefix()),
			Via: d.via(m.Route.GetVia()), Node: d.node(m.Route.GetNode()), MAC: d.mac(m.Route.GetMac()),
		}
	default:
		return nil, errUnknownRow
	}
	if d.err != nil {
		return nil, fmt.Errorf("decode row: %w", d.err)
	}
	return row, nil
}

func (d *decoder) port(m *pb.Port) Port {
	r := Port{
		VNI: d.vni(m.GetVni()), Tenant: m.GetTenant(), Name: m.GetName(), TenantNumber: m.GetTenantNumber(),
		Subnet: m.GetSubnet(), Table: m.GetTable(), MAC: d.mac(m.GetMac()), Sources: d.prefixes(m.GetSources()),
		Binding: m.GetBinding(),
	}
	for _, i := range m.GetInterfaces() {
		a := d.addr(i.GetAddress())
		if i.GetBits() > uint32(a.BitLen()) {
			d.fail("prefix length %d of %s", i.GetBits(), a)
		}
		r.Interfaces = append(r.Interfaces, Interface{Address: a, Bits: int(i.GetBits()), Gateway: d.addr(i.GetGateway())})
	}
	for _, a := range m.GetDns() {
		r.DNS = append(r.DNS, d.addr(a))
	}
	return r
}

// refused is a row that could not be read. A row of one VPC that makes no sense must not keep the node from the rest.
type refused struct {
	key     Key // zero where not even the key could be read
	failure Failure
}

// decodeRows decodes a list. It passes over rows of unknown kinds, and tells which it could not read.
func decodeRows(ms []*pb.Row) (rows []Row, bad []refused) {
	for _, m := range ms {
		r, err := decodeRow(m)
		switch {
		case errors.Is(err, errUnknownRow):
		case err != nil:
			bad = append(bad, refuse(m, err))
		default:
			rows = append(rows, r)
		}
	}
	return rows, bad
}

// decodeKeys decodes the keys of a list, as decodeRows does rows.
func decodeKeys(ms []*pb.Row) (keys []Key, bad []refused) {
	for _, m := range ms {
		k, err := decodeKey(m)
		switch {
		case errors.Is(err, errUnknownRow):
		case err != nil:
			bad = append(bad, refuse(m, err))
		default:
			keys = append(keys, k)
		}
	}
	return keys, bad
}

// refuse says as well as it can which row could not be read.
func refuse(m *pb.Row, err error) refused {
	r := refused{failure: Failure{Message: err.Error()}}
	var table Table
	switch m := m.GetRow().(type) {
	case *pb.Row_Vpc:
		table, r.failure.VNI = TableVPC, m.Vpc.GetVni()
	case *pb.Row_Subnet:
		table, r.failure.VNI = TableSubnet, m.Subnet.GetVni()
	case *pb.Row_Peer:
		table, r.failure.VNI = TablePeer, m.Peer.GetVni()
	case *pb.Row_Port:
		table, r.failure.VNI = TablePort, m.Port.GetVni()
	case *pb.Row_Location:
		table, r.failure.VNI = TableLocation, m.Location.GetVni()
	case *pb.Row_Route:
		table, r.failure.VNI = TableRoute, m.Route.GetVni()
	}
	r.failure.Key = fmt.Sprintf("%s/%d", table, r.failure.VNI)
	if key, err := decodeKey(m); err == nil {
		r.key, r.failure.Key = key, key.String()
	}
	return r
}

func encodePrefix(p netip.Prefix) *pb.Prefix {
	return &pb.Prefix{Address: p.Addr().AsSlice(), Bits: uint32(p.Bits())}
}
