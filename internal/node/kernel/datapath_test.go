// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"weft/internal/node/kernel/device"
)

var testPort = Port{
	VNI: 4096, Tenant: 7, Subnet: 1, MTU: 1450, Addr4: netip.MustParseAddr("10.0.1.4"),
	MAC: [6]byte{2, 0, 0, 0, 1, 4},
}

// attached is a node with one port.
func attached(t *testing.T) (*node, *testNS) {
	t.Helper()
	n, workload := newNode(t, "a", "198.19.0.1"), newNS(t)
	n.attach(t, "wp00000001", workload, testPort, 24, "10.0.1.1")
	return n, workload
}

func (n *node) ports(t *testing.T) (ports []string) {
	t.Helper()
	n.do(t, func() (err error) { ports, err = n.dp.AttachedPorts(); return err })
	return ports
}

func TestRestartWritesNothing(t *testing.T) {
	n, workload := attached(t)
	if n.dp.Writes() == 0 {
		t.Fatal("making everything counted no write")
	}
	n.reopen(t, "198.19.0.1")
	n.plug(t, "wp00000001", workload, testPort, 24, "10.0.1.1")
	n.do(t, n.dp.Repair)
	if got := n.dp.Writes(); got != 0 {
		t.Errorf("%d writes after a restart, want 0", got)
	}
}

func TestRestartFindsAll(t *testing.T) {
	n, _ := attached(t)
	n.reopen(t, "198.19.0.1")
	if got := n.ports(t); !slices.Equal(got, []string{"wp00000001"}) {
		t.Errorf("attached ports %v", got)
	}
	all, err := n.dp.Ports().All()
	if err != nil || len(all) != 1 {
		t.Fatalf("ports %v, %v", all, err)
	}
	for _, p := range all {
		if p != testPort {
			t.Errorf("port read back as %+v", p)
		}
	}
	if n.dp.Writes() != 0 {
		t.Errorf("%d writes", n.dp.Writes())
	}
}

func TestChangedConfigurationReplacesPrograms(t *testing.T) {
	n, _ := attached(t)
	before := n.dp.programs[bpfProgFromPort]
	old, err := before.Info()
	if err != nil {
		t.Fatal(err)
	}
	n.reopen(t, "198.19.0.2")
	now, err := n.dp.programs[bpfProgFromPort].Info()
	if err != nil {
		t.Fatal(err)
	}
	oldID, _ := old.ID()
	nowID, _ := now.ID()
	if oldID == nowID {
		t.Error("from_port still has the old tunnel address")
	}
	if got := n.ports(t); len(got) != 1 {
		t.Errorf("attached ports %v: links were not moved to the new programs", got)
	}
}

func TestIncompatibleMapIsRefusedAndKept(t *testing.T) {
	n, _ := attached(t)
	pin := n.dp.mapPin(bpfMapOvlSenders)
	if err := os.Remove(pin); err != nil {
		t.Fatal(err)
	}
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Hash, KeySize: 8, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Pin(pin); err != nil {
		t.Fatal(err)
	}
	n.do(t, func() error {
		if _, err := Open(testConfig(n.pins, "198.19.0.1")); !errors.Is(err, ErrMapIncompatible) {
			return fmt.Errorf("got %w", err)
		}
		return nil
	})
	if _, err := os.Stat(pin); err != nil {
		t.Error("the map was removed")
	}
}

// A map whose pin went while no agent ran is made again; what runs stays with the one before until the new one is filled.
func TestLostMapIsFilledBeforeProgramsMoveToIt(t *testing.T) {
	n, _ := attached(t)
	if err := os.Remove(n.dp.mapPin(bpfMapOvlLocations)); err != nil {
		t.Fatal(err)
	}
	n.reopen(t, "198.19.0.1")
	all, err := n.dp.Locations().All()
	if err != nil || len(all) != 0 {
		t.Errorf("locations %v, %v: the agent must see that they are gone", all, err)
	}
	if !n.dp.Waiting() || len(n.ports(t)) != 1 {
		t.Error("programs do not wait for the map to be filled")
	}
	n.do(t, n.dp.Switch)
	if n.dp.Waiting() || len(n.ports(t)) != 1 {
		t.Error("programs do not run on the new map")
	}
	n.reopen(t, "198.19.0.1")
	if n.dp.Waiting() || n.dp.Writes() != 0 {
		t.Errorf("after it a start waits (%v) or writes (%d)", n.dp.Waiting(), n.dp.Writes())
	}
}

func TestDeletedLinkShowsAndIsMended(t *testing.T) {
	n, workload := attached(t)
	l, err := link.LoadPinnedLink(filepath.Join(n.pins, "links", "wp00000001-from_port"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.(interface{ Detach() error }).Detach(); err != nil {
		t.Fatal(err)
	}
	if got := n.ports(t); len(got) != 0 {
		t.Errorf("a port without from_port counts as attached: %v", got)
	}
	n.plug(t, "wp00000001", workload, testPort, 24, "10.0.1.1")
	if got := n.ports(t); len(got) != 1 {
		t.Errorf("attached ports %v", got)
	}
}

func TestPortThatIsDownShowsAndIsMended(t *testing.T) {
	n, workload := attached(t)
	n.do(t, func() error { return device.SetDown("wp00000001") })
	if got := n.ports(t); len(got) != 0 {
		t.Errorf("a port that is down counts as attached: %v", got)
	}
	n.plug(t, "wp00000001", workload, testPort, 24, "10.0.1.1")
	if got := n.ports(t); len(got) != 1 {
		t.Errorf("attached ports %v", got)
	}
}

// What a lab does when a node "boots": the devices are gone with their namespace, the pins are not.
func TestPinsOfALostNamespaceAreTakenOver(t *testing.T) {
	pins := testPins(t, "a")
	old := newNS(t)
	for _, ns := range []*testNS{old, newNS(t)} {
		ns.do(t, func() error {
			d, err := Open(testConfig(pins, "198.19.0.1"))
			if err != nil {
				return err
			}
			defer d.Close()
			on, err := d.runs(attachment{uplinkName, bpfProgFromUplink})
			if err != nil || !on {
				return fmt.Errorf("from_uplink runs: %v, %w", on, err)
			}
			if ns == old {
				return device.DeleteLink(uplinkName)
			}
			return Cleanup(pins)
		})
	}
}

func TestDeletedUplinkIsMended(t *testing.T) {
	n, _ := attached(t)
	n.do(t, func() error { return device.DeleteLink(uplinkName) })
	n.do(t, n.dp.Repair)
	n.do(t, func() error {
		vx, err := findUplink()
		if err != nil || vx == nil {
			return fmt.Errorf("no uplink: %w", err)
		}
		if vx.MTU != 1450 {
			return fmt.Errorf("MTU %d", vx.MTU)
		}
		return netlink.LinkSetMTU(vx, 1300)
	})
	if on, err := n.dp.runs(attachment{uplinkName, bpfProgFromUplink}); !on || err != nil {
		t.Errorf("from_uplink runs: %v, %v", on, err)
	}
	n.do(t, n.dp.Repair)
	n.do(t, func() error {
		l, _, err := device.FindLink(uplinkName)
		if err == nil && (l.MTU != 1450 || !l.Up) {
			return fmt.Errorf("after repair: %+v", l)
		}
		return err
	})
	if len(n.ports(t)) != 1 {
		t.Error("ports do not run the programs that know the new uplink")
	}
}

func TestDetachIsRepeatable(t *testing.T) {
	n, _ := attached(t)
	for range 2 {
		n.do(t, func() error { return n.dp.DetachPort("wp00000001") })
		if got := n.ports(t); len(got) != 0 {
			t.Errorf("attached ports %v", got)
		}
	}
	n.do(t, func() error {
		l, _, err := device.FindLink("wp00000001")
		if err == nil && l.Up {
			return fmt.Errorf("a port without programs is up: %+v", l)
		}
		return err
	})
}

// No packet passes unchecked: where a program cannot be put on, the device does not come up.
func TestPortWithoutAProgramStaysDown(t *testing.T) {
	for _, program := range []string{bpfProgFromPort, bpfProgToPort} {
		t.Run(program, func(t *testing.T) {
			n, _ := attached(t)
			n.do(t, func() error {
				l, _, err := device.FindLink("wp00000001")
				if err := errors.Join(err, n.dp.DetachPort("wp00000001")); err != nil {
					return err
				}
				// A folder where the pin belongs: the program cannot be pinned.
				if err := os.Mkdir(n.dp.linkPin(attachment{"wp00000001", program}), 0o700); err != nil {
					return err
				}
				if n.dp.AttachPort(l.Index, "wp00000001") == nil {
					return errors.New("it was attached where it cannot be pinned")
				}
				if l, _, err = device.FindLink("wp00000001"); err == nil && l.Up {
					return errors.New("the port came up without it")
				}
				return err
			})
		})
	}
}

func TestPinsOfDeletedDeviceAreForgotten(t *testing.T) {
	n, _ := attached(t)
	n.do(t, func() error { return device.DeleteLink("wp00000001") })
	n.reopen(t, "198.19.0.1")
	entries, err := os.ReadDir(filepath.Join(n.pins, "links"))
	if err != nil || len(entries) != 3 {
		t.Errorf("pins %v, %v; want those of our own devices, and the guard's folder", entries, err)
	}
}

func TestCleanupLeavesNothing(t *testing.T) {
	n, _ := attached(t)
	n.do(t, func() error { return Cleanup(n.pins) })
	if _, err := os.Stat(n.pins); !os.IsNotExist(err) {
		t.Errorf("pins are left: %v", err)
	}
	n.do(t, func() error {
		_, found, err := device.FindLink(uplinkName)
		if err != nil {
			return err
		}
		if found {
			return errors.New("uplink is left")
		}
		return Cleanup(n.pins)
	})
}

func TestDeletedEntryShows(t *testing.T) {
	n, _ := attached(t)
	key := LocationKey{4096, testPort.Addr4}
	for range 2 { // absent is fine
		if err := n.dp.Locations().Delete(key); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := n.dp.Locations().All(); err != nil || len(all) != 0 {
		t.Errorf("locations %v, %v", all, err)
	}
}

func TestTableReadsManyEntries(t *testing.T) {
	n := newNode(t, "a", "198.19.0.1")
	const many = 5000
	want := map[SenderKey]Sender{}
	for i := range many {
		k := SenderKey{uint32(4096 + i), netip.AddrFrom4([4]byte{198, 19, byte(i >> 8), byte(i)})}
		want[k] = Sender{Tenant: uint32(i), Node: uint16(i)}
		if err := n.dp.Senders().Put(k, want[k]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := n.dp.Senders().All()
	if err != nil || len(got) != many {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	for k, v := range want {
		if got[k] != v {
			t.Fatalf("%v is %v, want %v", k, got[k], v)
		}
	}
}
