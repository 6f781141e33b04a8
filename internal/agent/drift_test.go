// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/internal/netns"
	"weft/internal/node/dhcp"
	"weft/internal/node/kernel"
	"weft/internal/node/overlay"
	"weft/internal/node/port"
	"weft/internal/node/routing"
	"weft/internal/southbound"
)

// driftNode is an agent on this kernel, without a server: what it was told stays as it is.
type driftNode struct {
	*Agent
	ns   string
	work []string // the workloads' namespaces
}

const driftVNI = 4096

func newDriftNode(t *testing.T) *driftNode {
	t.Helper()
	privtest.Require(t)
	n := &driftNode{ns: driftNS(t, "node")}
	pins := filepath.Join("/sys/fs/bpf/weft-test", fmt.Sprintf("drift-%d", os.Getpid()))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	n.do(t, func() error {
		path, err := kernel.Open(kernel.Config{
			PinDir: pins, Tunnel: netip.MustParseAddr("198.19.0.1"), RouterMAC: routerMAC, UnderlayMTU: 1500, Log: log,
		})
		if err != nil {
			return err
		}
		n.Agent = &Agent{
			cfg: Config{Node: "h1", Log: log, BPFFS: pins}, path: path, upgrade: path, dhcp: dhcp.New(dhcp.Config{}),
			changed: make(chan struct{}), rows: make(map[southbound.Key]southbound.Row),
			overlay: overlay.New(overlay.Config{Node: "h1", RouterMAC: routerMAC, Locations: path.Locations(), Senders: path.Senders()}),
			routing: routing.New(routing.Config{Node: "h1", Routes: path.Routes(), Sources: path.Sources()}),
		}
		n.ports, err = port.New(port.Config{
			StateFile: filepath.Join(t.TempDir(), "attachments.json"), MTU: 1450, Tunnel: netip.MustParseAddr("198.19.0.1"),
			Kernel: devices{path}, Table: path.Ports(), Log: log,
		})
		return err
	})
	t.Cleanup(func() {
		n.path.Close()
		n.do(t, func() error { return kernel.Cleanup(pins) })
		os.Remove(filepath.Dir(pins))
	})
	step := southbound.Step{Snapshot: true, Upserts: []southbound.Row{
		southbound.VPC{VNI: driftVNI, TenantNumber: 7, Tenant: "red", Name: "main", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}},
		southbound.Subnet{VNI: driftVNI, Number: 1, Prefix: netip.MustParsePrefix("10.0.1.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")},
		southbound.Peer{VNI: driftVNI, Node: 1, Name: "h1", Address: netip.MustParseAddr("198.19.0.1")},
		southbound.Peer{VNI: driftVNI, Node: 2, Name: "h2", Address: netip.MustParseAddr("198.19.0.2")},
	}}
	n.do(t, func() error {
		var errs []error
		for i := range 2 {
			name := fmt.Sprintf("web-%d", i+1)
			n.work = append(n.work, driftNS(t, name))
			mac, addr := southbound.MAC{2, 0, 0, 0, 0, byte(i + 1)}, netip.AddrFrom4([4]byte{10, 0, 1, byte(4 + i)})
			row := southbound.Port{
				VNI: driftVNI, Tenant: "red", Name: name, TenantNumber: 7, Subnet: 1, Table: 3, MAC: mac, Binding: "b",
				Sources:    []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
				Interfaces: []southbound.Interface{{Address: addr, Bits: 24, Gateway: netip.MustParseAddr("10.0.1.1")}},
			}
			step.Upserts = append(step.Upserts, row, southbound.Location{VNI: driftVNI, Address: addr, Node: 1, MAC: mac, Subnet: 1})
			id := port.ID{Tenant: "red", Port: name}
			_, err := n.ports.Attach(port.Attachment{ID: id, Way: port.WayNetNS, NetNS: netns.Path(n.work[i]), Device: "eth0", Static: true})
			errs = append(errs, err, n.ports.Bind(id, "b"))
		}
		step.Upserts = append(step.Upserts,
			southbound.Location{VNI: driftVNI, Address: netip.MustParseAddr("10.0.1.9"), Node: 2, MAC: southbound.MAC{2, 0, 0, 0, 0, 9}, Subnet: 1},
			southbound.Route{VNI: driftVNI, Table: 3, Prefix: netip.MustParsePrefix("192.0.2.0/24"), Via: southbound.RouteBlackhole})
		n.take(step)
		n.synced = true
		for _, f := range n.apply() {
			errs = append(errs, errors.New(f.Key+": "+f.Message))
		}
		return errors.Join(errs...)
	})
	return n
}

func driftNS(t *testing.T, name string) string {
	t.Helper()
	ns := fmt.Sprintf("wdrift%d-%s", os.Getpid(), name)
	if err := netns.Create(ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(ns); err != nil {
			t.Error(err)
		}
	})
	return ns
}

func (n *driftNode) do(t *testing.T, f func() error) {
	t.Helper()
	if err := netns.Do(n.ns, f); err != nil {
		t.Fatal(err)
	}
}

// shell is what somebody does by hand.
func shell(t *testing.T, ns, script string) {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command("sh", "-ec", script)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := netns.Start(cmd, ns)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out.String())
	}
}

// passes sends a datagram from the first workload to the second.
func (n *driftNode) passes() error {
	var in net.PacketConn
	if err := netns.Do(n.work[1], func() (err error) { in, err = net.ListenPacket("udp4", "10.0.1.5:2000"); return err }); err != nil {
		return err
	}
	defer in.Close()
	err := netns.Do(n.work[0], func() error {
		out, err := net.Dial("udp4", "10.0.1.5:2000")
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = out.Write([]byte("one"))
		return err
	})
	if err := errors.Join(err, in.SetReadDeadline(time.Now().Add(time.Second))); err != nil {
		return err
	}
	_, _, err = in.ReadFrom(make([]byte, 8))
	return err
}

// state is all that the agent keeps, as text; devices by name, as one that is made again has another index.
func (n *driftNode) state(t *testing.T) string {
	t.Helper()
	var lines []string
	names := map[uint32]string{}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for i, ns := range append([]string{n.ns}, n.work...) {
		err := netns.Inside(ns, func(space *netns.Namespace) error {
			links, err := space.Links()
			for _, l := range links {
				if l.Name == "lo" {
					continue
				}
				if i == 0 {
					names[uint32(l.Index)] = l.Name
				}
				var four []netip.Prefix // a link-local one comes and goes by itself
				for _, a := range l.Addresses {
					if a.Addr().Is4() {
						four = append(four, a)
					}
				}
				way, rerr := space.HasDefaultRoute(l.Name, false)
				add("link %d %s mtu %d up %t %v default route %t", i, l.Name, l.MTU, l.Up, four, way)
				err = errors.Join(err, rerr)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	n.do(t, func() error {
		ports, err1 := n.path.Ports().All()
		for k, v := range ports {
			add("port %s %+v", names[k.IfIndex], v)
		}
		locations, err2 := n.path.Locations().All()
		for k, v := range locations {
			at := names[v.IfIndex]
			v.IfIndex = 0
			add("location %v at %s: %+v", k, at, v)
		}
		senders, err3 := n.path.Senders().All()
		for k, v := range senders {
			add("sender %v %+v", k, v)
		}
		routes, err4 := n.path.Routes().All()
		for k, v := range routes {
			add("route %v %+v", k, v)
		}
		sources, err5 := n.path.Sources().All()
		for k := range sources {
			add("source %s %s", names[k.IfIndex], k.Prefix)
		}
		attached, err6 := n.path.AttachedPorts()
		add("attached %v", attached)
		for _, key := range []string{"net/ipv4/fib_multipath_hash_policy", "net/ipv6/conf/weft-vx/disable_ipv6", "net/ipv6/conf/" + attachedTo(n, 1) + "/disable_ipv6"} {
			value, _ := os.ReadFile("/proc/sys/" + key) // its device may be gone
			add("%s %s", key, value)
		}
		err7 := filepath.WalkDir(n.cfg.BPFFS, func(path string, _ fs.DirEntry, err error) error {
			add("pin %s", path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		return errors.Join(err1, err2, err3, err4, err5, err6, err7)
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// await waits until the state is what is wanted: the kernel tells of a carrier a little later.
func (n *driftNode) await(t *testing.T, want string) (now string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if now = n.state(t); now == want || time.Now().After(deadline) {
			return now
		}
	}
}

// attachedTo is the name of the device of a port at the node.
func attachedTo(n *driftNode, number int) string {
	s, _ := n.ports.State(port.ID{Tenant: "red", Port: fmt.Sprintf("web-%d", number)})
	return s.HostDevice()
}

// Whatever somebody changes by hand, a scan finds and mends it, counts it, and what is mended stays so.
func TestScanMendsWhatSomebodyChanged(t *testing.T) {
	n := newDriftNode(t)
	good := n.state(t)
	if err := n.passes(); err != nil {
		t.Fatal(err)
	}
	location := kernel.LocationKey{VNI: driftVNI, Addr: netip.MustParseAddr("10.0.1.9")}
	sender := kernel.SenderKey{VNI: driftVNI, Addr: netip.MustParseAddr("198.19.0.2")}
	alien := kernel.SenderKey{VNI: driftVNI, Addr: netip.MustParseAddr("198.19.0.66")}
	route := kernel.RouteKey{VNI: driftVNI, Table: 3, Prefix: netip.MustParsePrefix("192.0.2.0/24")}
	device := attachedTo(n, 1)
	first := func() kernel.PortKey {
		ports, _ := n.path.Ports().All()
		for k, v := range ports {
			if v.Addr4 == netip.MustParseAddr("10.0.1.4") {
				return k
			}
		}
		return kernel.PortKey{}
	}
	inNode := func(script string) func() error {
		return func() error { shell(t, n.ns, script); return nil }
	}
	inWorkload := func(script string) func() error {
		return func() error { shell(t, n.work[0], script); return nil }
	}
	for name, change := range map[string]func() error{
		"port_deleted": func() error { return n.path.Ports().Delete(first()) },
		"port_changed": func() error {
			return n.path.Ports().Put(first(), kernel.Port{VNI: 5000, MTU: 1450, MAC: [6]byte{2, 9}})
		},
		"port_added":       func() error { return n.path.Ports().Put(kernel.PortKey{IfIndex: 9999}, kernel.Port{VNI: 1}) },
		"location_deleted": func() error { return n.path.Locations().Delete(location) },
		"location_changed": func() error {
			return n.path.Locations().Put(location, kernel.Location{Kind: kernel.LocationRemote, Tunnel: alien.Addr})
		},
		"sender_deleted": func() error { return n.path.Senders().Delete(sender) },
		"sender_changed": func() error { return n.path.Senders().Put(sender, kernel.Sender{Tenant: 8}) },
		"sender_added":   func() error { return n.path.Senders().Put(alien, kernel.Sender{Tenant: 7, Node: 66}) },
		"route_deleted":  func() error { return n.path.Routes().Delete(route) },
		"route_changed": func() error {
			return n.path.Routes().Put(route, kernel.Location{Kind: kernel.LocationConnected})
		},
		"source_deleted": func() error {
			return n.path.Sources().Delete(kernel.SourceKey{IfIndex: first().IfIndex, Prefix: netip.MustParsePrefix("192.0.2.0/24")})
		},
		"source_added": func() error {
			return n.path.Sources().Put(kernel.SourceKey{IfIndex: first().IfIndex, Prefix: netip.MustParsePrefix("0.0.0.0/0")}, kernel.Source{})
		},
		"programs_detached":      func() error { return n.path.DetachPort(device) },
		"device_deleted":         inNode("ip link del " + device),
		"device_down":            inNode("ip link set " + device + " down"),
		"device_mtu":             inNode("ip link set " + device + " mtu 1300"),
		"device_speaks_ipv6":     inNode("echo 0 > /proc/sys/net/ipv6/conf/" + device + "/disable_ipv6"),
		"tunnel_deleted":         inNode("ip link del weft-vx"),
		"tunnel_down":            inNode("ip link set weft-vx down"),
		"tunnel_mtu":             inNode("ip link set weft-vx mtu 1300"),
		"tunnel_of_another_kind": inNode("ip link del weft-vx; ip link add weft-vx type vxlan id 7 dstport 4789 local 198.19.0.1"),
		"tunnel_speaks_ipv6":     inNode("echo 0 > /proc/sys/net/ipv6/conf/weft-vx/disable_ipv6"),
		"service_deleted":        inNode("ip link del weft-svc"),
		"service_down":           inNode("ip link set weft-svc down"),
		"path_hash":              inNode("echo 0 > /proc/sys/net/ipv4/fib_multipath_hash_policy"),
		"workload_address":       inWorkload("ip address flush dev eth0"),
		"workload_route":         inWorkload("ip route del default"),
		"workload_mtu":           inWorkload("ip link set eth0 mtu 1300"),
		"workload_down":          inWorkload("ip link set eth0 down"),
		"pins_of_links":          func() error { return os.RemoveAll(filepath.Join(n.cfg.BPFFS, "links")) },
		"pins_of_maps": func() error {
			layouts, err := filepath.Glob(filepath.Join(n.cfg.BPFFS, "v*"))
			return errors.Join(err, os.RemoveAll(layouts[0]))
		},
		"pins": func() error { return os.RemoveAll(n.cfg.BPFFS) },
	} {
		t.Run(name, func(t *testing.T) {
			n.do(t, change)
			if n.state(t) == good {
				t.Fatal("nothing was changed")
			}
			before := n.mended
			n.do(t, func() error { n.rescan(); return nil })
			if n.mended == before {
				t.Error("what was mended is not counted")
			}
			if now := n.await(t, good); now != good {
				t.Errorf("after the scan there is\n%s\nand there was\n%s", now, good)
			}
			if err := n.passes(); err != nil {
				t.Error(err)
			}
			before = n.mended
			n.do(t, func() error { n.rescan(); return nil })
			if n.mended != before {
				t.Errorf("the next scan writes %d times", n.mended-before)
			}
		})
	}
}

// Whoever takes the programs off while no agent runs has a port that is unchecked only until the next start, not until rows
// have come.
func TestStartHoldsPortsWithoutPrograms(t *testing.T) {
	n := newDriftNode(t)
	hold := func() (writes uint64) {
		before := n.path.Writes()
		n.do(t, n.ports.Hold)
		return n.path.Writes() - before
	}
	if w := hold(); w != 0 {
		t.Errorf("%d writes where all is as it should be", w)
	}
	n.do(t, func() error { return n.path.DetachPort(attachedTo(n, 1)) })
	shell(t, n.ns, "ip link set "+attachedTo(n, 1)+" up")
	if w := hold(); w != 1 {
		t.Errorf("%d writes, want one that brings the device down", w)
	}
	shell(t, n.ns, "! ip link show "+attachedTo(n, 1)+" | grep -q ',UP'")
	shell(t, n.ns, "ip link show "+attachedTo(n, 2)+" | grep -q ',UP'")
}
