// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"

	"weft/internal/base/privtest"
	"weft/internal/netns"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
)

// TestAllPortsAreTakenOffWithoutAnAgent attaches a port in each way, ends the agent, and clears the node by what is in its files and in
// its kernel.
func TestAllPortsAreTakenOffWithoutAnAgent(t *testing.T) {
	privtest.Require(t)
	r := newRace(t) // red/victim is in a namespace
	err := netns.CreateVeth(netns.End{NetNS: r.nodeNS, Name: "out0"}, netns.End{NetNS: r.attackerNS, Name: "eth0"}, 1400)
	if err != nil {
		t.Fatal(err)
	}
	r.attach(t, Attachment{ID: ID{"red", "vm"}, Way: WayTap, Device: "tap0"}, attackerMAC, attackerAddr)
	r.attach(t, Attachment{ID: ID{"red", "metal"}, Way: WayDevice, Device: "out0"}, attackerMAC, attackerAddr)
	stateFile, left := r.ports.cfg.StateFile, kernel.Left(r.pins)
	if err := r.dp.Close(); err != nil {
		t.Fatal(err)
	}
	find := func() (names []string) {
		r.do(t, r.nodeNS, func() error {
			found, err := Find(stateFile, left)
			for _, f := range found {
				if !f.There {
					t.Errorf("%s of %s is not there", f.Device, f.Port)
				}
				names = append(names, f.Port)
			}
			return err
		})
		slices.Sort(names)
		return names
	}
	all := []string{"red/metal", "red/victim", "red/vm"}
	if got := find(); !slices.Equal(got, all) {
		t.Errorf("found %v, want %v", got, all)
	}
	clear := func() {
		r.do(t, r.nodeNS, func() error {
			found, err := Find(stateFile, left)
			return errors.Join(err, Clear(stateFile, left, found), Clear(stateFile, left, found)) // may be repeated
		})
	}
	// Without the file, and without pins, what weft made is known by its names.
	file, err := os.ReadFile(stateFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(stateFile); err != nil {
		t.Fatal(err)
	}
	if got := find(); !slices.Equal(got, []string{"", "red/victim", "red/vm"}) {
		t.Errorf("without the file, found %v", got)
	}
	if err := os.WriteFile(stateFile, file, 0o600); err != nil {
		t.Fatal(err)
	}
	clear()
	if got := find(); len(got) > 0 {
		t.Errorf("%v are left", got)
	}
	r.do(t, r.nodeNS, func() error {
		links, err := device.Links("")
		for _, l := range links {
			if made(l) {
				t.Errorf("%s is left", l.Name)
			}
			if l.Name == "out0" && (l.Up || l.MTU != 1400) {
				t.Errorf("the device was not given back as it was, and down: %+v", l)
			}
		}
		if _, err := net.InterfaceByName("out0"); err != nil {
			t.Error("the device is gone, which is not weft's")
		}
		return err
	})
	if _, err := os.Stat(stateFile); err == nil {
		t.Error("the next agent would attach them again")
	}
}
