// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
)

// Restart ends the process of a node, as an upgrade does, and starts it again as it was. It does not wait until the new
// one is ready.
func (l *Lab) Restart(node string) error {
	if err := l.Signal(node, syscall.SIGTERM); err != nil {
		return err
	}
	i := l.process(node)
	p := l.Processes[i]
	found := []victim{{p.find(), p.Start}}
	waitGone(found, endWithin)
	if p.Alive() {
		return fmt.Errorf("restart %s: process %d does not end", node, p.PID)
	}
	var files []*os.File
	var env []string
	if p.Args[1] == "server" { // its socket went with it
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
	return l.start(node, files, env, p.Args[0], p.Args[1:]...)
}

// Signal sends a signal to the process of a node.
func (l *Lab) Signal(node string, sig syscall.Signal) error {
	i := l.process(node)
	if i < 0 {
		return fmt.Errorf("%w: no process runs on %s", ErrTarget, node)
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

func (l *Lab) process(node string) int {
	return slices.IndexFunc(l.Processes, func(p Process) bool { return p.Node == node })
}

// find holds on to the process of this number, which may be another one already: ask Alive after it.
func (p Process) find() *os.Process {
	process, _ := os.FindProcess(p.PID) // does not fail here
	return process
}
