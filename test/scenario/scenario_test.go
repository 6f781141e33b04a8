// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"weft/internal/base/privtest"
)

// helperVariable makes this program a helper inside a workload instead of a test.
const helperVariable = "WEFT_SCENARIO_HELPER"

// run ends the names of all labs of this run, so that others at the same time are not in the way.
var run = fmt.Sprintf("x%d", os.Getpid())

// program is the program that the labs run: WEFT_BIN, or built once.
var program string

func TestMain(m *testing.M) {
	if what := os.Getenv(helperVariable); what != "" {
		os.Exit(help(what, os.Args[1:]))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // all are skipped
	}
	dir, err := os.MkdirTemp("", "weft-scenario-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv("WEFT_CONFIG", filepath.Join(dir, "config.yaml")) // the user's own contexts are not touched
	if program = os.Getenv("WEFT_BIN"); program == "" {
		program = filepath.Join(dir, "weft")
		build := exec.Command("go", "build", "-o", program, "weft/cmd/weft")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build weft: %v\n%s", err, out)
			return 1
		}
	}
	code := m.Run()
	for _, left := range leftovers(run) {
		fmt.Fprintln(os.Stderr, "left behind:", left)
		code = 1
	}
	return code
}

// leftovers finds what labs whose names end so should have taken with them.
func leftovers(end string) []string {
	var left []string
	for _, pattern := range []string{"/run/netns/*%s-*", "/sys/fs/bpf/weft/*%s-*", "/run/weft/*%s-*", "/var/lib/weft/lab/*%s"} {
		found, _ := filepath.Glob(fmt.Sprintf(pattern, end)) // the pattern is well-formed
		left = append(left, found...)
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, p := range processes {
		env, err := os.ReadFile(p)
		if err != nil {
			continue // it has ended
		}
		for v := range strings.SplitSeq(string(env), "\x00") {
			if name, ok := strings.CutPrefix(v, "WEFT_LAB="); ok && strings.HasSuffix(name, end) {
				left = append(left, "process "+filepath.Base(filepath.Dir(p)))
			}
		}
	}
	return left
}

func TestScenario(t *testing.T) {
	privtest.Require(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			s := &story{lab: labName(env.WorkDir), dir: env.WorkDir}
			env.Values[storyKey{}] = s
			env.Setenv("LAB", s.lab)
			env.Setenv("STATE", "/var/lib/weft/lab/"+s.lab) // $STATE/NODE is the node's folder
			env.Setenv("RUN", "/run/weft/"+s.lab)           // $RUN-NODE is the node's folder of sockets
			env.Defer(func() {
				if err := s.end(); err != nil {
					env.T().Fatal(err)
				}
			})
			return nil
		},
		Cmds:                commands(),
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
	})
}

// labName makes a short name for a story's lab of the name of its folder, script-NAME, and this run: stories run side by side.
func labName(dir string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(filepath.Base(dir))) // it does not fail
	return fmt.Sprintf("s%03x", h.Sum32()%0x1000) + run
}
