// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"weft/internal/base/privtest"
	"weft/internal/node/kernel/device"
)

var testVeth = device.Veth{HostName: "wp00000001", PeerName: "eth0", MAC: [6]byte{2, 0, 0, 0, 1, 4}, MTU: 1450, Alias: "weft red/web-1"}

// changes runs f in the namespace and returns how many kernel writes it took.
func (ns *testNS) changes(t *testing.T, f func() error) uint64 {
	t.Helper()
	before := device.Writes()
	ns.do(t, f)
	return device.Writes() - before
}

func TestVethIsMadeOnceAndMended(t *testing.T) {
	host, workload := newNS(t), newNS(t)
	v := testVeth
	v.NetNS = workload.path
	create := func() error { _, err := device.CreateVeth(v); return err }
	if host.changes(t, create) == 0 {
		t.Fatal("nothing was made")
	}
	if n := host.changes(t, create); n != 0 {
		t.Errorf("%d writes the second time", n)
	}
	host.do(t, func() error {
		l, found, err := device.FindLink(v.HostName)
		if err != nil || !found || l.MTU != device.HostMTU || l.Alias != v.Alias || l.Up {
			return fmt.Errorf("node's end: %+v, %v", l, err)
		}
		found2, err := netlink.LinkByName(v.HostName)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(found2, 1300)
	})
	workload.do(t, func() error {
		l, found, err := device.FindLink("eth0")
		if err != nil || !found || !l.Up || l.MTU != 1450 {
			return fmt.Errorf("workload's end: %+v, %v", l, err)
		}
		eth0, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetDown(eth0), netlink.LinkSetHardwareAddr(eth0, []byte{2, 9, 9, 9, 9, 9}))
	})
	if n := host.changes(t, create); n != 3 {
		t.Errorf("mended MTU, MAC and up with %d writes, want 3", n)
	}
}

func TestVethFollowsToAnotherNamespace(t *testing.T) {
	host, first, second := newNS(t), newNS(t), newNS(t)
	v := testVeth
	for _, workload := range []*testNS{first, second} {
		v.NetNS = workload.path
		host.do(t, func() error { _, err := device.CreateVeth(v); return err })
	}
	first.do(t, func() error {
		if _, found, _ := device.FindLink("eth0"); found {
			return errors.New("the old namespace still has its end")
		}
		return nil
	})
	second.do(t, func() error {
		if _, found, err := device.FindLink("eth0"); !found {
			return fmt.Errorf("the new namespace has no end: %v", err)
		}
		return nil
	})
}

func TestForeignDeviceIsNotTouched(t *testing.T) {
	host, workload := newNS(t), newNS(t)
	host.do(t, func() error {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: testVeth.HostName}}); err != nil {
			return err
		}
		v := testVeth
		v.NetNS = workload.path
		if _, err := device.CreateVeth(v); !errors.Is(err, device.ErrWrongDevice) {
			return fmt.Errorf("got %v", err)
		}
		links, err := device.Links("wp")
		if err != nil || len(links) != 1 {
			return fmt.Errorf("links %v, %v", links, err)
		}
		return errors.Join(device.DeleteLink(testVeth.HostName), device.DeleteLink(testVeth.HostName)) // absent is fine
	})
}

func TestPeerIsConfiguredOnce(t *testing.T) {
	host, workload := newNS(t), newNS(t)
	v := testVeth
	v.NetNS = workload.path
	host.do(t, func() error { _, err := device.CreateVeth(v); return err })
	configure := func() error {
		return device.ConfigurePeer(v.NetNS, "eth0", []netip.Prefix{netip.MustParsePrefix("10.0.1.4/24"), netip.MustParsePrefix("fd00::4/64")},
			[]netip.Addr{netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("fe80::1")}, 1450)
	}
	if n := host.changes(t, configure); n != 4 {
		t.Errorf("two addresses and two routes with %d writes, want 4", n)
	}
	if n := host.changes(t, configure); n != 0 {
		t.Errorf("%d writes the second time", n)
	}
	workload.do(t, func() error {
		route, err := netlink.RouteGet([]byte{10, 0, 2, 4})
		if err != nil || len(route) != 1 || route[0].Gw.String() != "10.0.1.1" {
			return fmt.Errorf("route to another subnet: %v, %v", route, err)
		}
		return nil
	})
}

func TestUnknownNamespaceIsAnError(t *testing.T) {
	privtest.Require(t)
	if _, err := device.CreateVeth(device.Veth{NetNS: "weft-test-nowhere"}); err == nil {
		t.Error("made a veth into a namespace that does not exist")
	}
}
