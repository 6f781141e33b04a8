// SPDX-License-Identifier: Apache-2.0

package agent

import "weft/internal/southbound"

// switcher is a packet path that may have to wait until its tables are filled (kernel.Datapath).
type switcher interface {
	// Waiting reports whether programs of another build, or on tables that were lost, still run.
	Waiting() bool
	// Switch lets the programs of this build take over.
	Switch() error
}

// switchOver lets this build's programs take over once every table is filled. While one is not, those before stay, and work
// on what they had.
func (a *Agent) switchOver(unfilled error) []southbound.Failure {
	if a.upgrade == nil || !a.upgrade.Waiting() {
		return nil
	}
	err := unfilled
	if err == nil {
		err = a.upgrade.Switch()
	}
	if err == nil {
		return nil
	}
	a.cfg.Log.Error("the packet path of the build before stays", "err", err)
	return []southbound.Failure{{Key: "path", Message: "the packet path of the build before stays: " + err.Error()}}
}
