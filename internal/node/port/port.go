// SPDX-License-Identifier: Apache-2.0

// Package port keeps the ports of one node attached: for each attachment that the server agrees to, a device, the
// programs on it and its entry in the packet path; for any other, nothing.
package port

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/node/reconcile"
	"weft/internal/southbound"
)

// Kernel is what the package does to devices of the node's namespace. Every call may be repeated.
type Kernel interface {
	// FindLink returns a device by name.
	FindLink(name string) (device.Link, bool, error)
	// Links returns the devices whose names begin with prefix.
	Links(prefix string) ([]device.Link, error)
	// CreateVeth makes a pair, one end in another namespace and up, the other here and down, and returns the index of this one.
	CreateVeth(v device.Veth) (ifindex int, err error)
	// ConfigurePeer gives the far end its addresses, routes and MTU.
	ConfigurePeer(netNS, name string, addresses []netip.Prefix, gateways []netip.Addr, mtu int) error
	// MendVeth makes the node's end of a pair that is there what it should be, but for its being up.
	MendVeth(v device.Veth) error
	// DeleteLink removes a device; an absent one is fine.
	DeleteLink(name string) error
	// CreateTap makes a persistent tap, down, and returns its index; one that is there is an error.
	CreateTap(t device.Tap) (ifindex int, err error)
	// CheckDevice refuses a device that must not become a port's.
	CheckDevice(c device.Candidate) error
	// SetDown brings a device down; an absent one is fine.
	SetDown(name string) error
	// HoldDevice brings a device down unless the programs run at it.
	HoldDevice(ifindex int, name string) error
	// InspectDevice says how a device is before a port takes it.
	InspectDevice(name string) (device.Before, error)
	// TakeDevice makes a device that was there a port's: held, silent, with this MTU.
	TakeDevice(name string, mtu int) error
	// ReturnDevice gives a device back as it was, but down; one that is gone is fine.
	ReturnDevice(name string, b device.Before) error
	// AttachPort puts the programs on a device and brings it up.
	AttachPort(ifindex int, name string) error
	// DetachPort brings a device down and takes the programs off, whether or not the device still exists.
	DetachPort(name string) error
	// AttachedPorts returns the names of the devices that have the programs.
	AttachedPorts() ([]string, error)
}

// Config is what Ports needs. Every field but Drift is required.
type Config struct {
	StateFile string     // where attachments outlive the agent
	MTU       int        // of the overlay, layer 3, bytes
	Tunnel    netip.Addr // this node's tunnel end; its device is never a port's
	Kernel    Kernel
	Table     reconcile.Target[kernel.PortKey, kernel.Port]
	Log       *slog.Logger
	Drift     func(what string) // told of entries that somebody else has changed; may be nil
}

// ID names a port on its node.
type ID struct{ Tenant, Port string }

// String returns tenant/port.
func (id ID) String() string { return id.Tenant + "/" + id.Port }

// Attachment is what was asked for on this node, kept on disk.
type Attachment struct {
	ID      ID     `json:"id"`
	Way     Way    `json:"way"`
	NetNS   string `json:"netns"`   // WayNetNS: of the workload
	Device  string `json:"device"`  // the workload's end of a pair as it is made, or the tap or device itself
	Static  bool   `json:"static"`  // WayNetNS: the agent configures the workload's end
	Binding string `json:"binding"` // what the server gave for it

	MultiQueue bool    `json:"multiQueue,omitempty"` // WayTap
	Owner      *uint32 `json:"owner,omitempty"`      // WayTap
	Force      bool    `json:"force,omitempty"`      // WayTap, WayDevice: although it is in use

	Made   bool           `json:"made,omitempty"`   // WayTap: not there when it was asked for, so the agent makes it, again if need be
	Before *device.Before `json:"before,omitempty"` // WayTap, WayDevice: how it was before it was first touched
}

// attached is an attachment and how it stands.
type attached struct {
	Attachment
	pending bool                // claimed; the row has not come yet
	ifindex uint32              // 0: not (known to be) in place
	kind    kernel.LocationKind // how packets reach the workload behind the device
	err     error               // why not
}

// Local is where an address of a port of this node is reached.
type Local struct {
	VNI     uint32
	Addr    netip.Addr
	IfIndex uint32
	Kind    kernel.LocationKind
	Present bool // false: no longer
}

// Ports belongs to one goroutine.
type Ports struct {
	cfg      Config
	table    *reconcile.Table[kernel.PortKey, kernel.Port]
	rows     map[ID]southbound.Port
	have     map[ID]*attached
	swept    bool // alien devices were looked for
	removed  []Local
	dirty    map[ID]struct{}
	unfilled error // why not every entry that is wanted is in the table
}

// New returns the ports that the state file knows of. Nothing is touched before Apply.
func New(cfg Config) (*Ports, error) {
	p := &Ports{
		cfg:   cfg,
		table: reconcile.New("ports", cfg.Table),
		rows:  make(map[ID]southbound.Port),
		have:  make(map[ID]*attached),
		dirty: make(map[ID]struct{}),
	}
	p.table.Tell(cfg.Drift)
	list, err := loadAttachments(cfg.StateFile)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		p.have[a.ID] = &attached{Attachment: a}
		p.dirty[a.ID] = struct{}{}
	}
	return p, nil
}

// Hold brings down the devices of attachments at which the programs do not run: somebody took them off while no agent ran.
// It comes before any row is known; where all is as it should be, nothing is written.
func (p *Ports) Hold() error {
	var errs []error
	for _, a := range p.have {
		link, ok, err := p.cfg.Kernel.FindLink(a.HostDevice())
		if err == nil && ok && (!a.taken() || a.Before != nil && a.Before.Index == link.Index) {
			err = p.cfg.Kernel.HoldDevice(link.Index, link.Name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Attach notes that a is wanted, before its port is claimed. Where the port is attached here already, its pair is
// replaced, its own tap or device kept, and its binding too; bound tells that no claim is needed.
func (p *Ports) Attach(a Attachment) (bound bool, err error) {
	next := &attached{Attachment: a, pending: true}
	old, ok := p.have[a.ID]
	same := ok && a.taken() && old.taken() && old.Device == a.Device
	if same {
		next.Made, next.Before, next.ifindex, next.kind = old.Made, old.Before, old.ifindex, old.kind
	}
	if err := p.admit(&next.Attachment, old); err != nil {
		return false, err
	}
	if ok {
		next.Binding = old.Binding
		if !same {
			if err := p.takeDown(old); err != nil {
				return false, err
			}
		}
	}
	p.have[a.ID] = next
	p.dirty[a.ID] = struct{}{}
	row, ok := p.rows[a.ID]
	return ok && row.Binding == next.Binding, p.save()
}

// Bind notes the binding that the server gave for an attachment.
func (p *Ports) Bind(id ID, binding string) error {
	a, ok := p.have[id]
	if !ok {
		return fmt.Errorf("%s is not being attached", id)
	}
	a.Binding = binding
	p.dirty[id] = struct{}{}
	return p.save()
}

// Detach removes an attachment with its device; one that is not there is fine. It returns the binding to release.
func (p *Ports) Detach(id ID) (binding string, err error) {
	a, ok := p.have[id]
	if !ok {
		return "", nil
	}
	if err := p.takeDown(a); err != nil {
		return "", err
	}
	delete(p.have, id)
	return a.Binding, p.save()
}

// Reset forgets all rows, as at the beginning of a snapshot.
func (p *Ports) Reset() {
	clear(p.rows)
	for id := range p.have {
		p.dirty[id] = struct{}{}
	}
}

// Update takes a row; those of other tables are passed over.
func (p *Ports) Update(row southbound.Row) {
	if r, ok := row.(southbound.Port); ok {
		id := ID{r.Tenant, r.Name}
		if old, ok := p.rows[id]; ok && old.VNI != r.VNI {
			p.gone(old)
		}
		p.rows[id] = r
		p.dirty[id] = struct{}{}
	}
}

// Delete forgets a row by its key; one that is not there is fine.
func (p *Ports) Delete(key southbound.Key) {
	id := ID{key.Tenant, key.Name}
	if r, ok := p.rows[id]; ok && key.Table == southbound.TablePort && r.VNI == key.VNI {
		p.gone(r)
		delete(p.rows, id)
		p.dirty[id] = struct{}{}
	}
}

// Rescan makes the next Apply look at every device and entry again.
func (p *Ports) Rescan() {
	p.table.Rescan()
	p.swept = false
	for id := range p.have {
		p.dirty[id] = struct{}{}
	}
}

// LinkChanged takes a device's change. It reports whether a port is concerned, which the next Apply looks at.
func (p *Ports) LinkChanged(e device.Event) bool {
	concerned := false
	for id, a := range p.have {
		if e.Name == "" || a.HostDevice() == e.Name || a.ifindex != 0 && a.ifindex == uint32(e.Index) {
			p.dirty[id] = struct{}{}
			concerned = true
		}
	}
	return concerned
}

// Apply makes devices, programs and entries what rows and attachments together want. It returns where local addresses
// are reached now, as far as that changed, and which rows are not in effect.
func (p *Ports) Apply() ([]Local, []southbound.Failure) {
	p.sweep()
	for id := range p.dirty {
		if a, ok := p.have[id]; ok {
			p.decide(a)
		}
	}
	err := p.table.Apply()
	p.unfilled = err
	refused := reconcile.Failed[kernel.PortKey](err)
	if err != nil {
		p.cfg.Log.Error("write ports", "err", err)
	}
	locals := p.removed
	p.removed = nil
	for id := range p.dirty {
		a, ok := p.have[id]
		if !ok || a.ifindex == 0 {
			continue
		}
		if err := refused[kernel.PortKey{IfIndex: a.ifindex}]; err != nil {
			a.err = err
			continue
		}
		if err := p.finish(a); err != nil {
			a.err = err
			continue
		}
		locals = append(locals, locate(p.rows[id], a.ifindex, a.kind, true)...)
	}
	for id := range p.dirty {
		if a, ok := p.have[id]; !ok || a.err == nil {
			delete(p.dirty, id)
		}
	}
	return locals, p.failures()
}

// Filled returns why the latest Apply did not bring every entry into the table; nil: it did.
func (p *Ports) Filled() error { return p.unfilled }

// decide brings one attachment to where its row wants it, up to the entry in the table.
func (p *Ports) decide(a *attached) {
	row, ok := p.rows[a.ID]
	switch {
	case ok && row.Binding == a.Binding:
		a.pending = false
		a.err = p.putUp(a, row)
	case a.pending:
	default: // the server took the port away: deleted, moved, or never bound
		p.cfg.Log.Info("port taken away", "port", a.ID.String())
		if a.err = p.takeDown(a); a.err == nil {
			delete(p.have, a.ID)
			a.err = p.save()
		}
	}
}

// putUp finds or makes the device, still down, and wants its entry.
func (p *Ports) putUp(a *attached, row southbound.Port) error {
	link, err := p.device(a, row)
	if err != nil {
		return err
	}
	a.ifindex, a.kind = uint32(link.Index), kindOf(link)
	p.table.Update(kernel.PortKey{IfIndex: a.ifindex}, entry(row, p.cfg.MTU))
	return nil
}

// finish puts the programs on the device and brings it up, once the table has its entry.
func (p *Ports) finish(a *attached) error {
	if err := p.cfg.Kernel.AttachPort(int(a.ifindex), a.HostDevice()); err != nil {
		return fmt.Errorf("attach programs to the device of %s: %w", a.ID, err)
	}
	return nil
}

// forget notes that the attachment has no device any more.
func (p *Ports) forget(a *attached) {
	if a.ifindex == 0 {
		return
	}
	p.table.Delete(kernel.PortKey{IfIndex: a.ifindex})
	a.ifindex = 0
	if r, ok := p.rows[a.ID]; ok {
		p.gone(r)
	}
}

// gone notes that the addresses of a row are no longer reached here.
func (p *Ports) gone(r southbound.Port) {
	p.removed = append(p.removed, locate(r, 0, kernel.LocationNone, false)...)
}

// failures lists the rows that are not in effect, and why.
func (p *Ports) failures() []southbound.Failure {
	var out []southbound.Failure
	for id, row := range p.rows {
		f := southbound.Failure{VNI: row.VNI, Key: row.Key().String()}
		a, ok := p.have[id]
		switch {
		case !ok:
			f.Message = "the port is bound to this node, but nothing is attached"
		case row.Binding != a.Binding:
			f.Message = "the port is being attached"
		case a.err != nil:
			f.Message = a.err.Error()
		case a.ifindex == 0:
			f.Message = "the device is not in place"
		default:
			continue
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b southbound.Failure) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// locate lists where the addresses of a row are reached.
func locate(r southbound.Port, ifindex uint32, kind kernel.LocationKind, present bool) []Local {
	var out []Local
	for _, i := range r.Interfaces {
		out = append(out, Local{VNI: r.VNI, Addr: i.Address, IfIndex: ifindex, Kind: kind, Present: present})
	}
	return out
}

// entry is what the packet path needs to know of a port.
func entry(r southbound.Port, mtu int) kernel.Port {
	e := kernel.Port{
		VNI: r.VNI, Tenant: r.TenantNumber, Subnet: r.Subnet, MTU: uint32(mtu), MAC: r.MAC,
		Table: r.Table, Sources: len(r.Sources) > 0,
	}
	for _, i := range r.Interfaces {
		if i.Address.Is4() {
			e.Addr4, e.Router4 = i.Address, i.Gateway
		} else {
			e.Addr6, e.Router6 = i.Address, i.Gateway
		}
	}
	return e
}
