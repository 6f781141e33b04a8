// SPDX-License-Identifier: Apache-2.0

package port

import (
	"net"
	"net/netip"
	"os/exec"
	"testing"

	"weft/internal/base/privtest"
	"weft/internal/netns"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
)

// The workload's end of a pair begins beside the node's, where only the device itself leads to it, and is taken to another
// namespace, where redirecting to the peer is shorter. It is reached before and after the agent has heard of that.
func TestPairIsReachedWhereverItsEndWasTaken(t *testing.T) {
	privtest.Require(t)
	r := newRace(t)
	box := Attachment{ID: ID{"red", "attacker"}, Way: WayVeth, Device: "box0"}
	if kind := r.attach(t, box, attackerMAC, attackerAddr); kind != kernel.LocationDevice {
		t.Errorf("beside the node's end it is reached by %s", kind)
	}
	run(t, "ip", "-n", r.nodeNS, "link", "set", "box0", "netns", r.attackerNS)
	n, err := netns.Open(r.attackerNS)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.SetUp("box0"); err != nil {
		t.Fatal(err)
	}
	if err := n.AddAddress("box0", netip.PrefixFrom(attackerAddr, 24)); err != nil {
		t.Fatal(err)
	}
	ear := r.listen(t, r.attackerNS, attackerAddr)
	say := func(text string) {
		t.Helper()
		r.await(t, text, func() bool {
			r.do(t, r.victimNS, func() error {
				c, err := net.Dial("udp4", netip.AddrPortFrom(attackerAddr, racePort).String())
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte(text))
				return err
			})
			return ear.heard(text) > 0
		})
	}
	say("through the device")
	if !r.ports.LinkChanged(device.Event{Name: pairDevice(box.ID)}) {
		t.Error("the port is not concerned by its pair")
	}
	if kind := r.apply(t, box.ID, attackerMAC); kind != kernel.LocationPeer {
		t.Errorf("in another namespace it is reached by %s", kind)
	}
	say("to the peer")
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}
