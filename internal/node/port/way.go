// SPDX-License-Identifier: Apache-2.0

package port

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"

	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/southbound"
)

// Way is how a workload is joined to its port.
type Way string

// The ways. The first two are pairs of devices that the agent makes and removes; their end at the node is the port's.
const (
	WayNetNS  Way = "netns"  // a pair; the workload's end is in a namespace of its own
	WayVeth   Way = "veth"   // a pair; the workload's end begins in the node's namespace and may be taken anywhere
	WayTap    Way = "tap"    // a tap, made by the agent if it is not there
	WayDevice Way = "device" // any device that is there
)

// pairPrefix begins the names of the node's ends of pairs; pairDigits hexadecimal digits follow.
const (
	pairPrefix = "wp"
	pairDigits = 12
)

// pairDevice returns the name of the node's end of a port's pair: at most 15 bytes, the same at every attach.
func pairDevice(id ID) string {
	h := fnv.New64a()
	h.Write([]byte(id.String()))
	return fmt.Sprintf("%s%0*x", pairPrefix, pairDigits, h.Sum64()&0xffffffffffff)
}

// isPair reports whether a device's name is one that pairDevice makes.
func isPair(name string) bool {
	digits, ok := strings.CutPrefix(name, pairPrefix)
	return ok && len(digits) == pairDigits && strings.Trim(digits, "0123456789abcdef") == ""
}

// alias is what the devices bear that the agent makes, for people and for itself.
func alias(id ID) string { return "weft " + id.String() }

// made reports whether a device is one of the agent's own.
func made(l device.Link) bool {
	return isPair(l.Name) || l.Tap && strings.HasPrefix(l.Alias, "weft ") && strings.Contains(l.Alias, "/")
}

// HostDevice returns the name of the port's device in the node's namespace.
func (a *Attachment) HostDevice() string {
	if a.taken() {
		return a.Device
	}
	return pairDevice(a.ID)
}

// taken reports whether the port's device is not the agent's by its name.
func (a *Attachment) taken() bool { return a.Way == WayTap || a.Way == WayDevice }

// admit refuses an attachment whose device cannot be the port's. It notes whether a tap is to be made.
func (p *Ports) admit(a *Attachment, old *attached) error {
	for id, b := range p.have {
		if id == a.ID {
			continue
		}
		if b.HostDevice() == a.HostDevice() || b.Way == WayVeth && a.Way != WayNetNS && b.Device == a.Device {
			return &device.Refusal{Device: a.HostDevice(), Why: "is the device of " + id.String(), Fix: "detach that one first, or name another device"}
		}
	}
	if a.Way == WayNetNS {
		return nil
	}
	if isPair(a.Device) || device.Own(a.Device) {
		return &device.Refusal{Device: a.Device, Why: "is weft's own, or would pass for it", Fix: "name another device"}
	}
	link, ok, err := p.cfg.Kernel.FindLink(a.Device)
	switch {
	case err != nil:
		return err
	case a.Way == WayTap && !ok:
		a.Made = true
		return nil
	case a.Way != WayVeth:
		if old != nil && a.Before != nil && a.Before.Index == link.Index {
			return nil // the port has it
		}
		return p.check(a)
	case ok && (old == nil || old.Way != WayVeth || old.Device != a.Device):
		return &device.Refusal{Device: a.Device, Why: "is there already", Fix: "attach that device itself with --device " + a.Device + ", or give the pair another name"}
	}
	return nil
}

// check refuses a device that must not become a port's.
func (p *Ports) check(a *Attachment) error {
	return p.cfg.Kernel.CheckDevice(device.Candidate{
		Name: a.Device, Tap: a.Way == WayTap, MultiQueue: a.MultiQueue, Owner: a.Owner, Tunnel: p.cfg.Tunnel, Force: a.Force,
	})
}

// device finds the port's device or makes it. It is down, or the programs run at it.
func (p *Ports) device(a *attached, row southbound.Port) (device.Link, error) {
	name := a.HostDevice()
	link, ok, err := p.cfg.Kernel.FindLink(name)
	if err != nil {
		return link, err
	}
	if !ok || a.ifindex != uint32(link.Index) {
		if err := p.lost(a); err != nil {
			return link, err
		}
	}
	if !ok {
		if err := p.create(a, row); err != nil {
			return link, err
		}
		if link, ok, err = p.cfg.Kernel.FindLink(name); err != nil || !ok {
			return link, errors.Join(err, fmt.Errorf("device %s of %s went as it was made", name, a.ID))
		}
		if !a.taken() {
			return link, p.cfg.Kernel.HoldDevice(link.Index, name)
		}
	}
	if a.taken() {
		return link, p.take(a, link)
	}
	if err := p.cfg.Kernel.HoldDevice(link.Index, name); err != nil {
		return link, err
	}
	return link, p.mend(a, row)
}

// mend makes a pair that is there what it should be. The workload's end is its own affair, unless the agent configures it;
// where that end cannot be found any more, the workload has changed it, and its port goes on.
func (p *Ports) mend(a *attached, row southbound.Port) error {
	if err := p.cfg.Kernel.MendVeth(p.veth(a, row)); err != nil {
		return err
	}
	if err := p.configure(a, row); err != nil {
		p.cfg.Log.Warn("look at a workload's end", "port", a.ID.String(), "err", err)
	}
	return nil
}

func (p *Ports) veth(a *attached, row southbound.Port) device.Veth {
	return device.Veth{
		HostName: a.HostDevice(), NetNS: a.NetNS, PeerName: a.Device, MAC: row.MAC, MTU: p.cfg.MTU, Alias: alias(a.ID),
	}
}

// lost forgets a device that is gone, wherever it went: nothing of ours runs at it any more. One that only has another name
// now, and one that has come in its place, are brought down first.
func (p *Ports) lost(a *attached) error {
	if a.ifindex == 0 {
		return nil
	}
	p.cfg.Log.Info("the device of a port is gone", "port", a.ID.String(), "device", a.HostDevice())
	links, err := p.cfg.Kernel.Links("")
	if err != nil {
		return err
	}
	for _, l := range links {
		if uint32(l.Index) == a.ifindex {
			if err := p.cfg.Kernel.SetDown(l.Name); err != nil {
				return err
			}
		}
	}
	p.forget(a)
	if err := p.cfg.Kernel.DetachPort(a.HostDevice()); err != nil {
		return fmt.Errorf("take programs off %s: %w", a.HostDevice(), err)
	}
	return nil
}

// create makes the device where that is the agent's to do.
func (p *Ports) create(a *attached, row southbound.Port) error {
	var err error
	switch {
	case a.Way == WayTap && a.Made:
		_, err = p.cfg.Kernel.CreateTap(device.Tap{
			Name: a.Device, MTU: p.cfg.MTU, Alias: alias(a.ID), MultiQueue: a.MultiQueue, Owner: a.Owner,
		})
	case a.taken():
		return fmt.Errorf("%s, the device of %s, is not there: %w", a.Device, a.ID, device.ErrNoDevice)
	default:
		_, err = p.cfg.Kernel.CreateVeth(p.veth(a, row))
	}
	if err != nil {
		return fmt.Errorf("make the device of %s: %w", a.ID, err)
	}
	if err := p.configure(a, row); err != nil {
		return errors.Join(err, p.cfg.Kernel.DeleteLink(a.HostDevice())) // so that the next try configures again
	}
	return nil
}

// configure gives a new device its address where that was asked for.
func (p *Ports) configure(a *attached, row southbound.Port) error {
	if !a.Static || a.Way != WayNetNS {
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

// take makes a device that was there ready. How it was before is on disk before anything but its being up is changed.
func (p *Ports) take(a *attached, link device.Link) error {
	if a.Before == nil || a.Before.Index != link.Index {
		if a.Way == WayDevice || !made(link) {
			if err := p.check(&a.Attachment); err != nil {
				return err
			}
		}
		if err := p.cfg.Kernel.HoldDevice(link.Index, a.Device); err != nil {
			return err
		}
		before, err := p.cfg.Kernel.InspectDevice(a.Device)
		if err != nil {
			return err
		}
		a.Before = &before
		if err := p.save(); err != nil {
			return err
		}
	}
	return p.cfg.Kernel.TakeDevice(a.Device, p.cfg.MTU)
}

// takeDown takes the port's device away; it goes down first, so no packet passes it without programs. One that the agent
// did not make is given back.
func (p *Ports) takeDown(a *attached) error {
	name := a.HostDevice()
	if a.taken() && a.Before == nil {
		return nil // it was never touched
	}
	if err := p.cfg.Kernel.DetachPort(name); err != nil {
		return fmt.Errorf("take programs off %s: %w", name, err)
	}
	link, ok, err := p.cfg.Kernel.FindLink(name)
	switch {
	case err != nil || !ok:
	case made(link):
		err = p.cfg.Kernel.DeleteLink(name)
	case a.taken():
		err = p.cfg.Kernel.ReturnDevice(name, *a.Before)
	}
	if err != nil {
		return fmt.Errorf("remove the device of %s: %w", a.ID, err)
	}
	p.forget(a)
	return nil
}

// sweep removes devices and programs that belong to no attachment, such as those of an attach that a crash cut short.
func (p *Ports) sweep() {
	if p.swept {
		return
	}
	wanted := make(map[string]bool)
	for _, a := range p.have {
		wanted[a.HostDevice()] = true
	}
	links, err := p.cfg.Kernel.Links("")
	attachedTo, err2 := p.cfg.Kernel.AttachedPorts()
	if err := errors.Join(err, err2); err != nil {
		p.cfg.Log.Error("look for devices without a port", "err", err)
		return
	}
	for _, l := range links {
		if !wanted[l.Name] && made(l) {
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

// kindOf says how packets reach the workload behind a device: straight into its namespace, or out through the device.
func kindOf(l device.Link) kernel.LocationKind {
	if l.Elsewhere {
		return kernel.LocationPeer
	}
	return kernel.LocationDevice
}
