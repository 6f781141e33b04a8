// SPDX-License-Identifier: Apache-2.0

// Package clients holds tests that let the DHCP clients of others, and the kernel's own handling of router advertisements,
// configure workloads through the real packet path.
package clients

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/internal/netns"
	"weft/internal/node/dhcp"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/southbound"
)

const overlayMTU = 1450

var routerMAC = southbound.MAC{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}

// world is a node with a packet path and a DHCP server, as an agent has them.
type world struct {
	ns     string
	server *dhcp.Server

	mu   sync.Mutex // guards path, which belongs to one goroutine
	path *kernel.Datapath

	ports map[uint32]southbound.Port
}

// workload is a namespace behind a port.
type workload struct {
	ns      string
	dir     string // holds its own /etc
	up      time.Time
	ifindex uint32
}

func newWorld(t *testing.T) *world {
	t.Helper()
	privtest.Require(t)
	t.Parallel() // each has a node of its own, and most of the time is waiting
	w := &world{ns: namespace(t, "node"), ports: map[uint32]southbound.Port{}}
	pins := filepath.Join("/sys/fs/bpf/weft-test", fmt.Sprintf("dhcp-%d-%s", os.Getpid(), t.Name()))
	w.do(t, func() (err error) {
		w.path, err = kernel.Open(kernel.Config{
			PinDir: pins, Tunnel: netip.MustParseAddr("198.19.0.1"), RouterMAC: routerMAC, UnderlayMTU: 1500,
		})
		return err
	})
	t.Cleanup(func() {
		w.path.Close()
		w.do(t, func() error { return kernel.Cleanup(pins) })
	})
	w.server = dhcp.New(dhcp.Config{
		Router: dhcp.Router{MAC: routerMAC, MTU: overlayMTU}, Log: slog.New(slog.DiscardHandler),
		Open: func(context.Context) (tap io.ReadWriteCloser, err error) {
			return tap, netns.Do(w.ns, func() (err error) {
				w.mu.Lock()
				defer w.mu.Unlock()
				if err := w.path.Repair(); err != nil {
					return err
				}
				tap, err = kernel.OpenService()
				return err
			})
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.server.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if t.Failed() {
			t.Logf("counters:\n%s", strings.Join(w.server.Dump(), "\n"))
		}
	})
	return w
}

// namespace makes one that ends, with all that runs in it, with the test.
func namespace(t *testing.T, name string) string {
	t.Helper()
	ns := fmt.Sprintf("wdhcp%d-%s-%s", os.Getpid(), t.Name(), name)
	if err := netns.Create(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pids, err := netns.PIDs(ns)
		for _, pid := range pids {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if derr := netns.Delete(ns); err != nil || derr != nil {
			t.Errorf("clean up %s: %v, %v", ns, err, derr)
		}
	})
	return ns
}

// do runs f in the node's namespace.
func (w *world) do(t *testing.T, f func() error) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := netns.Do(w.ns, f); err != nil {
		t.Fatal(err)
	}
}

// attach gives a port a workload: entry, device, programs, and the row for the server.
func (w *world) attach(t *testing.T, row southbound.Port) *workload {
	t.Helper()
	name := row.Tenant + "-" + row.Name
	l := &workload{ns: namespace(t, name), dir: t.TempDir()}
	if out, err := exec.Command("cp", "-a", "/etc", l.dir+"/etc").CombinedOutput(); err != nil {
		t.Fatalf("copy /etc: %v: %s", err, out)
	}
	host := fmt.Sprintf("wp%d-%d", os.Getpid()%100000, len(w.ports))
	w.do(t, func() error {
		index, err := device.CreateVeth(device.Veth{
			HostName: host, NetNS: netns.Path(l.ns), PeerName: "eth0", MAC: row.MAC, MTU: 1500, Alias: "weft " + name,
		})
		l.ifindex = uint32(index)
		return err
	})
	w.give(t, l, row)
	w.do(t, func() error { return w.path.AttachPort(int(l.ifindex), host) })
	l.up = time.Now()
	w.server.SetPorts(w.ports) // after the device, as the agent does
	return l
}

// give makes a row the one of the workload's port, as when rows change.
func (w *world) give(t *testing.T, l *workload, row southbound.Port) {
	t.Helper()
	entry := kernel.Port{VNI: row.VNI, Tenant: row.TenantNumber, Subnet: row.Subnet, MTU: overlayMTU, MAC: row.MAC}
	for _, i := range row.Interfaces {
		if i.Address.Is4() {
			entry.Addr4, entry.Router4 = i.Address, i.Gateway
		} else {
			entry.Addr6, entry.Router6 = i.Address, i.Gateway
		}
		router := kernel.Location{Kind: kernel.LocationRouter, Subnet: row.Subnet, MAC: routerMAC}
		if err := w.path.Locations().Put(kernel.LocationKey{VNI: row.VNI, Addr: i.Gateway}, router); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.path.Ports().Put(kernel.PortKey{IfIndex: l.ifindex}, entry); err != nil {
		t.Fatal(err)
	}
	w.ports[l.ifindex] = row
}

// command is a program in the workload's network, with an /etc, a /run and a host name of its own.
func (l *workload) command(args ...string) *exec.Cmd {
	script := `mount --bind "$0/etc" /etc && mount -t tmpfs tmpfs /run && hostname localhost && exec "$@"`
	return exec.Command("unshare", append([]string{"--mount", "--uts", "--propagation", "private", "sh", "-c", script, l.dir}, args...)...)
}

// run runs a program to its end.
func (l *workload) run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := l.command(args...)
	// A file, not a pipe: programs that go into the background keep it open.
	out, err := os.Create(filepath.Join(l.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := netns.Start(cmd, l.ns); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		err = fmt.Errorf("%w (%w)", ctx.Err(), <-done)
	}
	text, rerr := os.ReadFile(out.Name())
	if err != nil || rerr != nil {
		t.Fatalf("%v: %v, %v\n%s", args, err, rerr, text)
	}
	return string(text)
}

// await waits until what a program prints has all of these, and none of those that begin with "!".
func (l *workload) await(t *testing.T, want []string, args ...string) {
	t.Helper()
	var text, missing string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		text, missing = l.run(t, args...), ""
		for _, w := range want {
			if not, ok := strings.CutPrefix(w, "!"); ok == strings.Contains(text, not) {
				missing = w
			}
		}
		if missing == "" {
			return
		}
	}
	t.Fatalf("%v says\n%swithout %q", args, text, missing)
}

// file is what the workload has in its /etc.
func (l *workload) file(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, "etc", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
