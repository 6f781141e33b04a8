// SPDX-License-Identifier: Apache-2.0

package device

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Veth is a pair of devices that joins a workload to the node.
type Veth struct {
	HostName string  // the node's end
	NetNS    string  // of the workload: a path, or a name below /run/netns; "": made in the node's own, to be taken anywhere
	PeerName string  // the workload's end, as it is made
	MAC      [6]byte // of the workload's end
	MTU      int     // of the workload's end
	Alias    string  // of the node's end, for people: "weft <tenant>/<port>"
}

// HostMTU is the MTU of the node's end: a veth drops, in silence, what is longer than the MTU of the receiving end, and
// from_port is to see what is too long, count it and tell the sender.
const HostMTU = MaxMTU

// CreateVeth makes the pair, or mends the one that is there, and returns the index of the node's end. A new pair's
// node end stays down until AttachPort has put the programs there; the workload's end is up, except in the node's own
// namespace, whose stack would otherwise speak on it.
func CreateVeth(v Veth) (int, error) {
	if v.NetNS == "" {
		return v.createHere()
	}
	peerNS, err := OpenNetNS(v.NetNS)
	if err != nil {
		return 0, err
	}
	defer peerNS.Close()
	inside, err := netlink.NewHandleAt(peerNS)
	if err != nil {
		return 0, fmt.Errorf("enter namespace %s: %w", v.NetNS, err)
	}
	defer inside.Close()
	host, err := v.find(peerNS, inside)
	if err != nil {
		return 0, err
	}
	if host == nil {
		if host, err = v.create(peerNS); err != nil {
			return 0, err
		}
	}
	if err := v.mendHost(host); err != nil {
		return 0, err
	}
	return host.Attrs().Index, v.mendPeer(inside)
}

// createHere makes a pair whose ends are both here. The workload's end is its user's from then on.
func (v *Veth) createHere() (int, error) {
	host, err := ByName(v.HostName)
	if errors.Is(err, ErrNoDevice) {
		var here netns.NsHandle
		if here, err = netns.Get(); err != nil {
			return 0, fmt.Errorf("open the node's namespace: %w", err)
		}
		defer here.Close()
		host, err = v.create(here)
	}
	if err != nil {
		return 0, err
	}
	if host.Type() != "veth" {
		return 0, fmt.Errorf("%s is a %s: %w", v.HostName, host.Type(), ErrWrongDevice)
	}
	return host.Attrs().Index, v.mendHost(host)
}

// find returns the node's end if the pair is whole. Half a pair, or one that leads elsewhere, is removed.
func (v *Veth) find(peerNS netns.NsHandle, inside *netlink.Handle) (netlink.Link, error) {
	host, err := ByName(v.HostName)
	if errors.Is(err, ErrNoDevice) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if host.Type() != "veth" {
		return nil, fmt.Errorf("%s is a %s: %w", v.HostName, host.Type(), ErrWrongDevice)
	}
	id, err := netlink.GetNetNsIdByFd(int(peerNS)) // indices alone repeat from namespace to namespace
	if err != nil {
		return nil, fmt.Errorf("look for the number of namespace %s: %w", v.NetNS, err)
	}
	peer, err := inside.LinkByName(v.PeerName)
	if err == nil && peer.Type() == "veth" && host.Attrs().NetNsID == id &&
		peer.Attrs().Index == host.Attrs().ParentIndex && peer.Attrs().ParentIndex == host.Attrs().Index {
		return host, nil
	}
	if err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, fmt.Errorf("look for device %s in %s: %w", v.PeerName, v.NetNS, err)
	}
	return nil, DeleteLink(v.HostName)
}

func (v *Veth) create(peerNS netns.NsHandle) (netlink.Link, error) {
	pair := netlink.NewVeth(netlink.LinkAttrs{Name: v.HostName, MTU: HostMTU})
	pair.PeerName = v.PeerName
	pair.PeerHardwareAddr = v.MAC[:]
	pair.PeerNamespace = netlink.NsFd(int(peerNS))
	pair.PeerMTU = uint32(v.MTU)
	Wrote()
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("create %s with %s in %s: %w", v.HostName, v.PeerName, cmp.Or(v.NetNS, "the node's namespace"), err)
	}
	return ByName(v.HostName)
}

// MendVeth makes the node's end of a pair that is there what it should be, but for its being up: that is AttachPort's.
func MendVeth(v Veth) error {
	host, err := ByName(v.HostName)
	if err != nil {
		return err
	}
	if host.Type() != "veth" {
		return fmt.Errorf("%s is a %s: %w", v.HostName, host.Type(), ErrWrongDevice)
	}
	return v.mendHost(host)
}

func (v *Veth) mendHost(host netlink.Link) error {
	if err := Quiet(v.HostName); err != nil {
		return err
	}
	if err := SetMTU(host, HostMTU); err != nil {
		return err
	}
	if host.Attrs().Alias != v.Alias {
		Wrote()
		if err := netlink.LinkSetAlias(host, v.Alias); err != nil {
			return fmt.Errorf("set alias of %s: %w", v.HostName, err)
		}
	}
	return nil
}

func (v *Veth) mendPeer(inside *netlink.Handle) error {
	peer, err := inside.LinkByName(v.PeerName)
	if err != nil {
		return fmt.Errorf("look for device %s in %s: %w", v.PeerName, v.NetNS, err)
	}
	a := peer.Attrs()
	if string(a.HardwareAddr) != string(v.MAC[:]) {
		Wrote()
		if err := inside.LinkSetHardwareAddr(peer, v.MAC[:]); err != nil {
			return fmt.Errorf("set MAC of %s in %s: %w", v.PeerName, v.NetNS, err)
		}
	}
	if a.MTU != v.MTU {
		Wrote()
		if err := inside.LinkSetMTU(peer, v.MTU); err != nil {
			return fmt.Errorf("set MTU of %s in %s: %w", v.PeerName, v.NetNS, err)
		}
	}
	if a.Flags&net.FlagUp == 0 {
		Wrote()
		if err := inside.LinkSetUp(peer); err != nil {
			return fmt.Errorf("bring %s in %s up: %w", v.PeerName, v.NetNS, err)
		}
	}
	return nil
}

// OpenNetNS takes a path, or a name below /run/netns.
func OpenNetNS(name string) (netns.NsHandle, error) {
	path := name
	if !strings.Contains(name, "/") {
		path = filepath.Join("/run/netns", name)
	}
	handle, err := netns.GetFromPath(path)
	if err != nil {
		return handle, fmt.Errorf("open namespace %s: %w", path, err)
	}
	return handle, nil
}
