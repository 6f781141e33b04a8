// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weft/internal/netns"
)

// birdConfig makes of the node a router with BIRD 2.
func (n *node) birdConfig() string {
	family := "ipv4"
	if n.v6 {
		family = "ipv6"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "log stderr all;\nrouter id 198.19.0.%d;\ngraceful restart wait 30;\nprotocol device {}\n", n.number)
	fmt.Fprintf(&b, "protocol direct { %s; interface \"lo\"; }\nprotocol bfd { interface \"*\" { interval 200 ms; multiplier 3; }; }\n", family)
	fmt.Fprintf(&b, "protocol kernel { merge paths yes; graceful restart yes; persist yes; %s { export where source = RTS_BGP; }; }\n", family)
	for _, l := range n.links {
		fmt.Fprintf(&b, "protocol bgp { local as %d; neighbor %s as %d; direct; passive on; hold time 9; graceful restart on; ", n.as(), l.address, l.peer.as())
		if n.bfd {
			b.WriteString("bfd on; ")
		}
		if n.password != "" {
			fmt.Fprintf(&b, "password \"%s\"; ", n.password)
		}
		fmt.Fprintf(&b, "%s { import all; export all; next hop self; }; }\n", family)
	}
	return b.String()
}

// startDaemon runs one of FRR's daemons.
func (n *node) startDaemon(daemon string) {
	n.t.Helper()
	dir := filepath.Join("/run", n.ns)
	if err := os.Mkdir(dir, 0o755); err == nil { // the daemons become the user frr
		n.t.Cleanup(func() { _ = os.RemoveAll(dir) })
		who, err := user.Lookup("frr")
		if err != nil {
			n.t.Fatalf("FRR is not installed (make deps): %v", err)
		}
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		if err := os.Chown(dir, uid, gid); err != nil {
			n.t.Fatal(err)
		}
	}
	args := []string{
		"-f", n.write(dir, daemon+".conf", n.frrConfig(daemon)), "-i", filepath.Join(dir, daemon+".pid"),
		"-z", filepath.Join(dir, "zserv.api"), "--vty_socket", dir, "--log", "stdout", "-P", "0",
	}
	switch daemon {
	case "zebra":
		args = append(args, "-K", "120")
	case "bfdd":
		args = append(args, "--bfdctl", filepath.Join(dir, "bfdd.sock"))
	}
	n.startOne(dir, "/usr/lib/frr/"+daemon, args...)
	if daemon == "zebra" { // who does not find it tries again ten seconds later
		eventually(n.t, 5*time.Second, "zebra listens", func() bool { _, err := os.Stat(filepath.Join(dir, "zserv.api")); return err == nil })
	}
}

// frrConfig makes of the node a router with FRR 8.
func (n *node) frrConfig(daemon string) string {
	if daemon != "bgpd" {
		return ""
	}
	family := "ipv4 unicast"
	if n.v6 {
		family = "ipv6 unicast"
	}
	var b, in strings.Builder
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id 198.19.0.%d\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n coalesce-time 10\n timers bgp 3 9\n", n.as(), n.number)
	for _, l := range n.links {
		fmt.Fprintf(&b, " neighbor %[1]s remote-as %[2]d\n neighbor %[1]s passive\n neighbor %[1]s advertisement-interval 0\n", l.address, l.peer.as())
		if n.bfd {
			fmt.Fprintf(&b, " neighbor %s bfd 3 200 200\n", l.address)
		}
		if n.password != "" {
			fmt.Fprintf(&b, " neighbor %s password %s\n", l.address, n.password)
		}
		fmt.Fprintf(&in, "  neighbor %s activate\n", l.address)
	}
	fmt.Fprintf(&b, " address-family %s\n  network %s/%d\n%s exit-address-family\n", family, n.loopback(), n.loopback().BitLen(), &in)
	return b.String()
}

// Two routers of others, BIRD and FRR, beside each other: both are ways, and sessions are signed. A BIRD that is killed and started
// again changes no route and loses no packet. Of FRR the same holds while it is away; when it is back, FRR 8.4 itself withdraws, for a
// moment, what it has not heard again yet.
func TestBIRDAndFRR(t *testing.T) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := fabric(t, "other", v6)
			h1, h2, t1, t2 := nodes[0], nodes[1], nodes[2], nodes[3]
			t1.program, t2.program = bird, frr
			for _, n := range nodes {
				n.password = "nottoldtoothers"
			}
			converge(t, nodes)

			changes := []func() []string{h1.changes(), h2.changes()}
			stop := h1.numbered(h2, 2000)
			killed := time.Now()
			t1.kill(syscall.SIGKILL)
			t1.start()
			for _, h := range nodes[:2] {
				eventually(t, 15*time.Second, "BIRD is a neighbour again", func() bool { return h.up(0, killed) })
			}
			bgpd := t2.processes[len(t2.processes)-1]
			_ = bgpd.Process.Kill()
			_ = bgpd.Wait()
			t2.processes = t2.processes[:len(t2.processes)-1]
			for _, h := range nodes[:2] {
				eventually(t, 2*time.Second, "the session with FRR is over", func() bool { return h.state().Peers[1].State != "established" })
			}
			time.Sleep(500 * time.Millisecond) // what would be written late
			sent, lost := stop()
			t.Logf("%d of %d packets lost", lost, sent)
			if lost != 0 || sent == 0 {
				t.Error("packets were lost")
			}
			for _, stop := range changes {
				if lines := stop(); len(lines) != 0 {
					t.Errorf("routes changed:\n%s", strings.Join(lines, "\n"))
				}
			}
			killed = time.Now()
			t2.startDaemon("bgpd")
			for _, h := range nodes[:2] {
				eventually(t, 15*time.Second, "FRR is a neighbour again", func() bool { return h.up(1, killed) })
			}
			eventually(t, 5*time.Second, "both are ways", func() bool { return len(h1.by(h2)) == 2 && len(h2.by(h1)) == 2 })
		})
	}
}

// up reports whether the session with a peer began after a moment.
func (n *node) up(peer int, after time.Time) bool {
	s := n.state()
	return len(s.Peers) > peer && s.Peers[peer].State == "established" && s.Peers[peer].Since.After(after.Truncate(time.Second))
}

// numbered sends rate numbered packets a second to another node, by 16 flows, until stop.
func (n *node) numbered(to *node, rate int) (stop func() (sent, lost int)) {
	n.t.Helper()
	open := func(at *node) (c *net.UDPConn) {
		err := netns.Do(at.ns, func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.loopback(), 0)))
			return err
		})
		if err != nil {
			n.t.Fatal(err)
		}
		return c
	}
	var from [16]*net.UDPConn
	for i := range from {
		from[i] = open(n)
	}
	into := open(to)
	if err := into.SetReadBuffer(4 << 20); err != nil {
		n.t.Fatal(err)
	}
	end := make(chan struct{})
	var sending, reading sync.WaitGroup
	sent, came := 0, make(map[uint64]bool)
	sending.Go(func() {
		for start := time.Now(); ; time.Sleep(time.Millisecond) {
			for ; sent < int(time.Since(start).Seconds()*float64(rate)); sent++ {
				_, _ = from[sent%len(from)].WriteToUDPAddrPort(binary.BigEndian.AppendUint64(nil, uint64(sent)), into.LocalAddr().(*net.UDPAddr).AddrPort())
			}
			select {
			case <-end:
				return
			default:
			}
		}
	})
	reading.Go(func() {
		for b := make([]byte, 16); ; {
			k, err := into.Read(b)
			if err != nil {
				return
			}
			if k == 8 {
				came[binary.BigEndian.Uint64(b)] = true
			}
		}
	})
	return func() (int, int) {
		close(end)
		sending.Wait()
		_ = into.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		reading.Wait()
		for _, c := range append(from[:], into) {
			c.Close()
		}
		return sent, sent - len(came)
	}
}

// BFD finds a neighbour that is silent, whatever its program, and a speaker with BFD that is killed is drained: its routes go, too.
func TestBFD(t *testing.T) {
	for name, c := range map[string]struct {
		program program
		v6      bool
		how     syscall.Signal
	}{
		"silent":      {ours, false, syscall.SIGSTOP},
		"killed":      {ours, true, syscall.SIGKILL},
		"BIRD-silent": {bird, true, syscall.SIGSTOP},
		"FRR-silent":  {frr, false, syscall.SIGSTOP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := fabric(t, strings.ToLower(strings.NewReplacer("silent", "s", "killed", "k", "-", "").Replace(name)), c.v6)
			h1, h2, t1, t2 := nodes[0], nodes[1], nodes[2], nodes[3]
			t1.program, t2.program = c.program, c.program
			for _, n := range nodes {
				n.bfd = true
			}
			converge(t, nodes)
			for _, h := range nodes[:2] {
				eventually(t, 10*time.Second, "BFD is up", func() bool {
					s := h.state()
					return len(s.Peers) == 2 && s.Peers[0].BFD == "up" && s.Peers[1].BFD == "up"
				})
			}
			t1.signal(c.how)
			took := eventually(t, 3*time.Second, "nobody goes by the silent router", func() bool { return len(h2.by(h1)) == 1 && len(h1.by(h2)) == 1 })
			t.Logf("gone after %s", took.Round(time.Millisecond))
			if took > time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
