// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// openTap opens a tap as a virtual machine monitor does, and makes it if it is not there; frames carry no virtio header
// unless flags say so.
func openTap(name string, flags uint16) (*os.File, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

var testTap = Tap{Name: "tap0", MTU: 1450, Alias: "weft red/vm-1"}

func TestTapOutlivesItsMaker(t *testing.T) {
	ns := newNS(t)
	owner := uint32(1234)
	tap := testTap
	tap.Owner = &owner
	ns.do(t, func() error {
		index, err := CreateTap(tap)
		if err != nil {
			return err
		}
		l, found, err := FindLink("tap0")
		if err != nil || !found || !l.Tap || l.Up || l.Index != index || l.MTU != 1450 || l.Alias != tap.Alias || l.Elsewhere {
			return fmt.Errorf("made %+v, found %v, %v", l, found, err)
		}
		made, err := netlink.LinkByName("tap0")
		if err != nil || made.(*netlink.Tuntap).Owner != owner || made.(*netlink.Tuntap).NonPersist {
			return fmt.Errorf("made %+v, %v", made, err)
		}
		if _, err := CreateTap(tap); err == nil {
			return errors.New("made one that is there")
		}
		return DeleteLink("tap0")
	})
}

// Whoever opens the tap says whether its frames have virtio headers; several queues are said when it is made.
func TestTapIsOpenedAsItsUserWants(t *testing.T) {
	ns := newNS(t)
	for name, c := range map[string]struct {
		multi bool
		flags uint16
		works bool
	}{
		"plain":                    {false, 0, true},
		"virtio headers":           {false, unix.IFF_VNET_HDR, true},
		"one queue of several":     {true, unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE, true},
		"several of one":           {false, unix.IFF_MULTI_QUEUE, false},
		"one, where several exist": {true, 0, false},
	} {
		ns.do(t, func() error {
			tap := testTap
			tap.MultiQueue = c.multi
			if _, err := CreateTap(tap); err != nil {
				return err
			}
			f, err := openTap("tap0", c.flags)
			if (err == nil) != c.works {
				return fmt.Errorf("%s: opened with %v", name, err)
			}
			if err == nil {
				err = f.Close()
			} else {
				err = nil
			}
			return errors.Join(err, DeleteLink("tap0"))
		})
	}
}

func TestDeviceThatTheNodeNeedsIsRefused(t *testing.T) {
	ns := newNS(t)
	ns.do(t, func() error {
		return errors.Join(
			netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}),
			addPair("tunnel0", "far0", "198.19.0.1/32"),
			addPair("default0", "far1", "198.18.0.0/31"),
			addPair("routed0", "far7", "198.18.0.2/31"),
			addPair("used0", "far2", "192.0.2.1/24"),
			addPair("member0", "far3", ""),
			addPair("below0", "far4", ""),
			addPair("free0", "far5", ""),
			addPair("weft-x", "far6", ""),
		)
	})
	ns.do(t, func() error {
		member, err1 := netlink.LinkByName("member0")
		br0, err2 := netlink.LinkByName("br0")
		below, err3 := netlink.LinkByName("below0")
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		_, all, _ := net.ParseCIDR("0.0.0.0/0")
		_, others, _ := net.ParseCIDR("198.19.0.0/16")
		by, err := netlink.LinkByName("default0")
		toward, err2 := netlink.LinkByName("routed0")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		tun, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		req, _ := unix.NewIfreq("tun0")
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		t.Cleanup(func() { unix.Close(tun) })
		return errors.Join(
			netlink.LinkSetMaster(member, br0),
			netlink.LinkAdd(&netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "above0", ParentIndex: below.Attrs().Index}, Mode: netlink.MACVLAN_MODE_BRIDGE}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: by.Attrs().Index, Dst: all, Gw: net.IPv4(198, 18, 0, 1)}),
			netlink.RouteAdd(&netlink.Route{LinkIndex: toward.Attrs().Index, Dst: others, Gw: net.IPv4(198, 18, 0, 3)}),
			unix.IoctlIfreq(tun, unix.TUNSETIFF, req),
		)
	})
	for device, want := range map[string]struct{ plain, forced bool }{ // refused?
		"lo": {true, true}, "weft-x": {true, true}, "tun0": {true, true}, "tunnel0": {true, true}, "default0": {true, true}, "routed0": {true, true},
		"member0": {true, true}, "used0": {true, false}, "br0": {true, false}, "below0": {true, false}, "free0": {false, false},
	} {
		for force, refused := range map[bool]bool{false: want.plain, true: want.forced} {
			ns.do(t, func() error {
				err := CheckDevice(Candidate{Name: device, Tunnel: testConfig("", "198.19.0.1").Tunnel, Force: force})
				var e *RefusedError
				if errors.As(err, &e) != refused || err != nil && e == nil {
					return fmt.Errorf("%s, force %v: %v, want refused %v", device, force, err, refused)
				}
				return nil
			})
		}
	}
	ns.do(t, func() error {
		if err := CheckDevice(Candidate{Name: "free0", Tap: true}); err == nil {
			return errors.New("a veth passed as a tap")
		}
		if err := CheckDevice(Candidate{Name: "nowhere0"}); !errors.Is(err, ErrNoDevice) {
			return fmt.Errorf("absent device: %v", err)
		}
		return nil
	})
}

// addPair makes a pair of devices, up, the first with an address.
func addPair(name, peer, address string) error {
	v := netlink.NewVeth(netlink.LinkAttrs{Name: name})
	v.PeerName = peer
	if err := netlink.LinkAdd(v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	far, err := netlink.LinkByName(peer)
	if err != nil {
		return err
	}
	if address != "" {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(v, a); err != nil {
			return err
		}
	}
	return errors.Join(netlink.LinkSetUp(v), netlink.LinkSetUp(far))
}

func TestDeviceIsTakenAndReturnedAsItWas(t *testing.T) {
	n := newNode(t, "a", "198.19.0.1")
	var tap *os.File
	var before Before
	n.do(t, func() (err error) {
		if tap, err = openTap("tap0", 0); err != nil {
			return err
		}
		found, err := netlink.LinkByName("tap0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(found); err != nil {
			return err
		}
		if before, err = InspectDevice("tap0"); err != nil || !before.IPv6 || before.MTU != 1500 {
			return fmt.Errorf("before %+v, %v", before, err)
		}
		return n.dp.TakeDevice("tap0", 1450)
	})
	defer tap.Close()
	look := func(mtu int, up, ipv6 bool) {
		t.Helper()
		n.do(t, func() error {
			l, _, err := FindLink("tap0")
			if err != nil || l.MTU != mtu || l.Up != up || isQuiet("tap0") == ipv6 {
				return fmt.Errorf("%+v, quiet %v, %v; want MTU %d, up %v, IPv6 %v", l, isQuiet("tap0"), err, mtu, up, ipv6)
			}
			return nil
		})
	}
	look(1450, false, false)
	n.do(t, func() error { return n.dp.AttachPort(before.Index, "tap0") })
	if w := n.changes(t, func() error { return n.dp.TakeDevice("tap0", 1450) }); w != 0 {
		t.Errorf("%d writes for a device that has the programs", w)
	}
	look(1450, true, false)
	n.do(t, func() error { return errors.Join(n.dp.DetachPort("tap0"), ReturnDevice("tap0", before)) })
	look(1500, false, true)
	n.do(t, func() error {
		other := before
		other.Index++
		other.MTU = 1300
		return errors.Join(ReturnDevice("tap0", other), ReturnDevice("nowhere0", before)) // made anew; gone
	})
	look(1500, false, true)
}

// The kernel takes a program off only some time after its last pin went; a device that stays must not meet that.
func TestDeviceThatStaysIsAttachedAgainAtOnce(t *testing.T) {
	n := newNode(t, "a", "198.19.0.1")
	n.do(t, func() error {
		index, err := CreateTap(testTap)
		for i := 0; err == nil && i < 20; i++ {
			err = errors.Join(n.dp.AttachPort(index, testTap.Name), n.dp.DetachPort(testTap.Name))
		}
		return errors.Join(err, DeleteLink(testTap.Name))
	})
}

func TestVethInTheNodesNamespaceMayBeTakenAnywhere(t *testing.T) {
	host, elsewhere := newNS(t), newNS(t)
	v := testVeth
	v.PeerName = "box0"
	create := func() error { _, err := CreateVeth(v); return err }
	host.do(t, create)
	host.do(t, func() error {
		near, _, err := FindLink(v.HostName)
		far, found, err2 := FindLink("box0")
		if err := errors.Join(err, err2); err != nil || near.Elsewhere || !found || far.Up || far.MTU != v.MTU {
			return fmt.Errorf("near %+v, far %+v, %v", near, far, err)
		}
		box, err := netlink.LinkByName("box0")
		if err != nil || string(box.Attrs().HardwareAddr) != string(v.MAC[:]) {
			return fmt.Errorf("far end %+v, %v", box, err)
		}
		ns, err := openNetNS(elsewhere.path)
		if err != nil {
			return err
		}
		defer ns.Close()
		return netlink.LinkSetNsFd(box, int(ns))
	})
	if n := host.changes(t, create); n != 0 {
		t.Errorf("%d writes after the other end was taken away", n)
	}
	host.do(t, func() error {
		near, _, err := FindLink(v.HostName)
		if err != nil || !near.Elsewhere {
			return fmt.Errorf("near %+v, %v", near, err)
		}
		return nil
	})
}
