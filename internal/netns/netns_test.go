// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"weft/internal/base/privtest"
)

// testNS makes a namespace that is gone after the test.
func testNS(t *testing.T, suffix string) string {
	t.Helper()
	privtest.Require(t)
	name := fmt.Sprintf("wefttest%d-%s", os.Getpid(), suffix)
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	})
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	return name
}

// here returns the namespace of the calling thread.
func here(t *testing.T) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestCreateAndDeleteMayBeRepeated(t *testing.T) {
	name := testNS(t, "a")
	if err := Create(name); err != nil {
		t.Error(err)
	}
	if names, err := List(); err != nil || !slices.Contains(names, name) || !Exists(name) {
		t.Errorf("List = %v, %v", names, err)
	}
	for range 2 {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(Path(name)); Exists(name) || !os.IsNotExist(err) {
		t.Error("file stays after Delete")
	}
	if _, err := Open(name); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open of a deleted namespace: %v", err)
	}
}

func TestCreateMendsAFileWithoutNamespace(t *testing.T) {
	name := testNS(t, "a")
	if err := unix.Unmount(Path(name), 0); err != nil {
		t.Fatal(err)
	}
	if Exists(name) {
		t.Fatal("a plain file counts as a namespace")
	}
	if err := Create(name); err != nil || !Exists(name) {
		t.Fatalf("Create: %v", err)
	}
}

func TestNamesAreFileNames(t *testing.T) {
	for _, name := range []string{"", ".", "..", "a/b"} {
		if err := Create(name); !errors.Is(err, ErrName) {
			t.Errorf("Create(%q) = %v", name, err)
		}
		if err := Delete(name); !errors.Is(err, ErrName) {
			t.Errorf("Delete(%q) = %v", name, err)
		}
	}
}

func TestDoLeavesNoThreadInside(t *testing.T) {
	name := testNS(t, "a")
	home, inside := here(t), uint64(0)
	if err := Do(name, func() error { inside = here(t); return nil }); err != nil {
		t.Fatal(err)
	}
	if inside == home || inside == 0 {
		t.Fatal("Do ran outside")
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		var st unix.Stat_t
		if unix.Stat("/proc/self/task/"+th.Name()+"/ns/net", &st) == nil && st.Ino == inside {
			t.Errorf("thread %s stayed inside", th.Name())
		}
	}
}

func TestDoReturnsTheErrorOfTheFunction(t *testing.T) {
	name, want := testNS(t, "a"), errors.New("mine")
	if err := Do(name, func() error { return want }); !errors.Is(err, want) {
		t.Errorf("Do = %v", err)
	}
}

func TestStartAndPIDs(t *testing.T) {
	name := testNS(t, "a")
	if pids, err := PIDs(name); err != nil || len(pids) != 0 {
		t.Fatalf("PIDs of an empty namespace = %v, %v", pids, err)
	}
	cmd := exec.Command("sleep", "60")
	if err := Start(cmd, name); err != nil {
		t.Fatal(err)
	}
	pids, err := PIDs(name)
	if err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("PIDs = %v, %v; want %d", pids, err, cmd.Process.Pid)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
}

func TestVethBetweenTwoNamespacesCarriesTraffic(t *testing.T) {
	a, b := testNS(t, "a"), testNS(t, "b")
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, n} }
	if err := CreateVeth(End{NetNS: a, Name: "to-b", MAC: mac(1)}, End{NetNS: b, Name: "to-a", MAC: mac(2)}, 1400); err != nil {
		t.Fatal(err)
	}
	setUp(t, a, "to-b", "192.0.2.0/31")
	setUp(t, b, "to-a", "192.0.2.1/31")
	links := open(t, b)
	all, err := links.Links()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(l Link) bool { return l.Name == "to-a" })
	if i < 0 || !all[i].Up || all[i].MTU != 1400 || all[i].MAC.String() != mac(2).String() ||
		!slices.Contains(all[i].Addresses, netip.MustParsePrefix("192.0.2.1/31")) {
		t.Fatalf("links of b: %+v", all)
	}
	send(t, a, b, "192.0.2.1:7000")
	if err := links.Delete("to-a"); err != nil {
		t.Error(err)
	}
	if err := links.Delete("to-a"); err != nil {
		t.Errorf("delete of an absent device: %v", err)
	}
}

func TestRouteWithTwoNextHops(t *testing.T) {
	a, b := testNS(t, "a"), testNS(t, "b")
	for i, p := range []string{"192.0.2.0/31", "192.0.2.2/31"} {
		from, to := fmt.Sprintf("up%d", i), fmt.Sprintf("down%d", i)
		if err := CreateVeth(End{NetNS: a, Name: from, MAC: nil}, End{NetNS: b, Name: to, MAC: nil}, 1500); err != nil {
			t.Fatal(err)
		}
		prefix := netip.MustParsePrefix(p)
		setUp(t, a, from, p)
		setUp(t, b, to, netip.PrefixFrom(prefix.Addr().Next(), 31).String())
	}
	setUp(t, b, "lo", "198.51.100.9/32")
	for range 2 {
		err := open(t, a).AddRoute(Route{To: netip.MustParsePrefix("198.51.100.9/32"), By: []NextHop{
			{netip.MustParseAddr("192.0.2.1"), "up0"}, {netip.MustParseAddr("192.0.2.3"), "up1"},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := readInside(a, "/proc/thread-self/net/fib_trie")
	if err != nil || !strings.Contains(out, "198.51.100.9") {
		t.Errorf("route is not there: %v\n%s", err, out)
	}
	send(t, a, b, "198.51.100.9:7000")
}

func TestTxChecksumIsSetPerDevice(t *testing.T) {
	a, b := testNS(t, "a"), testNS(t, "b")
	if err := CreateVeth(End{NetNS: a, Name: "to-b", MAC: nil}, End{NetNS: b, Name: "to-a", MAC: nil}, 1500); err != nil {
		t.Fatal(err)
	}
	ns := open(t, a)
	for _, want := range []bool{false, true, true, false} {
		if err := ns.SetTxChecksum("to-b", want); err != nil {
			t.Fatal(err)
		}
		if got, err := ns.TxChecksum("to-b"); err != nil || got != want {
			t.Errorf("TxChecksum = %v, %v; want %v", got, err, want)
		}
	}
	if got, err := open(t, b).TxChecksum("to-a"); err != nil || !got {
		t.Errorf("the other end: %v, %v", got, err)
	}
	if err := ns.SetTxChecksum("absent", false); !errors.Is(err, unix.ENODEV) {
		t.Errorf("an absent device: %v", err)
	}
}

func TestSysctlsBelongToTheirNamespace(t *testing.T) {
	a, b := testNS(t, "a"), testNS(t, "b")
	const key = "net/ipv4/ip_forward"
	if err := open(t, a).SetSysctl(key, "1"); err != nil {
		t.Fatal(err)
	}
	if err := open(t, b).SetSysctl(key, "0"); err != nil {
		t.Fatal(err)
	}
	if got, err := readInside(a, "/proc/sys/"+key); err != nil || strings.TrimSpace(got) != "1" {
		t.Errorf("a: %q, %v", got, err)
	}
	if err := open(t, a).SetSysctl("kernel/hostname", "x"); err == nil {
		t.Error("a setting of the whole machine was accepted")
	}
}

func open(t *testing.T, name string) *Namespace {
	t.Helper()
	n, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func setUp(t *testing.T, name, device, address string) {
	t.Helper()
	n := open(t, name)
	for range 2 { // both may be repeated
		if err := errors.Join(n.AddAddress(device, netip.MustParsePrefix(address)), n.SetUp(device)); err != nil {
			t.Fatal(err)
		}
	}
}

func readInside(name, path string) (text string, err error) {
	err = Do(name, func() error {
		b, err := os.ReadFile(path)
		text = string(b)
		return err
	})
	return text, err
}

// send connects from a to address in b.
func send(t *testing.T, a, b, address string) {
	t.Helper()
	var l net.Listener
	if err := Do(b, func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err := Do(a, func() error {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}
