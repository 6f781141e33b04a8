// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
)

// up attaches web-1 in the way given and brings it into the packet path.
func up(t *testing.T, p *Ports, a Attachment) []Local {
	t.Helper()
	a.ID = web1
	if _, err := p.Attach(a); err != nil {
		t.Fatal(err)
	}
	if err := p.Bind(web1, "b1"); err != nil {
		t.Fatal(err)
	}
	p.Update(row("b1"))
	locals, failures := p.Apply()
	if len(failures) != 0 {
		t.Fatalf("failures %v", failures)
	}
	return locals
}

// plug puts a device there, up, that the agent did not make.
func (m *machine) plug(name string, tap bool) {
	m.next++
	m.links[name] = device.Link{Name: name, Index: m.next, Up: true, Tap: tap, MTU: 9000}
}

func TestTapIsMadeAndRemovedOnlyIfItWasNotThere(t *testing.T) {
	for name, there := range map[string]bool{"made": false, "taken": true} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			p := start(t, m, t.TempDir())
			if there {
				m.plug("tap0", true)
			}
			locals := up(t, p, Attachment{Way: WayTap, Device: "tap0"})
			if m.counts() != [3]int{1, 1, 1} || m.links["tap0"].MTU != 1450 || m.early {
				t.Errorf("devices, programs, entries %v, tap %+v, up without programs %v", m.counts(), m.links["tap0"], m.early)
			}
			if len(locals) != 1 || locals[0].Kind != kernel.LocationDevice {
				t.Errorf("local addresses %+v, want one that is reached through the device", locals)
			}
			if _, err := p.Detach(web1); err != nil {
				t.Fatal(err)
			}
			p.Apply()
			l, left := m.links["tap0"]
			if left != there || left && (l.MTU != 9000 || l.Up) || m.programs["tap0"] || len(m.entries) != 0 {
				t.Errorf("after detach: %+v there %v, want %v, with its MTU and down", l, left, there)
			}
		})
	}
}

func TestDeviceIsGivenBackAfterARestart(t *testing.T) {
	m, dir := newMachine(), t.TempDir()
	m.plug("eth7", false)
	up(t, start(t, m, dir), Attachment{Way: WayDevice, Device: "eth7"})
	writes := m.writes
	p := start(t, m, dir)
	p.Update(row("b1"))
	if _, failures := p.Apply(); len(failures) != 0 || m.writes != writes {
		t.Fatalf("restart: failures %v, %d writes", failures, m.writes-writes)
	}
	if _, err := p.Detach(web1); err != nil {
		t.Fatal(err)
	}
	if l, ok := m.links["eth7"]; !ok || l.MTU != 9000 || m.programs["eth7"] {
		t.Errorf("given back as %+v, %v", l, ok)
	}
}

func TestRefusedDeviceIsNeverTouched(t *testing.T) {
	m := newMachine()
	m.plug("eth0", false)
	m.refused = map[string]bool{"eth0": true}
	p := start(t, m, t.TempDir())
	var refused *device.Refusal
	if _, err := p.Attach(Attachment{ID: web1, Way: WayDevice, Device: "eth0"}); !errors.As(err, &refused) {
		t.Errorf("attach gave %v", err)
	}
	if m.writes != 0 || len(p.States()) != 0 {
		t.Errorf("%d writes, attachments %v", m.writes, p.States())
	}
}

// A claim that the server refuses is undone before the device was taken.
func TestClaimThatFailsLeavesTheDeviceAsItWas(t *testing.T) {
	m := newMachine()
	m.plug("eth7", false)
	p := start(t, m, t.TempDir())
	if _, err := p.Attach(Attachment{ID: web1, Way: WayDevice, Device: "eth7"}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Detach(web1); err != nil || m.writes != 0 {
		t.Errorf("error %v, %d writes", err, m.writes)
	}
}

func TestDeviceBelongsToOnePort(t *testing.T) {
	m := newMachine()
	m.plug("tap0", true)
	p := start(t, m, t.TempDir())
	up(t, p, Attachment{Way: WayTap, Device: "tap0"})
	other := ID{"red", "web-2"}
	for _, way := range []Way{WayTap, WayDevice} {
		var refused *device.Refusal
		if _, err := p.Attach(Attachment{ID: other, Way: way, Device: "tap0"}); !errors.As(err, &refused) {
			t.Errorf("%s: second port gave %v", way, err)
		}
	}
	if _, err := p.Attach(Attachment{ID: other, Way: WayDevice, Device: pairDevice(web1)}); err == nil {
		t.Error("a pair's end at the node was taken as a device")
	}
}

// QEMU has its tap open: to ask for the same again must not take it away.
func TestTapIsKeptWhenAttachedAgain(t *testing.T) {
	m := newMachine()
	p := start(t, m, t.TempDir())
	up(t, p, Attachment{Way: WayTap, Device: "tap0"})
	index, writes := m.links["tap0"].Index, m.writes
	if bound, err := p.Attach(Attachment{ID: web1, Way: WayTap, Device: "tap0"}); !bound || err != nil {
		t.Fatal(bound, err)
	}
	if _, failures := p.Apply(); len(failures) != 0 || m.links["tap0"].Index != index || m.writes != writes {
		t.Errorf("failures %v, tap %+v, %d writes", failures, m.links["tap0"], m.writes-writes)
	}
	if _, err := p.Detach(web1); err != nil || len(m.links) != 0 {
		t.Errorf("error %v, left %v; the tap was the agent's", err, m.links)
	}
}

func TestDeviceThatComesBackIsTakenAgain(t *testing.T) {
	m := newMachine()
	m.plug("tap0", true)
	p := start(t, m, t.TempDir())
	up(t, p, Attachment{Way: WayTap, Device: "tap0"})
	gone := m.links["tap0"]
	delete(m.links, "tap0")
	if !p.LinkChanged(device.Event{Name: "tap0", Index: gone.Index, Gone: true}) {
		t.Error("the port is not concerned by its device")
	}
	locals, failures := p.Apply()
	if len(failures) != 1 || len(locals) != 1 || locals[0].Present || len(m.entries) != 0 || m.programs["tap0"] {
		t.Fatalf("failures %v, local addresses %v, entries %v", failures, locals, m.entries)
	}
	if st, _ := p.State(web1); st.Ready {
		t.Error("a port without its device is ready")
	}
	m.plug("tap0", true)
	p.LinkChanged(device.Event{Name: "tap0", Index: m.links["tap0"].Index})
	locals, failures = p.Apply()
	if len(failures) != 0 || len(locals) != 1 || locals[0].IfIndex != uint32(m.links["tap0"].Index) || m.early || !m.programs["tap0"] {
		t.Errorf("failures %v, local addresses %v, up without programs %v", failures, locals, m.early)
	}
	if p.LinkChanged(device.Event{Name: "eth0", Index: 2}) {
		t.Error("a port is concerned by another device")
	}
}

// Whoever renames a port's device must not have it up without its programs.
func TestRenamedDeviceGoesDown(t *testing.T) {
	m := newMachine()
	m.plug("tap0", true)
	p := start(t, m, t.TempDir())
	up(t, p, Attachment{Way: WayTap, Device: "tap0"})
	l := m.links["tap0"]
	l.Name, l.Up = "tap1", true
	delete(m.links, "tap0")
	m.links["tap1"] = l
	if !p.LinkChanged(device.Event{Name: "tap1", Index: l.Index}) {
		t.Error("the port is not concerned by its device's new name")
	}
	if _, failures := p.Apply(); len(failures) != 1 || m.links["tap1"].Up || m.programs["tap0"] || len(m.entries) != 0 {
		t.Errorf("failures %v, device %+v, entries %v", failures, m.links["tap1"], m.entries)
	}
}

func TestNamesOfWeftAreNotGivenAway(t *testing.T) {
	p := start(t, newMachine(), t.TempDir())
	for _, name := range []string{"weft-vx", "weft-new", pairDevice(web1)} {
		for _, way := range []Way{WayTap, WayVeth, WayDevice} {
			var refused *device.Refusal
			if _, err := p.Attach(Attachment{ID: web1, Way: way, Device: name}); !errors.As(err, &refused) {
				t.Errorf("%s as a %s: %v", name, way, err)
			}
		}
	}
}

func TestMadeTapThatIsDeletedIsMadeAgain(t *testing.T) {
	m := newMachine()
	p := start(t, m, t.TempDir())
	up(t, p, Attachment{Way: WayTap, Device: "tap0"})
	delete(m.links, "tap0")
	p.LinkChanged(device.Event{Name: "tap0", Gone: true})
	if _, failures := p.Apply(); len(failures) != 0 || m.counts() != [3]int{1, 1, 1} {
		t.Errorf("failures %v, devices, programs, entries %v", failures, m.counts())
	}
}

// Redirecting to the peer works only across namespaces, so where the workload's end is decides, whenever it moves.
func TestPairIsReachedByWhereItsOtherEndIs(t *testing.T) {
	m := newMachine()
	p := start(t, m, t.TempDir())
	if locals := up(t, p, Attachment{Way: WayVeth, Device: "box0"}); len(locals) != 1 || locals[0].Kind != kernel.LocationDevice {
		t.Errorf("beside the node's end: %+v", locals)
	}
	name := pairDevice(web1)
	l := m.links[name]
	l.Elsewhere = true
	m.links[name] = l
	p.LinkChanged(device.Event{Name: name, Index: l.Index})
	if locals, _ := p.Apply(); len(locals) != 1 || locals[0].Kind != kernel.LocationPeer {
		t.Errorf("in another namespace: %+v", locals)
	}
}

// The state file of an agent that knew namespaces only.
func TestOldAttachmentsAreRead(t *testing.T) {
	m, dir := newMachine(), t.TempDir()
	old := `[{"id":{"Tenant":"red","Port":"web-1"},"netns":"/run/netns/a","device":"eth0","static":true,"binding":"b1"}]`
	if err := os.WriteFile(filepath.Join(dir, "attachments.json"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, m, dir)
	p.Update(row("b1"))
	if _, failures := p.Apply(); len(failures) != 0 || m.peers["/run/netns/a"] != 1 {
		t.Errorf("failures %v, configured %v", failures, m.peers)
	}
}

// A crash may leave a tap that was made for nobody; others' taps are others'.
func TestOnlyOwnTapsAreSwept(t *testing.T) {
	m := newMachine()
	m.links["tap0"] = device.Link{Name: "tap0", Index: 1, Tap: true, Alias: "weft red/vm-9"}
	m.links["tap1"] = device.Link{Name: "tap1", Index: 2, Tap: true}
	m.links["weft-svc"] = device.Link{Name: "weft-svc", Index: 3, Tap: true}
	m.links["wpan0"] = device.Link{Name: "wpan0", Index: 4}
	start(t, m, t.TempDir()).Apply()
	var left []string
	for name := range m.links {
		left = append(left, name)
	}
	slices.Sort(left)
	if !slices.Equal(left, []string{"tap1", "weft-svc", "wpan0"}) {
		t.Errorf("left %v", left)
	}
}
