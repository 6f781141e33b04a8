// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"weft/internal/netns"
)

// start runs a program on a node, in a session of its own so that it outlives this process, and writes it down.
// Descriptors in files become 3 and up.
func (l *Lab) start(node, program string, files []*os.File, env []string, command ...string) error {
	path := l.logFile(node, program)
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s on %s: %w", program, node, err)
	}
	defer log.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = "/", log, log, files
	cmd.Env = append(l.environment(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := netns.Start(cmd, l.netNS(node)); err != nil {
		return fmt.Errorf("start %s on %s: %w", program, node, err)
	}
	go func() { _ = cmd.Wait() }() // takes it from the list of processes, if it ends while this one lives
	l.Processes = append(l.Processes, Process{
		Node: node, Program: program, PID: cmd.Process.Pid, Start: startTime(cmd.Process.Pid), Args: command, Log: path,
	})
	return l.save()
}

// environment is this process's own, with the lab's name and without what was meant for this process alone.
func (l *Lab) environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, labVariable+"=")
	})
	return append(env, labVariable+"="+l.Name)
}

// Alive says whether the process still runs.
func (p Process) Alive() bool { return p.Start != 0 && startTime(p.PID) == p.Start }

// startTime returns field 22 of /proc/PID/stat, or 0 if there is no such process or only its remains.
func startTime(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	name := bytes.LastIndexByte(data, ')')          // it may hold anything, parentheses too
	fields := strings.Fields(string(data[name+1:])) // from field 3
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return start
}

// victim is a process to end, told apart from a later one of the same number.
type victim struct {
	process *os.Process // holds on to the very process
	start   uint64
}

// victims finds the lab's processes: those written down, those in its namespaces, those that have its name in their
// environment; never this process or one that it descends from.
func (l *Lab) victims() ([]victim, error) {
	pids := make(map[int]bool)
	for _, p := range l.Processes {
		if p.Alive() {
			pids[p.PID] = true
		}
	}
	namespaces, err := l.allNamespaces()
	if err != nil {
		return nil, err
	}
	for _, ns := range namespaces {
		if !netns.Exists(ns) {
			continue
		}
		in, err := netns.PIDs(ns)
		if err != nil {
			return nil, err
		}
		for _, pid := range in {
			pids[pid] = true
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	mark := []byte("\x00" + labVariable + "=" + l.Name + "\x00")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		env, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		if err == nil && bytes.Contains(append([]byte{0}, env...), mark) {
			pids[pid] = true
		}
	}
	for pid := os.Getpid(); pid > 0; pid = parent(pid) {
		delete(pids, pid)
	}
	var found []victim
	for pid := range pids {
		p, err := os.FindProcess(pid)
		if start := startTime(pid); err == nil && start != 0 {
			found = append(found, victim{p, start})
		}
	}
	return found, nil
}

func parent(pid int) int {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "\nPPid:")
	line, _, _ := strings.Cut(rest, "\n")
	p, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return p
}

// How long processes may take to end when asked, and when killed.
const (
	endWithin  = 3 * time.Second
	killWithin = 5 * time.Second
)

// endProcesses asks the lab's processes to end, kills what does not, and returns how many there were.
func (l *Lab) endProcesses() (int, error) {
	count := 0
	for round, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		found, err := l.victims()
		if err != nil {
			return count, err
		}
		if round == 0 {
			count = len(found)
		}
		for _, v := range found {
			if err := v.process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return count, fmt.Errorf("end process %d: %w", v.process.Pid, err)
			}
			if round == 0 { // a stopped one cannot hear
				_ = v.process.Signal(syscall.SIGCONT)
			}
		}
		within := endWithin
		if sig == syscall.SIGKILL {
			within = killWithin
		}
		waitGone(found, within)
	}
	left, err := l.victims()
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d processes of lab %s do not end, the first is %d", len(left), l.Name, left[0].process.Pid)
	}
	return count, err
}

func waitGone(found []victim, within time.Duration) {
	deadline := time.Now().Add(within)
	for _, v := range found {
		for startTime(v.process.Pid) == v.start && time.Now().Before(deadline) {
			time.Sleep(5 * time.Millisecond)
		}
		_ = v.process.Release()
	}
}
