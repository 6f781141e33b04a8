// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"weft/internal/agent/cleanup"
	"weft/internal/agent/rundir"
	"weft/internal/cli/term"
	"weft/internal/doctor"
	"weft/internal/node/port"
)

func TestDoctorTellsFindingsAndTheWorst(t *testing.T) {
	good := doctor.Finding{Check: "kernel", Level: doctor.OK, What: "Linux 6.18; 6.6 or newer is needed"}
	slow := doctor.Finding{Check: "clock", Level: doctor.Warn, What: "nothing keeps it", Fix: "install a time client", Package: "chrony"}
	broken := doctor.Finding{Check: "mtu", Level: doctor.Fail, What: "longer packets are lost", Fix: "raise it"}
	for _, c := range []struct {
		findings []doctor.Finding
		quiet    bool
		code     int
		text     string
	}{
		{[]doctor.Finding{good}, false, 0, "OK    kernel          Linux 6.18; 6.6 or newer is needed\n0 problems, 0 warnings\n"},
		{[]doctor.Finding{good, slow}, true, 1, "WARN  clock           nothing keeps it\n                        fix:  install a time client\n                        package:  chrony\n0 problems, 1 warnings\n"},
		{[]doctor.Finding{good, slow, broken}, true, 2, "FAIL  mtu             longer packets are lost\n                        fix:  raise it\n1 problems, 1 warnings\n"},
	} {
		var out bytes.Buffer
		err := tellFindings(&term.Env{Out: &out}, append([]doctor.Finding(nil), c.findings...), "text", c.quiet)
		if got := term.ExitCode(err); got != c.code || !strings.HasSuffix(out.String(), c.text) {
			t.Errorf("exit code %d, want %d; printed\n%swant\n%s", got, c.code, out.String(), c.text)
		}
	}
	var out bytes.Buffer
	err := tellFindings(&term.Env{Out: &out}, []doctor.Finding{broken}, "json", false)
	var r report
	if jerr := json.Unmarshal(out.Bytes(), &r); jerr != nil || term.ExitCode(err) != 2 || r.APIVersion != "weft/v1" || r.Verdict != doctor.Fail || len(r.Findings) != 1 || r.Findings[0] != broken {
		t.Errorf("%v, %v: %s", err, jerr, out.String())
	}
	if _, _, err := run("doctor", "--only", "colour"); term.ExitCode(err) != term.ExitUsage {
		t.Errorf("a check that there is not: %v", err)
	}
}

func TestCleanupAsksAndRefuses(t *testing.T) {
	found := &cleanup.Found{Ports: []port.Left{{Port: "red/web-1", Device: "wp0", There: true}}, Devices: []string{"weft-vx"}, Pins: "/sys/fs/bpf/weft/a"}
	var told bytes.Buffer
	env := &term.Env{Out: &told, Err: &told, In: strings.NewReader("y\n")}
	tellFound(env, found)
	if !strings.HasPrefix(told.String(), "  goes dark: red/web-1 (wp0)\n") {
		t.Errorf("told: %s", told.String())
	}
	if err := confirm(env, found); term.ExitCode(err) != term.ExitUsage || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("nobody can be asked: %v", err)
	}
	dir := t.TempDir()
	unlock, err := rundir.Lock(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	args := []string{"agent", "cleanup", "--yes", "--run-dir", dir, "--state-dir", dir, "--bpffs", filepath.Join(dir, "none")}
	if _, _, err := run(args...); term.ExitCode(err) != term.ExitConflict {
		t.Errorf("while an agent runs: %v", err)
	}
}
