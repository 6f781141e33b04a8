// SPDX-License-Identifier: Apache-2.0

// Package agent is the agent process of one node: rows from the server's stream and attachments from the local socket
// go in, the node's functions bring them into the kernel. The packet path does not need it to go on.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"weft/internal/agent/enrol"
	"weft/internal/agent/rundir"
	"weft/internal/base/notify"
	"weft/internal/bgp/bfd"
	"weft/internal/node/dhcp"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/node/overlay"
	"weft/internal/node/port"
	"weft/internal/node/reconcile"
	"weft/internal/node/routing"
	"weft/internal/southbound"
)

// RouterMAC is the Ethernet address of the virtual router, the same on every node.
var routerMAC = [6]byte{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}

// Config is what an agent needs.
type Config struct {
	Node        string
	Roles       []string
	Site        string
	Server      string     // host:port of the southbound stream
	CAFile      string     // PEM of the server's authority
	TokenFile   string     // join token, for the node's first certificate
	Address     netip.Addr // the node's tunnel end
	StateDir    string
	RunDir      string        // holds agent.sock
	BPFFS       string        // folder of the pins
	UnderlayMTU int           // 0: 1500
	ScanEvery   time.Duration // how often drift is looked for, give or take a quarter; 0: a minute
	BGPConfig   string        // configuration of the node's BGP speaker; "": it has none
	SpeakerUnit bool          // the service manager runs the speaker: it is looked after, and not started
	Manager     notify.Manager
	Version     string
	Log         *slog.Logger
}

// Agent is a running agent. All of the node's functions belong to the goroutine of Run; others reach them through do.
type Agent struct {
	cfg      Config
	client   *southbound.Client
	identity *enrol.Identity
	path     *kernel.Datapath
	upgrade  switcher // the same
	ports    *port.Ports
	overlay  *overlay.Overlay
	routing  *routing.Routing
	dhcp     *dhcp.Server        // has its own goroutine; apply tells it of ports
	journal  *southbound.Journal // of rows, on disk
	// What it had at the start, until it is in effect, or something better.
	recalled map[southbound.Key]southbound.Row
	known    chan struct{} // closed once that is decided
	machine  string        // the machine's identity
	prober   prober
	speaker  *speaker
	calls    chan func()
	ended    chan struct{} // closed when calls are served no more

	mu        sync.Mutex // guards below
	connected bool
	synced    bool   // a step was put into effect since the start
	mended    uint64 // writes to the kernel that undid what somebody else had changed
	epoch     string
	revision  uint64
	rows      map[southbound.Key]southbound.Row
	changed   chan struct{}        // closed, and replaced, after each Apply
	failures  []southbound.Failure // of the latest Apply
	removed   string               // why the machine is no node any more; "": it is one
}

// Run is the life of the agent: it returns when ctx ends, leaving programs, tables and devices in place.
func Run(ctx context.Context, cfg Config) (err error) {
	cfg.UnderlayMTU = cmp.Or(cfg.UnderlayMTU, 1500)
	cfg.ScanEvery = cmp.Or(cfg.ScanEvery, time.Minute)
	for _, dir := range []string{cfg.StateDir, cfg.RunDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("start agent: %w", err)
		}
	}
	unlock, err := rundir.Lock(cfg.RunDir, lockPatience)
	if errors.Is(err, rundir.ErrTaken) {
		return fmt.Errorf("another agent runs with %s (give each its own --run-dir): %w", cfg.RunDir, err)
	}
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	defer unlock()
	a, err := newAgent(cfg)
	if err != nil {
		return fmt.Errorf("start agent: %w", err)
	}
	defer func() { err = errors.Join(err, a.path.Close()) }()
	return a.run(ctx)
}

func newAgent(cfg Config) (*Agent, error) {
	var guarded []uint16
	if cfg.BGPConfig != "" {
		guarded = []uint16{bfd.Port}
	}
	path, err := kernel.Open(kernel.Config{
		PinDir: cfg.BPFFS, Tunnel: cfg.Address, RouterMAC: routerMAC, UnderlayMTU: cfg.UnderlayMTU, Log: cfg.Log, Guarded: guarded,
	})
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("%w; the agent works with eBPF and network devices: run it as root", err)
	}
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg: cfg, path: path, upgrade: path, calls: make(chan func()), ended: make(chan struct{}),
		rows: make(map[southbound.Key]southbound.Row), changed: make(chan struct{}),
		known: make(chan struct{}),
	}
	a.ports, err = port.New(port.Config{
		StateFile: filepath.Join(cfg.StateDir, "attachments.json"), MTU: overlayMTU(cfg), Tunnel: cfg.Address,
		Kernel: devices{path}, Table: path.Ports(), Log: cfg.Log, Drift: a.drifted,
	})
	if err == nil {
		err = a.ports.Hold()
	}
	if err != nil {
		return nil, errors.Join(err, path.Close())
	}
	a.overlay = overlay.New(overlay.Config{
		Node: cfg.Node, RouterMAC: routerMAC, Locations: path.Locations(), Senders: path.Senders(),
		Drift: a.drifted,
	})
	a.routing = routing.New(routing.Config{Node: cfg.Node, Routes: path.Routes(), Sources: path.Sources(), Drift: a.drifted})
	a.dhcp = newDHCP(a)
	a.prober = newProber(a)
	a.speaker = newSpeaker(cfg)
	a.machine, err = loadMachine(cfg.StateDir)
	if err == nil {
		a.removed, err = loadRemoved(cfg.StateDir)
	}
	if err == nil {
		err = a.prove(cfg)
	}
	if err != nil {
		return nil, errors.Join(err, path.Close())
	}
	return a, nil
}

// overlayMTU is what fits into the underlay beside the tunnel's headers.
func overlayMTU(cfg Config) int { return cfg.UnderlayMTU - kernel.Overhead(cfg.Address) }

// lockPatience is how long an agent that was killed may take to let go: its threads end one after the other.
const lockPatience = 2 * time.Second

// run serves calls until ctx ends, and then waits for all that it started.
func (a *Agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer close(a.ended)
	local, err := a.listen(ctx, &wg)
	if err != nil {
		return err
	}
	recall := a.openJournal()
	defer a.journal.Close()
	wg.Go(func() { a.follow(ctx) })
	wg.Go(func() { a.dhcp.Run(ctx) })
	wg.Go(func() { a.speaker.run(ctx) })
	wg.Go(func() {
		device.Watch(ctx, a.cfg.Log, func(e device.Event) {
			_ = a.do(ctx, func() { a.linkChanged(e) }) // fails only while the agent stops
		})
	})
	scan, retry := time.NewTimer(a.scanAfter()), time.NewTicker(retryEvery)
	defer scan.Stop()
	defer retry.Stop()
	wg.Go(func() { a.cfg.Manager.Watch(ctx, func(ctx context.Context) error { return a.do(ctx, func() {}) }) })
	if err := a.cfg.Manager.Ready("node " + a.cfg.Node + ", tunnel end " + a.cfg.Address.String()); err != nil {
		a.cfg.Log.Warn("not told", "err", err)
	}
	a.cfg.Log.Info("agent runs", "host", a.cfg.Node, "address", a.cfg.Address, "socket", filepath.Join(a.cfg.RunDir, "agent.sock"))
	for {
		select {
		case <-ctx.Done():
			_ = a.cfg.Manager.Stopping() // it asked for it
			return nil
		case err := <-local:
			return err
		case f := <-a.calls:
			f()
		case <-recall:
			a.recall()
		case <-scan.C:
			a.rescan()
			scan.Reset(a.scanAfter())
		case <-retry.C:
			a.keepAgain()
			if a.isSynced() && a.failing() {
				a.settle()
			}
		}
	}
}

// retryEvery is how soon what could not be brought into the kernel is tried again.
const retryEvery = time.Second

// settle applies without a step, and tells the server where that changed what fails. Before the first synced step it does
// nothing: without rows, every port would look taken away.
func (a *Agent) settle() {
	if !a.isSynced() {
		return
	}
	before := a.failures
	after := a.apply()
	a.mu.Lock()
	epoch, revision := a.epoch, a.revision
	a.mu.Unlock()
	if epoch != "" && !slices.Equal(before, after) { // else these are rows from disk, and the server will hear of them as it sends its own
		a.client.Ack(epoch, revision, after)
	}
}

func (a *Agent) failing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.failures) > 0
}

// do runs f on the goroutine that owns the node's functions.
func (a *Agent) do(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case a.calls <- func() { defer close(done); f() }:
	case <-ctx.Done():
		return ctx.Err()
	case <-a.ended:
		return errEnded
	}
	<-done
	return nil
}

// errEnded is the answer to calls while the agent stops.
var errEnded = errors.New("the agent is stopping")

// Rows puts a step into effect (southbound.Node).
func (a *Agent) Rows(ctx context.Context, step southbound.Step) (failures []southbound.Failure) {
	err := a.do(ctx, func() {
		a.recallNothing()
		a.take(step)
		a.keep(step)
		failures = a.apply()
		a.mu.Lock()
		defer a.mu.Unlock()
		a.epoch, a.revision, a.synced = step.Epoch, step.Revision, true
	})
	if err != nil {
		return []southbound.Failure{{Key: "step", Message: err.Error()}} // the stream ends with the agent
	}
	return failures
}

// take hands a step's rows to the functions.
func (a *Agent) take(step southbound.Step) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if step.Snapshot {
		clear(a.rows)
		a.ports.Reset()
		a.overlay.Reset()
		a.routing.Reset()
	}
	for _, k := range step.Deletes {
		delete(a.rows, k)
		a.ports.Delete(k)
		a.overlay.Delete(k)
		a.routing.Delete(k)
	}
	for _, r := range step.Upserts {
		a.rows[r.Key()] = r
		a.ports.Update(r)
		a.overlay.Update(r)
		a.routing.Update(r)
	}
}

// apply brings the functions' wishes into the kernel: ports first, as locations lead to them.
func (a *Agent) apply() []southbound.Failure {
	locals, failures := a.ports.Apply()
	a.serve()
	for _, l := range locals {
		a.overlay.SetDevice(l.VNI, l.Addr, overlay.Device{IfIndex: l.IfIndex, Kind: l.Kind}, l.Present)
		a.routing.SetDevice(l.VNI, l.Addr, l.IfIndex, l.Kind, l.Present)
	}
	err := errors.Join(a.overlay.Apply(), a.routing.Apply())
	if err != nil {
		a.cfg.Log.Error("write locations and routes", "err", err)
		failures = append(failures, overlayFailures(err)...)
	}
	failures = append(failures, a.unkept()...)
	failures = append(failures, a.refused()...)
	failures = append(failures, a.switchOver(errors.Join(a.ports.Filled(), err))...)
	a.mu.Lock()
	a.failures = failures
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()
	return failures
}

// overlayFailures names the VPCs whose entries could not be written; without one, all are in doubt.
func overlayFailures(err error) []southbound.Failure {
	var out []southbound.Failure
	for k, e := range reconcile.Failed[kernel.LocationKey](err) {
		out = append(out, southbound.Failure{VNI: k.VNI, Key: fmt.Sprintf("location/%d/%s", k.VNI, k.Addr), Message: e.Error()})
	}
	for k, e := range reconcile.Failed[kernel.RouteKey](err) {
		out = append(out, southbound.Failure{VNI: k.VNI, Key: fmt.Sprintf("route/%d/%d/%s", k.VNI, k.Table, k.Prefix), Message: e.Error()})
	}
	for k, e := range reconcile.Failed[kernel.SenderKey](err) {
		out = append(out, southbound.Failure{VNI: k.VNI, Key: fmt.Sprintf("sender/%d/%s", k.VNI, k.Addr), Message: e.Error()})
	}
	if len(out) == 0 {
		out = append(out, southbound.Failure{Key: "overlay", Message: err.Error()})
	}
	return out
}

// Hello introduces the node (southbound.Node).
func (a *Agent) Hello() (southbound.Hello, string, uint64) {
	h := southbound.Hello{
		Node: a.cfg.Node, Address: a.cfg.Address, Roles: a.cfg.Roles, Site: a.cfg.Site,
		Version: a.cfg.Version, Kernel: kernelRelease(), Machine: a.machine,
	}
	_ = a.do(context.Background(), func() { // fails only while the agent stops
		for _, s := range a.ports.States() {
			h.Bindings = append(h.Bindings, southbound.Binding{Tenant: s.ID.Tenant, Port: s.ID.Port, ID: s.Binding})
		}
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	return h, a.epoch, a.revision
}

// Connected notes whether the stream is up (southbound.Node).
func (a *Agent) Connected(up bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.connected = up
}

func (a *Agent) isSynced() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.synced
}

// kernelRelease returns what uname -r prints.
func kernelRelease() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return ""
	}
	b := make([]byte, 0, len(u.Release))
	for _, c := range u.Release {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}
