// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/lab"
	"weft/lab/traffic"
)

// underlay brings up nodes and links, without programs.
func underlay(t *testing.T) *lab.Lab {
	t.Helper()
	privtest.Require(t)
	t.Setenv("WEFT_CONFIG", t.TempDir()+"/config.yaml")
	topology, err := lab.LoadTopology("")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("fx%d", os.Getpid())
	t.Cleanup(func() {
		if err := lab.Down(name, nil); err != nil {
			t.Error(err)
		}
	})
	l, err := lab.Up(t.Context(), lab.UpConfig{Name: name, Topology: topology, UnderlayOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// send sends numbered packets between two nodes for a moment.
func send(t *testing.T, l *lab.Lab, from, to string) traffic.Result {
	t.Helper()
	var ends [2]traffic.End
	for i, node := range []string{from, to} {
		var err error
		if ends[i], err = l.End(node, false); err != nil {
			t.Fatal(err)
		}
	}
	f, err := traffic.Start(ends[0], ends[1], 5000)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // of traffic
	return f.Stop()
}

// addressing is what a node's links and routes are.
func addressing(t *testing.T, l *lab.Lab, node string) string {
	t.Helper()
	var all strings.Builder
	for _, what := range []string{"address", "route"} {
		cmd := exec.Command("ip", "-o", what, "show")
		cmd.Stdout = &all
		if err := l.Start(cmd, node); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

func TestWhatIsLostIsWhatTheFaultDropped(t *testing.T) {
	l := underlay(t)
	if r := send(t, l, "host-1", "tor-1"); r.There.Lost+r.Back.Lost != 0 { // and neighbours know each other: no ARP is lost below
		t.Errorf("before: %+v", r)
	}
	if _, err := Begin(t.Context(), l, Config{What: "loss", Where: "host-1:tor-1", Percent: 20, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	r := send(t, l, "host-1", "tor-1")
	active, err := Active(l)
	if err != nil || len(active) != 1 {
		t.Fatalf("%v, %v", active, err)
	}
	n, err := active[0].Count()
	if err != nil {
		t.Fatal(err)
	}
	if r.There.Lost != n.Dropped || n.Dropped < r.There.Sent/10 || r.Back.Lost != 0 {
		t.Errorf("dropped %d; there %+v, back %+v", n.Dropped, r.There, r.Back)
	}
	if _, err := HealAll(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if r := send(t, l, "host-1", "tor-1"); r.There.Lost+r.Back.Lost != 0 {
		t.Errorf("after healing: %+v", r)
	}
	if left, _ := os.ReadDir(l.FaultPins()); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Faults that overlap are healed in any order, and at the end all is as it was.
func TestHealedLinksAreAsBefore(t *testing.T) {
	l := underlay(t)
	nodes := []string{"host-1", "host-2", "tor-1", "tor-2", "edge-1"}
	before := make(map[string]string)
	for _, n := range nodes {
		before[n] = addressing(t, l, n)
	}
	for _, f := range []Config{
		{What: "link-cut", Where: "host-1:tor-1"},
		{What: "link-cut", Where: "tor-1:host-2"},
		{What: "node-dead", Where: "tor-1"},
		{What: "node-dead", Where: "host-1"},
		{What: "partition", Where: "tor-2"},
	} {
		if _, err := Begin(t.Context(), l, f); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Begin(t.Context(), l, Config{What: "link-cut", Where: "host-1:tor-1"}); !errors.Is(err, ErrActive) {
		t.Errorf("the same again: %v", err)
	}
	for _, which := range []string{"1", "node-dead tor-1", "5", "node-dead host-1", "link-cut tor-1:host-2"} {
		if _, err := Heal(t.Context(), l, which); err != nil {
			t.Fatalf("heal %s: %v", which, err)
		}
	}
	for _, n := range nodes {
		if now := addressing(t, l, n); now != before[n] {
			t.Errorf("%s was\n%s\nand is\n%s", n, before[n], now)
		}
	}
	if r := send(t, l, "host-1", "host-2"); r.There.Lost+r.Back.Lost != 0 {
		t.Errorf("after healing: %+v", r)
	}
}

func TestFaultsOfNothingAreRefused(t *testing.T) {
	l := underlay(t)
	for _, c := range []struct {
		cfg  Config
		want error
	}{
		{Config{What: "flood", Where: "host-1"}, ErrArgument},
		{Config{What: "kill", Where: "host-9"}, lab.ErrTarget},
		{Config{What: "kill", Where: "host-1"}, lab.ErrTarget}, // nothing runs
		{Config{What: "link-cut", Where: "host-1"}, ErrArgument},
		{Config{What: "link-cut", Where: "host-1:host-2"}, lab.ErrTarget},
		{Config{What: "loss", Where: "host-1:tor-1", Percent: 101}, ErrArgument},
		{Config{What: "partition", Where: "host-1,host-2", From: "host-2"}, ErrArgument},
		{Config{What: "delay", Where: "host-1:tor-1"}, ErrArgument},
		{Config{What: "clock", Where: "host-1"}, ErrArgument},
		{Config{What: "disk-full", Where: "host-1"}, lab.ErrTarget}, // nothing runs
		{Config{What: "rehash", Where: "host-9"}, lab.ErrTarget},
	} {
		if _, err := Begin(t.Context(), l, c.cfg); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
	if active, err := Active(l); err != nil || len(active) != 0 {
		t.Errorf("%v, %v", active, err)
	}
}
