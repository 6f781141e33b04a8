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
	}
	panic(fmt.Sprintf("southbound: no wire form for %T", r)) // a row type was added without its codec
}

func encodePort(r Port) *pb.Port {
	m := &pb.Port{
		Vni: r.VNI, Tenant: r.Tenant, Name: r.Name, TenantNumber: r.TenantNumber,
		Subnet: r.Subnet, Mac: r.MAC[:], Binding: r.Binding,
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
	}
	panic(fmt.Sprintf("southbound: no wire form for key %v", k))
}

// decoder turns wire values into typed ones and keeps the first error.
type decoder struct{ err error }

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// addr reads 4 or 16 bytes; none is the zero Addr where optional.
func (d *decoder) addr(b []byte, optional bool) netip.Addr {
	if len(b) == 0 && optional {
		return netip.Addr{}
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		d.fail("address of %d bytes", len(b))
	}
	return a
}

func (d *decoder) prefix(p *pb.Prefix) netip.Prefix {
	a := d.addr(p.GetAddress(), false)
	if p.GetBits() > uint32(a.BitLen()) {
		d.fail("prefix length %d of %s", p.GetBits(), a)
		return netip.Prefix{}
	}
	return netip.PrefixFrom(a, int(p.GetBits()))
}

func (d *decoder) mac(b []byte, optional bool) (m MAC) {
	if len(b) == 0 && optional {
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

// decodeRow turns a wire row into a typed one. Nothing of a row with an error is used.
func decodeRow(m *pb.Row) (Row, error) {
	var d decoder
	var row Row
	switch m := m.GetRow().(type) {
	case *pb.Row_Vpc:
		r := VPC{VNI: d.vni(m.Vpc.GetVni()), TenantNumber: m.Vpc.GetTenantNumber(), Tenant: m.Vpc.GetTenant(), Name: m.Vpc.GetName()}
		for _, p := range m.Vpc.GetPrefixes() {
			r.Prefixes = append(r.Prefixes, d.prefix(p))
		}
		row = r
	case *pb.Row_Subnet:
		row = Subnet{
			VNI: d.vni(m.Subnet.GetVni()), Number: m.Subnet.GetNumber(),
			Prefix: d.prefix(m.Subnet.GetPrefix()), Gateway: d.addr(m.Subnet.GetGateway(), true),
		}
	case *pb.Row_Peer:
		row = Peer{
			VNI: d.vni(m.Peer.GetVni()), Node: d.node(m.Peer.GetNode()), Name: m.Peer.GetName(),
			Address: d.addr(m.Peer.GetAddress(), true),
		}
	case *pb.Row_Port:
		row = d.port(m.Port)
	case *pb.Row_Location:
		row = Location{
			VNI: d.vni(m.Location.GetVni()), Address: d.addr(m.Location.GetAddress(), false),
			Node: d.node(m.Location.GetNode()), MAC: d.mac(m.Location.GetMac(), true), Subnet: m.Location.GetSubnet(),
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
		Subnet: m.GetSubnet(), MAC: d.mac(m.GetMac(), true), Binding: m.GetBinding(),
	}
	for _, i := range m.GetInterfaces() {
		a := d.addr(i.GetAddress(), false)
		if i.GetBits() > uint32(a.BitLen()) {
			d.fail("prefix length %d of %s", i.GetBits(), a)
		}
		r.Interfaces = append(r.Interfaces, Interface{Address: a, Bits: int(i.GetBits()), Gateway: d.addr(i.GetGateway(), true)})
	}
	for _, a := range m.GetDns() {
		r.DNS = append(r.DNS, d.addr(a, false))
	}
	return r
}

// decodeRows decodes a list, passing over rows of unknown kinds.
func decodeRows(ms []*pb.Row) ([]Row, error) {
	rows := make([]Row, 0, len(ms))
	for _, m := range ms {
		r, err := decodeRow(m)
		switch {
		case errors.Is(err, errUnknownRow):
			continue
		case err != nil:
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func encodePrefix(p netip.Prefix) *pb.Prefix {
	return &pb.Prefix{Address: p.Addr().AsSlice(), Bits: uint32(p.Bits())}
}
