// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"os/exec"

	"weft/internal/netns"
)

// Start starts cmd on a node or in a workload.
func (l *Lab) Start(cmd *exec.Cmd, target string) error {
	ns, err := l.Target(target)
	if err != nil {
		return err
	}
	if cmd.Env == nil {
		cmd.Env = l.environment()
	}
	if err := netns.Start(cmd, ns); err != nil {
		return fmt.Errorf("start %s on %s: %w", cmd.Args[0], target, err)
	}
	return nil
}

// Exec replaces this process by a command on a node or in a workload, so that terminal, signals and exit code are the
// command's own. It returns only if it could not.
func (l *Lab) Exec(target string, args []string) error {
	ns, err := l.Target(target)
	if err != nil {
		return err
	}
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("run on %s: %w", target, err)
	}
	return netns.Exec(ns, path, args, l.environment())
}
