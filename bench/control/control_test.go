// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Every stage runs, and every figure is there. What the figures are is not judged here, but for those that do not depend on the machine.
func TestAllStagesAreMeasured(t *testing.T) {
	program := os.Getenv("WEFT_BIN")
	if program == "" {
		program = filepath.Join(t.TempDir(), "weft")
		build := exec.Command("go", "build", "-o", program, "weft/cmd/weft")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build weft: %v\n%s", err, out)
		}
	}
	r, err := Run(t.Context(), Config{Binary: program, Progress: t.Output(), Size: Size{
		Nodes: 8, Ports: 100, Changes: 10, Burst: 50, BigNodes: 3, BigPorts: 200, Block: 50, ManyNodes: 10, Tenants: 20, Rounds: 1, NoisyPorts: 100,
	}})
	if err != nil {
		t.Fatal(err)
	}
	bars, exact := 0, 0
	for _, row := range r.Rows {
		if row.Value == 0 && row.Unit != "KiB" && row.Unit != "ms" { // so little may be less than a page, or a tick of the processor's clock
			t.Errorf("%s: nothing was measured", row.What)
		}
		if row.Bar != "" {
			bars++
		}
		if row.Bar == "<= 1" { // rows went to the nodes that they concern, and no others
			if exact++; row.Value != 1 {
				t.Errorf("%s: %g", row.What, row.Value)
			}
		}
	}
	if bars != 8 || exact != 1 {
		t.Errorf("%d rows have a bar, %d of them an exact one, want 8 and 1", bars, exact)
	}
}
