// SPDX-License-Identifier: Apache-2.0

package test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"weft/bpf/instrument"
	"weft/internal/base/privtest"
	"weft/internal/node/kernel"
)

// Verdicts, as the kernel numbers them.
const (
	passed     = 0
	dropped    = 2
	redirected = 7
)

const markDeliver = 0x77656674

// What the programs are configured with.
const (
	uplinkIndex  = 77
	serviceIndex = 78
	portIndex    = 1 // test runs happen on the loopback device
)

var (
	routerMAC  = [6]byte{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}
	thisTunnel = netip.MustParseAddr("198.19.0.3")
)

func loadSpec(t testing.TB) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := kernel.LoadSpec()
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// rig is a loaded set of programs and its maps, with nothing in them.
type rig struct {
	*ebpf.Collection
}

func newRig(t testing.TB, failing ...asm.BuiltinFunc) *rig {
	t.Helper()
	privtest.Require(t)
	spec := loadSpec(t)
	for name, value := range map[string]any{
		"config_tunnel":     thisTunnel.As16(),
		"config_uplink":     uint32(uplinkIndex),
		"config_service":    uint32(serviceIndex),
		"config_router_mac": routerMAC,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			t.Fatal(err)
		}
	}
	instrument.Programs(spec, instrument.Options{Failing: failing})
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(coll.Close)
	return &rig{coll}
}

func (b *rig) put(t testing.TB, table string, key, value []byte) {
	t.Helper()
	// Values of these tables say first and last whose they are.
	whose := map[string]int{"port_info": 0, "ovl_locations": 0, "rt_routes": 4} // where that stands in the key
	if at, ok := whose[table]; ok {
		value = slices.Concat(key[at:at+4], value, key[at:at+4])
	}
	if err := b.Maps[table].Put(key, value); err != nil {
		t.Fatalf("put into %s: %v", table, err)
	}
}

// The layouts are written out here once more, by hand, so that a mistake in the Go types would show.

func addrKey(vni uint32, addr string) []byte {
	a := netip.MustParseAddr(addr).As16()
	return append(binary.LittleEndian.AppendUint32(nil, vni), a[:]...)
}

// port is a value of port_info.
type port struct {
	vni, tenant, subnet, mtu uint32
	addr, router             string // router: none
	mac                      [6]byte
	addr6                    string // none, if empty
	router6                  string // the same
	table, flags             uint32
}

func (p port) bytes() []byte {
	var b []byte
	for _, v := range []uint32{p.vni, p.tenant, p.subnet, p.mtu, p.table, p.flags} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	var a [16]byte
	if p.addr != "" {
		a = netip.MustParseAddr(p.addr).As16()
	}
	b = append(b, a[:]...)
	var addr6, router [16]byte
	if p.addr6 != "" {
		addr6 = netip.MustParseAddr(p.addr6).As16()
	}
	b = append(b, addr6[:]...)
	if p.router != "" {
		router = netip.MustParseAddr(p.router).As16()
	}
	b = append(b, router[:]...)
	var router6 [16]byte
	if p.router6 != "" {
		router6 = netip.MustParseAddr(p.router6).As16()
	}
	b = append(b, router6[:]...)
	b = append(b, p.mac[:]...)
	return append(b, 0, 0)
}

// location is a value of ovl_locations.
type location struct {
	kind    kernel.LocationKind
	tunnel  string
	ifindex uint32
	subnet  uint32
	mac     [6]byte
}

func (l location) bytes() []byte {
	var tunnel [16]byte
	if l.tunnel != "" {
		tunnel = netip.MustParseAddr(l.tunnel).As16()
	}
	b := binary.LittleEndian.AppendUint32(tunnel[:], l.ifindex)
	b = binary.LittleEndian.AppendUint32(b, l.subnet)
	b = append(b, 0, 0, byte(l.kind), 0)
	b = append(b, l.mac[:]...)
	return append(b, 0, 0)
}

func sender(tenant uint32) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, tenant), 0, 0, 0, 0)
}

// input is one packet and what the kernel knows of it.
type input struct {
	program string
	frame   []byte
	mark    uint32
	gsoSize uint32
	gsoSegs uint32
	tunnel  string // outer source; empty: no tunnel data
	vni     uint32 // with tunnel
	keep    bool   // the buckets of errors are not filled up before
}

// output is what a program did with a packet.
type output struct {
	verdict uint32
	frame   []byte
	mark    uint32
	noted   instrument.Record
	drops   []count // what was added to drop_count
	passes  []count // what was added to pass_count
	receive []received
}

// received is what was added to receive_count.
type received struct {
	kind                   uint32
	packets, bytes, frames uint64
}

type count struct {
	tenant         uint32 // drops only
	reason         uint32 // or kind
	packets, bytes uint64
}

// run gives the packet to the program.
func (b *rig) run(t testing.TB, in input) output {
	t.Helper()
	b.clear(t)
	if !in.keep {
		b.fillBuckets(t)
	}
	var given instrument.Record
	if in.tunnel != "" {
		given.HasTunnel, given.FromVNI, given.From = 1, uint64(in.vni), instrument.TunnelAddress(netip.MustParseAddr(in.tunnel))
	}
	if err := b.Maps[instrument.MapName].Put(uint32(0), &given); err != nil {
		t.Fatal(err)
	}
	// struct __sk_buff: mark at 8, ifindex at 40, gso_segs at 164, gso_size at 176.
	context, after := make([]byte, 192), make([]byte, 192)
	binary.LittleEndian.PutUint32(context[8:], in.mark)
	binary.LittleEndian.PutUint32(context[40:], portIndex)
	binary.LittleEndian.PutUint32(context[164:], in.gsoSegs)
	binary.LittleEndian.PutUint32(context[176:], in.gsoSize)
	opts := &ebpf.RunOptions{Data: in.frame, DataOut: make([]byte, len(in.frame)+256), Context: context, ContextOut: after}
	verdict, err := b.Programs[in.program].Run(opts)
	if err != nil {
		t.Fatalf("run %s with %d bytes: %v", in.program, len(in.frame), err)
	}
	out := output{verdict: verdict, frame: opts.DataOut, mark: binary.LittleEndian.Uint32(after[8:])}
	if err := b.Maps[instrument.MapName].Lookup(uint32(0), &out.noted); err != nil {
		t.Fatal(err)
	}
	b.count(t, &out)
	out.balanced(t, in)
	return out
}

// clear empties the counters.
func (b *rig) clear(t testing.TB) {
	t.Helper()
	var key [8]byte
	for b.Maps["drop_count"].NextKey(nil, &key) == nil {
		if err := b.Maps["drop_count"].Delete(key); err != nil {
			t.Fatal(err)
		}
	}
	zero := make([][2]uint64, ebpf.MustPossibleCPU())
	for kind := range b.Maps["pass_count"].MaxEntries() {
		if err := b.Maps["pass_count"].Put(kind, zero); err != nil {
			t.Fatal(err)
		}
	}
	nothing := make([][3]uint64, ebpf.MustPossibleCPU())
	for kind := range b.Maps["receive_count"].MaxEntries() {
		if err := b.Maps["receive_count"].Put(kind, nothing); err != nil {
			t.Fatal(err)
		}
	}
}

// fillBuckets lets the port cause errors again.
func (b *rig) fillBuckets(t testing.TB) {
	t.Helper()
	var bucket [8]byte
	for b.Maps["rate_buckets"].NextKey(nil, &bucket) == nil {
		if err := b.Maps["rate_buckets"].Delete(bucket); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *rig) count(t testing.TB, out *output) {
	t.Helper()
	var (
		key    [8]byte
		values [][2]uint64
	)
	sum := func(c count) count {
		for _, v := range values {
			c.packets += v[0]
			c.bytes += v[1]
		}
		return c
	}
	entries := b.Maps["drop_count"].Iterate()
	for entries.Next(&key, &values) {
		out.drops = append(out.drops, sum(count{tenant: binary.LittleEndian.Uint32(key[:]), reason: uint32(binary.LittleEndian.Uint16(key[4:]))}))
	}
	if err := entries.Err(); err != nil {
		t.Fatal(err)
	}
	for kind := range b.Maps["pass_count"].MaxEntries() {
		if err := b.Maps["pass_count"].Lookup(kind, &values); err != nil {
			t.Fatal(err)
		}
		if c := sum(count{reason: kind}); c.packets > 0 {
			out.passes = append(out.passes, c)
		}
	}
	var given [][3]uint64
	for kind := range b.Maps["receive_count"].MaxEntries() {
		if err := b.Maps["receive_count"].Lookup(kind, &given); err != nil {
			t.Fatal(err)
		}
		r := received{kind: kind}
		for _, v := range given {
			r.packets, r.bytes, r.frames = r.packets+v[0], r.bytes+v[1], r.frames+v[2]
		}
		if r.frames > 0 {
			out.receive = append(out.receive, r)
		}
	}
}

// balanced sees that all that a program was given is counted once more where it ended, on whatever way.
func (o *output) balanced(t testing.TB, in input) {
	t.Helper()
	if in.program == "to_port" && in.mark == markDeliver {
		return // counted by the program that marked it
	}
	var packets, bytes uint64
	for _, c := range append(slices.Clone(o.drops), o.passes...) {
		packets, bytes = packets+c.packets, bytes+c.bytes
	}
	kind := map[string]kernel.ReceiveKind{
		"from_port": kernel.ReceiveFromPort, "from_uplink": kernel.ReceiveFromUplink,
		"from_service": kernel.ReceiveFromService, "to_port": kernel.ReceiveFromHost,
	}[in.program]
	if want := (received{uint32(kind), packets, bytes, 1}); len(o.receive) != 1 || o.receive[0] != want {
		t.Errorf("given %v, ended %v", o.receive, want)
	}
}
