// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/privtest"
)

// How often the agent is killed, and replaced by another build; make soak asks for more.
var (
	killCount    = flag.Int("kills", 50, "how often the agent is killed under traffic")
	upgradeCount = flag.Int("upgrades", 20, "how often the agent is replaced by another build under traffic")
)

// startWithin is how long a new agent may take to have all in effect.
const startWithin = 20 * time.Second

// dc1 brings the default lab up with its tenants.
func dc1(t *testing.T, name string) *story {
	t.Helper()
	privtest.Require(t)
	s := &story{lab: name + run, dir: t.TempDir()}
	t.Cleanup(func() {
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
	if err := s.up("", true, "", io.Discard); err != nil {
		t.Fatal(err)
	}
	return s
}

// underTraffic runs f while packets pass.
func (s *story) underTraffic(t *testing.T, f func()) {
	t.Helper()
	fs, err := s.startFlows()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	f()
	took := time.Since(start)
	told, err := fs.stop()
	if err != nil {
		t.Error(err)
	}
	t.Logf("%s, in %v", told, took.Round(time.Second))
}

// awaitAgent waits until the agent of a node that was just started has all in effect.
func (s *story) awaitAgent(node string) (*v1.AgentStatus, error) {
	for deadline := time.Now().Add(startWithin); ; time.Sleep(10 * time.Millisecond) {
		st, err := s.l.Agent(node).Status(context.Background())
		if err == nil && st.Synced {
			return st, nil
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile("/var/lib/weft/lab/" + s.lab + "/" + node + ".log") // without it, less is known
			return nil, fmt.Errorf("agent of %s is not synced: %v, %w\n%s", node, st, err, log[max(0, len(log)-2000):])
		}
	}
}

// program says which program the node's agent is to be from its next start on.
func (s *story) setProgram(node, path string) {
	for i, p := range s.l.Processes {
		if p.Node == node && p.Program == "agent" {
			s.l.Processes[i].Args = append([]string{path}, p.Args[1:]...)
		}
	}
}

// layouts lists the folders of layouts that a node has.
func (s *story) layouts(node string) []string {
	found, _ := filepath.Glob(filepath.Join("/sys/fs/bpf/weft", s.lab+"-"+node, "v*")) // the pattern is well-formed
	for i := range found {
		found[i] = filepath.Base(found[i])
	}
	return found
}

func TestAgentIsKilledUnderTraffic(t *testing.T) {
	s := dc1(t, "k")
	s.underTraffic(t, func() {
		for i := range *killCount {
			if err := s.kill("host-1"); err != nil {
				t.Fatal(err)
			}
			if err := s.l.Restart("host-1", "agent", syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if i%5 == 4 {
				continue // killed again while it starts
			}
			if st, err := s.awaitAgent("host-1"); err != nil || st.Writes != 0 {
				t.Fatalf("after kill %d: %+v, %v", i+1, st, err)
			}
		}
	})
}

// The agent is replaced by a build whose tables have another layout, and by the one before, asked to end and killed, also on
// its way.
func TestAgentIsUpgradedAndDowngradedUnderTraffic(t *testing.T) {
	s := dc1(t, "u")
	programs := []string{program, nextProgram(t)}
	before := s.layouts("host-1")
	moments := []time.Duration{-1, -1, 60, 120, 180, 240, 300, 400} // ms after which it is killed once; -1: it is not
	s.underTraffic(t, func() {
		for i := range *upgradeCount {
			s.setProgram("host-1", programs[(i+1)%2])
			if i%3 == 2 {
				if err := s.kill("host-1"); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.l.Restart("host-1", "agent", syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if m := moments[i/2%len(moments)]; m > 0 {
				time.Sleep(m * time.Millisecond) // the moment of its death, not a wait for something
				if err := s.kill("host-1"); err != nil {
					t.Fatal(err)
				}
				if err := s.l.Restart("host-1", "agent", syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			st, err := s.awaitAgent("host-1")
			if err != nil || len(st.Errors) > 0 {
				t.Fatalf("after upgrade %d: %+v, %v", i+1, st, err)
			}
			if got := s.layouts("host-1"); len(got) != 1 || slices.Equal(got, before) != (i%2 == 1) {
				t.Fatalf("after upgrade %d there is %v", i+1, got)
			}
		}
	})
}

// nextProgram builds weft as the next layout might be.
func nextProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weft")
	cmd := exec.Command("../../tools/next", "go", "build", "-o", path, "./cmd/weft")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the next layout: %v\n%s", err, out)
	}
	return path
}
