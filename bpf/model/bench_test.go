// SPDX-License-Identifier: Apache-2.0

package model

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"weft/bpf/instrument"
	"weft/internal/base/privtest"
	"weft/internal/node/kernel"
	"weft/internal/node/overlay"
	"weft/internal/node/routing"
	"weft/internal/southbound"
	"weft/internal/trace"
)

const (
	loopback = 1 // test runs happen on the loopback device: it stands for the device of the port that sends
	uplink   = 77
	service  = 78
	mtu      = 1450
	self     = "h1"
	mark     = 0x77656674
	opened   = 0 // TC_ACT_OK
	shot     = 2 // TC_ACT_SHOT
)

var routerMAC = [6]byte{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}

// bench is the real packet path, with the tables of one node, beside the model of the same node.
type bench struct {
	t       *testing.T
	path    *kernel.Datapath
	coll    *ebpf.Collection
	overlay *overlay.Overlay
	routing *routing.Routing
	net     *network
	node    *trace.Node
	tunnel  netip.Addr // the node's own end
	devices []device
	tally   map[string]uint64 // drops by tenant and reason, as the outcomes say
}

// device is where a local port is.
type device struct {
	port    southbound.Port
	ifindex uint32
	kind    kernel.LocationKind
}

// newBench makes the packet path's maps in a network namespace of this test's own, and loads the instrumented programs
// on them.
func newBench(t *testing.T, tunnel netip.Addr) *bench {
	t.Helper()
	privtest.Require(t)
	runtime.LockOSThread() // not unlocked: the thread ends with the test's goroutine, and the namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join("/sys/fs/bpf/weft", fmt.Sprintf("model-%d", os.Getpid()))
	path, err := kernel.Open(kernel.Config{
		PinDir: pins, Tunnel: tunnel, RouterMAC: routerMAC, UnderlayMTU: mtu + kernel.Overhead(tunnel), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(path.Close(), kernel.Cleanup(pins)); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, path: path, tunnel: tunnel, coll: load(t, pins, tunnel), tally: make(map[string]uint64)}
	b.overlay = overlay.New(overlay.Config{Node: self, RouterMAC: routerMAC, Locations: path.Locations(), Senders: path.Senders()})
	b.routing = routing.New(routing.Config{Node: self, Routes: path.Routes(), Sources: path.Sources()})
	return b
}

// load loads the programs on the pinned maps.
func load(t *testing.T, pins string, tunnel netip.Addr) *ebpf.Collection {
	t.Helper()
	spec, err := kernel.LoadSpec()
	if err != nil {
		t.Fatal(err)
	}
	ipv6 := uint8(0)
	if tunnel.Is6() {
		ipv6 = 1
	}
	for name, value := range map[string]any{
		"config_tunnel": tunnel.As16(), "config_tunnel_ipv6": ipv6, "config_uplink": uint32(uplink),
		"config_service": uint32(service), "config_router_mac": routerMAC,
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			t.Fatal(err)
		}
	}
	instrument.Programs(spec, instrument.Options{Unlimited: true})
	found, err := filepath.Glob(filepath.Join(pins, "v*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	maps := map[string]*ebpf.Map{}
	for _, pin := range found {
		if name := filepath.Base(pin); !strings.HasPrefix(name, "prog_") {
			if maps[name], err = ebpf.LoadPinnedMap(pin, nil); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { maps[name].Close() })
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(coll.Close)
	return coll
}

// use makes a network that of both sides, seen from the first of its local ports.
func (b *bench) use(n *network) {
	b.t.Helper()
	b.net = n
	b.node = trace.NewNode(self, n.rows, trace.Config{RouterMAC: routerMAC, MTU: mtu})
	for _, d := range b.devices {
		b.place(d, false)
	}
	b.devices = b.devices[:0]
	b.overlay.Reset()
	b.routing.Reset()
	for _, r := range n.rows {
		b.overlay.Update(r)
		b.routing.Update(r)
	}
	for i, p := range n.local {
		d := device{p, uint32(100 + i), kernel.LocationPeer}
		if i == 0 {
			d.ifindex = loopback
		}
		if i%3 == 2 {
			d.kind = kernel.LocationDevice
		}
		b.devices = append(b.devices, d)
		b.place(d, true)
	}
	if err := errors.Join(b.overlay.Apply(), b.routing.Apply()); err != nil {
		b.t.Fatal(err)
	}
}

// place puts a port at its device, or takes it away.
func (b *bench) place(d device, there bool) {
	b.t.Helper()
	key := kernel.PortKey{IfIndex: d.ifindex}
	v := kernel.Port{
		VNI: d.port.VNI, Tenant: d.port.TenantNumber, Subnet: d.port.Subnet, MTU: mtu, MAC: d.port.MAC, Table: d.port.Table,
		Sources: len(d.port.Sources) > 0,
	}
	for _, i := range d.port.Interfaces {
		b.overlay.SetDevice(d.port.VNI, i.Address, overlay.Device{IfIndex: d.ifindex, Kind: d.kind}, there)
		b.routing.SetDevice(d.port.VNI, i.Address, d.ifindex, d.kind, there)
		if i.Address.Is4() {
			v.Addr4, v.Router4 = i.Address, i.Gateway
		} else {
			v.Addr6, v.Router6 = i.Address, i.Gateway
		}
	}
	err := b.path.Ports().Delete(key)
	if there {
		err = b.path.Ports().Put(key, v)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// input is a frame that comes to a program.
type input struct {
	program string
	frame   []byte
	from    netip.Addr // from_uplink: outer source; the zero Addr: no tunnel data
	vni     uint32     // from_uplink
	mark    uint32     // to_port
}

// outcome is what can be compared.
type outcome struct {
	end    string // "drop REASON", the kind of pass, or "open"
	way    string // where it was redirected, and how
	tenant uint32 // of a drop
	frame  []byte // as it leaves; of a drop: what its sender is told
}

func (o outcome) equal(other outcome) bool {
	return o.end == other.end && o.way == other.way && o.tenant == other.tenant && bytes.Equal(o.frame, other.frame)
}

func (o outcome) String() string {
	return fmt.Sprintf("%s, tenant %d, %s, %x", o.end, o.tenant, o.way, o.frame)
}

var errRefused = errors.New("the kernel's test run does not take this frame")

// real runs the program.
func (b *bench) real(in input) (outcome, error) {
	var r instrument.Record
	if in.from.IsValid() {
		r.HasTunnel, r.FromVNI, r.From = 1, uint64(in.vni), instrument.TunnelAddress(in.from)
	}
	if err := b.coll.Maps[instrument.MapName].Put(uint32(0), &r); err != nil {
		return outcome{}, err
	}
	context, after := make([]byte, 192), make([]byte, 192) // struct __sk_buff: mark at 8, ifindex at 40
	binary.LittleEndian.PutUint32(context[8:], in.mark)
	binary.LittleEndian.PutUint32(context[40:], loopback)
	opts := &ebpf.RunOptions{Data: in.frame, DataOut: make([]byte, len(in.frame)+256), Context: context, ContextOut: after}
	verdict, err := b.coll.Programs[in.program].Run(opts)
	if errors.Is(err, syscall.EINVAL) {
		return outcome{}, errRefused // it wants whole fixed headers itself
	}
	if err != nil {
		return outcome{}, err
	}
	if err := b.coll.Maps[instrument.MapName].Lookup(uint32(0), &r); err != nil {
		return outcome{}, err
	}
	return b.outcome(verdict, &r, opts.DataOut, binary.LittleEndian.Uint32(after[8:]))
}

func (b *bench) outcome(verdict uint32, r *instrument.Record, frame []byte, marked uint32) (outcome, error) {
	var o outcome
	switch {
	case r.Drop[1] != 0:
		o.end, o.tenant = "drop "+kernel.DropReason(r.Drop[1]).String(), r.Drop[0]
	case r.Pass != 0:
		o.end = kernel.PassKind(r.Pass - 1).String()
	case verdict == opened && r.Receive == 0:
		return outcome{end: "open"}, nil
	}
	if o.end == "" || r.Receive == 0 || r.Drop[1] != 0 && r.Pass != 0 {
		return o, fmt.Errorf("verdict %d: counted as received %d, dropped %v, passed %d", verdict, r.Receive, r.Drop, r.Pass)
	}
	switch verdict {
	case shot:
		return o, nil
	case instrument.Redirected:
		o.frame = frame
		o.way = fmt.Sprintf("way %d to device %d, mark %#x", r.Redirect, r.IfIndex, marked)
		if r.Tunnel != 0 {
			o.way += fmt.Sprintf(", VNI %d from %x to %x", r.VNI, r.Local, r.Remote)
		}
		return o, nil
	}
	return o, fmt.Errorf("verdict %d", verdict)
}

// model asks the model.
func (b *bench) model(in input) outcome {
	id := trace.PortID{Tenant: b.net.local[0].Tenant, Name: b.net.local[0].Name}
	tenant := b.net.local[0].TenantNumber
	var r trace.Result
	switch in.program {
	case "from_port":
		r = b.node.FromPort(id, in.frame)
	case "from_uplink":
		if !in.from.IsValid() {
			return outcome{end: "drop " + kernel.DropTunnelKey.String()}
		}
		r, tenant = b.node.FromUplink(in.vni, in.from, in.frame), in.vni
	case "from_service":
		id, tenant = b.named(in.frame)
		r = b.node.FromService(id, in.frame)
	case "to_port":
		if in.mark == mark {
			return outcome{end: "open"}
		}
		r = b.node.FromHost(id, in.frame)
	}
	return b.expect(in, r, tenant)
}

// expect is a result of the model as the programs would show it. In this test's networks tenants have the number of their
// VNI.
func (b *bench) expect(in input, r trace.Result, tenant uint32) outcome {
	back := fmt.Sprintf("way 1 to device %d, mark %#x", loopback, mark)
	switch r.Verdict {
	case trace.Drop:
		o := outcome{end: "drop " + r.Reason, tenant: tenant, frame: r.Told}
		unknown := r.Reason == "tunnel-peer-unknown" || r.Reason == "port-unknown" ||
			in.program == "from_service" && (r.Reason == "short" || r.Reason == "vlan") // before the port is known
		if unknown {
			o.tenant = 0
		}
		if r.Told != nil {
			o.way = back
		}
		return o
	case trace.Consumed:
		return outcome{end: kernel.PassConsumed.String()}
	case trace.Answer:
		return outcome{end: kernel.PassAnswered.String(), way: back, frame: r.Frame}
	case trace.Service:
		frame := append([]byte{2, 0, 0, 0, 0, loopback}, r.Frame[6:]...)
		return outcome{end: kernel.PassToService.String(), way: fmt.Sprintf("way 1 to device %d, mark 0x0", service), frame: frame}
	case trace.Tunnel:
		way := fmt.Sprintf("way 1 to device %d, mark 0x0, VNI %d from %x to %x", uplink, b.net.local[0].VNI,
			instrument.TunnelAddress(b.tunnel), instrument.TunnelAddress(r.Remote))
		return outcome{end: kernel.PassToTunnel.String(), way: way, frame: r.Frame}
	}
	end := map[string]kernel.PassKind{"from_port": kernel.PassLocal, "from_uplink": kernel.PassFromTunnel, "from_service": kernel.PassFromService}[in.program]
	return outcome{end: end.String(), way: b.wayTo(r.Port, in.program == "from_service"), frame: r.Frame}
}

// wayTo is how a local port is reached.
func (b *bench) wayTo(id trace.PortID, through bool) string {
	for _, d := range b.devices {
		if d.port.Tenant != id.Tenant || d.port.Name != id.Name {
			continue
		}
		if d.kind == kernel.LocationPeer && !through {
			return fmt.Sprintf("way 2 to device %d, mark 0x0", d.ifindex)
		}
		return fmt.Sprintf("way 1 to device %d, mark %#x", d.ifindex, mark)
	}
	return "to no port of this node"
}

// named is the port whose device a frame of the agent names.
func (b *bench) named(frame []byte) (trace.PortID, uint32) {
	if len(frame) >= 12 && frame[6] == 2 && frame[7] == 0 {
		for _, d := range b.devices {
			if d.ifindex == binary.BigEndian.Uint32(frame[8:]) {
				return trace.PortID{Tenant: d.port.Tenant, Name: d.port.Name}, d.port.TenantNumber
			}
		}
	}
	return trace.PortID{Name: "nobody"}, 0
}

// compare gives a frame to both sides. It returns how it ended, or "" where the kernel's test run does not take it.
func (b *bench) compare(in input, where string) string {
	b.t.Helper()
	got, err := b.real(in)
	if errors.Is(err, errRefused) {
		return ""
	}
	if err != nil {
		b.t.Fatalf("%s: %s of %x: %v", where, in.program, in.frame, err)
	}
	if want := b.model(in); !got.equal(want) {
		b.t.Fatalf("%s: %s, VNI %d from %s: %x\n program: %s\n model:   %s\n rows:\n%s", where, in.program, in.vni, in.from, in.frame, got, want, b.net)
	}
	if reason, dropped := strings.CutPrefix(got.end, "drop "); dropped {
		b.tally[fmt.Sprintf("%d %s", got.tenant, reason)]++
	}
	return got.end
}

// counted sees that the counters hold what the outcomes said, no more and no less.
func (b *bench) counted() {
	b.t.Helper()
	drops, err := b.path.Drops()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, d := range drops {
		key := fmt.Sprintf("%d %s", d.Tenant, d.Reason)
		if b.tally[key] != d.Packets {
			b.t.Errorf("tenant and reason %s: %d packets counted, %d dropped", key, d.Packets, b.tally[key])
		}
		delete(b.tally, key)
	}
	for key, n := range b.tally {
		b.t.Errorf("tenant and reason %s: nothing counted, %d dropped", key, n)
	}
}
