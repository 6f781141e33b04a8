// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"weft/internal/netns"
	"weft/lab"
)

const (
	endWithin    = 5 * time.Second       // for a killed process to be gone
	attachWithin = 20 * time.Second      // for the workloads of a node that boots
	lookEvery    = 20 * time.Millisecond // while waiting
)

func kill(_ context.Context, w *work) error {
	p, err := w.program()
	if err != nil {
		return err
	}
	if err := w.save(); err != nil {
		return err
	}
	if err := w.l.Signal(p.Node, p.Program, syscall.SIGKILL); err != nil {
		return err
	}
	for deadline := time.Now().Add(endWithin); p.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not die", p.PID)
		}
	}
	return nil
}

func startAgain(_ context.Context, w *work) error {
	p, err := w.program()
	if err != nil || p.PID == 0 || p.Alive() { // somebody else started it, or did already
		return err
	}
	return w.l.Restart(p.Node, p.Program, syscall.SIGTERM)
}

func pause(_ context.Context, w *work) error {
	p, err := w.program()
	if err != nil {
		return err
	}
	if err := w.save(); err != nil {
		return err
	}
	return w.l.Signal(p.Node, p.Program, syscall.SIGSTOP)
}

func resume(_ context.Context, w *work) error {
	p, err := w.program()
	if err != nil {
		return err
	}
	err = w.l.Signal(p.Node, p.Program, syscall.SIGCONT)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// nodeDead is a machine without power: its links go first, so that no farewell of its processes leaves it; then all that
// lives in memory.
func nodeDead(_ context.Context, w *work) error {
	node := w.fault.Where
	if err := w.node(node); err != nil {
		return err
	}
	for _, f := range w.others {
		if slices.ContainsFunc(f.Relays, func(r Relay) bool { return r.Node == node }) {
			return fmt.Errorf("%w: heal '%s' first: its relay would die, too", ErrArgument, f)
		}
	}
	var own []lab.WireEnd
	devices := []string{"lo"}
	for _, k := range w.l.Wiring() {
		for _, e := range k {
			if e.Node == node {
				own, devices = append(own, e), append(devices, e.Device)
			}
		}
	}
	if err := w.takeDown(own...); err != nil {
		return err
	}
	if err := w.killedAll(); err != nil {
		return err
	}
	err := netns.Inside(w.netNS(node), func(ns *netns.Namespace) error {
		links, err := ns.Links()
		for _, link := range links {
			if !slices.Contains(devices, link.Name) {
				err = errors.Join(err, ns.Delete(link.Name))
			}
		}
		return err
	})
	return errors.Join(err, w.emptyMemory())
}

// emptyMemory removes what a machine that goes down does not keep: sockets, and pins.
func (w *work) emptyMemory() error {
	sockets, err := filepath.Glob(filepath.Join(w.l.RunDir(w.fault.Where), "*.*"))
	pins, perr := filepath.Glob(filepath.Join(w.l.PinDir(w.fault.Where), "*"))
	err = errors.Join(err, perr)
	for _, path := range append(sockets, pins...) {
		err = errors.Join(err, os.RemoveAll(path))
	}
	return err
}

// killedAll kills all that runs on the fault's node, also what its agent started, and waits until it is gone.
func (w *work) killedAll() error {
	for deadline := time.Now().Add(endWithin); ; time.Sleep(time.Millisecond) {
		pids, err := netns.PIDs(w.netNS(w.fault.Where))
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d of %s does not die", pids[0], w.fault.Where)
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill process %d of %s: %w", pid, w.fault.Where, err)
			}
		}
	}
}

// processes lists what runs, or is to run, on the fault's node.
func (w *work) processes() []lab.Process {
	return slices.DeleteFunc(slices.Clone(w.l.Processes), func(p lab.Process) bool { return p.Node != w.fault.Where })
}

// nodeBoots is the same machine with power: links, programs, and then the workloads, as their own runtime would do it.
func nodeBoots(ctx context.Context, w *work) error {
	if err := mendLinks(ctx, w); err != nil {
		return err
	}
	for _, p := range w.processes() {
		if !p.Alive() {
			if err := w.l.Restart(p.Node, p.Program, syscall.SIGTERM); err != nil {
				return err
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, attachWithin)
	defer cancel()
	for _, workload := range w.l.Workloads {
		if workload.Node != w.fault.Where {
			continue
		}
		for {
			err := w.l.Attach(ctx, workload.Port, workload.Node)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return err
			}
			time.Sleep(lookEvery)
		}
	}
	return nil
}

func reboot(ctx context.Context, w *work) error {
	if err := nodeDead(ctx, w); err != nil {
		return err
	}
	return nodeBoots(ctx, w)
}
