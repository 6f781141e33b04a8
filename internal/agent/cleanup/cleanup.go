// SPDX-License-Identifier: Apache-2.0

// Package cleanup takes out of a machine's kernel all that its agent has put there. It needs no agent, no server and no rows, may be
// repeated, and leaves alone what others made.
package cleanup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"weft/internal/agent/rundir"
	"weft/internal/bgp"
	"weft/internal/netns"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/fib"
	"weft/internal/node/port"
)

// ErrAgentRuns says that an agent runs, which would put all of it back.
var ErrAgentRuns = errors.New("the agent runs")

// Config says where the agent kept its things.
type Config struct {
	StateDir string // attachments.json
	RunDir   string // agent.sock
	BPFFS    string // folder of pins
}

// Found is what there is to take away.
type Found struct {
	Ports      []port.Left
	Devices    []string       // the packet path's own
	Pins       string         // folder; "": none
	Routes     []netip.Prefix // of the speaker
	Namespaces []string       // of probes
	Speaker    bool           // a BGP speaker runs: its routes are in use, and stay
}

// Empty reports whether nothing is left.
func (f *Found) Empty() bool {
	return len(f.Ports) == 0 && len(f.Devices) == 0 && f.Pins == "" && len(f.Routes) == 0 && len(f.Namespaces) == 0
}

// Dark lists the ports that stop working, by name.
func (f *Found) Dark() []string {
	var out []string
	for _, p := range f.Ports {
		if p.There {
			out = append(out, fmt.Sprintf("%s (%s)", cmp.Or(p.Port, "a port nobody knows"), p.Device))
		}
	}
	return out
}

// Do looks at what there is, asks whether it may go, and takes it away. While it works no agent can start; where one runs, the error
// is ErrAgentRuns.
func Do(ctx context.Context, cfg Config, may func(*Found) error) (*Found, error) {
	if err := os.MkdirAll(cfg.RunDir, 0o700); err != nil {
		return nil, fmt.Errorf("clean up: %w", err)
	}
	unlock, err := rundir.Lock(cfg.RunDir, 0)
	if errors.Is(err, rundir.ErrTaken) {
		return nil, ErrAgentRuns
	}
	if err != nil {
		return nil, fmt.Errorf("clean up: %w", err)
	}
	defer unlock()
	found, err := look(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("clean up: %w", err)
	}
	if err := may(found); err != nil {
		return found, err
	}
	if err := found.remove(cfg); err != nil {
		return found, fmt.Errorf("clean up: %w", err)
	}
	return found, nil
}

func stateFile(cfg Config) string { return filepath.Join(cfg.StateDir, "attachments.json") }

func look(ctx context.Context, cfg Config) (*Found, error) {
	f := &Found{}
	var err error
	if f.Ports, err = port.Find(stateFile(cfg), kernel.Left(cfg.BPFFS)); err != nil {
		return nil, err
	}
	if f.Devices, err = kernel.OwnDevices(); err != nil {
		return nil, err
	}
	if _, err := os.Stat(cfg.BPFFS); err == nil {
		f.Pins = cfg.BPFFS
	}
	if f.Namespaces, err = probes(cfg); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := bgp.NewClient(filepath.Join(cfg.RunDir, "bgp.sock")).State(ctx); err == nil {
		f.Speaker = true
		return f, nil
	}
	f.Routes, err = routes()
	return f, err
}

// probes lists the namespaces of 'weft check'.
func probes(cfg Config) ([]string, error) {
	all, err := netns.List()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(n string) bool { return !strings.HasPrefix(n, filepath.Base(cfg.RunDir)+"-check-") }), nil
}

func routes() ([]netip.Prefix, error) {
	table, err := fib.Open()
	if err != nil {
		return nil, err
	}
	defer table.Close()
	all, err := table.Routes()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for to := range all {
		out = append(out, to)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return out, nil
}

// remove goes from what packets pass to what only has a name: what is interrupted has gone dark, and can be repeated.
func (f *Found) remove(cfg Config) error {
	for _, n := range f.Namespaces {
		if err := netns.Delete(n); err != nil {
			return err
		}
	}
	if err := port.Clear(stateFile(cfg), kernel.Left(cfg.BPFFS), f.Ports); err != nil {
		return err
	}
	if err := kernel.Cleanup(cfg.BPFFS); err != nil {
		return err
	}
	if err := f.removeRoutes(); err != nil {
		return err
	}
	sockets := []string{"agent.sock"}
	if !f.Speaker {
		sockets = append(sockets, "bgp.sock")
	}
	for _, name := range sockets {
		if err := os.Remove(filepath.Join(cfg.RunDir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (f *Found) removeRoutes() error {
	if len(f.Routes) == 0 {
		return nil
	}
	table, err := fib.Open()
	if err != nil {
		return err
	}
	defer table.Close()
	for _, to := range f.Routes {
		if err := table.Delete(to); err != nil {
			return err
		}
	}
	return nil
}
