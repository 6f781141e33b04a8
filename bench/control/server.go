// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	v1 "weft/api/v1"
	"weft/client"
)

// startWithin is how long a server may take until it answers.
const startWithin = 30 * time.Second

// cloud is a server with its embedded etcd, as a process of its own, with an empty store on loopback, and the nodes that were joined
// to it.
type cloud struct {
	api        *client.Client
	process    *exec.Cmd
	ended      chan struct{} // closed when the process has ended
	log        *os.File
	dir        string
	southbound string
	nodes      []*node
	probe      *probe
	stop       context.CancelFunc // of the nodes
}

// startServer starts the program as a server that keeps everything in dir.
func startServer(ctx context.Context, binary, dir string) (_ *cloud, err error) {
	api, err := freePort()
	if err != nil {
		return nil, err
	}
	nodes, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &cloud{dir: dir, southbound: nodes, ended: make(chan struct{}), probe: newProbe(), stop: func() {}}
	if s.log, err = os.Create(filepath.Join(dir, "server.log")); err != nil {
		return nil, fmt.Errorf("start a server: %w", err)
	}
	s.process = exec.Command(binary, "server", "--state-dir", dir, "--listen", api, "--southbound-listen", nodes)
	s.process.Stdout, s.process.Stderr = s.log, s.log
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it goes with the bench, however that ends
	if err := s.process.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start a server: %w", err), s.log.Close())
	}
	go func() {
		_ = s.process.Wait() // how it ended is in its log
		close(s.ended)
	}()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if s.api, err = dial(dir, api); err == nil {
			if _, err = s.api.Status(ctx); err == nil {
				return s, nil
			}
		}
		if err := s.alive(ctx); err != nil {
			return nil, err
		}
		if time.Since(start) > startWithin {
			return nil, fmt.Errorf("the server does not answer after %s: %w", startWithin, err)
		}
	}
}

// dial returns a client with the admin token that the server has made.
func dial(dir, address string) (*client.Client, error) {
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, fmt.Errorf("read the server's authority: %w", err)
	}
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		return nil, fmt.Errorf("read the admin token: %w", err)
	}
	return client.New(client.Config{Server: "https://" + address, CA: ca, Token: strings.TrimSpace(string(token))})
}

// alive returns why it makes no sense to wait any longer: ctx has ended, or the server.
func (s *cloud) alive(ctx context.Context) error {
	select {
	case <-s.ended:
		text, _ := os.ReadFile(s.log.Name()) // it is for people
		return fmt.Errorf("the server has ended: %s", lastLines(string(text)))
	case <-ctx.Done():
		return ctx.Err()
	default:
		return nil
	}
}

func lastLines(text string) string {
	const most = 2000
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return strings.TrimSpace(text)
}

// close ends the nodes and the server.
func (s *cloud) close() error {
	s.stop()
	for _, n := range s.nodes {
		<-n.ended
	}
	_ = s.process.Process.Kill() // it has ended already, or it ends now
	<-s.ended
	return s.log.Close()
}

// write applies documents.
func (s *cloud) write(ctx context.Context, docs ...v1.Object) error {
	_, err := s.api.Apply(ctx, docs, client.ApplyOptions{})
	return err
}

// usage is what a process has taken.
type usage struct {
	now, most int64         // bytes of memory: now, and at its largest
	cpu       time.Duration // processor time, of all its threads
}

// usage reads what the server has taken so far.
func (s *cloud) usage() (usage, error) { return usageOf(s.process.Process.Pid) }

func usageOf(pid int) (u usage, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("memory of the server: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64) // the kernel writes numbers there
		switch f[0] {
		case "VmRSS:":
			u.now = kib << 10
		case "VmHWM:":
			u.most = kib << 10
		}
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, fmt.Errorf("processor time of the server: %w", err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	f := strings.Fields(rest) // from field 3 of proc_pid_stat(5) on
	const tick = 10 * time.Millisecond
	for _, i := range []int{11, 12} { // utime, stime
		if i < len(f) {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			u.cpu += time.Duration(n) * tick
		}
	}
	return u, nil
}

// freePort returns an address on loopback at which nobody listens.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
