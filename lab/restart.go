// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"

	"weft/internal/netns"
)

// Restart ends a program of a node with SIGTERM, as an upgrade does, or with SIGKILL, and starts it again as it was, also one that
// is dead already. It does not wait until the new one is ready. No program is the node's server or agent. A speaker that an agent
// looks after is started by that one.
func (l *Lab) Restart(node, program string, sig syscall.Signal) error {
	if err := l.Signal(node, program, sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	i := l.process(node, program)
	if i < 0 {
		return nil // whoever started it does so again
	}
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

// Run starts one more program on a node, which goes with the lab at the latest.
func (l *Lab) Run(node, program string, command ...string) error {
	return l.start(node, program, nil, nil, command...)
}

// Kill ends a program of a node for good; one that has ended is fine.
func (l *Lab) Kill(node, program string) error {
	if err := l.Signal(node, program, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, ErrTarget) {
		return err
	}
	l.Processes = slices.DeleteFunc(l.Processes, func(p Process) bool { return p.Node == node && p.Program == program })
	return l.save()
}

// Signal sends a signal to a program of a node.
func (l *Lab) Signal(node, program string, sig syscall.Signal) error {
	i := l.process(node, program)
	if i < 0 {
		return l.signalOther(node, program, sig)
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

// signalOther sends a signal to a program of a node that the lab did not start: an agent's speaker.
func (l *Lab) signalOther(node, program string, sig syscall.Signal) error {
	if program != "" && l.Topology.node(node) != nil {
		pids, err := netns.PIDs(l.netNS(node))
		if err != nil {
			return err
		}
		for _, pid := range pids {
			command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if args := strings.Split(string(command), "\x00"); err == nil && len(args) > 1 && args[1] == program {
				return syscall.Kill(pid, sig)
			}
		}
	}
	return fmt.Errorf("%w: no %s runs on %s", ErrTarget, cmp.Or(program, "server or agent"), node)
}

// Adopt writes a program of a node down that somebody else started there, so that it can be restarted; Forget undoes it.
func (l *Lab) Adopt(node, program string, pid int, command ...string) error {
	l.Processes = append(l.Processes, Process{Node: node, Program: program, PID: pid, Start: startTime(pid), Args: command, Log: l.logFile(node, program)})
	return l.save()
}

// Forget strikes a node's program out.
func (l *Lab) Forget(node, program string) error {
	l.Processes = slices.DeleteFunc(l.Processes, func(p Process) bool { return p.Node == node && p.Program == program })
	return l.save()
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
