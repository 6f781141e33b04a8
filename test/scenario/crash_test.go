// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/lab"
)

func TestDownLeavesNothingAfterUpWasKilled(t *testing.T) {
	privtest.Require(t)
	for i, after := range []time.Duration{5, 15, 30, 60, 120, 250, 400, 2000} {
		after *= time.Millisecond
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprintf("c%d%s", i, run)
			s := &story{lab: name}
			cmd := s.helper("up", name)
			cmd.Env = append(cmd.Env, "WEFT_BIN="+program)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after) // the moment of the crash, not a wait for something
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // killed, or done before
			if err := lab.Down(name, nil); err != nil && !errors.Is(err, lab.ErrUnknown) {
				t.Error(err)
			}
			if left := leftovers(name); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if err := lab.Down(name, nil); !errors.Is(err, lab.ErrUnknown) {
				t.Errorf("second down: %v", err)
			}
		})
	}
}

func TestTwoLabsSideBySide(t *testing.T) {
	privtest.Require(t)
	stories := []*story{{lab: "one" + run}, {lab: "two" + run}}
	for _, s := range stories {
		s.dir = t.TempDir()
		t.Cleanup(func() {
			if err := s.end(); err != nil {
				t.Error(err)
			}
		})
		if err := s.up("", true, "", io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	if stories[0].l.API == stories[1].l.API {
		t.Error("both have the same API")
	}
	if err := stories[0].end(); err != nil {
		t.Fatal(err)
	}
	if st := stories[1].l.Status(context.Background()); !st.Healthy {
		t.Errorf("the other lab is harmed: %+v", st)
	}
	if _, err := stories[1].run("red/web-1", exec.Command("ping", "-n", "-c", "1", "-W", "1", "10.0.2.4")); err != nil {
		t.Error(err)
	}
	if err := ping(stories[1], nil, []string{"red/web-1", "red/db-1"}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(stories[1].config()); err != nil {
		t.Error(err)
	}
}
