// SPDX-License-Identifier: Apache-2.0

// Package kernel drives the node's packet path: it keeps weft's eBPF programs, maps and devices in the kernel as the
// node needs them, finds them again after a restart, and writes only what differs.
package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"weft/internal/node/kernel/device"
	"weft/internal/node/kernel/guard"
)

// Errors that callers can tell apart.
var (
	// ErrMapIncompatible says that a pinned map has another layout than this build's. The map is left alone.
	ErrMapIncompatible = ebpf.ErrMapIncompatible
	// ErrMapFull says that a table has no room for another entry.
	ErrMapFull = errors.New("the table is full")
	// ErrKernelTooOld says that the running kernel lacks what the packet path is built on.
	ErrKernelTooOld = errors.New("kernel too old")
)

// Config is what a node's packet path needs to know.
type Config struct {
	PinDir      string     // folder below /sys/fs/bpf of this node alone; the version's folder is made in it
	Tunnel      netip.Addr // where this node's tunnel ends: an address of the node
	RouterMAC   [6]byte    // of the virtual router, the same on every node
	UnderlayMTU int        // of the links between nodes
	Log         *slog.Logger
	Guarded     []uint16 // UDP ports of other nodes, beside the tunnel's, that only root's processes may send to

	edit func(*ebpf.CollectionSpec) // tests: another build's programs and maps
	step func(name string)          // tests: called before each step of an upgrade, where the agent may die
}

// Datapath is a node's packet path. Methods may be called from several goroutines, except Repair and Close.
//
// What it makes stays in the kernel when the process ends:
//
//	PinDir/v<N>/<map>               maps of layout N
//	PinDir/v<N>/prog_<program>      programs, one of each for all ports
//	PinDir/links/<device>-<program> where programs are attached
//	weft-vx                         the VXLAN device, in the namespace of the process
//	weft-svc                        the tap between packet path and agent, beside it
type Datapath struct {
	cfg       Config
	version   uint32 // of the layout, ABI_VERSION
	waiting   bool   // links run programs on other maps until Switch
	held      holds
	loadedFor devices // what the programs were loaded for
	trouble   error   // why this build's programs could not be loaded
	maps      map[string]*ebpf.Map
	programs  map[string]*ebpf.Program
	ports     PortTable
	locations LocationTable
	senders   SenderTable
	routes    RouteTable
	sources   SourceTable
	base      uint64 // value of writes when Open began
	unguarded string // why users of this machine can send as this node
}

// Open finds the packet path in the kernel, or makes it. Nothing is written when it is there already.
func Open(cfg Config) (*Datapath, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := requireKernel(); err != nil {
		return nil, err
	}
	d := &Datapath{cfg: cfg, maps: map[string]*ebpf.Map{}, programs: map[string]*ebpf.Program{}, base: device.Writes()}
	if err := d.open(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

func (c *Config) check() error {
	switch {
	case !strings.HasPrefix(filepath.Clean(c.PinDir), bpffsRoot+"/"):
		return fmt.Errorf("folder for pins %q: must be below %s", c.PinDir, bpffsRoot)
	case !c.Tunnel.IsValid() || c.Tunnel.IsUnspecified() || c.Tunnel.Zone() != "":
		return fmt.Errorf("tunnel address %v: must be an address of this node", c.Tunnel)
	case c.RouterMAC == [6]byte{}:
		return errors.New("router MAC is empty")
	case c.UnderlayMTU < minMTU+Overhead(c.Tunnel) || c.UnderlayMTU > device.MaxMTU:
		return fmt.Errorf("underlay MTU %d: must be between %d and %d", c.UnderlayMTU, minMTU+Overhead(c.Tunnel), device.MaxMTU)
	}
	c.Tunnel = c.Tunnel.Unmap()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (d *Datapath) open() error {
	if err := ensureBPFFS(); err != nil {
		return err
	}
	spec, err := d.spec()
	if err != nil {
		return err
	}
	if d.version, err = versionOf(spec); err != nil {
		return err
	}
	for _, dir := range []string{d.versionDir(), d.linkDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make folder for pins: %w", err)
		}
	}
	if err := d.openMaps(spec); err != nil {
		return err
	}
	d.ports = PortTable{newTable(d.maps[bpfMapPortInfo], encodePort)}
	d.locations = LocationTable{newTable(d.maps[bpfMapOvlLocations], encodeLocation)}
	d.senders = SenderTable{newTable(d.maps[bpfMapOvlSenders], encodeSender)}
	d.routes = RouteTable{newTable(d.maps[bpfMapRtRoutes], encodeRoute)}
	d.sources = SourceTable{newTable(d.maps[bpfMapPortSources], encodeSource)}
	return d.Repair()
}

// spec is LoadSpec of this build.
func (d *Datapath) spec() (*ebpf.CollectionSpec, error) {
	spec, err := LoadSpec()
	if err == nil && d.cfg.edit != nil {
		d.cfg.edit(spec)
	}
	return spec, err
}

// devices are weft's own, by index.
type devices struct{ uplink, service int }

// Repair compares weft's own devices, the programs and where they are attached with what should be, and mends the
// difference; pins that were removed it puts back. Nothing is written when there is no difference. What is in the maps, and ports'
// devices, are not its business.
func (d *Datapath) Repair() error {
	if err := errors.Join(d.keepPins(), ensureMultipathHash()); err != nil {
		return err
	}
	var dev devices
	var err error
	if dev.uplink, err = ensureUplink(d.cfg.UnderlayMTU - Overhead(d.cfg.Tunnel)); err != nil {
		return err
	}
	if dev.service, err = ensureService(); err != nil {
		return err
	}
	if err := d.ensurePrograms(dev); err != nil {
		return err
	}
	if err := d.ensureLinks(dev); err != nil {
		return err
	}
	d.guardTunnel()
	return d.removeOthers()
}

// guardTunnel keeps other users than root from the ports at which nodes believe each other. Where that cannot be, all else works, and the log says so
// once.
func (d *Datapath) guardTunnel() {
	var why string
	if err := guard.Keep(filepath.Join(d.linkDir(), "guard"), append([]uint16{vxlanPort}, d.cfg.Guarded...)...); err != nil {
		why = err.Error()
	}
	if why != "" && why != d.unguarded {
		d.cfg.Log.Warn("every user of this machine can send packets as this node", "err", why)
	}
	d.unguarded = why
}

// Ports are the local ports, by the index of their device.
func (d *Datapath) Ports() *PortTable { return &d.ports }

// Locations says where the addresses of each VPC live.
func (d *Datapath) Locations() *LocationTable { return &d.locations }

// Senders are the nodes that may send packets of each VPC.
func (d *Datapath) Senders() *SenderTable { return &d.senders }

// Routes are the route tables of the VPCs.
func (d *Datapath) Routes() *RouteTable { return &d.routes }

// Sources are what local ports may send from beside their own addresses.
func (d *Datapath) Sources() *SourceTable { return &d.sources }

// Writes returns how many changes this process has made in the kernel since Open began: map entries, pins, programs
// attached, devices, addresses, routes.
func (d *Datapath) Writes() uint64 { return device.Writes() - d.base }

// Close lets go of the kernel objects. They stay, and go on working.
func (d *Datapath) Close() error {
	d.letGoAll()
	var errs []error
	for _, m := range d.maps {
		errs = append(errs, m.Close())
	}
	for _, p := range d.programs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// Cleanup takes the packet path of a node out of the kernel: links, programs, maps and weft's own devices in the
// process's namespace. Ports' own devices are left. What is not there is fine.
func Cleanup(pinDir string) error {
	if err := errors.Join(device.DeleteLink(uplinkName), device.DeleteLink(serviceName)); err != nil {
		return err
	}
	// A link whose last pin goes is detached. Links first: no program outlives its maps' names.
	for _, dir := range []string{filepath.Join(pinDir, "links"), pinDir} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove pins: %w", err)
		}
	}
	// The folder of all nodes goes with the last of them.
	if parent := filepath.Dir(filepath.Clean(pinDir)); parent != bpffsRoot {
		_ = os.Remove(parent)
	}
	return nil
}

func (d *Datapath) versionDir() string {
	return filepath.Join(d.cfg.PinDir, fmt.Sprintf("v%d", d.version))
}

func (d *Datapath) mapPin(name string) string { return filepath.Join(d.versionDir(), name) }

func (d *Datapath) linkDir() string { return filepath.Join(d.cfg.PinDir, "links") }
