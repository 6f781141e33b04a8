// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"io"

	"weft/internal/node/dhcp"
	"weft/internal/node/kernel"
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

// serve tells DHCP which ports there are.
func (a *Agent) serve() {
	a.dhcp.SetPorts(a.ports.InPlace())
}
