// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"weft/internal/netns"
	"weft/lab/bgp"
)

// asBase and the number of a node make its AS: private ones of four bytes (RFC 6996).
const asBase = 4_200_000_000

// programWithin is how long a routing program may take to be ready for the next one.
const programWithin = 5 * time.Second

// routesWithin is how long the speakers may take until everybody knows the way to everybody.
const routesWithin = 30 * time.Second

// speaks says what speaks BGP on a node: the topology's choice on routers, weft elsewhere.
func (t *Topology) speaks(n TopologyNode) bgp.Program {
	if n.Role == RoleRouter || t.Routing == bgp.Static {
		return t.Routing
	}
	return bgp.Weft
}

// speaker is a node as BGP sees it: what is nearer to the routers is its provider, and of a client the edges.
func (n *planNode) speaker() bgp.Speaker {
	s := bgp.Speaker{AS: n.as(), RouterID: netip.AddrFrom4([4]byte{198, 19, byte(n.number >> 8), byte(n.number)}), Loopback: n.loopback}
	for _, e := range n.ends {
		s.Peers = append(s.Peers, bgp.Peer{Address: peerAddress(e), AS: e.peer.as(), Device: e.peer.Name, Customer: e.above, BFD: isUplink(n, e.peer) || isUplink(e.peer, n)})
	}
	return s
}

// isUplink reports whether a link is one of an edge to the fabric: those have BFD.
func isUplink(edge, router *planNode) bool { return edge.Role == RoleEdge && router.Role == RoleRouter }

func (n *planNode) as() uint32 { return asBase + uint32(n.number) }

// startRouting starts the speakers, routers first, as they listen for the others; those of nodes with an agent it starts itself.
func (u *bringUp) startRouting(ctx context.Context, p *plan) error {
	for _, n := range p.nodes {
		state, run := u.lab.stateDir(n.Name), u.lab.runDir(n.Name)
		for _, dir := range []string{state, run} {
			if err := makeDir(dir); err != nil {
				return fmt.Errorf("start routing: %w", err)
			}
		}
		commands, err := n.speaker().Write(u.Topology.speaks(n.TopologyNode), state, run, u.Binary)
		if err != nil {
			return fmt.Errorf("start routing: %w", err)
		}
		for _, c := range commands {
			if n.joins() {
				break
			}
			if err := u.lab.start(n.Name, c.Name, nil, nil, c.Args...); err != nil {
				return err
			}
			err := u.wait(ctx, programWithin, "start "+c.Name+" on "+n.Name, func(context.Context) (string, error) {
				if _, err := os.Stat(c.Made); c.Made != "" && err != nil {
					return c.Made + " is not there", u.lab.died(n.Name)
				}
				return "", nil
			})
			if err != nil {
				return &nodeError{n.Name, c.Name, err}
			}
		}
	}
	return nil
}

// awaitRoutes waits until every node but the routers has all ways to every other one.
func (u *bringUp) awaitRoutes(ctx context.Context, p *plan) error {
	at := 0
	err := u.wait(ctx, routesWithin, "wait for routes", func(context.Context) (string, error) {
		for ; at < len(p.nodes); at++ {
			n := p.nodes[at]
			if n.Role == RoleRouter {
				continue
			}
			if err := u.lab.died(n.Name); err != nil {
				return "", &nodeError{n.Name, "", err}
			}
			missing := ""
			err := netns.Inside(u.lab.netNS(n.Name), func(ns *netns.Namespace) error {
				for _, r := range n.routes {
					have, err := ns.Ways(r.To)
					if err != nil {
						return err
					}
					if have < len(r.By) && !p.isRouter(r.To) {
						missing = fmt.Sprintf("%s has %d of %d ways to %s", n.Name, have, len(r.By), r.To)
						return nil
					}
				}
				return nil
			})
			if err != nil || missing != "" {
				return missing, err
			}
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	u.done("routes by BGP (%s), by all ways of the same length", u.Topology.Routing)
	return nil
}

func (p *plan) isRouter(loopback netip.Prefix) bool {
	for _, n := range p.nodes {
		if n.loopback == loopback.Addr() {
			return n.Role == RoleRouter
		}
	}
	return false
}
