// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"path/filepath"

	"weft/internal/node/dhcp"
	"weft/internal/node/kernel"
	"weft/internal/southbound"
)

// newDHCP makes the server of the node's ports; it serves what apply gives it.
func newDHCP(a *Agent) *dhcp.Server {
	return dhcp.New(dhcp.Config{
		Router: dhcp.Router{MAC: routerMAC, MTU: overlayMTU(a.cfg)}, Open: a.openService, Log: a.cfg.Log,
	})
}

// openService opens the tap to the packet path, and first mends it: opening a tap that is not there would make one that
// goes away with the agent.
func (a *Agent) openService(ctx context.Context) (io.ReadWriteCloser, error) {
	var err error
	if derr := a.do(ctx, func() { err = a.path.Repair() }); errors.Join(derr, err) != nil {
		return nil, errors.Join(derr, err)
	}
	return kernel.OpenService()
}

// servedFile is where the rows that DHCP serves outlive the agent.
func (a *Agent) servedFile() string { return filepath.Join(a.cfg.StateDir, "dhcp.json") }

// recallServed serves what an earlier agent served, until the first step says better: workloads that start again while no
// server is reachable get their addresses. What cannot be read is as if it were not there.
func (a *Agent) recallServed() {
	rows, err := dhcp.Load(a.servedFile())
	if err != nil {
		a.cfg.Log.Warn("recall the ports that DHCP served", "err", err)
		return
	}
	entries, err := a.path.Ports().All()
	if err != nil {
		a.cfg.Log.Warn("recall the ports that DHCP served", "err", err)
		return
	}
	a.serving = stillThere(rows, entries)
	a.dhcp.SetPorts(a.serving)
}

// stillThere returns the rows of ports that the packet path has as they were.
func stillThere(rows map[uint32]southbound.Port, entries map[kernel.PortKey]kernel.Port) map[uint32]southbound.Port {
	out := make(map[uint32]southbound.Port, len(rows))
	for ifindex, row := range rows {
		entry, ok := entries[kernel.PortKey{IfIndex: ifindex}]
		var four, six netip.Addr
		for _, i := range row.Interfaces {
			if i.Address.Is4() {
				four = i.Address
			} else {
				six = i.Address
			}
		}
		if ok && entry.VNI == row.VNI && entry.Tenant == row.TenantNumber && entry.MAC == row.MAC &&
			entry.Addr4 == four && entry.Addr6 == six {
			out[ifindex] = row
		}
	}
	return out
}

// serve tells DHCP which ports there are.
func (a *Agent) serve() {
	a.serving = a.ports.InPlace()
	a.dhcp.SetPorts(a.serving)
}

// saveServed writes what DHCP serves to disk where that changed. It is called from time to time, not at each change: a
// row that is lost by a crash comes again with the server.
func (a *Agent) saveServed() {
	if maps.EqualFunc(a.serving, a.saved, func(x, y southbound.Port) bool { return x.Equal(y) }) {
		return
	}
	if err := dhcp.Save(a.servedFile(), a.serving); err != nil {
		a.cfg.Log.Error("save the ports that DHCP serves", "err", err)
		return
	}
	a.saved = a.serving
}
