// SPDX-License-Identifier: Apache-2.0

package repo_test

import (
	"path"
	"slices"
	"strings"
)

const module = "weft/"

// layers lists who may import whom inside the module; the first match wins. A folder may always import what lies below
// itself, and internal/base. A "*" stands for one folder: siblings under it stay strangers. A folder that no line names
// is a violation: a new one is a decision.
var layers = []struct{ folder, may string }{
	// Vocabularies: one for each boundary, and they know nothing of each other.
	{"internal/base", ""},
	{"api", ""},
	{"internal/southbound", ""},
	{"internal/control/state", ""},
	// Management. Admission gives addresses and numbers out, in the write's own transaction, so it sees the pure ipam.
	{"client", "api"},
	{"internal/store", "api"},
	{"internal/identity", "api internal/store"},
	{"internal/audit", ""},
	{"internal/apiserver", "api internal/store internal/identity internal/audit internal/control/ipam"},
	// Control. The graph is the one place that turns resources into control's own words.
	{"internal/control/graph", "api internal/control internal/southbound"},
	{"internal/control/*", "internal/control/state internal/southbound"},
	{"internal/trace", "internal/southbound"},
	{"internal/server", "api internal/store internal/identity internal/audit internal/apiserver internal/control internal/southbound internal/trace"},
	// Node.
	{"internal/netns", ""},
	{"internal/node/kernel", "internal/netns"},
	{"internal/node/reconcile", "internal/netns"},
	{"internal/node/*", "internal/southbound internal/node/reconcile internal/node/kernel internal/netns"},
	{"internal/bgp", "internal/node/kernel internal/netns"},
	{"internal/agent", "api internal/southbound internal/bgp internal/node internal/netns"},
	{"internal/doctor", "api client internal/node/kernel internal/netns"},
	{"bpf", "internal/node internal/netns internal/southbound internal/trace"},
	// From outside: what a user could do as well.
	{"lab", "api client internal/netns"},
	{"bench/control", "api client bench internal/southbound internal/node internal/agent/enrol"},
	{"bench", "api client lab internal/netns"},
	{"internal/cli", "api client internal/audit lab bench"},
	{"test/linear", "api client internal/store internal/server"}, // it runs servers, on an etcd that it can break
	{"test", "api client lab"},
	{"tools", ""},
	// Wiring. Nothing imports it.
	{"cmd", "api client internal lab"},
	// The rules themselves.
	{".", ""},
}

// owners lists packages from outside that only some folders may import.
var owners = []struct{ prefix, folders string }{
	{"go.etcd.io/", "internal/store"},
	{"github.com/cilium/ebpf", "internal/node/kernel bpf lab bench"},
	{"github.com/osrg/gobgp", "internal/bgp"},
	{"github.com/vishvananda/netlink", "internal/node/kernel internal/netns"},
	{"github.com/vishvananda/netns", "internal/node/kernel internal/netns"},
}

// impure is what the control plane's functions must not use: values in, values out.
var impure = []string{
	"bufio", "context", "crypto/rand", "io", "io/fs", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http",
	"os", "os/exec", "path/filepath", "runtime", "sync", "sync/atomic", "syscall", "time",
}

func checkLayers(t *tree) []violation {
	var found []violation
	for _, s := range t.sources {
		home, may, ok := layer(s.dir)
		if !ok {
			found = append(found, violation{s.file, "its folder is in no layer: name it in repo_imports_test.go"})
			continue
		}
		for _, spec := range s.ast.Imports {
			to, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
			if ours && !within(to, home) && !withinAny(to, may+" internal/base") {
				found = append(found, s.at(spec, "must not import %s (it may import: %s)", to, may))
			}
		}
	}
	return found
}

func checkOwners(t *tree) []violation {
	var found []violation
	for _, s := range t.sources {
		for _, spec := range s.ast.Imports {
			imp := strings.Trim(spec.Path.Value, `"`)
			for _, o := range owners {
				if strings.HasPrefix(imp, o.prefix) && !withinAny(s.dir, o.folders) {
					found = append(found, s.at(spec, "must not import %s: only %s may", imp, o.folders))
				}
			}
		}
	}
	return found
}

func checkPure(t *tree) []violation {
	var found []violation
	for _, s := range t.sources {
		if s.test || !within(s.dir, "internal/control") {
			continue
		}
		for _, spec := range s.ast.Imports {
			if imp := strings.Trim(spec.Path.Value, `"`); slices.Contains(impure, imp) {
				found = append(found, s.at(spec, "the control plane is pure: it must not import %s", imp))
			}
		}
	}
	return found
}

// layer returns the folder that governs dir, and what it may import.
func layer(dir string) (home, may string, ok bool) {
	for _, l := range layers {
		if l.folder == "." && dir != "." {
			continue
		}
		if parent, star := strings.CutSuffix(l.folder, "/*"); star {
			rest, below := strings.CutPrefix(dir, parent+"/")
			if first, _, _ := strings.Cut(rest, "/"); below {
				return path.Join(parent, first), l.may, true
			}
		} else if within(dir, l.folder) {
			return l.folder, l.may, true
		}
	}
	return "", "", false
}

func within(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

func withinAny(dir, folders string) bool {
	return slices.ContainsFunc(strings.Fields(folders), func(f string) bool { return within(dir, f) })
}
