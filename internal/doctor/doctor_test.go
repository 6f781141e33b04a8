// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	v1 "weft/api/v1"
	"weft/internal/base/agentfile"
	"weft/internal/base/privtest"
	"weft/internal/netns"
	"weft/internal/node/kernel"
	"weft/internal/node/kernel/device"
)

// patient is a machine of the test's own: a network namespace, and folders.
type patient struct {
	ns  string
	cfg Config
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	privtest.Require(t)
	p := &patient{ns: fmt.Sprintf("wefttest-%d", os.Getpid()), cfg: Config{Root: t.TempDir()}}
	p.cfg.BPFFS = "/sys/fs/bpf/weft-test/doctor-" + fmt.Sprint(os.Getpid())
	if err := netns.Create(p.ns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(p.cfg.BPFFS)
		os.Remove(filepath.Dir(p.cfg.BPFFS))
		if err := netns.Delete(p.ns); err != nil {
			t.Error(err)
		}
	})
	return p
}

// run runs commands in the patient's namespace.
func (p *patient) run(t *testing.T, lines ...string) {
	t.Helper()
	for _, line := range lines {
		args := append([]string{"netns", "exec", p.ns}, strings.Fields(line)...)
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
}

func (p *patient) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(p.cfg.Root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// isNode gives it an agent's file.
func (p *patient) isNode(t *testing.T, f agentfile.File) {
	t.Helper()
	text, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "etc/weft/agent.yaml", string(text))
}

// look makes one check there.
func (p *patient) look(t *testing.T, name string) (list []Finding) {
	t.Helper()
	if err := netns.Do(p.ns, func() error { list = Look(t.Context(), p.cfg, name); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

// want looks for a finding that has all words.
func (p *patient) want(t *testing.T, name string, level Level, words ...string) {
	t.Helper()
	list := p.look(t, name)
	for _, f := range list {
		all := f.Check == name && f.Level == level && (level == OK || f.Fix != "")
		for _, w := range words {
			all = all && strings.Contains(f.What, w)
		}
		if all {
			return
		}
	}
	t.Errorf("%s: no %s with %q and a fix in %+v", name, level, words, list)
}

func TestMachineThatIsFit(t *testing.T) {
	p := newPatient(t)
	for _, name := range []string{"tcx", "devices", "tunnel-port", "leftovers", "firewall", "forwarding", "managers"} {
		p.want(t, name, OK)
	}
	p.cfg.Root = ""
	p.want(t, "kernel", OK, "6.6")
	p.want(t, "btf", OK)
	p.want(t, "bpffs", OK)
	for _, n := range Names() {
		if f := p.look(t, n); len(f) > 0 && f[0].Check != n {
			t.Errorf("%s is told as %s", n, f[0].Check)
		}
	}
}

func TestKernelThatLacksSomething(t *testing.T) {
	for release, want := range map[string]Level{"6.6.0": OK, "6.18.44-x": OK, "7.0-rc1": OK, "6.5.13": Fail, "6.1.0-21-amd64": Fail, "5.15.0": Fail, "mainline": Warn} {
		if got := judgeKernel(release)[0].Level; got != want {
			t.Errorf("kernel %s: %s, want %s", release, got, want)
		}
	}
	p := newPatient(t)
	p.want(t, "btf", Fail, "types") // below the patient's own root there is nothing
	p.write(t, "sys/fs/bpf/file", "")
	p.want(t, "bpffs", Fail, "end with the agent")
	p.write(t, "sys/kernel/security/lockdown", "none integrity [confidentiality]\n")
	p.want(t, "tcx", Fail, "locked down")
	p.write(t, "proc/sys/net/core/bpf_jit_enable", "0\n")
	p.want(t, "jit", Warn, "interpreted")
}

// twoWays gives it two ways to other nodes.
func (p *patient) twoWays(t *testing.T) {
	t.Helper()
	p.run(t, "ip link add up0 type veth peer far0", "ip link add up1 type veth peer far1",
		"ip addr add 198.18.0.0/31 dev up0", "ip addr add 198.18.0.2/31 dev up1", "ip link set up0 up", "ip link set up1 up", "ip link set far0 up", "ip link set far1 up",
		"ip route add default nexthop via 198.18.0.1 dev up0 nexthop via 198.18.0.3 dev up1")
}

func TestUnderlay(t *testing.T) {
	p := newPatient(t)
	p.want(t, "mtu", Warn, "no device leads")
	p.run(t, "ip link add only0 mtu 1400 type veth peer far9", "ip addr add 192.0.2.10/24 dev only0", "ip link set only0 up")
	p.want(t, "mtu", OK, "only0", "1400") // a machine without any gateway
	p.twoWays(t)
	p.want(t, "mtu", OK, "1500", "1450")
	p.want(t, "xdp", OK, "up0", "in its driver")
	p.isNode(t, agentfile.File{Node: "a", Address: netip.MustParseAddr("198.19.0.1"), UnderlayMTU: 9000})
	p.want(t, "mtu", Fail, "9000", "1500")
	p.isNode(t, agentfile.File{Node: "a", Address: netip.MustParseAddr("2001:db8::1"), UnderlayMTU: 1300})
	p.want(t, "mtu", Fail, "1280")
	p.isNode(t, agentfile.File{Node: "a", Address: netip.MustParseAddr("198.19.0.1"), UnderlayMTU: 1500})
	p.want(t, "mtu", OK)
	p.run(t, "ip link add weft-vx mtu 1400 type vxlan external dstport 4789")
	p.want(t, "mtu", Warn, "1400 instead of 1450")

	p.run(t, "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up0.rp_filter=0 net.ipv4.conf.up1.rp_filter=0")
	p.want(t, "rp-filter", OK)
	p.run(t, "sysctl -qw net.ipv4.conf.up1.rp_filter=1")
	p.want(t, "rp-filter", Warn, "up1")
	p.run(t, "sysctl -qw net.ipv4.ip_forward=1")
	p.want(t, "forwarding", OK)
	p.isNode(t, agentfile.File{Node: "a", Address: netip.MustParseAddr("198.19.0.1"), BGPConfig: "/etc/weft/bgp.yaml", Roles: []string{"host"}})
	p.want(t, "forwarding", Warn, "between them")
}

func TestGenericXDPIsTold(t *testing.T) {
	p := newPatient(t)
	p.run(t, "ip link add br0 type bridge", "ip addr add 198.18.0.0/31 dev br0", "ip link set br0 up", "ip route add default via 198.18.0.1")
	p.want(t, "xdp", OK, "br0", "generic")
}

func TestTunnelPortOfOthers(t *testing.T) {
	p := newPatient(t)
	var c *net.UDPConn
	if err := netns.Do(p.ns, func() (err error) { c, err = net.ListenUDP("udp", &net.UDPAddr{Port: tunnelPort}); return err }); err != nil {
		t.Fatal(err)
	}
	p.want(t, "tunnel-port", Fail, fmt.Sprintf("process %d", os.Getpid()))
	c.Close()
	p.want(t, "tunnel-port", OK)
	p.run(t, "ip link add vx0 type vxlan id 7 dstport 4789 local 198.18.0.0")
	p.want(t, "tunnel-port", Fail, "vx0")
}

func TestPacketFilters(t *testing.T) {
	p := newPatient(t)
	p.run(t, "nft add table inet filter", "nft add chain inet filter input { type filter hook input priority 0 ; policy drop ; }")
	p.want(t, "firewall", Fail, "inet filter input", "4789")
	p.run(t, "nft add rule inet filter input udp dport 4789 accept")
	p.want(t, "firewall", OK)
	p.run(t, "nft add chain inet filter output { type filter hook output priority 0 ; policy drop ; }")
	p.want(t, "firewall", Fail, "inet filter output")
	p.run(t, "nft delete chain inet filter output", "nft add table ip docker", "nft add chain ip docker FORWARD { type filter hook forward priority 0 ; policy drop ; }")
	p.want(t, "firewall", Warn, "ip docker FORWARD", "Docker")
	p.run(t, "nft delete table ip docker", "nft add table ip nat", "nft add chain ip nat KUBE-SERVICES")
	p.want(t, "firewall", Warn, "1 chains of Kubernetes")
	p.run(t, "nft delete table ip nat", "nft add table ip raw", "nft add chain ip raw prerouting { type filter hook prerouting priority -300 ; }", "nft add rule ip raw prerouting ct zone 5 accept")
	p.want(t, "firewall", OK) // it asks for a zone, and sets none
	p.run(t, "nft add rule ip raw prerouting iifname eth9 ct zone set 5")
	p.want(t, "firewall", Warn, "ip raw prerouting", "zones")
	p.run(t, "nft delete table ip raw", "nft add table inet firewalld", "nft add chain inet firewalld filter_INPUT { type filter hook input priority 10 ; }")
	p.want(t, "firewall", Fail, "firewalld")
	p.run(t, "nft add rule inet firewalld filter_INPUT udp dport 4789 accept")
	p.want(t, "firewall", OK)
}

func TestNetworksOfOthers(t *testing.T) {
	p := newPatient(t)
	for name, dev := range map[string]string{"Open vSwitch": "ovs-system", "Cilium": "cilium_host", "Calico": "cali12345", "Flannel": "flannel.1", "kube-proxy": "kube-ipvs0", "Docker": "docker0"} {
		p.run(t, "ip link add "+dev+" type bridge")
		p.want(t, "other-networks", Warn, name, dev)
		p.run(t, "ip link delete "+dev)
	}
	program := filepath.Join(t.TempDir(), "ovs-vswitchd")
	sleep, err := exec.LookPath("sleep")
	if err == nil {
		var text []byte
		if text, err = os.ReadFile(sleep); err == nil {
			err = os.WriteFile(program, text, 0o700)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.want(t, "other-networks", Warn, "Open vSwitch", fmt.Sprintf("process %d", cmd.Process.Pid))
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	p.want(t, "conntrack", OK)
	if f := judgeConntrack(80, 100); f[0].Level != Warn {
		t.Errorf("a table that is nearly full: %+v", f)
	}
}

func TestLeftovers(t *testing.T) {
	p := newPatient(t)
	pins := filepath.Join(p.cfg.BPFFS, "node")
	const pair = "wp0123456789ab"
	err := netns.Do(p.ns, func() error {
		path, err := kernel.Open(kernel.Config{PinDir: pins, Tunnel: netip.MustParseAddr("198.18.0.0"), RouterMAC: [6]byte{2, 1}, UnderlayMTU: 1500})
		if err != nil {
			return err
		}
		defer path.Close()
		index, err := device.CreateVeth(device.Veth{HostName: pair, PeerName: "box0", MAC: [6]byte{2, 2}, MTU: 1450, Alias: "weft red/web-1"})
		return errors.Join(err, path.AttachPort(index, pair))
	})
	if err != nil {
		t.Fatal(err)
	}
	p.want(t, "leftovers", Warn, "weft-vx", "1 devices of ports", pins)
	p.want(t, "tunnel-port", OK) // the kernel's own socket is weft's
	if err := os.RemoveAll(filepath.Join(pins, "links")); err != nil {
		t.Fatal(err)
	}
	p.want(t, "leftovers", Fail, pair, "unchecked")
	if err := os.Mkdir(filepath.Join(p.cfg.BPFFS, p.ns), 0o700); err != nil { // as a lab has
		t.Fatal(err)
	}
	for _, f := range p.look(t, "leftovers") {
		if strings.Contains(f.What, p.ns) {
			t.Errorf("a lab's node is taken for a leftover: %+v", f)
		}
	}
	p.run(t, "ip link add up0 type veth peer far0", "ip addr add 198.18.0.0/31 dev up0", "ip link set up0 up", "ip link set far0 up", "ip route add 198.19.0.0/24 via 198.18.0.1 proto 119")
	p.want(t, "leftovers", Warn, "1 routes")
	p.write(t, "run/weft/x", "")
	probe := "weft-check-" + p.ns
	if err := netns.Create(probe); err != nil {
		t.Fatal(err)
	}
	p.want(t, "leftovers", Warn, "weft-check-")
	if err := netns.Delete(probe); err != nil {
		t.Error(err)
	}
	// Who has an agent has no leftovers.
	l, err := net.Listen("unix", filepath.Join(p.cfg.Root, "run/weft/agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, f := range p.look(t, "leftovers") {
		if strings.Contains(f.What, "no agent runs") {
			t.Errorf("%+v", f)
		}
	}
}

func TestAgentThatIsNotWell(t *testing.T) {
	p := newPatient(t)
	if f := p.look(t, "agent"); len(f) > 0 {
		t.Errorf("a machine that is no node: %+v", f)
	}
	stream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	p.isNode(t, agentfile.File{Node: "a", Address: netip.MustParseAddr("198.18.0.0"), Server: stream.Addr().String()})
	p.want(t, "agent", Fail, "no agent answers")
	var status v1.AgentStatus
	p.write(t, "run/weft/x", "")
	l, err := net.Listen("unix", filepath.Join(p.cfg.Root, "run/weft/agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(status) }), ReadHeaderTimeout: time.Second}
	go func() { _ = s.Serve(l) }() // ends with Close
	defer s.Close()
	for _, c := range []struct {
		status v1.AgentStatus
		level  Level
		word   string
	}{
		{v1.AgentStatus{Node: "a", Connected: true, Synced: true, Rows: 3}, OK, "3 rows"},
		{v1.AgentStatus{Node: "a", Connected: true}, Warn, "waits for its rows"},
		{v1.AgentStatus{Node: "a", Removed: "by hand"}, Fail, "by hand"},
		{v1.AgentStatus{Node: "a", Synced: true}, Fail, "no server"}, // it runs in another namespace, from which no way leads there
		{v1.AgentStatus{Node: "a", Connected: true, Synced: true, Errors: []string{"save rows: no space"}}, Warn, "no space"},
	} {
		status = c.status
		p.want(t, "agent", c.level, c.word)
	}
}

func TestManagersOfDevices(t *testing.T) {
	p := newPatient(t)
	p.write(t, "run/NetworkManager/x", "")
	p.want(t, "managers", Warn, "NetworkManager")
	p.write(t, "usr/lib/NetworkManager/conf.d/50-weft.conf", shipped(t, "networkmanager.conf"))
	p.want(t, "managers", OK)
	p.write(t, "run/systemd/netif/x", "")
	p.want(t, "managers", Warn, "networkd")
	p.write(t, "usr/lib/systemd/network/00-weft.network", shipped(t, "networkd.network"))
	p.want(t, "managers", OK)
	p.isNode(t, agentfile.File{Node: "a", Address: netip.MustParseAddr("198.18.0.0"), BGPConfig: "/etc/weft/bgp.yaml"})
	p.want(t, "managers", Fail, "removes routes")
	p.write(t, "usr/lib/systemd/networkd.conf.d/50-weft.conf", shipped(t, "networkd.conf"))
	p.want(t, "managers", OK)
}

// shipped is a file of the package.
func shipped(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/etc", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDiskThatIsFull(t *testing.T) {
	p := newPatient(t)
	dir := filepath.Join(p.cfg.Root, "var/lib/weft")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for size, want := range map[string]Level{"size=64m": Fail, "size=512m": Warn, "size=2g": OK} {
		if err := unix.Mount("none", dir, "tmpfs", 0, size); err != nil {
			t.Fatal(err)
		}
		p.want(t, "disk", want, "room")
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClockThatIsOff(t *testing.T) {
	p := newPatient(t)
	p.cfg.Now = time.Now()
	for off, want := range map[time.Duration]Level{0: OK, 3 * time.Second: OK, -time.Minute: Warn, time.Hour: Warn, 13 * time.Hour: Fail, -36 * time.Hour: Fail} {
		p.cfg.ServerTime = func(context.Context) (time.Time, error) { return p.cfg.Now.Add(-off), nil }
		words := "the server's"
		if want == OK {
			words = "that of the server"
		}
		p.want(t, "clock", want, words)
	}
	p.cfg.ServerTime = func(context.Context) (time.Time, error) { return time.Time{}, ErrNoServer }
	p.want(t, "clock", OK, "not compared")
	p.cfg.ServerTime = func(context.Context) (time.Time, error) { return time.Time{}, errors.New("nobody answers") }
	p.want(t, "clock", Warn, "nobody answers")
}

func TestCertificatesThatEnd(t *testing.T) {
	p := newPatient(t)
	p.cfg.Now = time.Now()
	if f := p.look(t, "certificates"); len(f) > 0 {
		t.Errorf("without any: %+v", f)
	}
	for _, c := range []struct {
		name           string
		authority      bool
		since, lasting time.Duration
		want           Level
	}{
		{"fresh", false, time.Hour, 24 * time.Hour, OK},
		{"old", false, 22 * time.Hour, 24 * time.Hour, Warn},
		{"over", false, 25 * time.Hour, 24 * time.Hour, Fail},
		{"early", false, -time.Hour, 24 * time.Hour, Fail},
		{"ca", true, time.Hour, 10 * 365 * 24 * time.Hour, OK},
		{"old-ca", true, 365 * 24 * time.Hour, 370 * 24 * time.Hour, Warn},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.write(t, "var/lib/weft/agent/node.pem", certificate(t, c.authority, p.cfg.Now.Add(-c.since), c.lasting))
			words := []string{"agent/node.pem"}
			if c.want == OK {
				words = []string{"good for a while"}
			}
			p.want(t, "certificates", c.want, words...)
		})
	}
}

func certificate(t *testing.T, authority bool, begin time.Time, lasting time.Duration) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: begin, NotAfter: begin.Add(lasting), IsCA: authority, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
