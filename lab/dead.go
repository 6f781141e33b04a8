// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"weft/internal/netns"
)

// Dead lets a node die: all its links go down and all its processes are killed, as when its power fails.
func (l *Lab) Dead(node string) error {
	if l.Topology.node(node) == nil {
		return fmt.Errorf("%w: %s", ErrTarget, node)
	}
	name := l.netNS(node)
	err := netns.Inside(name, func(ns *netns.Namespace) error {
		links, err := ns.Links()
		for _, link := range links {
			if link.Name != "lo" {
				err = errors.Join(err, ns.SetDown(link.Name))
			}
		}
		return err
	})
	pids, perr := netns.PIDs(name)
	for _, pid := range pids {
		if kerr := syscall.Kill(pid, syscall.SIGKILL); kerr != nil && !errors.Is(kerr, os.ErrProcessDone) && !errors.Is(kerr, syscall.ESRCH) {
			perr = errors.Join(perr, kerr)
		}
	}
	if err := errors.Join(err, perr); err != nil {
		return fmt.Errorf("let %s die: %w", node, err)
	}
	return nil
}

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
