// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"time"

	"weft/internal/southbound"
)

// Rows outlive the agent in a journal. What becomes of them at a start, while no server has been heard:
//
//	            the packet path has ports      it has none: the node was booted
//	whole       in effect at once              in effect after bootPatience
//	not whole   left: the path is ahead        in effect after bootPatience
//
// Whole rows are those that the path was given last, so they change nothing there that is as it should be.

// bootPatience is how long a node that was booted waits for a server before it goes by what it had: what the server says
// may be another thing after a long time, and comes at once if it can be reached.
const bootPatience = 2 * time.Second

// openJournal finds the rows of an earlier agent, and decides after what time they are to be in effect; nil: never.
func (a *Agent) openJournal() <-chan time.Time {
	journal, recalled, err := southbound.OpenJournal(a.cfg.StateDir)
	a.journal, a.recalled = journal, recalled.Rows
	booted, perr := a.booted()
	if perr != nil {
		a.cfg.Log.Error("look at the ports of the packet path", "err", perr)
		a.recallNothing()
		return nil
	}
	after, use := recallAfter(recalled, booted)
	if err != nil {
		a.cfg.Log.Error("the rows on disk are damaged, or not the latest", "err", err, "rows", len(recalled.Rows), "used", use)
	}
	if !use {
		a.recallNothing()
		return nil
	}
	return time.After(after)
}

func recallAfter(r southbound.Recalled, booted bool) (after time.Duration, use bool) {
	switch {
	case len(r.Rows) == 0, !r.Whole && !booted:
		return 0, false
	case booted:
		return bootPatience, true
	}
	return 0, true
}

// booted reports whether the packet path knows no port: the kernel is a new one.
func (a *Agent) booted() (bool, error) {
	if a.path.Waiting() {
		return false, nil
	}
	ports, err := a.path.Ports().All()
	return len(ports) == 0, err
}

// recall puts the rows of an earlier agent into effect, unless a server was heard meanwhile.
func (a *Agent) recall() {
	rows := a.recalled
	if rows == nil {
		return
	}
	step := southbound.Step{Snapshot: true}
	for _, r := range rows {
		step.Upserts = append(step.Upserts, r)
	}
	slices.SortFunc(step.Upserts, func(x, y southbound.Row) int { return x.Key().Compare(y.Key()) })
	a.take(step)
	a.mu.Lock()
	a.synced = true
	a.mu.Unlock()
	a.apply()
	a.recallNothing()
	a.cfg.Log.Info("rows recalled from disk", "rows", len(rows))
}

// recallNothing notes that nothing on disk is waited for.
func (a *Agent) recallNothing() {
	a.recalled = nil
	select {
	case <-a.known:
	default:
		close(a.known)
	}
}

// keep writes a step to the journal, before it is in effect.
func (a *Agent) keep(step southbound.Step) {
	if a.journal == nil {
		return
	}
	before := a.journal.Broken()
	err := a.journal.Write(step, a.rows) // the rows change on this goroutine only
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		a.cfg.Log.Error("a restart will not know these rows", "err", err)
	case err == nil && before != nil:
		a.cfg.Log.Info("rows are saved again")
	}
}

// keepAgain writes all rows where an earlier try failed.
func (a *Agent) keepAgain() {
	if a.journal == nil || a.journal.Broken() == nil {
		return
	}
	a.mu.Lock()
	step := southbound.Step{Epoch: a.epoch, Revision: a.revision, Snapshot: true}
	a.mu.Unlock()
	a.keep(step)
}

// unkept is the node's failure while its rows cannot be saved.
func (a *Agent) unkept() []southbound.Failure {
	if a.journal == nil || a.journal.Broken() == nil {
		return nil
	}
	return []southbound.Failure{{Key: southbound.NodeFailure, Message: a.journal.Broken().Error()}}
}
