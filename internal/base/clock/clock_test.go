// SPDX-License-Identifier: Apache-2.0

package clock

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestOffsetMovesThisProcessAlone asks a process of its own for the time.
func TestOffsetMovesThisProcessAlone(t *testing.T) {
	if os.Getenv("CLOCK_TEST_SAY") != "" {
		os.Stdout.WriteString(Now().UTC().Format(time.RFC3339Nano) + "\n")
		return
	}
	for _, c := range []struct {
		value string
		want  time.Duration
	}{{"", 0}, {"36h", 36 * time.Hour}, {"-90s", -90 * time.Second}, {"yesterday", 0}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestOffsetMovesThisProcessAlone$")
		cmd.Env = append(os.Environ(), "CLOCK_TEST_SAY=1", Variable+"="+c.value)
		before := time.Now()
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		line, _, _ := strings.Cut(string(out), "\n")
		said, err := time.Parse(time.RFC3339Nano, line)
		if err != nil {
			t.Fatal(err)
		}
		if d := said.Sub(before.Add(c.want)); d < 0 || d > 30*time.Second {
			t.Errorf("offset %q: the process is %s off", c.value, d)
		}
	}
}

func TestOffsetThatMakesNoSenseIsNamed(t *testing.T) {
	t.Setenv(Variable, "yesterday")
	if err := Check(); err == nil || !strings.Contains(err.Error(), "yesterday") {
		t.Errorf("error %v", err)
	}
	t.Setenv(Variable, "-1h")
	if err := Check(); err != nil {
		t.Error(err)
	}
}
