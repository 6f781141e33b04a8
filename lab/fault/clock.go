// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"weft/internal/base/clock"
	"weft/lab"
)

// clockMost bounds how far a clock is put ahead or behind.
const clockMost = 10 * 366 * 24 * time.Hour

// env is the program that gives another its environment, and becomes it.
const env = "/usr/bin/env"

// clockStep starts a server or agent again with a clock that is ahead or behind. The machine's own is never touched.
func clockStep(ctx context.Context, w *work) error {
	if w.fault.By == 0 || w.fault.By.Abs() > clockMost {
		return fmt.Errorf("%w: --by is a time ahead, or with a minus behind, for example 1h or -36h", ErrArgument)
	}
	p, err := w.program()
	if err != nil {
		return err
	}
	if err := w.save(); err != nil {
		return err
	}
	return w.startWith(ctx, p, append([]string{env, clock.Variable + "=" + w.fault.By.String()}, withoutClock(p.Args)...))
}

func clockBack(ctx context.Context, w *work) error {
	p, err := w.program()
	if err != nil {
		return err
	}
	return w.startWith(ctx, p, withoutClock(p.Args))
}

func withoutClock(args []string) []string {
	if len(args) > 2 && args[0] == env && strings.HasPrefix(args[1], clock.Variable+"=") {
		return args[2:]
	}
	return args
}

// startWith starts a program of the lab again with another command line, and waits until it serves.
func (w *work) startWith(ctx context.Context, p lab.Process, args []string) error {
	for i, q := range w.l.Processes {
		if q.Node == p.Node && q.Program == p.Program {
			w.l.Processes[i].Args = args
		}
	}
	if err := w.l.Restart(p.Node, p.Program, syscall.SIGTERM); err != nil {
		return err
	}
	return w.answers(ctx, p.Node, p.Program)
}
