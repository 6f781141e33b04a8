// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weft/internal/base/privtest"
	"weft/internal/node/kernel/device"
)

// testNS is a network namespace of the test's own, and a thread that lives in it.
type testNS struct {
	path string
	work chan func()
	done chan struct{}
}

func newNS(t *testing.T) *testNS {
	t.Helper()
	privtest.Require(t)
	ns := &testNS{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(ns.done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		ns.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		ready <- err
		for f := range ns.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(ns.work); <-ns.done })
	return ns
}

// do runs f in the namespace.
func (ns *testNS) do(t *testing.T, f func() error) {
	t.Helper()
	result := make(chan error)
	ns.work <- func() { result <- f() }
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// testPins is a folder for pins that is gone after the test.
func testPins(t *testing.T, node string) string {
	t.Helper()
	privtest.Require(t)
	name := strings.NewReplacer("/", "_", ".", "_").Replace(t.Name())
	dir := filepath.Join(bpffsRoot, "weft-test", fmt.Sprintf("%s-%s-%d", name, node, os.Getpid()))
	t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove(filepath.Dir(dir))
	})
	return dir
}

var testRouterMAC = [6]byte{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}

func testConfig(pins, tunnel string) Config {
	return Config{PinDir: pins, Tunnel: netip.MustParseAddr(tunnel), RouterMAC: testRouterMAC, UnderlayMTU: 1500}
}

// node is a packet path in a namespace of its own.
type node struct {
	*testNS
	pins string
	dp   *Datapath
}

func newNode(t *testing.T, name, tunnel string) *node {
	t.Helper()
	n := &node{testNS: newNS(t), pins: testPins(t, name)}
	n.open(t, tunnel)
	t.Cleanup(func() {
		if n.dp != nil {
			n.dp.Close()
		}
		n.do(t, func() error { return Cleanup(n.pins) })
	})
	return n
}

func (n *node) open(t *testing.T, tunnel string) {
	t.Helper()
	n.do(t, func() (err error) { n.dp, err = Open(testConfig(n.pins, tunnel)); return err })
}

// reopen is what a restart of the agent does.
func (n *node) reopen(t *testing.T, tunnel string) {
	t.Helper()
	if err := n.dp.Close(); err != nil {
		t.Fatal(err)
	}
	n.open(t, tunnel)
}

// attach makes a port with a workload in its own namespace, and its entries.
func (n *node) attach(t *testing.T, name string, workload *testNS, p Port, bits int, gateway string) {
	t.Helper()
	index := n.plug(t, name, workload, p, bits, gateway)
	if err := n.dp.Ports().Put(PortKey{uint32(index)}, p); err != nil {
		t.Fatal(err)
	}
	local := Location{Kind: LocationPeer, IfIndex: uint32(index), Subnet: p.Subnet, Node: 1, MAC: p.MAC}
	if err := n.dp.Locations().Put(LocationKey{p.VNI, p.Addr4}, local); err != nil {
		t.Fatal(err)
	}
}

// plug makes the devices of a port, or finds that they are there.
func (n *node) plug(t *testing.T, name string, workload *testNS, p Port, bits int, gateway string) (index int) {
	t.Helper()
	n.do(t, func() (err error) {
		index, err = device.CreateVeth(device.Veth{
			HostName: name, NetNS: workload.path, PeerName: "eth0", MAC: p.MAC, MTU: int(p.MTU),
			Alias: "weft red/" + name,
		})
		if err != nil {
			return err
		}
		if err := n.dp.AttachPort(index, name); err != nil {
			return err
		}
		return device.ConfigurePeer(workload.path, "eth0", []netip.Prefix{netip.PrefixFrom(p.Addr4, bits)},
			[]netip.Addr{netip.MustParseAddr(gateway)}, int(p.MTU))
	})
	return index
}
