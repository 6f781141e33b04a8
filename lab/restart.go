// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
)

// Restart ends a program of a node with SIGTERM, as an upgrade does, or with SIGKILL, and starts it again as it was, also one that
// is dead already. It does not wait until the new one is ready. No program is the node's server or agent.
func (l *Lab) Restart(node, program string, sig syscall.Signal) error {
	if err := l.Signal(node, program, sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	i := l.process(node, program)
	p := l.Processes[i]
	found := []victim{{p.find(), p.Start}}
	waitGone(found, endWithin)
	if p.Alive() {
		return fmt.Errorf("restart %s: process %d does not end", node, p.PID)
	}
	var files []*os.File
	var env []string
	if p.Program == "server" { // its socket went with it
		s, err := net.Listen("tcp", l.API)
		if err != nil {
			return fmt.Errorf("restart %s: %w", node, err)
		}
		f, err := s.(*net.TCPListener).File()
		if err := errors.Join(err, s.Close()); err != nil {
			return fmt.Errorf("restart %s: %w", node, err)
		}
		defer f.Close()
		files, env = []*os.File{f}, []string{"LISTEN_FDS=1"}
	}
	l.Processes = slices.Delete(l.Processes, i, i+1)
	return l.start(node, p.Program, files, env, p.Args...)
}

// Signal sends a signal to a program of a node.
func (l *Lab) Signal(node, program string, sig syscall.Signal) error {
	i := l.process(node, program)
	if i < 0 {
		return fmt.Errorf("%w: no %s runs on %s", ErrTarget, cmp.Or(program, "server or agent"), node)
	}
	process := l.Processes[i].find()
	defer func() { _ = process.Release() }()
	if !l.Processes[i].Alive() {
		return fmt.Errorf("signal %s: %w", node, os.ErrProcessDone)
	}
	if err := process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s: %w", node, err)
	}
	return nil
}

func (l *Lab) process(node, program string) int {
	return slices.IndexFunc(l.Processes, func(p Process) bool {
		return p.Node == node && (p.Program == program || program == "" && (p.Program == "server" || p.Program == "agent"))
	})
}

// find holds on to the process of this number, which may be another one already: ask Alive after it.
func (p Process) find() *os.Process {
	process, _ := os.FindProcess(p.PID) // does not fail here
	return process
}
