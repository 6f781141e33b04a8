// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/southbound"
)

// machine is a kernel that remembers devices, programs and entries, and refuses the calls named in broken.
type machine struct {
	links    map[string]device.Link
	programs map[string]bool
	entries  map[kernel.PortKey]kernel.Port
	peers    map[string]int  // by namespace: how often configured
	whole    map[string]bool // by namespace: configured, and untouched since
	writes   int
	next     int
	broken   string
	early    bool // a device came up before its entry was there
	refused  map[string]bool
	returned []string
}

var errBroken = errors.New("refused")

func newMachine() *machine {
	return &machine{
		links: map[string]device.Link{}, programs: map[string]bool{},
		entries: map[kernel.PortKey]kernel.Port{}, peers: map[string]int{}, whole: map[string]bool{}, next: 10,
	}
}

func (m *machine) do(call string, f func()) error {
	if m.broken == call {
		return errBroken
	}
	m.writes++
	f()
	return nil
}

func (m *machine) FindLink(name string) (device.Link, bool, error) {
	l, ok := m.links[name]
	return l, ok, nil
}

func (m *machine) Links(prefix string) (out []device.Link, err error) {
	for _, l := range m.links {
		if strings.HasPrefix(l.Name, prefix) {
			out = append(out, l)
		}
	}
	return out, nil
}

func (m *machine) MendVeth(device.Veth) error { return nil }

func (m *machine) CreateVeth(v device.Veth) (int, error) {
	m.next++
	delete(m.whole, v.NetNS)
	return m.next, m.do("create", func() { m.links[v.HostName] = device.Link{Name: v.HostName, Index: m.next, Elsewhere: v.NetNS != ""} })
}

func (m *machine) CreateTap(tap device.Tap) (int, error) {
	m.next++
	return m.next, m.do("tap", func() {
		m.links[tap.Name] = device.Link{Name: tap.Name, Index: m.next, Tap: true, Alias: tap.Alias, MTU: tap.MTU}
	})
}

func (m *machine) CheckDevice(c device.Candidate) error {
	if m.refused[c.Name] {
		return &device.Refusal{Device: c.Name, Why: "is refused"}
	}
	return nil
}

func (m *machine) SetDown(name string) error {
	l, ok := m.links[name]
	if !ok || !l.Up {
		return nil
	}
	return m.do("down", func() { l.Up = false; m.links[name] = l })
}

func (m *machine) HoldDevice(_ int, name string) error {
	if l := m.links[name]; l.Up && !m.programs[name] {
		return m.do("hold", func() { l.Up = false; m.links[name] = l })
	}
	return nil
}

func (m *machine) InspectDevice(name string) (device.Before, error) {
	return device.Before{Index: m.links[name].Index, MTU: m.links[name].MTU}, nil
}

func (m *machine) TakeDevice(name string, mtu int) error {
	l := m.links[name]
	if l.Up && !m.programs[name] {
		m.early = true
	}
	if l.MTU == mtu {
		return nil
	}
	return m.do("take", func() { l.MTU = mtu; m.links[name] = l })
}

func (m *machine) ReturnDevice(name string, b device.Before) error {
	return m.do("return", func() {
		m.returned = append(m.returned, name)
		l := m.links[name]
		l.MTU = b.MTU
		m.links[name] = l
	})
}

func (m *machine) ConfigurePeer(netNS, _ string, _ []netip.Prefix, _ []netip.Addr, _ int) error {
	if m.whole[netNS] {
		return nil // as it should be
	}
	return m.do("configure", func() { m.peers[netNS]++; m.whole[netNS] = true })
}

func (m *machine) DeleteLink(name string) error {
	if _, ok := m.links[name]; !ok {
		return nil
	}
	return m.do("delete", func() { delete(m.links, name) })
}

func (m *machine) AttachPort(ifindex int, name string) error {
	if m.programs[name] {
		return nil
	}
	if _, ok := m.entries[kernel.PortKey{IfIndex: uint32(ifindex)}]; !ok {
		m.early = true
	}
	return m.do("attach", func() { m.programs[name] = true })
}

func (m *machine) DetachPort(name string) error {
	if !m.programs[name] {
		return nil
	}
	return m.do("detach", func() { delete(m.programs, name) })
}

func (m *machine) AttachedPorts() ([]string, error) { return slices.Sorted(maps.Keys(m.programs)), nil }

func (m *machine) All() (map[kernel.PortKey]kernel.Port, error) { return maps.Clone(m.entries), nil }

func (m *machine) Put(k kernel.PortKey, v kernel.Port) error {
	return m.do("put", func() { m.entries[k] = v })
}

func (m *machine) Delete(k kernel.PortKey) error {
	return m.do("remove", func() { delete(m.entries, k) })
}

func (m *machine) counts() [3]int { return [3]int{len(m.links), len(m.programs), len(m.entries)} }

func start(t *testing.T, m *machine, dir string) *Ports {
	t.Helper()
	p, err := New(Config{
		StateFile: filepath.Join(dir, "attachments.json"), MTU: 1450, Kernel: m, Table: m, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var web1 = ID{"red", "web-1"}

func row(binding string) southbound.Port {
	return southbound.Port{
		VNI: 4096, Tenant: "red", Name: "web-1", TenantNumber: 1, Subnet: 1, MAC: southbound.MAC{2, 0, 0, 0, 0, 1}, Binding: binding,
		Interfaces: []southbound.Interface{{Address: netip.MustParseAddr("10.0.1.4"), Bits: 24, Gateway: netip.MustParseAddr("10.0.1.1")}},
	}
}

// attach brings web-1 up as an agent does: wanted, claimed, bound, row.
func attach(t *testing.T, p *Ports, binding string) ([]Local, []southbound.Failure) {
	t.Helper()
	if _, err := p.Attach(Attachment{ID: web1, Way: WayNetNS, NetNS: "/run/netns/a", Device: "eth0", Static: true}); err != nil {
		t.Fatal(err)
	}
	if err := p.Bind(web1, binding); err != nil {
		t.Fatal(err)
	}
	p.Update(row(binding))
	return p.Apply()
}

func TestAttachPutsPortIntoThePacketPath(t *testing.T) {
	m := newMachine()
	p := start(t, m, t.TempDir())
	locals, failures := attach(t, p, "b1")
	if m.counts() != [3]int{1, 1, 1} || m.peers["/run/netns/a"] != 1 || len(failures) != 0 {
		t.Errorf("devices, programs, entries %v, failures %v", m.counts(), failures)
	}
	if len(locals) != 1 || !locals[0].Present || locals[0].Kind != kernel.LocationPeer || locals[0].VNI != 4096 {
		t.Fatalf("local addresses %+v", locals)
	}
	if in := p.InPlace(); len(in) != 1 || !in[locals[0].IfIndex].Equal(row("b1")) {
		t.Errorf("rows in place %v", in)
	}
	if _, err := p.Detach(web1); err != nil || len(p.InPlace()) != 0 {
		t.Errorf("rows in place %v after detaching (%v)", p.InPlace(), err)
	}
}

func TestRestartWritesNothing(t *testing.T) {
	m, dir := newMachine(), t.TempDir()
	attach(t, start(t, m, dir), "b1")
	writes := m.writes
	p := start(t, m, dir)
	p.Update(row("b1"))
	locals, failures := p.Apply()
	if m.writes != writes || len(failures) != 0 || len(locals) != 1 {
		t.Errorf("%d writes, failures %v, local addresses %v", m.writes-writes, failures, locals)
	}
}

func TestPortTakenAwayLeavesNothing(t *testing.T) {
	for name, take := range map[string]func(*Ports){
		"row_deleted":   func(p *Ports) { p.Delete(row("").Key()) },
		"other_binding": func(p *Ports) { p.Update(row("b2")) },
		"snapshot":      func(p *Ports) { p.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			p := start(t, m, t.TempDir())
			attach(t, p, "b1")
			take(p)
			p.Apply()
			if m.counts() != [3]int{} || len(p.States()) != 0 {
				t.Errorf("devices, programs, entries %v, attachments %v", m.counts(), p.States())
			}
		})
	}
}

func TestClaimUnderWayIsNotTakenAway(t *testing.T) {
	m := newMachine()
	p := start(t, m, t.TempDir())
	if bound, err := p.Attach(Attachment{ID: web1, Way: WayNetNS, NetNS: "/run/netns/a", Device: "eth0"}); bound || err != nil {
		t.Fatal(bound, err)
	}
	p.Reset() // a snapshot that was made before the claim
	if _, failures := p.Apply(); len(failures) != 0 || len(p.States()) != 1 {
		t.Errorf("failures %v, attachments %v", failures, p.States())
	}
	p.Update(row("b1")) // the row overtakes the answer to the claim
	if _, failures := p.Apply(); len(failures) != 1 || m.counts() != [3]int{} {
		t.Errorf("failures %v, devices %v; want the row to wait for its binding", failures, m.counts())
	}
	if err := p.Bind(web1, "b1"); err != nil {
		t.Fatal(err)
	}
	if _, failures := p.Apply(); len(failures) != 0 || m.counts() != [3]int{1, 1, 1} {
		t.Errorf("failures %v, devices, programs, entries %v", failures, m.counts())
	}
}

func TestReattachNeedsNoClaim(t *testing.T) {
	m := newMachine()
	p := start(t, m, t.TempDir())
	attach(t, p, "b1")
	bound, err := p.Attach(Attachment{ID: web1, Way: WayNetNS, NetNS: "/run/netns/b", Device: "eth1", Static: true})
	if !bound || err != nil {
		t.Fatalf("bound %v, error %v", bound, err)
	}
	if _, failures := p.Apply(); len(failures) != 0 || m.counts() != [3]int{1, 1, 1} || m.peers["/run/netns/b"] != 1 {
		t.Errorf("failures %v, devices, programs, entries %v, configured %v", failures, m.counts(), m.peers)
	}
}

func TestEachFailureIsToldAndMended(t *testing.T) {
	for _, call := range []string{"create", "configure", "put", "attach"} {
		t.Run(call, func(t *testing.T) {
			m := newMachine()
			m.broken = call
			p := start(t, m, t.TempDir())
			if _, failures := attach(t, p, "b1"); len(failures) != 1 || m.early {
				t.Fatalf("failures %v, want one; a device up without its entry: %v", failures, m.early)
			}
			m.broken = ""
			if _, failures := p.Apply(); len(failures) != 0 || m.counts() != [3]int{1, 1, 1} || m.peers["/run/netns/a"] != 1 {
				t.Errorf("failures %v, devices, programs, entries %v, configured %v", failures, m.counts(), m.peers)
			}
		})
	}
}

func TestRowWithoutAttachmentIsTold(t *testing.T) {
	p := start(t, newMachine(), t.TempDir())
	p.Update(row("b1"))
	if _, failures := p.Apply(); len(failures) != 1 || failures[0].VNI != 4096 {
		t.Errorf("failures %v", failures)
	}
}

func TestDriftIsMended(t *testing.T) {
	m := newMachine()
	p := start(t, m, t.TempDir())
	attach(t, p, "b1")
	delete(m.links, pairDevice(web1))
	clear(m.entries)
	clear(m.programs)
	m.links["wp00000000a11e"] = device.Link{Name: "wp00000000a11e", Index: 5}
	m.links["eth0"] = device.Link{Name: "eth0", Index: 6}
	m.programs["wp00000000a11e"] = true
	p.Rescan()
	if _, failures := p.Apply(); len(failures) != 0 {
		t.Errorf("failures %v", failures)
	}
	if got := slices.Sorted(maps.Keys(m.links)); !slices.Equal(got, []string{"eth0", pairDevice(web1)}) {
		t.Errorf("devices %v", got)
	}
	if len(m.entries) != 1 || !m.programs[pairDevice(web1)] || m.programs["wp00000000a11e"] {
		t.Errorf("entries %v, programs %v", m.entries, m.programs)
	}
}

func TestDetachReturnsTheBindingToRelease(t *testing.T) {
	m, dir := newMachine(), t.TempDir()
	p := start(t, m, dir)
	attach(t, p, "b1")
	binding, err := p.Detach(web1)
	if binding != "b1" || err != nil {
		t.Errorf("binding %q, error %v", binding, err)
	}
	if again, err := p.Detach(web1); again != "" || err != nil {
		t.Errorf("detach of absent gave %q, %v", again, err)
	}
	locals, _ := p.Apply()
	if m.counts() != [3]int{} || len(locals) != 1 || locals[0].Present {
		t.Errorf("devices, programs, entries %v, local addresses %v", m.counts(), locals)
	}
	if len(start(t, m, dir).States()) != 0 {
		t.Error("the state file still has the attachment")
	}
}
