// SPDX-License-Identifier: Apache-2.0

// Package port keeps the ports of one node attached: for each attachment that the server agrees to, a device, the
// programs on it and its entry in the packet path; for any other, nothing.
package port

import (
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"weft/internal/node/kernel"
	"weft/internal/node/reconcile"
	"weft/internal/southbound"
)

// DevicePrefix begins the names of all devices that this package makes, and of no others.
const DevicePrefix = "wp"

// Kernel is what the package does to devices of the node's namespace. Every call may be repeated.
type Kernel interface {
	// FindLink returns a device by name.
	FindLink(name string) (kernel.Link, bool, error)
	// Links returns the devices whose names begin with prefix.
	Links(prefix string) ([]kernel.Link, error)
	// CreateVeth makes a pair, one end in another namespace and up, the other here and down, and returns the index of this one.
	CreateVeth(v kernel.Veth) (ifindex int, err error)
	// ConfigurePeer gives the far end its addresses, routes and MTU.
	ConfigurePeer(netNS, name string, addresses []netip.Prefix, gateways []netip.Addr, mtu int) error
	// DeleteLink removes a device; an absent one is fine.
	DeleteLink(name string) error
	// AttachPort puts the programs on a device and brings it up.
	AttachPort(ifindex int, name string) error
	// DetachPort brings a device down and takes the programs off, whether or not the device still exists.
	DetachPort(name string) error
	// AttachedPorts returns the names of the devices that have the programs.
	AttachedPorts() ([]string, error)
}

// Config is what Ports needs. Every field is required.
type Config struct {
	StateFile string // where attachments outlive the agent
	MTU       int    // of the overlay, layer 3, bytes
	Kernel    Kernel
	Table     reconcile.Target[kernel.PortKey, kernel.Port]
	Log       *slog.Logger
}

// ID names a port on its node.
type ID struct{ Tenant, Port string }

// String returns tenant/port.
func (id ID) String() string { return id.Tenant + "/" + id.Port }

// Attachment is what was asked for on this node, kept on disk.
type Attachment struct {
	ID      ID     `json:"id"`
	NetNS   string `json:"netns"`
	Device  string `json:"device"` // inside the namespace
	Static  bool   `json:"static"`
	Binding string `json:"binding"` // what the server gave for it
}

// attached is an attachment and how it stands.
type attached struct {
	Attachment
	pending bool   // claimed; the row has not come yet
	ifindex uint32 // 0: not (known to be) in place
	err     error  // why not
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
	cfg     Config
	table   *reconcile.Table[kernel.PortKey, kernel.Port]
	rows    map[ID]southbound.Port
	have    map[ID]*attached
	swept   bool // alien devices were looked for
	removed []Local
	dirty   map[ID]struct{}
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

// HostDevice returns the name of a port's device in the node's namespace: at most 15 bytes, the same at every attach.
func HostDevice(id ID) string {
	h := fnv.New64a()
	h.Write([]byte(id.String()))
	return fmt.Sprintf("%s%012x", DevicePrefix, h.Sum64()&0xffffffffffff)
}

// Attach notes that a is wanted, before its port is claimed. Where the port is attached here already, its device is
// replaced and its binding kept; bound tells that no claim is needed.
func (p *Ports) Attach(a Attachment) (bound bool, err error) {
	if old, ok := p.have[a.ID]; ok {
		if err := p.takeDown(old); err != nil {
			return false, err
		}
		a.Binding = old.Binding
	}
	for id := range p.have {
		if id != a.ID && HostDevice(id) == HostDevice(a.ID) {
			return false, fmt.Errorf("device name %s of %s is taken by %s", HostDevice(a.ID), a.ID, id)
		}
	}
	p.have[a.ID] = &attached{Attachment: a, pending: true}
	p.dirty[a.ID] = struct{}{}
	row, ok := p.rows[a.ID]
	return ok && row.Binding == a.Binding, p.save()
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
		locals = append(locals, locate(p.rows[id], a.ifindex, true)...)
	}
	for id := range p.dirty {
		if a, ok := p.have[id]; !ok || a.err == nil {
			delete(p.dirty, id)
		}
	}
	return locals, p.failures()
}

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

// putUp makes the device, still down, and wants its entry.
func (p *Ports) putUp(a *attached, row southbound.Port) error {
	name := HostDevice(a.ID)
	link, ok, err := p.cfg.Kernel.FindLink(name)
	if err != nil {
		return err
	}
	ifindex := link.Index
	if !ok {
		p.forget(a)
		ifindex, err = p.cfg.Kernel.CreateVeth(kernel.Veth{
			HostName: name, NetNS: a.NetNS, PeerName: a.Device, MAC: row.MAC, MTU: p.cfg.MTU, Alias: "weft " + a.ID.String(),
		})
		if err != nil {
			return fmt.Errorf("make the device of %s: %w", a.ID, err)
		}
		if err := p.configure(a, row); err != nil {
			return errors.Join(err, p.cfg.Kernel.DeleteLink(name)) // so that the next try configures again
		}
	}
	if a.ifindex != uint32(ifindex) {
		p.forget(a)
	}
	a.ifindex = uint32(ifindex)
	p.table.Update(kernel.PortKey{IfIndex: a.ifindex}, entry(row, p.cfg.MTU))
	return nil
}

// configure gives a new device its address where that was asked for.
func (p *Ports) configure(a *attached, row southbound.Port) error {
	if !a.Static {
		return nil
	}
	var addresses []netip.Prefix
	var gateways []netip.Addr
	for _, i := range row.Interfaces {
		addresses = append(addresses, netip.PrefixFrom(i.Address, i.Bits))
		if i.Gateway.IsValid() {
			gateways = append(gateways, i.Gateway)
		}
	}
	if err := p.cfg.Kernel.ConfigurePeer(a.NetNS, a.Device, addresses, gateways, p.cfg.MTU); err != nil {
		return fmt.Errorf("configure %s of %s: %w", a.Device, a.ID, err)
	}
	return nil
}

// finish puts the programs on the device and brings it up, once the table has its entry.
func (p *Ports) finish(a *attached) error {
	if err := p.cfg.Kernel.AttachPort(int(a.ifindex), HostDevice(a.ID)); err != nil {
		return fmt.Errorf("attach programs to the device of %s: %w", a.ID, err)
	}
	return nil
}

// takeDown removes device and programs; the device goes down first, so no packet passes it without them.
func (p *Ports) takeDown(a *attached) error {
	name := HostDevice(a.ID)
	if err := p.cfg.Kernel.DetachPort(name); err != nil {
		return fmt.Errorf("take programs off %s: %w", name, err)
	}
	if err := p.cfg.Kernel.DeleteLink(name); err != nil {
		return fmt.Errorf("remove the device of %s: %w", a.ID, err)
	}
	p.forget(a)
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
func (p *Ports) gone(r southbound.Port) { p.removed = append(p.removed, locate(r, 0, false)...) }

// sweep removes devices and programs that belong to no attachment, such as those of an attach that a crash cut short.
func (p *Ports) sweep() {
	if p.swept {
		return
	}
	wanted := make(map[string]bool)
	for id := range p.have {
		wanted[HostDevice(id)] = true
	}
	links, err := p.cfg.Kernel.Links(DevicePrefix)
	attachedTo, err2 := p.cfg.Kernel.AttachedPorts()
	if err := errors.Join(err, err2); err != nil {
		p.cfg.Log.Error("look for devices without a port", "err", err)
		return
	}
	for _, l := range links {
		if !wanted[l.Name] {
			p.cfg.Log.Info("remove device without a port", "device", l.Name)
			if err := p.cfg.Kernel.DeleteLink(l.Name); err != nil {
				p.cfg.Log.Error("remove device", "device", l.Name, "err", err)
			}
		}
	}
	for _, name := range attachedTo {
		if !wanted[name] {
			if err := p.cfg.Kernel.DetachPort(name); err != nil {
				p.cfg.Log.Error("take programs off", "device", name, "err", err)
			}
		}
	}
	p.swept = true
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
func locate(r southbound.Port, ifindex uint32, present bool) []Local {
	var out []Local
	for _, i := range r.Interfaces {
		out = append(out, Local{VNI: r.VNI, Addr: i.Address, IfIndex: ifindex, Kind: kernel.LocationPeer, Present: present})
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
