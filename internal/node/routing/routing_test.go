// SPDX-License-Identifier: Apache-2.0

package routing

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"weft/internal/node/kernel"
	"weft/internal/southbound"
)

// fake is a kernel table that counts writes.
type fake[K, V comparable] struct {
	have   map[K]V
	writes int
}

func (f *fake[K, V]) All() (map[K]V, error) { return maps.Clone(f.have), nil }
func (f *fake[K, V]) Put(k K, v V) error    { f.writes++; f.have[k] = v; return nil }
func (f *fake[K, V]) Delete(k K) error      { f.writes++; delete(f.have, k); return nil }

type bench struct {
	routes  *fake[kernel.RouteKey, kernel.Location]
	sources *fake[kernel.SourceKey, kernel.Source]
	r       *Routing
}

func newBench() *bench {
	b := &bench{
		routes:  &fake[kernel.RouteKey, kernel.Location]{have: map[kernel.RouteKey]kernel.Location{}},
		sources: &fake[kernel.SourceKey, kernel.Source]{have: map[kernel.SourceKey]kernel.Source{}},
	}
	b.restart()
	return b
}

// restart makes a new process on the same kernel.
func (b *bench) restart() { b.r = New(Config{Node: "h1", Routes: b.routes, Sources: b.sources}) }

func (b *bench) apply(t *testing.T) {
	t.Helper()
	if err := b.r.Apply(); err != nil {
		t.Fatal(err)
	}
}

const vni = 4096

var (
	prefix = netip.MustParsePrefix
	fw     = southbound.Port{
		VNI: vni, Tenant: "red", Name: "fw", Subnet: 1, MAC: southbound.MAC{2, 9}, Sources: []netip.Prefix{prefix("0.0.0.0/0"), prefix("::/0")},
		Interfaces: []southbound.Interface{{Address: netip.MustParseAddr("10.0.1.9"), Bits: 24}},
	}
)

func route(to string, via southbound.RouteVia, node uint16, mac byte) southbound.Route {
	r := southbound.Route{VNI: vni, Table: 1, Prefix: prefix(to), Via: via, Node: node}
	if mac != 0 {
		r.MAC = southbound.MAC{2, mac}
	}
	return r
}

func rows() []southbound.Row {
	return []southbound.Row{
		southbound.Subnet{VNI: vni, Number: 1, Prefix: prefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")},
		southbound.Peer{VNI: vni, Node: 1, Name: "h1", Address: netip.MustParseAddr("198.19.0.1")},
		southbound.Peer{VNI: vni, Node: 2, Name: "h2", Address: netip.MustParseAddr("198.19.0.2")},
		fw,
		route("0.0.0.0/0", southbound.RoutePort, 1, 9),
		route("172.16.0.0/12", southbound.RoutePort, 2, 8),
		route("172.17.0.0/16", southbound.RoutePort, 0, 0),
		route("192.0.2.0/24", southbound.RouteBlackhole, 0, 0),
	}
}

// want is what rows come to, with the appliance at device 19.
func want() map[kernel.RouteKey]kernel.Location {
	key := func(p string) kernel.RouteKey { return kernel.RouteKey{VNI: vni, Table: 1, Prefix: prefix(p)} }
	return map[kernel.RouteKey]kernel.Location{
		key("10.0.1.0/24"):   {Kind: kernel.LocationConnected, Subnet: 1},
		key("10.0.1.1/32"):   {Kind: kernel.LocationConnected, Subnet: 1},
		key("0.0.0.0/0"):     {Kind: kernel.LocationPeer, IfIndex: 19, Subnet: 1, Node: 1, MAC: [6]byte{2, 9}},
		key("172.16.0.0/12"): {Kind: kernel.LocationRemote, Tunnel: netip.MustParseAddr("198.19.0.2"), Node: 2, MAC: [6]byte{2, 8}},
		key("172.17.0.0/16"): {},
		key("192.0.2.0/24"):  {Kind: kernel.LocationBlackhole},
	}
}

func (b *bench) check(t *testing.T) {
	t.Helper()
	b.apply(t)
	if !maps.Equal(b.routes.have, want()) {
		t.Errorf("routes %v\nwant %v", b.routes.have, want())
	}
	if len(b.sources.have) != 2 {
		t.Errorf("sources %v, want two", b.sources.have)
	}
	for k := range b.sources.have {
		if k.IfIndex != 19 {
			t.Errorf("source %v is not of device 19", k)
		}
	}
}

func (b *bench) device() {
	b.r.SetDevice(vni, netip.MustParseAddr("10.0.1.9"), 19, kernel.LocationPeer, true)
}

func TestRowsBecomeEntriesInAnyOrder(t *testing.T) {
	for seed := range uint64(50) {
		b, random := newBench(), rand.New(rand.NewPCG(seed, 1))
		all := rows()
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		at := random.IntN(len(all))
		for i, row := range all {
			if i == at {
				b.device()
			}
			b.r.Update(row)
			if random.IntN(2) == 0 {
				b.apply(t)
			}
		}
		b.check(t)
	}
}

func TestRestartWritesNothing(t *testing.T) {
	b := newBench()
	fill := func() {
		for _, row := range rows() {
			b.r.Update(row)
		}
		b.device()
	}
	fill()
	b.check(t)
	b.routes.writes, b.sources.writes = 0, 0
	b.restart()
	fill()
	b.check(t)
	b.r.Reset()
	fill()
	b.check(t)
	if b.routes.writes+b.sources.writes != 0 {
		t.Errorf("%d and %d writes", b.routes.writes, b.sources.writes)
	}
}

// A next hop that is gone leaves its route unreachable, and none of its sources.
func TestDeviceGone(t *testing.T) {
	b := newBench()
	for _, row := range rows() {
		b.r.Update(row)
	}
	b.device()
	b.check(t)
	b.r.SetDevice(vni, netip.MustParseAddr("10.0.1.9"), 0, 0, false)
	b.apply(t)
	key := kernel.RouteKey{VNI: vni, Table: 1, Prefix: prefix("0.0.0.0/0")}
	if to, ok := b.routes.have[key]; !ok || to.Kind != kernel.LocationNone || len(b.sources.have) != 0 {
		t.Errorf("route %v (there: %t), sources %v; want it there, to nowhere, and no sources", to, ok, b.sources.have)
	}
}

// A route of a subnet's own prefix takes the subnet's place, and gives it back.
func TestRouteOfASubnet(t *testing.T) {
	b := newBench()
	for _, row := range rows() {
		b.r.Update(row)
	}
	b.device()
	over := route("10.0.1.0/24", southbound.RouteBlackhole, 0, 0)
	b.r.Update(over)
	b.apply(t)
	if to := b.routes.have[kernel.RouteKey{VNI: vni, Table: 1, Prefix: over.Prefix}]; to.Kind != kernel.LocationBlackhole {
		t.Errorf("subnet's prefix leads to %v, want the hole", to)
	}
	b.r.Delete(over.Key())
	b.check(t)
}

func TestDeletedRowsLeaveNothing(t *testing.T) {
	b := newBench()
	for _, row := range rows() {
		b.r.Update(row)
	}
	b.device()
	b.check(t)
	for _, row := range rows() {
		b.r.Delete(row.Key())
	}
	b.apply(t)
	if len(b.routes.have)+len(b.sources.have)+len(b.r.nets) != 0 {
		t.Errorf("left: %v, %v, %v", b.routes.have, b.sources.have, b.r.nets)
	}
}

// TestManyRoutesInManySubnetsAreQuick: the cost is that of the entries, not of routes times subnets, or one VPC with much of
// both would hold up all others of its node.
func TestManyRoutesInManySubnetsAreQuick(t *testing.T) {
	b := newBench()
	b.r.Update(southbound.Peer{VNI: vni, Node: 1, Name: "h1", Address: netip.MustParseAddr("198.19.0.1")})
	for i := range 1000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
		b.r.Update(southbound.Subnet{VNI: vni, Number: uint32(i + 1), Prefix: p, Gateway: p.Addr().Next()})
		for table := range uint32(20) {
			to := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, byte(i >> 8), byte(i), 0}), 24)
			b.r.Update(southbound.Route{VNI: vni, Table: table + 1, Prefix: to, Via: southbound.RouteBlackhole})
		}
	}
	start := time.Now()
	b.apply(t)
	if took := time.Since(start); took > 3*time.Second { // a tenth of a second
		t.Errorf("20,000 routes beside 1000 subnets took %s", took)
	}
	if n := len(b.routes.have); n != 20*3000 {
		t.Errorf("there are %d entries, want 60,000", n)
	}
}
