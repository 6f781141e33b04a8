// SPDX-License-Identifier: Apache-2.0

// Package doctor looks for what on a machine keeps weft from working, or will: each finding says what is so, why it matters, and how to
// mend it. It changes nothing.
package doctor

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"time"

	"weft/internal/base/agentfile"
	"weft/internal/node/kernel/survey"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, or may work, but not as well as it should, or not for long
	Fail Level = "fail" // it does not work, or will not
)

// Finding is what one check says.
type Finding struct {
	Check   string `json:"check"`
	Level   Level  `json:"level"`
	What    string `json:"what"`              // a sentence: what is so, and why that matters
	Fix     string `json:"fix,omitempty"`     // how to mend it
	Package string `json:"package,omitempty"` // of Debian, that helps
}

// Config says where to look. Empty fields are what they are on every machine.
type Config struct {
	Root       string                                   // before every path of configuration, state and /run; tests
	ConfigDir  string                                   // /etc/weft
	StateDir   string                                   // /var/lib/weft
	RunDir     string                                   // /run/weft, or what the agent's file says
	BPFFS      string                                   // /sys/fs/bpf/weft
	ServerTime func(context.Context) (time.Time, error) // what the clock is compared with; nil: nothing
	Now        time.Time
}

// machine is what the checks look at.
type machine struct {
	Config
	agent   *agentfile.File // nil: this machine is no node
	runs    bool            // the agent answers
	devices []survey.Device
	chains  []survey.Chain
	root    bool // the process has root's rights
}

// check is one of them. Several findings of one name are fine, none says that the check does not concern this machine.
type check struct {
	name string
	look func(context.Context, *machine) []Finding
}

// checks are all of them, in the order in which they are told: from the kernel up.
var checks = []check{
	{"kernel", checkKernel},
	{"btf", checkBTF},
	{"tcx", checkTCX},
	{"bpffs", checkBPFFS},
	{"jit", checkJIT},
	{"devices", checkDevices},
	{"xdp", checkXDP},
	{"mtu", checkMTU},
	{"tunnel-port", checkTunnelPort},
	{"clock", checkClock},
	{"disk", checkDisk},
	{"certificates", checkCertificates},
	{"agent", checkAgent},
	{"leftovers", checkLeftovers},
	{"other-networks", checkNetworks},
	{"firewall", checkFirewall},
	{"rp-filter", checkReversePath},
	{"forwarding", checkForwarding},
	{"conntrack", checkConntrack},
	{"managers", checkManagers},
}

// Names lists the checks.
func Names() []string {
	var out []string
	for _, c := range checks {
		out = append(out, c.name)
	}
	return out
}

// Look makes the checks of these names, or all of them, in the network namespace of the caller's thread.
func Look(ctx context.Context, cfg Config, names ...string) []Finding {
	m := &machine{Config: cfg, root: os.Geteuid() == 0}
	var out []Finding
	if err := m.take(); err != nil {
		out = append(out, Finding{"machine", Fail, "cannot be looked at: " + err.Error(), "run it as root", ""})
	}
	for _, c := range checks {
		if len(names) > 0 && !slices.Contains(names, c.name) {
			continue
		}
		for _, f := range c.look(ctx, m) {
			f.Check = c.name
			out = append(out, f)
		}
	}
	return out
}

// take fills what several checks look at.
func (m *machine) take() (err error) {
	for _, d := range []struct {
		to   *string
		path string
	}{{&m.ConfigDir, "/etc/weft"}, {&m.StateDir, "/var/lib/weft"}, {&m.BPFFS, "/sys/fs/bpf/weft"}} {
		if *d.to == "" {
			*d.to = filepath.Join(m.Root, d.path)
		}
	}
	if f, err := agentfile.Read(filepath.Join(m.ConfigDir, "agent.yaml")); err == nil {
		m.agent = &f
	}
	if m.RunDir == "" {
		m.RunDir = filepath.Join(m.Root, "/run/weft")
		if m.agent != nil && m.agent.RunDir != "" {
			m.RunDir = m.agent.RunDir
		}
	}
	if m.Now.IsZero() {
		m.Now = time.Now()
	}
	m.runs = answers(filepath.Join(m.RunDir, "agent.sock"))
	if m.devices, err = survey.Devices(); err != nil {
		return err
	}
	m.chains, err = survey.Chains()
	return err
}

// path is where a file of the machine is.
func (m *machine) path(name string) string { return filepath.Join(m.Root, name) }

// Worst is the worst level among findings.
func Worst(list []Finding) Level {
	worst := OK
	for _, f := range list {
		if f.Level == Fail || f.Level == Warn && worst == OK {
			worst = f.Level
		}
	}
	return worst
}

func ok(what string) []Finding { return []Finding{{Level: OK, What: what}} }
func warn(what, fix, pkg string) []Finding {
	return []Finding{{Level: Warn, What: what, Fix: fix, Package: pkg}}
}

func fail(what, fix, pkg string) []Finding {
	return []Finding{{Level: Fail, What: what, Fix: fix, Package: pkg}}
}

// lifeLeft says how much of a certificate's life is left, from 1 to 0, or less.
func lifeLeft(c *x509.Certificate, now time.Time) float64 {
	return float64(c.NotAfter.Sub(now)) / float64(c.NotAfter.Sub(c.NotBefore))
}
