// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"weft/internal/netns"
	"weft/internal/node/dhcp"
	"weft/internal/southbound"
)

var (
	face4 = southbound.Interface{Address: netip.MustParseAddr("10.0.1.4"), Bits: 24, Gateway: netip.MustParseAddr("10.0.1.1")}
	face6 = southbound.Interface{Address: netip.MustParseAddr("fd00:0:0:1::4"), Bits: 64, Gateway: netip.MustParseAddr("fd00:0:0:1::1")}
	red   = southbound.Port{
		VNI: 4096, Tenant: "red", Name: "web-1", TenantNumber: 1, Subnet: 1, MAC: southbound.MAC{2, 0, 0, 0, 0, 1},
		Interfaces: []southbound.Interface{face4, face6},
		DNS:        []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("fd00::53")},
	}
	resolv4, resolv6 = "nameserver 10.0.0.53\n", "nameserver fd00::53\n"
)

// What each client must have made of its workload.
var (
	address4 = []string{"inet 10.0.1.4/24 ", "mtu 1450 "}
	route4   = []string{"default via 10.0.1.1 dev eth0", "10.0.1.0/24 dev eth0"}
	address6 = []string{"inet6 fd00:0:0:1::4/", "!tentative", "!fd00::1:0:ff:fe00:1"}
	route6   = []string{"default via fe80::1 dev eth0 proto ra", "fd00:0:0:1::/64 dev eth0"}
)

var (
	show4, show6    = []string{"ip", "-4", "addr", "show", "dev", "eth0"}, []string{"ip", "-6", "addr", "show", "dev", "eth0"}
	routes, routes6 = []string{"ip", "-4", "route"}, []string{"ip", "-6", "route"}
)

// only is the port with these interfaces.
func only(interfaces ...southbound.Interface) southbound.Port {
	row := red
	row.Interfaces = interfaces
	return row
}

func (l *workload) took(t *testing.T, what string) {
	t.Helper()
	t.Logf("%s: %d ms after the device came up", what, time.Since(l.up).Milliseconds())
}

// udhcpc runs busybox's client with Debian's script, until it has an address.
func (l *workload) udhcpc(t *testing.T) {
	t.Helper()
	l.run(t, "udhcpc", "-n", "-q", "-f", "-i", "eth0", "-O", "mtu", "-O", "staticroutes")
}

// dhclient runs ISC's client with Debian's script, until it has an address.
func (l *workload) dhclient(t *testing.T, family string, more ...string) string {
	t.Helper()
	files := []string{"-lf", filepath.Join(l.dir, "leases"+family), "-pf", filepath.Join(l.dir, "pid"+family)}
	return l.run(t, slices.Concat([]string{"dhclient", "-v", "-1", family}, files, more, []string{"eth0"})...)
}

// settled waits until the workload's own link-local address may be used: this client does not.
func (l *workload) settled(t *testing.T) {
	t.Helper()
	l.await(t, []string{"inet6 fe80::", "!tentative"}, show6...)
	l.took(t, "link-local address of the kernel")
}

// speaks shows that the workload reaches the router with what it was given.
func (l *workload) speaks(t *testing.T, addresses ...netip.Addr) {
	t.Helper()
	for _, a := range addresses {
		l.run(t, "ping", "-n", "-c", "1", "-W", "5", a.String())
	}
}

func TestUdhcpcConfiguresAWorkload(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, only(face4))
	l.udhcpc(t)
	l.took(t, "udhcpc, IPv4")
	l.await(t, address4, show4...)
	l.await(t, route4, routes...)
	if got := l.file(t, "resolv.conf"); !strings.Contains(got, resolv4) || strings.Contains(got, resolv6) {
		t.Errorf("resolv.conf is\n%s", got)
	}
	l.speaks(t, face4.Gateway)
}

// Renewals go to the router's address by an ordinary socket, which leaves checksums to the device.
func TestUdhcpcRenewsByUnicast(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, only(face4))
	cmd := l.command("udhcpc", "-f", "-i", "eth0")
	if err := netns.Start(cmd, l.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	l.await(t, address4[:1], show4...)
	before := w.server.Count(dhcp.Ack)
	for end := time.Now().Add(10 * time.Second); w.server.Count(dhcp.Ack) == before; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no renewal is answered: %q", w.server.Dump())
		}
		if err := exec.Command("kill", "-USR1", pid(t, l, "udhcpc")).Run(); err != nil {
			t.Fatal(err)
		}
	}
}

// pid finds a program of the workload.
func pid(t *testing.T, l *workload, name string) string {
	t.Helper()
	pids, err := netns.PIDs(l.ns)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(p))
		if comm, err := os.ReadFile(filepath.Join(dir, "comm")); err == nil && strings.TrimSpace(string(comm)) == name {
			return strconv.Itoa(p)
		}
	}
	t.Fatalf("no %s among %v", name, pids)
	return ""
}

func TestDhclientConfiguresADualStackWorkload(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, red)
	l.dhclient(t, "-4")
	l.took(t, "dhclient, IPv4")
	if got := l.file(t, "resolv.conf"); !strings.Contains(got, resolv4) {
		t.Errorf("resolv.conf is\n%s", got)
	}
	l.settled(t)
	l.dhclient(t, "-6")
	l.took(t, "dhclient, IPv4 and then IPv6")
	l.await(t, address4, show4...)
	l.await(t, route4, routes...)
	l.await(t, address6, show6...)
	l.await(t, route6, routes6...)
	if got := l.file(t, "resolv.conf"); !strings.Contains(got, resolv6) {
		t.Errorf("resolv.conf is\n%s", got)
	}
	l.speaks(t, face4.Gateway, face6.Gateway)
}

func TestDhclientConfiguresAnIPv6Workload(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, only(face6))
	l.settled(t)
	l.dhclient(t, "-6")
	l.took(t, "dhclient, IPv6")
	l.await(t, address6, show6...)
	l.await(t, route6, routes6...)
	l.await(t, []string{"mtu 1450"}, routes6...)
	l.speaks(t, face6.Gateway)
	l.dhclient(t, "-6", "-r")
	l.await(t, []string{"!inet6 fd00:0:0:1::4"}, show6...)
	l.dhclient(t, "-6")
	l.await(t, address6, show6...)
	if w.server.Count(dhcp.Reply) < 3 {
		t.Errorf("counters %q", w.server.Dump())
	}
}

// A client that remembers its address asks for it again, and is refused if the port has another by now.
func TestDhclientIsToldThatItsAddressIsNotItsAnyMore(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, only(face4))
	l.dhclient(t, "-4")
	l.run(t, "dhclient", "-4", "-x", "-pf", filepath.Join(l.dir, "pid-4"), "-lf", filepath.Join(l.dir, "leases-4"), "eth0")
	l.run(t, "ip", "addr", "flush", "dev", "eth0")
	acks := w.server.Count(dhcp.Ack)
	if out := l.dhclient(t, "-4"); strings.Contains(out, "DHCPDISCOVER") || w.server.Count(dhcp.Ack) != acks+1 {
		t.Errorf("it did not ask for what it had:\n%s", out)
	}
	l.run(t, "dhclient", "-4", "-x", "-pf", filepath.Join(l.dir, "pid-4"), "-lf", filepath.Join(l.dir, "leases-4"), "eth0")
	l.run(t, "ip", "addr", "flush", "dev", "eth0")
	moved := face4
	moved.Address = netip.MustParseAddr("10.0.1.9")
	w.give(t, l, only(moved))
	w.server.SetPorts(w.ports)
	out := l.dhclient(t, "-4")
	l.await(t, []string{"inet 10.0.1.9/24 ", "!10.0.1.4"}, show4...)
	if !strings.Contains(out, "DHCPNAK") || w.server.Count(dhcp.Nak) != 1 {
		t.Errorf("it was not refused:\n%s", out)
	}
}

func TestKernelTakesItsRouterFromAdvertisements(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, only(face6))
	l.await(t, route6[:1], routes6...)
	l.took(t, "default route of the kernel, IPv6")
	l.await(t, route6, routes6...)
	l.await(t, []string{"1450"}, "cat", "/proc/sys/net/ipv6/conf/eth0/mtu")
	l.await(t, []string{"inet6 fe80::", "!inet6 fd00"}, show6...) // addresses come by DHCPv6 alone
	for end := time.Now().Add(10 * time.Second); w.server.Count(dhcp.RouterAdvert) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no solicitation was answered: %q", w.server.Dump())
		}
	}
}

// Equal addresses, equal MACs, at the same time, on the same node.
func TestTwinsOfTwoTenantsAreToldOfThemselves(t *testing.T) {
	w := newWorld(t)
	blue := red
	blue.VNI, blue.Tenant, blue.TenantNumber, blue.DNS = 5000, "blue", 2, []netip.Addr{netip.MustParseAddr("10.0.0.99")}
	for tenant, l := range map[string]*workload{"red": w.attach(t, red), "blue": w.attach(t, blue)} {
		l.udhcpc(t)
		l.await(t, address4, show4...)
		if got := l.file(t, "resolv.conf"); strings.Contains(got, "10.0.0.53") != (tenant == "red") || strings.Contains(got, "10.0.0.99") != (tenant == "blue") {
			t.Errorf("%s has\n%s", tenant, got)
		}
	}
}

// A client that changes its MAC gets nothing: neither the packet path nor the server knows it.
func TestForeignMACGetsNoAddress(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, only(face4))
	l.run(t, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
	l.run(t, "sh", "-c", "! udhcpc -n -q -f -i eth0 -t 2 -T 1")
	l.run(t, "ip", "link", "set", "eth0", "address", red.MAC.String())
	l.udhcpc(t)
	if n := w.server.Count(dhcp.Offer); n != 1 {
		t.Errorf("%d offers, want the one to the port's own MAC", n)
	}
}

// Whoever deletes the tap finds it back, and clients are answered again.
func TestServerComesBackAfterTheTapIsDeleted(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, only(face4))
	l.udhcpc(t)
	w.do(t, func() error { return exec.Command("ip", "link", "delete", "weft-svc").Run() })
	l.udhcpc(t)
	if n := w.server.Count(dhcp.Offer); n < 2 {
		t.Errorf("%d offers, want two", n)
	}
}

// One client for both: it handles advertisements itself, commits rapidly, and keeps the MTU in its routes.
func TestDhcpcdConfiguresADualStackWorkload(t *testing.T) {
	w := newWorld(t)
	l := w.attach(t, red)
	l.run(t, "sh", "-c", "mount -t tmpfs tmpfs /var/lib/dhcpcd && exec dhcpcd --oneshot --waitip=4 --waitip=6 --noarp eth0")
	l.took(t, "dhcpcd, IPv4 and IPv6")
	l.await(t, address4[:1], show4...)
	l.await(t, slices.Concat(route4, []string{"mtu 1450"}), routes...)
	l.await(t, address6, show6...)
	l.await(t, []string{"default via fe80::1 dev eth0", "fd00:0:0:1::/64 dev eth0", "mtu 1450"}, routes6...)
	if got := l.file(t, "resolv.conf"); !strings.Contains(got, resolv4) || !strings.Contains(got, resolv6) {
		t.Errorf("resolv.conf is\n%s", got)
	}
	l.speaks(t, face4.Gateway, face6.Gateway)
}
