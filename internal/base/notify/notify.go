// SPDX-License-Identifier: Apache-2.0

// Package notify tells the service manager how this process fares, as sd_notify(3) has it: ready, alive, ending. Where none
// listens, nothing is told and nothing fails.
package notify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Words of the protocol.
const (
	ready    = "READY=1"
	alive    = "WATCHDOG=1"
	stopping = "STOPPING=1"
)

// Manager is who started this process and wants to hear of it. The zero Manager is nobody.
type Manager struct {
	socket string        // datagrams go there; "": nobody listens
	every  time.Duration // the manager ends a process that is silent for longer; 0: it does not
}

// Find reads from the environment who listens, and takes it out, so that processes that are started from here do not speak for
// this one.
func Find() Manager {
	m := Manager{socket: os.Getenv("NOTIFY_SOCKET")}
	pid, usec := os.Getenv("WATCHDOG_PID"), os.Getenv("WATCHDOG_USEC")
	if n, err := strconv.ParseInt(usec, 10, 64); err == nil && n > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		m.every = time.Duration(n) * time.Microsecond
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"} {
		os.Unsetenv(name)
	}
	return m
}

// Listens reports whether there is somebody to tell.
func (m Manager) Listens() bool { return m.socket != "" }

// Ready says that the process does what it is for; status is a line for people.
func (m Manager) Ready(status string) error { return m.tell(ready, "STATUS="+oneLine(status)) }

// Stopping says that the process is about to end.
func (m Manager) Stopping() error { return m.tell(stopping) }

// Watch says that the process is alive, twice in the time after which it would be ended, as long as check returns nil in that time.
// It returns when ctx ends, or at once where nobody wants to know.
func (m Manager) Watch(ctx context.Context, check func(context.Context) error) {
	if m.every == 0 || !m.Listens() {
		return
	}
	t := time.NewTicker(m.every / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		in, cancel := context.WithTimeout(ctx, m.every)
		if check(in) == nil {
			_ = m.tell(alive) // a manager that has gone ends nobody
		}
		cancel()
	}
}

// tell sends one datagram of lines.
func (m Manager) tell(lines ...string) error {
	if !m.Listens() {
		return nil
	}
	to := m.socket
	if strings.HasPrefix(to, "@") {
		to = "\x00" + to[1:] // abstract: it has no file
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: to, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

func oneLine(s string) string { return strings.ReplaceAll(s, "\n", " ") }
