// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"weft/internal/base/privtest"
	"weft/internal/netns"
)

// speakVariable makes a speaker of the test's own program: the configuration's path, then the socket's.
const speakVariable = "WEFT_TEST_SPEAK"

func TestMain(m *testing.M) {
	if config, socket, ok := strings.Cut(os.Getenv(speakVariable), "|"); ok {
		cfg, err := LoadConfig(config)
		if err == nil {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			err = Run(ctx, Options{Config: cfg, Socket: socket, Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// node is a namespace with a speaker.
type node struct {
	t      *testing.T
	ns     string
	number int

	links     []link
	program   program
	processes []*exec.Cmd
	v6        bool
	bfd       bool
	password  string
}

// program is what speaks on a node.
type program string

const (
	ours program = ""
	bird program = "bird"
	frr  program = "frr"
)

type link struct {
	peer     *node
	address  netip.Addr // the peer's
	device   string
	relation Relation
}

func (n *node) loopback() netip.Addr {
	if n.v6 {
		return netip.MustParseAddr(fmt.Sprintf("fd00:19::%d", n.number))
	}
	return netip.MustParseAddr(fmt.Sprintf("198.19.0.%d", n.number))
}

// fabric is two hosts, each with a link to both of two routers: h1 h2 t1 t2.
func fabric(t *testing.T, name string, v6 bool) []*node {
	privtest.Require(t)
	version := 4
	if v6 {
		version = 6
	}
	var nodes []*node
	for i, label := range []string{"h1", "h2", "t1", "t2"} {
		n := &node{t: t, ns: fmt.Sprintf("bgptest%d-%s%d-%s", os.Getpid()%1000, name, version, label), number: i + 1, v6: v6}
		if err := netns.Create(n.ns); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			n.kill(syscall.SIGKILL)
			if err := netns.Delete(n.ns); err != nil {
				t.Error(err)
			}
		})
		err := netns.Inside(n.ns, func(ns *netns.Namespace) error {
			for _, s := range []string{"net/ipv4/ip_forward", "net/ipv4/fib_multipath_hash_policy", "net/ipv4/conf/all/ignore_routes_with_linkdown", "net/ipv4/conf/default/ignore_routes_with_linkdown", "net/ipv6/conf/all/forwarding"} {
				if err := ns.SetSysctl(s, "1"); err != nil {
					return err
				}
			}
			if err := ns.SetSysctl("net/ipv6/conf/default/accept_dad", "0"); err != nil {
				return err
			}
			if err := ns.SetUp("lo"); err != nil {
				return err
			}
			return ns.AddAddress("lo", netip.PrefixFrom(n.loopback(), n.loopback().BitLen()))
		})
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, n)
	}
	for _, h := range nodes[:2] {
		for _, r := range nodes[2:] {
			connect(t, h, r)
		}
	}
	return nodes
}

// connect makes a link between a customer and its provider.
func connect(t *testing.T, customer, provider *node) {
	t.Helper()
	number := customer.number*16 + provider.number*2
	even := netip.MustParseAddr(fmt.Sprintf("198.18.0.%d", number))
	if customer.v6 {
		even = netip.MustParseAddr(fmt.Sprintf("fd00:18::%x", number))
	}
	down, up := fmt.Sprintf("n%d", provider.number), fmt.Sprintf("n%d", customer.number)
	if err := netns.CreateVeth(netns.End{NetNS: customer.ns, Name: down, Index: 100 + provider.number}, netns.End{NetNS: provider.ns, Name: up}, 1500); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		n       *node
		device  string
		address netip.Addr
	}{{customer, down, even.Next()}, {provider, up, even}} {
		err := netns.Inside(e.n.ns, func(ns *netns.Namespace) error {
			if err := ns.AddAddress(e.device, netip.PrefixFrom(e.address, e.address.BitLen()-1)); err != nil {
				return err
			}
			return ns.SetUp(e.device)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	customer.links = append(customer.links, link{provider, even, down, Provider})
	provider.links = append(provider.links, link{customer, even.Next(), up, Customer})
}

func (n *node) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, "as: %d\nrouterID: 198.19.0.%d\nannounce: [\"%s/%d\"]\nsource: [\"%s\"]\n", n.as(), n.number, n.loopback(), n.loopback().BitLen(), n.loopback())
	b.WriteString("peers:\n")
	for _, l := range n.links {
		fmt.Fprintf(&b, "  - {address: \"%s\", as: %d, relation: %s, bfd: %t, password: \"%s\"}\n", l.address, l.peer.as(), l.relation, n.bfd, n.password)
	}
	return b.String()
}

func (n *node) as() int { return 4200000000 + n.number }

func (n *node) socket() string { return filepath.Join("/run", n.ns+".sock") }

// start runs the node's speaker.
func (n *node) start() {
	n.t.Helper()
	dir := n.t.TempDir()
	switch n.program {
	case bird:
		n.startOne(dir, "bird", "-f", "-R", "-c", n.write(dir, "bird.conf", n.birdConfig()), "-s", filepath.Join(dir, "ctl"), "-P", filepath.Join(dir, "pid"))
	case frr:
		for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
			n.startDaemon(daemon)
		}
	default:
		n.startOne(dir, "/proc/self/exe", n.write(dir, "bgp.yaml", n.config()))
	}
}

func (n *node) write(dir, name, text string) (path string) {
	n.t.Helper()
	path = filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// startOne runs one program of the node. What it says is told if the test fails.
func (n *node) startOne(dir, path string, args ...string) {
	n.t.Helper()
	log, err := os.Create(filepath.Join(dir, filepath.Base(path)+".log"))
	if err != nil {
		n.t.Fatal(err)
	}
	p := exec.Command(path, args...)
	if n.program == ours {
		p.Args, p.Env = p.Args[:1], append(os.Environ(), speakVariable+"="+args[0]+"|"+n.socket())
	}
	p.Stdout, p.Stderr = log, log
	if err := netns.Start(p, n.ns); err != nil {
		n.t.Fatal(err)
	}
	n.processes = append(n.processes, p)
	n.t.Cleanup(func() {
		n.kill(syscall.SIGKILL)
		_ = os.Remove(n.socket())
		if text, err := os.ReadFile(log.Name()); err == nil && n.t.Failed() {
			n.t.Logf("%s:\n%s", n.ns, text)
		}
	})
}

// kill ends the node's programs, and waits for them.
func (n *node) kill(sig os.Signal) {
	n.signal(sig)
	for _, p := range n.processes {
		_ = p.Wait()
	}
	n.processes = nil
}

func (n *node) signal(sig os.Signal) {
	for _, p := range n.processes {
		_ = p.Process.Signal(sig)
	}
}

func (n *node) state() *State {
	s, err := NewClient(n.socket()).State(n.t.Context())
	if err != nil {
		return &State{}
	}
	return s
}

// by lists the next hops of the route to another node.
func (n *node) by(to *node) []string {
	s := n.state()
	i := slices.IndexFunc(s.Routes, func(r RouteState) bool { return r.To.Addr() == to.loopback() })
	if i < 0 {
		return nil
	}
	return s.Routes[i].By
}

// eventually waits until a condition holds, and returns how long that took.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > within {
			t.Fatalf("not after %s: %s", within, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(start)
}

// changes counts the changes of routes in a namespace until stop, as the kernel tells them.
func (n *node) changes() (stop func() []string) {
	n.t.Helper()
	cmd := exec.Command("ip", "monitor", "route")
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := netns.Start(cmd, n.ns); err != nil {
		n.t.Fatal(err)
	}
	var lines []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			if strings.Contains(scan.Text(), "proto 119") {
				lines = append(lines, scan.Text())
			}
		}
	}()
	time.Sleep(100 * time.Millisecond)
	return func() []string {
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
		return lines
	}
}

// watch switches BFD between a router and a host on or off, one side after the other.
func (n *node) watch(host *node, on bool) {
	n.t.Helper()
	want := "up"
	if !on {
		want = ""
	}
	for _, at := range []*node{host, n} {
		at.bfd = on
		if err := NewClient(at.socket()).Configure(n.t.Context(), []byte(at.config())); err != nil {
			n.t.Fatal(err)
		}
	}
	eventually(n.t, 5*time.Second, "BFD is "+want, func() bool { return n.state().Peers[1].BFD == want && host.state().Peers[0].BFD == want })
}

func converge(t *testing.T, nodes []*node) {
	t.Helper()
	for _, n := range slices.Backward(nodes) {
		n.start()
	}
	h1, h2, t1 := nodes[0], nodes[1], nodes[2]
	took := eventually(t, 20*time.Second, "both hosts reach each other by both routers", func() bool {
		return len(h1.by(h2)) == 2 && len(h2.by(h1)) == 2 && (t1.program != ours || len(t1.by(h1)) == 1) && len(h1.by(t1)) == 1
	})
	t.Logf("converged in %s", took.Round(time.Millisecond))
}

// reconfigure changes the configuration of a running router: no session that stays is touched, and a bad one changes nothing.
func reconfigure(t *testing.T, h2, t1 *node) {
	t.Helper()
	since := t1.state().Peers[1].Since
	c := NewClient(t1.socket())
	if err := c.Configure(t.Context(), []byte("as: 1\n")); err == nil {
		t.Error("a bad configuration is taken")
	}
	if err := c.Configure(t.Context(), []byte(strings.Replace(t1.config(), "as: 4200000003", "as: 4200000009", 1))); err == nil || !strings.Contains(err.Error(), "started again") {
		t.Errorf("another AS: %v", err)
	}
	extra := netip.MustParsePrefix("203.0.113.0/24")
	if t1.v6 {
		extra = netip.MustParsePrefix("2001:db8:203::/48")
	}
	changed := strings.Replace(t1.config(), "announce: [", `announce: ["`+extra.String()+`", `, 1)
	if err := c.Configure(t.Context(), []byte(changed)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "the new prefix is known", func() bool {
		return slices.ContainsFunc(h2.state().Routes, func(r RouteState) bool { return r.To == extra })
	})
	if err := c.Configure(t.Context(), []byte(t1.config())); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "the prefix is gone", func() bool {
		return !slices.ContainsFunc(h2.state().Routes, func(r RouteState) bool { return r.To == extra })
	})
	t1.watch(h2, true)
	t1.watch(h2, false)
	if now := t1.state().Peers[1].Since; !now.Equal(since) {
		t.Errorf("a session that stays was ended: since %s, now %s", since, now)
	}
}

func TestFabric(t *testing.T) {
	for name, v6 := range map[string]bool{"IPv4": false, "IPv6": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := fabric(t, "weft", v6)
			converge(t, nodes)
			h1, h2, t1, t2 := nodes[0], nodes[1], nodes[2], nodes[3]
			if by := t1.by(t2); by != nil {
				t.Errorf("a host is no way between two routers: %v", by)
			}

			// A speaker that is killed and started again changes no route, neither its own nor its neighbours', and loses no packet.
			own, far, router := h1.changes(), h2.changes(), t1.changes()
			stop := h1.numbered(h2, 2000)
			h1.kill(syscall.SIGKILL)
			time.Sleep(300 * time.Millisecond)
			h1.start()
			eventually(t, 25*time.Second, "the new speaker is ready", func() bool { return h1.state().Ready })
			time.Sleep(300 * time.Millisecond)
			if s := h1.state(); s.Writes != 0 || len(h1.by(h2)) != 2 {
				t.Errorf("%d writes to the kernel; ways %v", s.Writes, h1.by(h2))
			}
			if sent, lost := stop(); lost != 0 || sent == 0 {
				t.Errorf("%d of %d packets lost", lost, sent)
			}
			if lines := slices.Concat(own(), far(), router()); len(lines) != 0 {
				t.Errorf("routes changed:\n%s", strings.Join(lines, "\n"))
			}

			// A link that is cut is no way any more, for anybody, at once.
			if err := netns.Inside(t1.ns, func(ns *netns.Namespace) error { return ns.SetDown("n1") }); err != nil {
				t.Fatal(err)
			}
			took := eventually(t, 300*time.Millisecond, "the way by the cut link is gone", func() bool { return len(h2.by(h1)) == 1 && len(h1.by(h2)) == 1 })
			t.Logf("way by the cut link gone after %s", took.Round(time.Millisecond))
			err := netns.Inside(t1.ns, func(ns *netns.Namespace) error {
				if v6 { // a device that goes down loses its addresses
					if err := ns.AddAddress("n1", netip.PrefixFrom(h1.links[0].address, 127)); err != nil {
						return err
					}
				}
				return ns.SetUp("n1")
			})
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, 20*time.Second, "both ways are back", func() bool { return len(h2.by(h1)) == 2 && len(h1.by(h2)) == 2 })

			// Drained, a router is no way for others, and keeps its own routes.
			if err := NewClient(t1.socket()).Drain(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			eventually(t, 2*time.Second, "nobody goes by the drained router", func() bool { return len(h2.by(h1)) == 1 && len(h1.by(h2)) == 1 })
			if len(t1.by(h1)) != 1 {
				t.Error("the drained router has lost its routes")
			}
			if err := NewClient(t1.socket()).Drain(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			eventually(t, 2*time.Second, "both ways are back", func() bool { return len(h2.by(h1)) == 2 && len(h1.by(h2)) == 2 })

			reconfigure(t, h2, t1)

			// What somebody deletes by hand comes back.
			if out, err := exec.Command("ip", "-n", h1.ns, "route", "del", h2.loopback().String(), "proto", "119").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			eventually(t, time.Second, "the route is back", func() bool { return len(h1.by(h2)) == 2 })
		})
	}
}
