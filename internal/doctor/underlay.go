// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/survey"
)

// tunnelPort is of VXLAN.
const tunnelPort = 4789

// own reports whether a device is weft's, or a port's.
func own(d survey.Device) bool {
	return strings.HasPrefix(d.Name, "weft-") || strings.HasPrefix(d.Alias, "weft ") && strings.Contains(d.Alias, "/")
}

// underlay lists the devices by which tunnels leave: that with the tunnel's address, or where loopback has it, or nobody knows it,
// those with routes to a gateway, or if there are none those with an address that others reach.
func (m *machine) underlay() []survey.Device {
	ways, err := survey.Ways()
	if err != nil {
		return nil
	}
	var by, reached []survey.Device
	for _, d := range m.devices {
		if m.agent != nil && !d.Loopback && slices.ContainsFunc(d.Addresses, func(p netip.Prefix) bool { return p.Addr() == m.agent.Address }) {
			return []survey.Device{d}
		}
		if slices.Contains(ways, d.Index) && !d.Loopback && !own(d) {
			by = append(by, d)
		}
		if d.Up && !d.Loopback && !own(d) && slices.ContainsFunc(d.Addresses, func(p netip.Prefix) bool { return p.Addr().IsGlobalUnicast() }) {
			reached = append(reached, d)
		}
	}
	if len(by) == 0 {
		return reached
	}
	return by
}

func checkXDP(_ context.Context, m *machine) []Finding {
	var out []Finding
	for _, d := range m.underlay() {
		text := fmt.Sprintf("%s: XDP runs in its driver (%s), as the driver says; nothing was attached", d.Name, d.Kind)
		if d.XDP == survey.XDPGeneric {
			text = fmt.Sprintf("%s: XDP is generic, after the driver (%s), as the driver says; hosts do not use XDP, edges would be slower", d.Name, d.Kind)
		}
		out = append(out, ok(text)...)
	}
	return out
}

func checkMTU(_ context.Context, m *machine) []Finding {
	by := m.underlay()
	if len(by) == 0 {
		return warn("no device leads to other nodes: none has a route to a gateway, or the tunnel's address", "give the machine an address in the underlay", "iproute2")
	}
	least := slices.MinFunc(by, func(a, b survey.Device) int { return a.MTU - b.MTU })
	if m.agent == nil || m.agent.UnderlayMTU == 0 {
		return ok(fmt.Sprintf("%s carries %d bytes, so the overlay %d", least.Name, least.MTU, least.MTU-overhead(m)))
	}
	said := m.agent.UnderlayMTU
	for _, d := range m.devices {
		if d.Name == "weft-vx" && d.MTU != said-overhead(m) {
			return warn(fmt.Sprintf("weft-vx has an MTU of %d instead of %d: the agent runs by another file, or not at all", d.MTU, said-overhead(m)), "restart the agent: systemctl restart weft-agent", "")
		}
	}
	switch {
	case least.MTU < said:
		return fail(fmt.Sprintf("the agent takes the underlay for %d bytes wide, and %s carries %d: longer packets are lost without a word", said, least.Name, least.MTU),
			fmt.Sprintf("set underlayMTU: %d in %s and restart the agent; or ip link set %s mtu %d", least.MTU, filepath.Join(m.ConfigDir, "agent.yaml"), least.Name, said), "iproute2")
	case said-overhead(m) < 1280:
		return fail(fmt.Sprintf("an underlay of %d bytes leaves less than 1280 for the overlay, which IPv6 needs", said), "raise the underlay's MTU", "")
	}
	return ok(fmt.Sprintf("underlay %d bytes (%s carries %d), overlay %d", said, least.Name, least.MTU, said-overhead(m)))
}

// overhead is what a tunnel takes, in bytes.
func overhead(m *machine) int {
	if m.agent != nil && m.agent.Address.Is6() {
		return 70
	}
	return 50
}

func checkTunnelPort(_ context.Context, m *machine) []Finding {
	ours := false // the kernel's own socket is
	for _, d := range m.devices {
		ours = ours || d.VXLANPort == tunnelPort && d.Name == "weft-vx"
		if d.VXLANPort == tunnelPort && d.Name != "weft-vx" {
			return fail(fmt.Sprintf("another VXLAN device, %s, has UDP port %d: weft's cannot be made beside it, or gets none of its packets", d.Name, tunnelPort),
				"ip link delete "+d.Name+", if nothing needs it; else move it to another port", "iproute2")
		}
	}
	for _, table := range []string{"udp", "udp6"} {
		inode, used := socketAt("/proc/thread-self/net/"+table, tunnelPort)
		if !used {
			continue
		}
		if who := holder(inode); who != "" || !ours {
			return fail(fmt.Sprintf("UDP port %d is taken by %s, so tunnels get no packets", tunnelPort, cmp.Or(who, "the kernel, or a program that cannot be seen from here")), "stop that program, or move it to another port; 'ss -ulnp' shows it", "iproute2")
		}
	}
	return ok(fmt.Sprintf("UDP port %d is weft's, or free", tunnelPort))
}

// socketAt looks in a table of sockets for who has a port.
func socketAt(table string, port int) (inode string, used bool) {
	text, err := os.ReadFile(table)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			return f[9], true
		}
	}
	return "", false
}

// holder names the process that has a socket; "": none that can be seen.
func holder(inode string) string {
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && to == "socket:["+inode+"]" {
			pid := strings.Split(l, "/")[2]
			name, _ := os.ReadFile("/proc/" + pid + "/comm")
			return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return ""
}

// ErrNoServer is what ServerTime says where it knows of no server to ask.
var ErrNoServer = errors.New("no server is known")

// How far a clock may be off: certificates are made a day before they begin to count.
const (
	clockWarn = 5 * time.Second
	clockFail = 12 * time.Hour
)

func checkClock(ctx context.Context, m *machine) []Finding {
	var out []Finding
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0) {
		out = warn("nothing keeps the clock: the kernel has not heard of a time server", "install a time client, and look whether it reaches a server: chronyc tracking", "chrony")
	} else {
		out = ok("a time server keeps the clock")
	}
	if m.ServerTime == nil {
		return out
	}
	began := time.Now()
	there, err := m.ServerTime(ctx)
	if errors.Is(err, ErrNoServer) {
		return append(out, ok("it was not compared with the server's: there is no context, and the server of /etc/weft/agent.yaml does not answer at port 7443")...)
	}
	if err != nil {
		return append(out, warn("it was not compared with the server's: "+err.Error(), "see 'weft context list': it was asked for the time", "")...)
	}
	here := m.Now.Add(time.Since(began))
	return append(out, judgeClock(here.Sub(there))...)
}

func judgeClock(ahead time.Duration) []Finding {
	off := ahead.Abs().Round(time.Second)
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	const fix, pkg = "set the clock by a time server: chronyc makestep", "chrony"
	switch {
	case off > clockFail:
		return fail(fmt.Sprintf("it is %s %s the server's: certificates are not valid yet, or no longer", off, way), fix, pkg)
	case off > clockWarn:
		return warn(fmt.Sprintf("it is %s %s the server's: logs and leases do not fit together", off, way), fix, pkg)
	}
	return ok("it is that of the server, to within some seconds")
}

func checkReversePath(_ context.Context, m *machine) []Finding {
	by := m.underlay()
	if len(by) < 2 {
		return ok(fmt.Sprintf("%d way to other nodes: answers come back by it", len(by)))
	}
	all := setting("ipv4/conf/all/rp_filter")
	for _, d := range by {
		if max(all, setting("ipv4/conf/"+d.Name+"/rp_filter")) == "1" {
			return warn(fmt.Sprintf("%s takes packets only by the way that answers would go (rp_filter 1), and there are %d ways: what comes by another is lost", d.Name, len(by)),
				"sysctl -w net.ipv4.conf.all.rp_filter=2, and the same in /etc/sysctl.d", "procps")
		}
	}
	return ok(fmt.Sprintf("packets may come by any of %d ways", len(by)))
}

// setting is one of the caller's network namespace, below /proc/sys/net.
func setting(name string) string {
	text, err := os.ReadFile("/proc/sys/net/" + name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func checkForwarding(_ context.Context, m *machine) []Finding {
	if setting("ipv4/ip_forward") != "1" {
		return ok("the kernel routes nothing for others; weft does not need it to")
	}
	for _, d := range m.underlay() {
		if setting("ipv4/conf/"+d.Name+"/forwarding") == "1" && m.agent != nil && m.agent.BGPConfig != "" && !slices.Contains(m.agent.Roles, "edge") {
			return warn("the kernel routes for others (ip_forward), and this host speaks BGP with several neighbours: it may become a way between them", "sysctl -w net.ipv4.ip_forward=0, unless containers or machines here need it", "procps")
		}
	}
	return ok("the kernel routes for others (ip_forward); packets of tenants never go there")
}
