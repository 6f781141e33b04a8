// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"weft/internal/node/kernel"
	"weft/internal/southbound"
)

// fake is a kernel table that counts writes.
type fake[K, V comparable] struct {
	have   map[K]V
	writes int
	wrote  func() // called at each Put; nil: nothing
}

func (f *fake[K, V]) All() (map[K]V, error) { return maps.Clone(f.have), nil }
func (f *fake[K, V]) Put(k K, v V) error {
	if f.wrote != nil {
		f.wrote()
	}
	f.writes++
	f.have[k] = v
	return nil
}

func (f *fake[K, V]) Delete(k K) error { f.writes++; delete(f.have, k); return nil }

type bench struct {
	locations *fake[kernel.LocationKey, kernel.Location]
	senders   *fake[kernel.SenderKey, kernel.Sender]
	o         *Overlay
}

func newBench() *bench {
	b := &bench{
		locations: &fake[kernel.LocationKey, kernel.Location]{have: map[kernel.LocationKey]kernel.Location{}},
		senders:   &fake[kernel.SenderKey, kernel.Sender]{have: map[kernel.SenderKey]kernel.Sender{}},
	}
	b.restart()
	return b
}

// restart makes a new process on the same kernel.
func (b *bench) restart() {
	b.o = New(Config{Node: "h1", RouterMAC: [6]byte{2, 0x77}, Locations: b.locations, Senders: b.senders})
}

func (b *bench) apply(t *testing.T) {
	t.Helper()
	if err := b.o.Apply(); err != nil {
		t.Fatal(err)
	}
}

var (
	gateway = netip.MustParseAddr("10.0.1.1")
	here    = netip.MustParseAddr("10.0.1.4")
	there   = netip.MustParseAddr("10.0.1.5")
	tunnel  = netip.MustParseAddr("198.19.0.2")
)

func rows(vni uint32) []southbound.Row {
	return []southbound.Row{
		southbound.VPC{VNI: vni, TenantNumber: 7},
		southbound.Subnet{VNI: vni, Number: 1, Prefix: netip.MustParsePrefix("10.0.1.0/24"), Gateway: gateway},
		southbound.Peer{VNI: vni, Node: 1, Name: "h1", Address: netip.MustParseAddr("198.19.0.1")},
		southbound.Peer{VNI: vni, Node: 2, Name: "h2", Address: tunnel},
		southbound.Location{VNI: vni, Address: here, Node: 1, MAC: southbound.MAC{2, 4}, Subnet: 1},
		southbound.Location{VNI: vni, Address: there, Node: 2, MAC: southbound.MAC{2, 5}, Subnet: 1},
	}
}

func TestRowsBecomeEntries(t *testing.T) {
	b := newBench()
	for _, r := range rows(4096) {
		b.o.Update(r)
	}
	b.apply(t)
	if _, ok := b.locations.have[kernel.LocationKey{VNI: 4096, Addr: here}]; ok {
		t.Error("an address of this node is reachable before its device is there")
	}
	b.o.SetDevice(4096, here, Device{IfIndex: 9, Kind: kernel.LocationPeer}, true)
	b.apply(t)
	want := map[kernel.LocationKey]kernel.Location{
		{VNI: 4096, Addr: gateway}: {Kind: kernel.LocationRouter, Subnet: 1, MAC: [6]byte{2, 0x77}},
		{VNI: 4096, Addr: here}:    {Kind: kernel.LocationPeer, IfIndex: 9, Subnet: 1, Node: 1, MAC: [6]byte{2, 4}},
		{VNI: 4096, Addr: there}:   {Kind: kernel.LocationRemote, Tunnel: tunnel, Subnet: 1, Node: 2, MAC: [6]byte{2, 5}},
	}
	if !maps.Equal(b.locations.have, want) {
		t.Errorf("locations %v, want %v", b.locations.have, want)
	}
	if s := (map[kernel.SenderKey]kernel.Sender{{VNI: 4096, Addr: tunnel}: {Tenant: 7, Node: 2}}); !maps.Equal(b.senders.have, s) {
		t.Errorf("senders %v, want %v: the other node, and not this one", b.senders.have, s)
	}
}

// TestSendersComeFirst: a node must be allowed to send before others are told to send to it, or its answers are dropped.
func TestSendersComeFirst(t *testing.T) {
	b := newBench()
	for _, r := range rows(4096) {
		b.o.Update(r)
	}
	b.locations.wrote = func() {
		if len(b.senders.have) == 0 {
			t.Error("a location was written before the sender")
		}
	}
	b.apply(t)
	if len(b.locations.have) == 0 {
		t.Error("no location was written")
	}
}

func TestRestartWritesNothing(t *testing.T) {
	b := newBench()
	fill := func() {
		for _, r := range rows(4096) {
			b.o.Update(r)
		}
		b.o.SetDevice(4096, here, Device{IfIndex: 9, Kind: kernel.LocationPeer}, true)
		b.apply(t)
	}
	fill()
	b.locations.writes, b.senders.writes = 0, 0
	b.restart()
	fill()
	if n := b.locations.writes + b.senders.writes; n != 0 {
		t.Errorf("%d writes", n)
	}
}

func TestChangesOfRowsAreFollowed(t *testing.T) {
	b := newBench()
	for _, r := range rows(4096) {
		b.o.Update(r)
	}
	other := netip.MustParseAddr("198.19.0.77")
	b.o.Update(southbound.Peer{VNI: 4096, Node: 2, Name: "h2", Address: other})
	b.o.Update(southbound.Subnet{VNI: 4096, Number: 1, Prefix: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.254")})
	b.apply(t)
	if l := b.locations.have[kernel.LocationKey{VNI: 4096, Addr: there}]; l.Tunnel != other {
		t.Errorf("the location still leads to %v", l.Tunnel)
	}
	if _, ok := b.locations.have[kernel.LocationKey{VNI: 4096, Addr: gateway}]; ok {
		t.Error("the router still has its old address")
	}
	if _, ok := b.senders.have[kernel.SenderKey{VNI: 4096, Addr: tunnel}]; ok || len(b.senders.have) != 1 {
		t.Errorf("senders %v", b.senders.have)
	}
	b.o.Delete(southbound.Peer{VNI: 4096, Node: 2}.Key())
	b.apply(t)
	if _, ok := b.locations.have[kernel.LocationKey{VNI: 4096, Addr: there}]; ok || len(b.senders.have) != 0 {
		t.Error("a peer that is gone can still be reached, or send")
	}
}

// TestAnyOrderEndsAtTheSame feeds random histories in random order and compares with what a fresh node makes of the end.
func TestPeersMayTakeOverAddresses(t *testing.T) {
	b := newBench()
	for _, r := range rows(4096) {
		b.o.Update(r)
	}
	other := netip.MustParseAddr("198.19.0.3")
	b.o.Update(southbound.Peer{VNI: 4096, Node: 3, Name: "h3", Address: other})
	b.apply(t)
	b.o.Update(southbound.Peer{VNI: 4096, Node: 2, Name: "h2", Address: other})
	b.o.Update(southbound.Peer{VNI: 4096, Node: 3, Name: "h3", Address: tunnel})
	b.apply(t)
	want := map[netip.Addr]uint16{other: 2, tunnel: 3}
	for addr, node := range want {
		if got := b.senders.have[kernel.SenderKey{VNI: 4096, Addr: addr}].Node; got != node {
			t.Errorf("%s may send as node %d, want %d", addr, got, node)
		}
	}
	if len(b.senders.have) != len(want) {
		t.Errorf("senders are %v", b.senders.have)
	}
}

func TestAnyOrderEndsAtTheSame(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		b, final := newBench(), map[southbound.Key]southbound.Row{}
		device := map[netip.Addr]bool{}
		for range 80 {
			all := append(rows(4096), rows(4097)...)
			row := all[r.IntN(len(all))]
			if p, ok := row.(southbound.Peer); ok && r.IntN(2) == 0 {
				p.Address = netip.AddrFrom4([4]byte{198, 19, byte(p.Node), byte(r.IntN(3))})
				row = p
			}
			if l, ok := row.(southbound.Location); ok {
				l.Node = uint16(1 + r.IntN(3))
				row = l
			}
			switch r.IntN(7) {
			case 0, 1:
				b.o.Delete(row.Key())
				delete(final, row.Key())
			case 2:
				device[here] = !device[here]
				b.o.SetDevice(4096, here, Device{IfIndex: 9, Kind: kernel.LocationPeer}, device[here])
			case 3:
				b.apply(t)
			default:
				b.o.Update(row)
				final[row.Key()] = row
			}
		}
		b.apply(t)
		fresh := newBench()
		for _, row := range final {
			fresh.o.Update(row)
		}
		fresh.o.SetDevice(4096, here, Device{IfIndex: 9, Kind: kernel.LocationPeer}, device[here])
		fresh.apply(t)
		if !maps.Equal(b.locations.have, fresh.locations.have) || !maps.Equal(b.senders.have, fresh.senders.have) {
			t.Fatalf("seed %d:\n has  %v %v\n want %v %v", seed, b.locations.have, b.senders.have, fresh.locations.have, fresh.senders.have)
		}
	}
}

// What others route through a port here is found by the port's MAC, as long as the port may send from other addresses.
func TestNextHopIsFoundByItsMAC(t *testing.T) {
	b := newBench()
	for _, r := range rows(7) {
		b.o.Update(r)
	}
	hop := southbound.Port{VNI: 7, Tenant: "red", Name: "fw", MAC: southbound.MAC{2, 4}, Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	key := kernel.LocationKey{VNI: 7, Addr: netip.MustParseAddr("fe80::4:ff:fe00:0")}
	b.o.Update(hop)
	b.apply(t)
	if _, ok := b.locations.have[key]; ok {
		t.Error("a next hop without a device")
	}
	b.o.SetDevice(7, here, Device{IfIndex: 19, Kind: kernel.LocationPeer}, true)
	b.apply(t)
	if l := b.locations.have[key]; l.IfIndex != 19 || l.Kind != kernel.LocationPeer || l.MAC != hop.MAC {
		t.Errorf("next hop %v; all: %v", l, b.locations.have)
	}
	for name, gone := range map[string]func(){
		"sources":  func() { plain := hop; plain.Sources = nil; b.o.Update(plain) },
		"port":     func() { b.o.Delete(hop.Key()) },
		"device":   func() { b.o.SetDevice(7, here, Device{}, false) },
		"location": func() { b.o.Delete(southbound.Location{VNI: 7, Address: here}.Key()) },
	} {
		gone()
		b.apply(t)
		if _, ok := b.locations.have[key]; ok {
			t.Errorf("%s gone, and the next hop is still found", name)
		}
		for _, r := range rows(7) {
			b.o.Update(r)
		}
		b.o.Update(hop)
		b.o.SetDevice(7, here, Device{IfIndex: 19, Kind: kernel.LocationPeer}, true)
		b.apply(t)
		if _, ok := b.locations.have[key]; !ok {
			t.Errorf("%s back, and the next hop is not found", name)
		}
	}
}
