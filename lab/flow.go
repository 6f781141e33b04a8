// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"

	"weft/internal/netns"
	"weft/lab/traffic"
)

// End is a node or workload as an end of traffic: with the address of the IP version that its device, or a node's loopback, has.
func (l *Lab) End(target string, ipv6 bool) (traffic.End, error) {
	name, err := l.Target(target)
	if err != nil {
		return traffic.End{}, err
	}
	device := workloadDevice
	if l.Topology.node(target) != nil {
		device = "lo"
	}
	end := traffic.End{NetNS: name}
	err = netns.Inside(name, func(ns *netns.Namespace) error {
		links, err := ns.Links()
		for _, link := range links {
			for _, a := range link.Addresses {
				if link.Name == device && a.Addr().Is6() == ipv6 && a.Addr().IsGlobalUnicast() && !end.Address.IsValid() {
					end.Address = a.Addr()
				}
			}
		}
		return err
	})
	if err == nil && !end.Address.IsValid() {
		err = fmt.Errorf("%w: %s has no address of this IP version", ErrTarget, target)
	}
	return end, err
}
