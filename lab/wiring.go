// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"weft/internal/netns"
	"weft/lab/bgp"
)

// Wire is a link of the underlay; its second end is the nearer to the routers.
type Wire [2]WireEnd

// WireEnd is a node's end of a link. Its device has the name of the node at the other end.
type WireEnd struct {
	Node, Device string
	Address      netip.Prefix
}

// Wiring returns the links between the nodes.
func (l *Lab) Wiring() []Wire {
	var wires []Wire
	for _, k := range makePlan(l.Topology).links {
		wires = append(wires, Wire{
			{k.a.node.Name, k.a.peer.Name, k.a.address}, {k.b.node.Name, k.b.peer.Name, k.b.address},
		})
	}
	return wires
}

// Routes returns the static routes that Up gave a node; none, where speakers find them.
func (l *Lab) Routes(node string) []netns.Route {
	if n := makePlan(l.Topology).node(node); n != nil && (l.UnderlayOnly || l.Topology.Routing == bgp.Static) {
		return n.routes
	}
	return nil
}

// Lock makes sure that nobody else changes the lab; otherwise the error is ErrBusy.
func (l *Lab) Lock() (unlock func(), err error) { return lock(l.Dir()) }

// RunDir is where the programs of a node have their sockets.
func (l *Lab) RunDir(node string) string { return l.runDir(node) }

// StateDir is where a node's server or agent keeps its state.
func (l *Lab) StateDir(node string) string { return l.stateDir(node) }

// PinDir is where the agent of a node pins.
func (l *Lab) PinDir(node string) string { return l.pinDir(node) }

// FaultPins is where faults pin their programs. No node has such a name.
func (l *Lab) FaultPins() string { return l.pinDir("_faults") }

// FaultFile is where the faults that are in effect are written down.
func (l *Lab) FaultFile() string { return filepath.Join(l.Dir(), "faults.json") }

// Ways counts the next hops that a node has to the loopback of another.
func (l *Lab) Ways(node, to string) (ways int, err error) {
	p := makePlan(l.Topology)
	target := p.node(to)
	if target == nil || l.Topology.node(node) == nil {
		return 0, fmt.Errorf("%w: %s or %s", ErrTarget, node, to)
	}
	err = netns.Inside(l.netNS(node), func(ns *netns.Namespace) (err error) {
		ways, err = ns.Ways(host(target.loopback))
		return err
	})
	return ways, err
}
