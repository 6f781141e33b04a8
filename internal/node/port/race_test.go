// SPDX-License-Identifier: Apache-2.0

package port

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weft/internal/base/privtest"
	"weft/internal/netns"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
	"weft/internal/southbound"
)

// Addresses of the race; 192.0.2.9 is the node's own.
var (
	attackerMAC  = southbound.MAC{2, 0, 0, 0, 1, 4}
	victimMAC    = southbound.MAC{2, 0, 0, 0, 1, 5}
	attackerAddr = netip.MustParseAddr("10.0.1.4")
	victimAddr   = netip.MustParseAddr("10.0.1.5")
	nodeAddr     = netip.MustParseAddr("192.0.2.9")
)

const (
	racePort = 9
	raceFor  = 1500 * time.Millisecond // for each way, at least
	raceMost = 20 * time.Second        // on a machine that has much else to do
	cycleMin = 10                      // fewer prove nothing
)

// TestCVE_2015_5240_PortIsNeverUsableBeforeItsChecks is named after a race of OpenStack Neutron, whose ports could send
// before the rules against spoofing were in place. A workload sends forged frames without pause while its port is
// attached and detached again and again: none may arrive, neither at another port nor at the node itself.
func TestCVE_2015_5240_PortIsNeverUsableBeforeItsChecks(t *testing.T) {
	privtest.Require(t)
	for name, way := range map[string]Attachment{
		"netns":  {Way: WayNetNS, Device: "eth0"},
		"tap":    {Way: WayTap, Device: "tap0"},
		"device": {Way: WayDevice, Device: "out0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRace(t)
			r.plug(t, &way)
			var stop atomic.Bool
			var hammers sync.WaitGroup
			sent := new(atomic.Uint64)
			hammers.Go(func() { r.hammer(t, way, &stop, sent) })
			if way.Way != WayNetNS {
				r.await(t, "a device without a port to reach the node", func() bool { return r.node.heard("forged") > 0 })
			}
			cycles, forged := r.attachAndDetach(t, way)
			stop.Store(true)
			hammers.Wait()
			t.Logf("attached %d times under %d frames; %d honest ones arrived", cycles, sent.Load(), r.victim.heard("honest"))
			if cycles < cycleMin || r.victim.heard("honest") == 0 {
				t.Errorf("attached %d times, %d honest frames arrived: that proves nothing", cycles, r.victim.heard("honest"))
			}
			if forged != 0 || r.victim.heard("forged") != 0 {
				t.Errorf("%d forged frames reached the node, %d the other port", forged, r.victim.heard("forged"))
			}
		})
	}
}

// race is a node with a victim attached, and a namespace for the attacker.
type race struct {
	nodeNS, attackerNS, victimNS string
	pins                         string
	dp                           *kernel.Datapath
	ports                        *Ports
	node, victim                 *listener
	tap                          *os.File
}

func newRace(t *testing.T) *race {
	t.Helper()
	r := &race{}
	for name, ns := range map[string]*string{"node": &r.nodeNS, "attacker": &r.attackerNS, "victim": &r.victimNS} {
		*ns = fmt.Sprintf("wefttest-%d-%s", os.Getpid(), name)
		if err := netns.Create(*ns); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = netns.Delete(*ns) }) // the test has passed or failed by then
	}
	pins := filepath.Join("/sys/fs/bpf", "weft-test", fmt.Sprintf("race-%d", os.Getpid()))
	r.pins = pins
	r.do(t, r.nodeNS, func() (err error) {
		r.dp, err = kernel.Open(kernel.Config{
			PinDir: pins, Tunnel: netip.MustParseAddr("198.19.0.1"), RouterMAC: [6]byte{2, 0x77, 0x65, 0x66, 0x74, 1}, UnderlayMTU: 1500,
		})
		if err != nil {
			return err
		}
		r.ports, err = New(Config{
			StateFile: filepath.Join(t.TempDir(), "attachments.json"), MTU: 1450, Tunnel: netip.MustParseAddr("198.19.0.1"),
			Kernel: real{r.dp}, Table: r.dp.Ports(), Log: slog.New(slog.DiscardHandler),
		})
		return err
	})
	t.Cleanup(func() {
		r.do(t, r.nodeNS, func() error { return errors.Join(r.dp.Close(), kernel.Cleanup(pins)) })
	})
	r.configureNode(t)
	r.attach(t, Attachment{ID: ID{"red", "victim"}, Way: WayNetNS, NetNS: netns.Path(r.victimNS), Device: "eth0", Static: true}, victimMAC, victimAddr)
	r.victim, r.node = r.listen(t, r.victimNS, victimAddr), r.listen(t, r.nodeNS, nodeAddr)
	return r
}

// configureNode gives the node an address, and lets it believe any source.
func (r *race) configureNode(t *testing.T) {
	t.Helper()
	n, err := netns.Open(r.nodeNS)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	err = errors.Join(n.SetUp("lo"), n.AddAddress("lo", netip.PrefixFrom(nodeAddr, 32)),
		n.SetSysctl("net/ipv4/conf/all/rp_filter", "0"), n.SetSysctl("net/ipv4/conf/default/rp_filter", "0"))
	if err != nil {
		t.Fatal(err)
	}
}

func (r *race) do(t *testing.T, ns string, f func() error) {
	t.Helper()
	if err := netns.Do(ns, f); err != nil {
		t.Fatal(err)
	}
}

func (r *race) await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// plug makes the attacker's device where the agent does not, up, so that the node hears it.
func (r *race) plug(t *testing.T, a *Attachment) {
	t.Helper()
	switch a.Way {
	case WayNetNS:
		a.NetNS = netns.Path(r.attackerNS)
	case WayTap:
		r.do(t, r.nodeNS, func() (err error) { r.tap, err = openTap(a.Device); return err })
		t.Cleanup(func() { r.tap.Close() })
	case WayDevice:
		err := netns.CreateVeth(netns.End{NetNS: r.nodeNS, Name: a.Device}, netns.End{NetNS: r.attackerNS, Name: "eth0"}, 1500)
		if err != nil {
			t.Fatal(err)
		}
		r.setUp(t, r.attackerNS, "eth0")
	}
	if a.Way != WayNetNS {
		r.setUp(t, r.nodeNS, a.Device)
	}
}

func (r *race) setUp(t *testing.T, ns, device string) {
	t.Helper()
	n, err := netns.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.SetUp(device); err != nil {
		t.Fatal(err)
	}
}

// openTap makes a tap as QEMU does, which goes when it is closed.
func openTap(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// attach brings a port into the packet path, as an agent does, and returns how it is reached.
func (r *race) attach(t *testing.T, a Attachment, mac southbound.MAC, addr netip.Addr) kernel.LocationKind {
	t.Helper()
	r.do(t, r.nodeNS, func() error {
		if _, err := r.ports.Attach(a); err != nil {
			return err
		}
		return r.ports.Bind(a.ID, "b")
	})
	r.ports.Update(southbound.Port{
		VNI: 4096, Tenant: a.ID.Tenant, Name: a.ID.Port, TenantNumber: 1, Subnet: 1, MAC: mac, Binding: "b",
		Interfaces: []southbound.Interface{{Address: addr, Bits: 24, Gateway: netip.MustParseAddr("10.0.1.1")}},
	})
	return r.apply(t, a.ID, mac)
}

// apply brings what is wanted into the kernel, with the locations that follow from it.
func (r *race) apply(t *testing.T, id ID, mac southbound.MAC) (kind kernel.LocationKind) {
	t.Helper()
	r.do(t, r.nodeNS, func() error {
		locals, failures := r.ports.Apply()
		if len(failures) > 0 {
			return fmt.Errorf("attach %s: %v", id, failures)
		}
		for _, l := range locals {
			if !l.Present {
				continue
			}
			kind = l.Kind
			err := r.dp.Locations().Put(kernel.LocationKey{VNI: l.VNI, Addr: l.Addr}, kernel.Location{Kind: l.Kind, IfIndex: l.IfIndex, Subnet: 1, Node: 1, MAC: mac})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return kind
}

// attachAndDetach goes on for raceFor, and until it has done so often enough. It returns how many forged frames reached the node after the first attach began.
func (r *race) attachAndDetach(t *testing.T, way Attachment) (cycles int, forged uint64) {
	t.Helper()
	way.ID = ID{"red", "attacker"}
	var before uint64
	for began := time.Now(); time.Since(began) < raceFor || cycles < cycleMin && time.Since(began) < raceMost; cycles++ {
		if cycles == 0 && way.Way != WayNetNS {
			r.attach(t, way, attackerMAC, attackerAddr)
			time.Sleep(10 * time.Millisecond) // what the node's socket got until the device was taken is read
			before = r.node.heard("forged")
		} else {
			r.attach(t, way, attackerMAC, attackerAddr)
		}
		honest := r.victim.heard("honest")
		if cycles%8 == 0 {
			r.await(t, "an honest frame", func() bool { return r.victim.heard("honest") > honest })
		}
		r.do(t, r.nodeNS, func() error {
			_, err := r.ports.Detach(way.ID)
			_, failures := r.ports.Apply()
			if len(failures) > 1 { // the row is still there: nothing is attached
				err = errors.Join(err, fmt.Errorf("detach: %v", failures))
			}
			return err
		})
	}
	return cycles, r.node.heard("forged") - before
}

// hammer sends frames without pause until stop. Where there is no device, or it is down, a send fails.
func (r *race) hammer(t *testing.T, way Attachment, stop *atomic.Bool, sent *atomic.Uint64) {
	frames := [][]byte{
		frame(attackerMAC, victimMAC, attackerAddr, victimAddr, "honest"),
		frame(attackerMAC, victimMAC, netip.MustParseAddr("10.0.1.9"), victimAddr, "forged"),
		frame(southbound.MAC{2, 9, 9, 9, 9, 9}, victimMAC, attackerAddr, victimAddr, "forged"),
		frame(attackerMAC, southbound.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, attackerAddr, nodeAddr, "forged"),
	}
	if way.Way == WayTap {
		for !stop.Load() {
			for _, f := range frames {
				if _, err := r.tap.Write(f); err == nil {
					sent.Add(1)
				}
			}
		}
		return
	}
	err := netns.Do(r.attackerNS, func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for !stop.Load() {
			link, err := net.InterfaceByName("eth0")
			if err != nil {
				continue
			}
			for i := range 64 {
				if unix.Sendto(fd, frames[i%len(frames)], 0, &unix.SockaddrLinklayer{Ifindex: link.Index, Halen: 6}) == nil {
					sent.Add(1)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// frame is a UDP packet with a text.
func frame(from, to southbound.MAC, src, dst netip.Addr, text string) []byte {
	f := append(append(append([]byte{}, to[:]...), from[:]...), 0x08, 0x00)
	ip := append([]byte{0x45, 0, 0, byte(28 + len(text)), 0, 1, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}, src.AsSlice()...)
	ip = append(ip, dst.AsSlice()...)
	var sum uint32
	for i := 0; i < len(ip); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	f = append(f, ip...)
	f = append(f, 0, racePort, 0, racePort, 0, byte(8+len(text)), 0, 0)
	return append(f, text...)
}

// listener counts texts that come by UDP.
type listener struct {
	mu     sync.Mutex // guards counts
	counts map[string]uint64
}

func (r *race) listen(t *testing.T, ns string, addr netip.Addr) *listener {
	t.Helper()
	l := &listener{counts: map[string]uint64{}}
	var conn *net.UDPConn
	r.do(t, ns, func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: addr.AsSlice(), Port: racePort})
		return err
	})
	ended := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-ended })
	go func() {
		defer close(ended)
		buf := make([]byte, 64)
		for {
			n, err := conn.Read(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				l.mu.Lock()
				l.counts[strings.TrimSpace(string(buf[:n]))]++
				l.mu.Unlock()
			}
		}
	}()
	return l
}

func (l *listener) heard(text string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[text]
}

// real is this kernel.
type real struct{ *kernel.Datapath }

func (real) FindLink(name string) (device.Link, bool, error) { return device.FindLink(name) }

func (real) Links(prefix string) ([]device.Link, error) { return device.Links(prefix) }

func (real) CreateVeth(v device.Veth) (int, error) { return device.CreateVeth(v) }
func (real) MendVeth(v device.Veth) error          { return device.MendVeth(v) }

func (real) DeleteLink(name string) error         { return device.DeleteLink(name) }
func (real) SetDown(name string) error            { return device.SetDown(name) }
func (real) CreateTap(t device.Tap) (int, error)  { return device.CreateTap(t) }
func (real) CheckDevice(c device.Candidate) error { return device.Check(c) }

func (real) InspectDevice(name string) (device.Before, error) { return device.Inspect(name) }

func (real) ReturnDevice(name string, b device.Before) error { return device.Return(name, b) }

func (real) ConfigurePeer(ns, dev string, a []netip.Prefix, g []netip.Addr, mtu int) error {
	return device.ConfigurePeer(ns, dev, a, g, mtu)
}
