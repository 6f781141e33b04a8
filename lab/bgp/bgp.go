// SPDX-License-Identifier: Apache-2.0

// Package bgp writes the configuration of a lab's BGP speakers: weft's own, BIRD's and FRR's, with the same sense.
package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// Program is what speaks BGP on a router.
type Program string

// The programs, and none.
const (
	Weft   Program = "weft"
	BIRD   Program = "bird"
	FRR    Program = "frr"
	Static Program = "static" // routes are written once, by the lab
)

// Programs lists all of them.
func Programs() []Program { return []Program{Weft, BIRD, FRR, Static} }

// Speaker is one speaker.
type Speaker struct {
	AS       uint32
	RouterID netip.Addr // IPv4
	Loopback netip.Addr // is announced, and the source of the machine's own packets
	Peers    []Peer
}

// Peer is a neighbour on a link.
type Peer struct {
	Address  netip.Addr
	AS       uint32
	Device   string
	Customer bool // else it is a provider
	BFD      bool
}

// Command is a program to run in the node's namespace.
type Command struct {
	Name string   // of the program, as the lab knows it: "bgp", "bird", "zebra", "bgpd"
	Args []string // with the program's path
	Made string   // a file that is there once the next program may start; "": it may at once
}

// Times of all sessions, in seconds.
const (
	hold    = 9
	restart = 120
)

// Write writes the program's files into dir and tells what to run, in this order. Run is where sockets are made.
func (s Speaker) Write(program Program, dir, run, weft string) ([]Command, error) {
	file := func(name, text string) (string, error) {
		path := filepath.Join(dir, name)
		return path, os.WriteFile(path, []byte(text), 0o600)
	}
	switch program {
	case BIRD:
		path, err := file("bird.conf", s.bird())
		return []Command{{Name: "bird", Args: []string{"/usr/sbin/bird", "-f", "-R", "-c", path, "-s", filepath.Join(run, "bird.ctl"), "-P", filepath.Join(run, "bird.pid")}}}, err
	case FRR:
		own, err := frrDir(run)
		if err != nil {
			return nil, err
		}
		var commands []Command
		for _, daemon := range []string{"zebra", "bfdd", "bgpd"} {
			config := filepath.Join(own, daemon+".conf")
			if err := os.WriteFile(config, []byte(s.frr(daemon)), 0o644); err != nil {
				return nil, err
			}
			commands = append(commands, Command{Name: daemon, Args: []string{
				"/usr/lib/frr/" + daemon, "-f", config, "-i", filepath.Join(own, daemon+".pid"), "-z", filepath.Join(own, "zserv.api"),
				"--vty_socket", own, "--log", "stdout", "-P", "0",
			}})
		}
		commands[0].Args = append(commands[0].Args, "-K", fmt.Sprint(restart))
		commands[0].Made = filepath.Join(own, "zserv.api") // the others try again only after ten seconds
		commands[1].Args = append(commands[1].Args, "--bfdctl", filepath.Join(own, "bfdd.sock"))
		return commands, nil
	default:
		path, err := file("bgp.yaml", s.weft())
		return []Command{{Name: "bgp", Args: []string{weft, "bgp", "--config", path, "--socket", filepath.Join(run, "bgp.sock")}}}, err
	}
}

// frrDir makes a folder for FRR's daemons, which become the user frr.
func frrDir(run string) (string, error) {
	who, err := user.Lookup("frr")
	if err != nil {
		return "", fmt.Errorf("FRR is not installed (Debian's package frr): %w", err)
	}
	uid, err1 := strconv.Atoi(who.Uid)
	gid, err2 := strconv.Atoi(who.Gid)
	own := filepath.Join(run, "frr")
	err = errors.Join(err1, err2, os.Mkdir(own, 0o700), os.Chown(own, uid, gid))
	for _, dir := range []string{run, filepath.Dir(run)} { // may be passed, not read
		err = errors.Join(err, os.Chmod(dir, 0o711))
	}
	return own, err
}

func (s Speaker) weft() string {
	var b strings.Builder
	fmt.Fprintf(&b, "as: %d\nrouterID: %s\nannounce: [\"%s\"]\nsource: [\"%s\"]\nhold: %ds\nrestart: %ds\npeers:\n", s.AS, s.RouterID, host(s.Loopback), s.Loopback, hold, restart)
	for _, p := range s.Peers {
		relation := "provider"
		if p.Customer {
			relation = "customer"
		}
		fmt.Fprintf(&b, "  - {name: %s, address: \"%s\", as: %d, device: %s, relation: %s, bfd: %t}\n", p.Device, p.Address, p.AS, p.Device, relation, p.BFD)
	}
	return b.String()
}

// bird is for BIRD 2: what is learned from a provider is not told to a provider.
func (s Speaker) bird() string {
	family := "ipv4"
	if s.Loopback.Is6() {
		family = "ipv6"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "log stderr all;\nrouter id %s;\ngraceful restart wait %d;\n", s.RouterID, 30)
	b.WriteString("protocol device { scan time 10; }\n")
	fmt.Fprintf(&b, "protocol direct { %s; interface \"lo\"; }\n", family)
	fmt.Fprintf(&b, "protocol kernel { merge paths yes; graceful restart yes; persist yes; scan time 10; %s { import none; export filter { if source = RTS_BGP then { krt_prefsrc = %s; accept; } reject; }; }; }\n", family, s.Loopback)
	fmt.Fprintf(&b, "filter own_and_customers { if source = RTS_DEVICE then { if net = %s then accept; reject; } if (%d, 0, 1) ~ bgp_large_community then reject; accept; }\n", host(s.Loopback), s.AS)
	fmt.Fprintf(&b, "filter everything { if source = RTS_DEVICE then { if net = %s then accept; reject; } bgp_large_community.delete([(%d, 0, 1)]); accept; }\n", host(s.Loopback), s.AS)
	fmt.Fprintf(&b, "filter from_provider { bgp_large_community.add((%d, 0, 1)); accept; }\n", s.AS)
	bfd := false
	for i, p := range s.Peers {
		in, out := "filter from_provider", "own_and_customers"
		if p.Customer {
			in, out = "all", "everything"
		}
		fmt.Fprintf(&b, "protocol bgp peer%d { local as %d; neighbor %s as %d; interface \"%s\"; direct; hold time %d; connect delay time 1; connect retry time 2; error wait time 1, 2; graceful restart on; graceful restart time %d; check link yes; ",
			i+1, s.AS, p.Address, p.AS, p.Device, hold, restart)
		if p.Customer {
			b.WriteString("passive on; ")
		}
		if p.BFD {
			b.WriteString("bfd on; ")
			bfd = true
		}
		fmt.Fprintf(&b, "%s { import %s; export filter %s; next hop self; }; }\n", family, in, out)
	}
	if bfd {
		b.WriteString("protocol bfd { interface \"*\" { interval 200 ms; multiplier 3; }; }\n")
	}
	return b.String()
}

// frr is for a daemon of FRR 8 and newer.
func (s Speaker) frr(daemon string) string {
	const begin = "frr defaults datacenter\nlog stdout informational\n!\n"
	switch {
	case daemon == "bgpd":
		return begin + s.bgpd()
	case daemon == "zebra" && s.Loopback.Is4():
		return begin + fmt.Sprintf("route-map source permit 10\n set src %s\n!\nip protocol bgp route-map source\n", s.Loopback)
	case daemon == "zebra":
		return begin + fmt.Sprintf("route-map source permit 10\n set src %s\n!\nipv6 protocol bgp route-map source\n", s.Loopback)
	}
	return begin
}

func (s Speaker) bgpd() string {
	family := "ipv4 unicast"
	if s.Loopback.Is6() {
		family = "ipv6 unicast"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "bgp large-community-list standard from-provider permit %d:0:1\n", s.AS)
	fmt.Fprintf(&b, "route-map from-provider permit 10\n set large-community %d:0:1 additive\n!\n", s.AS)
	b.WriteString("route-map to-provider deny 10\n match large-community from-provider\n!\nroute-map to-provider permit 20\n!\n")
	b.WriteString("route-map to-customer permit 10\n set large-comm-list from-provider delete\n!\n")
	fmt.Fprintf(&b, "router bgp %d\n bgp router-id %s\n no bgp ebgp-requires-policy\n no bgp default ipv4-unicast\n bgp bestpath as-path multipath-relax\n bgp graceful-restart\n bgp graceful-restart restart-time %d\n bgp graceful-restart preserve-fw-state\n bgp fast-external-failover\n coalesce-time 10\n timers bgp %d %d\n",
		s.AS, s.RouterID, restart, hold/3, hold)
	for _, p := range s.Peers {
		fmt.Fprintf(&b, " neighbor %s remote-as %d\n neighbor %s timers connect 2\n neighbor %s advertisement-interval 0\n", p.Address, p.AS, p.Address, p.Address)
		if p.Customer {
			fmt.Fprintf(&b, " neighbor %s passive\n", p.Address)
		}
		if p.BFD {
			fmt.Fprintf(&b, " neighbor %s bfd\n", p.Address)
		}
	}
	fmt.Fprintf(&b, " address-family %s\n  network %s\n  maximum-paths 64\n", family, host(s.Loopback))
	for _, p := range s.Peers {
		in, out := "from-provider", "to-provider"
		fmt.Fprintf(&b, "  neighbor %s activate\n", p.Address)
		if p.Customer {
			out = "to-customer"
		} else {
			fmt.Fprintf(&b, "  neighbor %s route-map %s in\n", p.Address, in)
		}
		fmt.Fprintf(&b, "  neighbor %s route-map %s out\n", p.Address, out)
	}
	b.WriteString(" exit-address-family\n!\n")
	return b.String()
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
