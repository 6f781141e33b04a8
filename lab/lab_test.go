// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/internal/netns"
)

// labFor makes a name of this run, so that another one at the same time is not in the way.
func labFor(name string) string { return fmt.Sprintf("%sx%d", name, os.Getpid()) }

// testLab brings up an underlay that is gone after the test.
func testLab(t *testing.T, name string) *Lab {
	t.Helper()
	privtest.Require(t)
	t.Setenv("WEFT_CONFIG", t.TempDir()+"/config.yaml")
	var progress bytes.Buffer
	t.Cleanup(func() {
		if err := Down(name, &progress); err != nil && !errors.Is(err, ErrUnknown) {
			t.Errorf("down: %v\n%s", err, progress.String())
		}
		assertNothingOf(t, name)
	})
	l, err := Up(t.Context(), UpConfig{Name: name, Topology: defaultTopology(t), UnderlayOnly: true, Progress: &progress})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	return l
}

func defaultTopology(t *testing.T) *Topology {
	t.Helper()
	topology, err := LoadTopology("")
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

func assertNothingOf(t *testing.T, name string) {
	t.Helper()
	names, err := netns.List()
	if err != nil {
		t.Error(err)
	}
	for _, n := range names {
		if strings.HasPrefix(n, name+"-") {
			t.Errorf("namespace %s is left", n)
		}
	}
	if _, err := os.Stat(stateRoot + "/" + name); !os.IsNotExist(err) {
		t.Errorf("folder of %s is left: %v", name, err)
	}
}

// reply sends a datagram from one namespace to a loopback of another and returns who the answer says it came from.
func reply(t *testing.T, from, to string, local, address netip.Addr) error {
	t.Helper()
	listen := func(ns string, a netip.Addr) *net.UDPConn {
		var c *net.UDPConn
		err := netns.Do(ns, func() (err error) {
			c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	s, c := listen(to, address), listen(from, local)
	if _, err := c.WriteTo([]byte("hello"), s.LocalAddr()); err != nil {
		return err
	}
	buf := make([]byte, 64)
	_ = s.SetDeadline(time.Now().Add(time.Second))
	_, _, err := s.ReadFrom(buf)
	return err
}

func TestUnderlayReachesEveryLoopbackWithEitherToRDead(t *testing.T) {
	l := testLab(t, labFor("und"))
	p := makePlan(l.Topology)
	everyPair := func(state string, down string) {
		for _, a := range p.nodes {
			for _, b := range p.nodes {
				if a == b || a.Name == down || b.Name == down {
					continue
				}
				if down != "" && a.Role == RoleRouter || b.Role == RoleRouter {
					continue // routers meet only by what is not dead
				}
				err := reply(t, l.netNS(a.Name), l.netNS(b.Name), a.loopback, b.loopback)
				for range 2 { // the kernel tells of a lost carrier once a second
					if err != nil {
						err = reply(t, l.netNS(a.Name), l.netNS(b.Name), a.loopback, b.loopback)
					}
				}
				if err != nil {
					t.Errorf("%s: %s to %s: %v", state, a.Name, b.Name, err)
				}
			}
		}
	}
	everyPair("whole", "")
	for _, tor := range []string{"tor-1", "tor-2"} {
		set := func(do func(*netns.Namespace, string) error) {
			err := netns.Inside(l.netNS(tor), func(ns *netns.Namespace) error {
				for _, e := range p.node(tor).ends {
					if err := do(ns, e.peer.Name); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		set((*netns.Namespace).SetDown)
		everyPair(tor+" dead", tor)
		set((*netns.Namespace).SetUp)
		if err := buildRoutes(l, p); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTwoLabsSideBySideAndTheirNames(t *testing.T) {
	testLab(t, labFor("one"))
	testLab(t, labFor("two"))
	if _, err := Up(t.Context(), UpConfig{Name: labFor("one"), Topology: defaultTopology(t), UnderlayOnly: true}); !errors.Is(err, ErrExists) {
		t.Errorf("second up: %v", err)
	}
	if err := Down(labFor("one"), nil); err != nil {
		t.Fatal(err)
	}
	assertNothingOf(t, labFor("one"))
	if !netns.Exists(labFor("two") + "-tor-1") {
		t.Error("down of one lab took the other's")
	}
	if err := Down(labFor("one"), nil); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), labFor("two")) {
		t.Errorf("second down: %v", err)
	}
	for _, name := range []string{"", "a-b", "../x", "A", "averyverylongname"} {
		if err := Down(name, nil); err == nil {
			t.Errorf("%q counts as a name", name)
		}
	}
}

func TestDownEndsWhatRunsInTheLabAndNothingElse(t *testing.T) {
	l := testLab(t, labFor("end"))
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	if err := l.start("host-1", "agent", nil, nil, "/bin/sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"); err != nil {
		t.Fatal(err)
	}
	stray := exec.Command("sleep", "60") // outside all namespaces, known by its environment
	stray.Env = l.environment()
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = stray.Wait() }()
	if err := Down(labFor("end"), nil); err != nil {
		t.Fatal(err)
	}
	if startTime(stray.Process.Pid) != 0 || l.Processes[0].Alive() {
		t.Error("a process of the lab is left")
	}
	if startTime(other.Process.Pid) == 0 {
		t.Error("a process of somebody else was ended")
	}
}

func TestDownRemovesTheProbesOfAKilledAgentAndNothingElse(t *testing.T) {
	name := labFor("prb")
	l := testLab(t, name)
	probe, other := l.netNS("host-1")+probeMark+"a-1", l.netNS("mine") // the second only looks like the lab's
	for _, ns := range []string{probe, other} {
		if err := netns.Create(ns); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := netns.Delete(ns); err != nil {
				t.Error(err)
			}
		}()
	}
	inProbe := exec.Command("sleep", "60")
	if err := netns.Start(inProbe, probe); err != nil {
		t.Fatal(err)
	}
	go func() { _ = inProbe.Wait() }()
	if err := Down(name, nil); err != nil {
		t.Fatal(err)
	}
	if netns.Exists(probe) || startTime(inProbe.Process.Pid) != 0 {
		t.Error("a probe of an agent is left")
	}
	if !netns.Exists(other) {
		t.Error("down took a namespace that the lab did not make")
	}
	if err := netns.Delete(other); err != nil {
		t.Fatal(err)
	}
}

func TestDownAfterALostAndADamagedFile(t *testing.T) {
	for i, damage := range []func(string) error{
		func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		os.Remove,
	} {
		name := labFor(fmt.Sprintf("dam%d", i))
		l := testLab(t, name)
		if err := damage(l.Dir() + "/lab.json"); err != nil {
			t.Fatal(err)
		}
		if err := Down(name, nil); err != nil {
			t.Error(err)
		}
		assertNothingOf(t, name)
	}
}

func TestFailedUpSaysWhatAndCanBeTakenDown(t *testing.T) {
	privtest.Require(t)
	t.Setenv("WEFT_CONFIG", t.TempDir()+"/config.yaml")
	t.Cleanup(func() { assertNothingOf(t, labFor("fail")) })
	program := t.TempDir() + "/program"
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho the disk is on fire >&2; exit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Up(t.Context(), UpConfig{Name: labFor("fail"), Topology: defaultTopology(t), Binary: program})
	var failed *FailedUp
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "the disk is on fire") || !strings.Contains(err.Error(), "weft lab down "+labFor("fail")) {
		t.Errorf("up: %v", err)
	}
	if err := Down(labFor("fail"), nil); err != nil {
		t.Error(err)
	}
}
