// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"syscall"
	"time"

	"weft/internal/netns"
	"weft/lab"
)

// linkCut takes down one end of a veth, which has no switch for its carrier: the other end loses its carrier by that. It is
// the end nearer to the routers, as a node keeps its addresses and routes when its cable is pulled.
func linkCut(_ context.Context, w *work) error {
	if _, err := w.wire(); err != nil {
		return err
	}
	for _, k := range w.l.Wiring() {
		if is(k, w.fault.Where) {
			return w.takeDown(k[1])
		}
	}
	return nil
}

func is(k lab.Wire, where string) bool {
	return where == k[0].Node+":"+k[0].Device || where == k[1].Node+":"+k[1].Device
}

// takeDown takes ends of links down and writes down which.
func (w *work) takeDown(ends ...lab.WireEnd) error {
	for _, e := range ends {
		if w.isDown(e) {
			continue // by another fault, which puts it back, too
		}
		w.fault.Down = append(w.fault.Down, End{e.Node, e.Device})
	}
	if err := w.save(); err != nil {
		return err
	}
	for _, e := range w.fault.Down {
		err := netns.Inside(w.netNS(e.Node), func(ns *netns.Namespace) error { return ns.SetDown(e.Device) })
		if err != nil {
			return err
		}
	}
	return nil
}

// isDown says whether an end is down by another fault.
func (w *work) isDown(e lab.WireEnd) bool {
	return slices.ContainsFunc(w.others, func(f Fault) bool { return slices.Contains(f.Down, End{e.Node, e.Device}) })
}

// mendLinks puts back what the fault took down, and what went with it: addresses, and the static routes of both nodes.
func mendLinks(_ context.Context, w *work) error {
	wires := w.l.Wiring()
	var nodes []string
	for _, k := range wires {
		for _, e := range k {
			if !slices.Contains(w.fault.Down, End{e.Node, e.Device}) {
				continue
			}
			err := netns.Inside(w.netNS(e.Node), func(ns *netns.Namespace) error {
				return errors.Join(ns.SetUp(e.Device), ns.AddAddress(e.Device, e.Address))
			})
			if err != nil {
				return err
			}
			nodes = append(nodes, k[0].Node, k[1].Node)
		}
	}
	slices.Sort(nodes)
	for _, node := range slices.Compact(nodes) {
		if err := w.putRoutes(node, wires); err != nil {
			return err
		}
	}
	return nil
}

// routesWithin is how long the kernel may take to see that a link is up.
const routesWithin = 3 * time.Second

// putRoutes gives a node the routes of the lab again, by the links that are not cut.
func (w *work) putRoutes(node string, wires []lab.Wire) error {
	cut := make(map[string]bool) // by device of the node
	for _, k := range wires {
		for i, e := range k {
			cut[e.Device] = cut[e.Device] || e.Node == node && (w.isDown(e) || w.isDown(k[1-i]))
		}
	}
	return netns.Inside(w.netNS(node), func(ns *netns.Namespace) error {
		for _, r := range w.l.Routes(node) {
			r.By = slices.DeleteFunc(slices.Clone(r.By), func(h netns.NextHop) bool { return cut[h.Device] })
			if len(r.By) == 0 {
				continue
			}
			err := ns.AddRoute(r)
			for deadline := time.Now().Add(routesWithin); early(err) && time.Now().Before(deadline); err = ns.AddRoute(r) {
				time.Sleep(5 * time.Millisecond)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// early says whether the kernel refuses a route because it has not seen yet that the link is up.
func early(err error) bool {
	return errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETDOWN) || errors.Is(err, syscall.ENETUNREACH)
}

// hashSeed decides how the kernel spreads flows over equal ways; 0 is chosen at boot.
const hashSeed = "net/ipv4/fib_multipath_hash_seed"

func rehash(_ context.Context, w *work) error {
	if w.fault.Seed == 0 {
		w.fault.Seed = uint64(time.Now().UnixNano())&0xffff_ffff | 1
	}
	if w.fault.Seed > 0xffff_ffff {
		return fmt.Errorf("%w: a seed of flows has 32 bits", ErrArgument)
	}
	if err := w.save(); err != nil {
		return err
	}
	return w.setSeed(w.fault.Seed)
}

func unhash(_ context.Context, w *work) error { return w.setSeed(0) }

func (w *work) setSeed(seed uint64) error {
	nodes := []string{w.fault.Where}
	if w.fault.Where == "all" {
		nodes = w.nodes()
	}
	for _, node := range nodes {
		if err := w.node(node); err != nil {
			return err
		}
		err := netns.Inside(w.netNS(node), func(ns *netns.Namespace) error {
			return ns.SetSysctl(hashSeed, strconv.FormatUint(seed, 10))
		})
		if err != nil {
			return err
		}
	}
	return nil
}
