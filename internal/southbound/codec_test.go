// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"cmp"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"weft/internal/southbound/pb"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// everyRow is at least one row of each kind.
func everyRow() []Row {
	mac := MAC{2, 0, 0, 0, 0, 1}
	return []Row{
		VPC{VNI: 1, TenantNumber: 2, Tenant: "t", Name: "n", Prefixes: prefixes("10.0.0.0/16", "fd00::/48")},
		Subnet{VNI: 1, Number: 3, Prefix: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.0.1")},
		Subnet{VNI: 1, Number: 3, Prefix: netip.MustParsePrefix("fd00::/64"), Gateway: netip.MustParseAddr("fd00::1")},
		Peer{VNI: 1, Node: 7, Name: "h", Address: netip.MustParseAddr("2001:db8::1")},
		Port{
			VNI: 1, Tenant: "t", Name: "p", TenantNumber: 2, Subnet: 3, Table: 9, MAC: mac, Binding: "b",
			DNS: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Sources: prefixes("0.0.0.0/0", "fd00:1::/64"),
			Interfaces: []Interface{
				{netip.MustParseAddr("10.0.0.4"), 24, netip.MustParseAddr("10.0.0.1")},
				{netip.MustParseAddr("fd00::4"), 64, netip.MustParseAddr("fd00::1")},
			},
		},
		location(1, 4, 9),
		Route{VNI: 1, Table: 9, Prefix: netip.MustParsePrefix("0.0.0.0/0"), Via: RoutePort, Node: 7, MAC: mac},
		Route{VNI: 1, Table: 9, Prefix: netip.MustParsePrefix("::/0"), Via: RoutePort, MAC: mac}, // attached nowhere
		Route{VNI: 1, Table: 9, Prefix: netip.MustParsePrefix("192.0.2.0/24"), Via: RouteBlackhole},
	}
}

func TestRowsSurviveTheWire(t *testing.T) {
	for _, want := range everyRow() {
		got, err := decodeRow(encodeRow(want))
		if err != nil || !got.Equal(want) || got.String() != want.String() {
			t.Errorf("round trip of %v gave %v, error %v", want, got, err)
		}
		key, err := decodeKey(encodeKey(want.Key()))
		if err != nil || key != want.Key() {
			t.Errorf("round trip of key %v gave %v, error %v", want.Key(), key, err)
		}
		for _, other := range everyRow() {
			if (other.String() == want.String()) != want.Equal(other) || (other.Key() == want.Key()) != want.Equal(other) {
				t.Errorf("%v and %v: text, key and content do not agree on whether they are equal", want, other)
			}
		}
	}
}

func TestDecoderRefusesWhatCannotBe(t *testing.T) {
	cases := map[string]struct {
		spoil func(vpc *pb.VPC, subnet *pb.Subnet, port *pb.Port, location *pb.Location, route *pb.Route)
		want  string
	}{
		"short_address": {func(_ *pb.VPC, _ *pb.Subnet, _ *pb.Port, l *pb.Location, _ *pb.Route) { l.Address = []byte{1, 2, 3} }, "address of 3 bytes"},
		"mapped_address": {func(_ *pb.VPC, _ *pb.Subnet, _ *pb.Port, l *pb.Location, _ *pb.Route) {
			a := netip.MustParseAddr("10.0.0.4").As16()
			l.Address = a[:]
		}, "IPv4 address 10.0.0.4 in 16 bytes"},
		"no_gateway":     {func(_ *pb.VPC, s *pb.Subnet, _ *pb.Port, _ *pb.Location, _ *pb.Route) { s.Gateway = nil }, "address of 0 bytes"},
		"long_prefix":    {func(v *pb.VPC, _ *pb.Subnet, _ *pb.Port, _ *pb.Location, _ *pb.Route) { v.Prefixes[0].Bits = 33 }, "prefix length 33"},
		"no_prefix":      {func(_ *pb.VPC, s *pb.Subnet, _ *pb.Port, _ *pb.Location, _ *pb.Route) { s.Prefix = nil }, "address of 0 bytes"},
		"bits_behind":    {func(_ *pb.VPC, _ *pb.Subnet, p *pb.Port, _ *pb.Location, _ *pb.Route) { p.Sources[1].Bits = 20 }, "fd00:1::/20 has bits behind its prefix"},
		"wide_vni":       {func(_ *pb.VPC, _ *pb.Subnet, _ *pb.Port, _ *pb.Location, r *pb.Route) { r.Vni = 1 << 24 }, "VNI 16777216"},
		"no_vni":         {func(v *pb.VPC, _ *pb.Subnet, _ *pb.Port, _ *pb.Location, _ *pb.Route) { v.Vni = 0 }, "VNI 0"},
		"wide_node":      {func(_ *pb.VPC, _ *pb.Subnet, _ *pb.Port, _ *pb.Location, r *pb.Route) { r.Node = 1 << 16 }, "node number 65536"},
		"short_mac":      {func(_ *pb.VPC, _ *pb.Subnet, p *pb.Port, _ *pb.Location, _ *pb.Route) { p.Mac = p.Mac[:5] }, "Ethernet address of 5 bytes"},
		"interface_bits": {func(_ *pb.VPC, _ *pb.Subnet, p *pb.Port, _ *pb.Location, _ *pb.Route) { p.Interfaces[1].Bits = 129 }, "prefix length 129"},
		"route_nowhere":  {func(_ *pb.VPC, _ *pb.Subnet, _ *pb.Port, _ *pb.Location, r *pb.Route) { r.Via = 0 }, "VIA_UNSPECIFIED"},
		"route_unknown":  {func(_ *pb.VPC, _ *pb.Subnet, _ *pb.Port, _ *pb.Location, r *pb.Route) { r.Via = 99 }, "via 99, which this version does not know"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rows := everyRow()
			wire := make([]*pb.Row, len(rows))
			for i, r := range rows {
				wire[i] = encodeRow(r)
			}
			c.spoil(wire[0].GetVpc(), wire[1].GetSubnet(), wire[4].GetPort(), wire[5].GetLocation(), wire[6].GetRoute())
			refused := 0
			for i, m := range wire {
				_, err := decodeRow(m)
				switch {
				case err != nil && strings.Contains(err.Error(), c.want):
					refused++
				case err != nil:
					t.Errorf("%v: %v, want one with %q", rows[i], err, c.want)
				}
			}
			if refused != 1 {
				t.Errorf("%d rows were refused, want 1", refused)
			}
		})
	}
}

func TestRowOfANewerVersionIsPassedOver(t *testing.T) {
	rows, bad := decodeRows([]*pb.Row{{}, encodeRow(location(1, 4, 9))})
	if len(bad) != 0 || len(rows) != 1 {
		t.Errorf("got %v, refused %v", rows, bad)
	}
	keys, bad := decodeKeys([]*pb.Row{{}, encodeKey(location(1, 4, 9).Key())})
	if len(bad) != 0 || len(keys) != 1 {
		t.Errorf("got %v, refused %v", keys, bad)
	}
}

// TestKeysHaveOneOrder: sorting is the order of filling, whatever the order before, and equal means the same.
func TestKeysHaveOneOrder(t *testing.T) {
	var keys []Key
	for _, r := range everyRow() {
		keys = append(keys, r.Key())
	}
	slices.SortFunc(keys, Key.Compare)
	for i := range keys {
		for j := range keys {
			if got := keys[i].Compare(keys[j]); got != cmp.Compare(i, j) {
				t.Errorf("%v against %v gave %d", keys[i], keys[j], got)
			}
		}
	}
	if last := keys[len(keys)-1]; last.Table != TableRoute {
		t.Errorf("%v is filled last, want a route: it leads to what is there before", last)
	}
}

// FuzzDecodeRow: whatever bytes a server sends, a row is refused, or means the same after another way over the wire.
func FuzzDecodeRow(f *testing.F) {
	for _, r := range everyRow() {
		for _, m := range []*pb.Row{encodeRow(r), encodeKey(r.Key())} {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.Row
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		if k, err := decodeKey(&m); err == nil {
			if again, err := decodeKey(encodeKey(k)); err != nil || again != k || k.String() == "" {
				t.Errorf("key %v came back as %v, error %v", k, again, err)
			}
		}
		r, err := decodeRow(&m)
		if err != nil {
			if !errors.Is(err, errUnknownRow) && r != nil {
				t.Errorf("a refused row is there: %v", r)
			}
			return
		}
		if again, err := decodeRow(encodeRow(r)); err != nil || !again.Equal(r) || again.String() != r.String() {
			t.Errorf("%v came back as %v, error %v", r, again, err)
		}
		if k, err := decodeKey(&m); err != nil || k != r.Key() {
			t.Errorf("%v has key %v, error %v", r, k, err)
		}
	})
}

// FuzzServerMessage: whatever bytes come from a server, each row of a step is taken or named as refused.
func FuzzServerMessage(f *testing.F) {
	m := &pb.Rows{Epoch: "e", Revision: 3, Snapshot: true, Synced: true}
	for _, r := range everyRow() {
		m.Upserts, m.Deletes = append(m.Upserts, encodeRow(r)), append(m.Deletes, encodeKey(r.Key()))
	}
	m.Upserts = append(m.Upserts, encodeRow(location(1<<24, 4, 9)), &pb.Row{})
	b, err := proto.Marshal(&pb.ServerMessage{Message: &pb.ServerMessage_Rows{Rows: m}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.ServerMessage
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		var step Step
		collect(&step, m.GetRows())
		deleted := len(step.Deletes)
		for _, bad := range step.bad {
			if bad.failure.Message == "" || bad.failure.Key == "" {
				t.Errorf("refused without a word: %+v", bad)
			}
			if bad.key != (Key{}) {
				deleted--
			}
		}
		rows := m.GetRows()
		if len(step.Upserts) > len(rows.GetUpserts()) || deleted > len(rows.GetDeletes()) {
			t.Errorf("%d upserts and %d deletes came of %d and %d", len(step.Upserts), deleted, len(rows.GetUpserts()), len(rows.GetDeletes()))
		}
	})
}

// FuzzHello: whatever bytes a node sends first, it is refused, or means the same after another way over the wire.
func FuzzHello(f *testing.F) {
	h := Hello{
		Node: "host-1", Address: netip.MustParseAddr("2001:db8::1"), Roles: []string{"host"}, Site: "north", Version: "v", Kernel: "k",
		Bindings: []Binding{{Tenant: "red", Port: "web-1", ID: "b"}},
	}
	b, err := proto.Marshal(encodeHello(h, "e", 7))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m pb.NodeMessage
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		h, err := decodeHello(m.GetHello())
		if err != nil {
			return
		}
		again, err := decodeHello(encodeHello(h, "", 0).GetHello())
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Errorf("%+v came back as %+v, error %v", h, again, err)
		}
	})
}
