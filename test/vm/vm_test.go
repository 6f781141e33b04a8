// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/privtest"
	"weft/lab"
)

// helperVariable makes this program a helper inside a workload instead of a test.
const helperVariable = "WEFT_VM_HELPER"

// bulk is how much is sent each way, bytes.
const bulk = 4 << 20

func TestMain(m *testing.M) {
	if what := os.Getenv(helperVariable); what != "" {
		if err := help(what, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// help takes what comes by TCP and prints its sum, or sends a file.
func help(what, argument string) error {
	switch what {
	case "take":
		l, err := net.Listen("tcp", argument)
		if err != nil {
			return err
		}
		fmt.Println("ready")
		c, err := l.Accept()
		if err != nil {
			return err
		}
		sum := sha256.New()
		if _, err := io.Copy(sum, c); err != nil {
			return err
		}
		fmt.Printf("%x\n", sum.Sum(nil))
		return nil
	case "send":
		for deadline := time.Now().Add(5 * time.Second); ; {
			c, err := net.Dial("tcp", argument)
			if err == nil {
				_, err = io.Copy(c, os.Stdin)
				return err
			}
			if time.Now().After(deadline) {
				return err
			}
		}
	}
	return fmt.Errorf("no helper %q", what)
}

// TestVirtualMachine boots one on a tap and asks of it what a tenant would.
func TestVirtualMachine(t *testing.T) {
	privtest.Require(t)
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Fatalf("%v; 'make deps' installs it", err)
	}
	img := buildImage(t)
	l := bringUp(t)
	at, err := l.Agent("host-1").Attach(t.Context(), v1.AttachRequest{Tenant: "red", Port: "vm-1", Tap: "tap0"})
	if err != nil {
		t.Fatal(err)
	}
	if at.Way != "tap" || !at.Made || at.MTU != overlayMTU {
		t.Fatalf("attached %+v", at)
	}
	m := boot(t, l, "host-1", img, at.Device, at.MAC)
	if mtu := m.run("cat /sys/class/net/eth0/mtu"); mtu != "1450" {
		t.Errorf("the machine's MTU is %s, want 1450 from host_mtu", mtu)
	}
	m.run("ip link set eth0 mtu 1400") // DHCP is to say it again
	leased(t, m)
	m.run("ping -c 3 -W 2 10.0.1.1")
	m.run("ping -c 3 -W 2 10.0.1.4")
	if routes := m.run("ip -6 route show default"); !strings.Contains(routes, "via fe80::1 dev eth0") {
		t.Errorf("router advertisements gave the default route %q, want one by fe80::1", routes)
	}
	m.run("ip -6 addr add fd00:0:0:1::5/64 dev eth0; while ip -6 addr show dev eth0 | grep -q tentative; do usleep 100000; done")
	for _, to := range []string{"fe80::1%eth0", "fd00:0:0:1::1", "fd00:0:0:1::4"} {
		m.run("ping -6 -c 2 -W 2 %s", to)
	}
	bulkBothWays(t, l, m)
	restartUnderTraffic(t, l, m)
	forge(t, l, m)
	devicesMadeAgain(t, l, m)
}

// TestTapThatQEMUMakesItself goes when the machine ends, and comes back with the next one as another device of the same name.
func TestTapThatQEMUMakesItself(t *testing.T) {
	privtest.Require(t)
	img := buildImage(t)
	l := bringUp(t)
	api, err := l.Client()
	if err != nil {
		t.Fatal(err)
	}
	port, err := api.Get(t.Context(), v1.KindPort, "red", "vm-1")
	if err != nil {
		t.Fatal(err)
	}
	mac := port.(*v1.Port).Status.MAC.String()
	m := boot(t, l, "host-1", img, "tap7", mac)
	at, err := l.Agent("host-1").Attach(t.Context(), v1.AttachRequest{Tenant: "red", Port: "vm-1", Tap: "tap7"})
	if err != nil || at.Made || at.MAC != mac {
		t.Fatalf("attached %+v, %v", at, err)
	}
	leased(t, m)
	m.end()
	awaitPort(t, l, false)
	m = boot(t, l, "host-1", img, "tap7", mac)
	awaitPort(t, l, true)
	leased(t, m)
	m.run("ping -c 2 -W 2 10.0.1.4")
	if err := l.Agent("host-1").Detach(t.Context(), v1.DetachRequest{Tenant: "red", Port: "vm-1"}); err != nil {
		t.Fatal(err)
	}
	m.run("! ping -c 1 -W 1 10.0.1.4")
}

// awaitPort waits until the port is ready, or not; that takes less than a second.
func awaitPort(t *testing.T, l *lab.Lab, ready bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Second); ; time.Sleep(10 * time.Millisecond) {
		st, err := l.Agent("host-1").Status(t.Context())
		if err == nil && len(st.Attachments) == 1 && st.Attachments[0].Ready == ready {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after a second the port is not as it should be (ready: %v): %+v, %v", ready, st, err)
		}
	}
}

// leased has the machine ask for its address.
func leased(t *testing.T, m *machine) {
	t.Helper()
	lease := m.run("udhcpc -i eth0 -n -q -f -t 20 -T 1 -O mtu -s /bin/lease")
	if want := "lease ip=10.0.1.5 mask=24 router=10.0.1.1 mtu=1450"; !strings.Contains(lease, want) {
		t.Fatalf("DHCP gave\n%s\nwant %s", lease, want)
	}
}

// bulkBothWays sends by TCP, so that the machine and the workload hand each other's host super-packets to cut and
// checksums to finish.
func bulkBothWays(t *testing.T, l *lab.Lab, m *machine) {
	t.Helper()
	take := helper(t, l, "take", "10.0.1.4:7000", nil)
	m.run("dd if=/dev/urandom of=/bulk bs=64k count=%d 2>/dev/null", bulk/(64<<10))
	want, _, _ := strings.Cut(m.run("sha256sum /bulk"), " ")
	m.run("nc 10.0.1.4 7000 < /bulk")
	if got := take(); got != want {
		t.Errorf("from the machine: sum %s, want %s", got, want)
	}
	data := bytes.Repeat([]byte("from the workload to the machine"), bulk/32)
	end := m.begin("nc -l -p 7001 > /bulk; sha256sum /bulk")
	helper(t, l, "send", "10.0.1.5:7001", bytes.NewReader(data))()
	if got, want := end(), fmt.Sprintf("%x", sha256.Sum256(data)); !strings.HasPrefix(got, want) {
		t.Errorf("to the machine: sum %s, want %s", got, want)
	}
}

// helper starts this program as a helper in the workload; end waits for it and returns the last line that it printed.
func helper(t *testing.T, l *lab.Lab, what, argument string, in io.Reader) (end func() string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", argument)
	cmd.Env = append(os.Environ(), helperVariable+"="+what)
	return start(t, l, "red/web-1", cmd, in)
}

// start starts a command on a target of the lab; end waits for it and returns the last line that it printed.
func start(t *testing.T, l *lab.Lab, target string, cmd *exec.Cmd, in io.Reader) (end func() string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out
	if err := l.Start(cmd, target); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, if all is well
	return func() string {
		t.Helper()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("%s on %s: %v\n%s", cmd.Args, target, err, &out)
			}
		case <-time.After(commandWithin):
			t.Fatalf("%s on %s does not end", cmd.Args, target)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		return lines[len(lines)-1]
	}
}

// restartUnderTraffic ends the agent of the machine's host by force, starts it again, and again in good order, while
// machine and workload ping each other. Nothing may be lost.
func restartUnderTraffic(t *testing.T, l *lab.Lab, m *machine) {
	t.Helper()
	var out bytes.Buffer
	const count = 250
	ping := exec.Command("ping", "-n", "-q", "-c", fmt.Sprint(count), "-i", "0.02", "-W", "3", "10.0.1.5")
	ping.Stdout = &out
	if err := l.Start(ping, "red/web-1"); err != nil {
		t.Fatal(err)
	}
	end := m.begin("ping -q -c 25 -i 0.2 -W 3 10.0.1.4")
	if err := l.Restart("host-1", "", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, l)
	killAgent(t, l)
	awaitReady(t, l)
	if err := ping.Wait(); err != nil || !strings.Contains(out.String(), fmt.Sprintf("%d received", count)) {
		t.Errorf("while the agent was restarted: %v\n%s", err, &out)
	}
	if text := end(); !strings.Contains(text, "25 packets received") {
		t.Errorf("while the agent was restarted, the machine saw\n%s", text)
	}
}

// killAgent ends the agent of host-1 by force and starts it again.
func killAgent(t *testing.T, l *lab.Lab) {
	t.Helper()
	i := slices.IndexFunc(l.Processes, func(p lab.Process) bool { return p.Node == "host-1" })
	if err := l.Signal("host-1", "", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitUnlocked(t, l)
	again := exec.Command(l.Processes[i].Args[0], l.Processes[i].Args[1:]...)
	log, err := os.OpenFile(agentLog(l), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	again.Stdout, again.Stderr = log, log
	if err := l.Start(again, "host-1"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = again.Process.Kill() // the lab does not know it
		_ = again.Wait()
	})
}

// awaitUnlocked waits until the killed agent has let go of its folder: its threads do not all end at once.
func awaitUnlocked(t *testing.T, l *lab.Lab) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/run/weft/%s-host-1/agent.lock", l.Name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for deadline := time.Now().Add(5 * time.Second); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("the killed agent does not end")
		}
		time.Sleep(time.Millisecond)
	}
}

func agentLog(l *lab.Lab) string { return filepath.Join(l.Dir(), "host-1.log") }

// awaitReady waits until the agent of host-1 is in sync and has its port, and has written nothing for that.
func awaitReady(t *testing.T, l *lab.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		st, err := l.Agent("host-1").Status(ctx)
		if err != nil || !st.Synced || len(st.Attachments) != 1 || !st.Attachments[0].Ready {
			continue
		}
		if st.Writes != 0 {
			t.Errorf("the restarted agent wrote %d times to the kernel", st.Writes)
		}
		return
	}
	t.Fatal("the restarted agent is not ready")
}

// forge has the machine send from an address that is not its own.
func forge(t *testing.T, l *lab.Lab, m *machine) {
	t.Helper()
	m.run("ip addr add 10.0.1.77/24 dev eth0")
	m.run("! ping -c 2 -W 1 -I 10.0.1.77 10.0.1.4")
	drops, err := l.Agent("host-1").Dump(t.Context(), "drop")
	if err != nil || !strings.Contains(drops, "reason=src-ip-spoof packets=2 ") {
		t.Errorf("drops, %v:\n%s", err, drops)
	}
}

// devicesMadeAgain deletes the packet path's own devices under the machine. The agent hears of it and makes others.
func devicesMadeAgain(t *testing.T, l *lab.Lab, m *machine) {
	t.Helper()
	start(t, l, "host-1", exec.Command("ip", "link", "del", "weft-vx"), nil)()
	began := time.Now()
	m.run("until ping -c 1 -W 1 10.0.1.4 >/dev/null; do :; done")
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the tunnel was back after %s", took)
	}
	start(t, l, "host-1", exec.Command("ip", "link", "del", "weft-svc"), nil)()
	leased(t, m)
}

// bringUp makes a lab of two hosts, and takes it down after the test.
func bringUp(t *testing.T) *lab.Lab {
	t.Helper()
	program := os.Getenv("WEFT_BIN")
	if program == "" {
		program = filepath.Join(t.TempDir(), "weft")
		build := exec.Command("go", "build", "-o", program, "weft/cmd/weft")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build weft: %v\n%s", err, out)
		}
	}
	t.Setenv("WEFT_CONFIG", filepath.Join(t.TempDir(), "config.yaml")) // the user's own contexts are not touched
	topology, err := lab.LoadTopology("testdata/pair.yaml")
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("vm%d", os.Getpid())
	t.Cleanup(func() {
		if err := lab.Down(name, io.Discard); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if log, err := os.ReadFile(filepath.Join("/var/lib/weft/lab", name, "host-1.log")); err == nil && t.Failed() {
			t.Logf("log of host-1's agent:\n%s", log)
		}
	})
	l, err := lab.Up(t.Context(), lab.UpConfig{Name: name, Topology: topology, Binary: program, Progress: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return l
}
