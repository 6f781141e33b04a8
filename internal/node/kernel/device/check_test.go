// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/base/privtest"
	"weft/internal/netns"
)

// newNS makes a namespace of the test's own and returns what runs a function in it.
func newNS(t *testing.T) (do func(*testing.T, func() error)) {
	t.Helper()
	privtest.Require(t)
	name := fmt.Sprintf("wefttest-%d-%s", os.Getpid(), t.Name())
	if err := netns.Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	})
	return func(t *testing.T, f func() error) {
		t.Helper()
		if err := netns.Do(name, f); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDeviceThatTheNodeNeedsIsRefused(t *testing.T) {
	do := newNS(t)
	do(t, func() error {
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
	do(t, func() error {
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
		tun, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
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
			do(t, func() error {
				err := Check(Candidate{Name: device, Tunnel: netip.MustParseAddr("198.19.0.1"), Force: force})
				var e *Refusal
				if errors.As(err, &e) != refused || err != nil && e == nil {
					return fmt.Errorf("%s, force %v: %v, want refused %v", device, force, err, refused)
				}
				return nil
			})
		}
	}
	do(t, func() error {
		if err := Check(Candidate{Name: "free0", Tap: true}); err == nil {
			return errors.New("a veth passed as a tap")
		}
		if err := Check(Candidate{Name: "nowhere0"}); !errors.Is(err, ErrNoDevice) {
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
