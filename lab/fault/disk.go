// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"weft/lab/disk"
)

// readyWithin is how long a process may take until it serves again.
const readyWithin = 20 * time.Second

// filler is the file that fills a small disk.
const filler = ".full"

// diskFull fills the disk of a node's server or agent. It has a small one of its own from then on, until the lab goes: the
// first time, the process starts again on that.
func diskFull(ctx context.Context, w *work) error {
	p, err := w.program()
	if err != nil {
		return err
	}
	dir := w.l.StateDir(p.Node)
	small, err := disk.IsSmall(dir)
	if err != nil {
		return err
	}
	if err := w.save(); err != nil {
		return err
	}
	if !small {
		if err := w.l.Signal(p.Node, p.Program, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		for deadline := time.Now().Add(endWithin); p.Alive() && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		err = disk.MakeSmall(dir)
		if err := errors.Join(err, w.l.Restart(p.Node, p.Program, syscall.SIGTERM)); err != nil {
			return err
		}
	}
	if err := w.answers(ctx, p.Node, p.Program); err != nil {
		return err
	}
	return disk.Fill(filepath.Join(dir, filler))
}

// answers waits until a process that was started serves.
func (w *work) answers(ctx context.Context, node, program string) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := w.ask(ctx, node, program)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for %s of %s: %w", program, node, err)
		}
		time.Sleep(lookEvery)
	}
}

func (w *work) ask(ctx context.Context, node, program string) error {
	if program == "agent" {
		_, err := w.l.Agent(node).Status(ctx)
		return err
	}
	c, err := w.l.Client()
	if err == nil {
		_, err = c.Status(ctx)
	}
	return err
}

// freeDisk ends it. The process stays on its small disk.
func freeDisk(_ context.Context, w *work) error {
	p, err := w.program()
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(w.l.StateDir(p.Node), filler)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free the disk: %w", err)
	}
	return nil
}
