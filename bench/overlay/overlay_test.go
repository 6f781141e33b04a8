// SPDX-License-Identifier: Apache-2.0

package overlay

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"weft/internal/base/privtest"
)

// Every way carries what is measured, and every figure is there. What the figures are is not judged here: the machine does other
// work beside.
func TestAllWaysAreMeasured(t *testing.T) {
	privtest.Require(t)
	program := os.Getenv("WEFT_BIN")
	if program == "" {
		program = filepath.Join(t.TempDir(), "weft")
		build := exec.Command("go", "build", "-o", program, "weft/cmd/weft")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build weft: %v\n%s", err, out)
		}
	}
	t.Setenv("WEFT_CONFIG", filepath.Join(t.TempDir(), "config.yaml")) // the user's own contexts are not touched
	r, err := Run(t.Context(), Config{Binary: program, Rounds: 1, Time: 50 * time.Millisecond, Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	bars := 0
	for _, row := range r.Rows {
		if row.Value == 0 && row.Unit != "%" && row.Unit != "s" && row.Unit != "x" { // so short a time may be less than a tick of the processor's clock
			t.Errorf("%s: nothing was measured", row.What)
		}
		if row.Bar != "" {
			bars++
		}
	}
	if bars != 11 {
		t.Errorf("%d rows have a bar, want 11", bars)
	}
}
