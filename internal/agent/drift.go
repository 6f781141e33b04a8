// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"math/rand/v2"
	"time"

	"weft/internal/node/kernel/device"
	"weft/internal/southbound"
)

// Drift is what somebody else has changed in the kernel, by hand or by another program. A change of a device is told by
// the kernel and mended at once; all else is found by a scan.

// scanAfter is the time between two scans, give or take a quarter, so that nodes do not scan together.
func (a *Agent) scanAfter() time.Duration {
	return a.cfg.ScanEvery*3/4 + rand.N(a.cfg.ScanEvery/2)
}

// rescan finds and mends drift.
func (a *Agent) rescan() {
	a.mend("scan", func() {
		if err := a.path.Repair(); err != nil {
			a.cfg.Log.Error("mend the packet path", "err", err)
		}
		if a.isSynced() {
			a.ports.Rescan()
			a.overlay.Rescan()
			a.routing.Rescan()
			a.settle()
		}
	})
}

// linkChanged looks at once at the ports whose devices came, went or changed, and at the devices of the packet path.
func (a *Agent) linkChanged(e device.Event) {
	a.mend("device "+e.Name, func() {
		if device.Own(e.Name) {
			if err := a.path.Repair(); err != nil {
				a.cfg.Log.Error("mend the packet path", "device", e.Name, "err", err)
			}
		}
		if a.ports.LinkChanged(e) {
			a.settle()
		}
	})
}

// mend counts what f writes.
func (a *Agent) mend(found string, f func()) {
	before := a.path.Writes()
	f()
	n := a.path.Writes() - before
	if n == 0 {
		return
	}
	a.mu.Lock()
	a.mended += n
	a.mu.Unlock()
	a.cfg.Log.Warn("mended what was changed from outside", "found", found, "writes", n)
}

// drifted is told of single entries.
func (a *Agent) drifted(what string) {
	a.cfg.Log.Warn("entry of the packet path mended", "entry", what)
}

// refused is the node's failure while the kernel does not take this build's programs.
func (a *Agent) refused() []southbound.Failure {
	if a.path == nil || a.path.Trouble() == nil {
		return nil
	}
	return []southbound.Failure{{Key: southbound.NodeFailure, Message: "the programs of this build cannot be loaded, and those before go on: " + a.path.Trouble().Error()}}
}
