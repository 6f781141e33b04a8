// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"weft/internal/netns"
	"weft/internal/node/kernel/fib"
	"weft/internal/node/kernel/survey"
)

// answers reports whether somebody serves a local socket.
func answers(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func checkLeftovers(_ context.Context, m *machine) []Finding {
	var out []Finding
	if !m.runs {
		if left := m.left(); len(left) > 0 {
			out = append(out, warn("no agent runs, and its packet path is there: "+strings.Join(left, ", ")+"; packets go on, changes wait",
				"start the agent (systemctl start weft-agent), or take all of it away: weft agent cleanup", "")...)
		}
	}
	if unpinned := m.unpinned(); len(unpinned) > 0 {
		out = append(out, fail("ports are there without the pins of their programs: "+strings.Join(unpinned, ", ")+" may pass packets unchecked",
			"start the agent at once, which brings them down and mends them; or weft agent cleanup", "")...)
	}
	if !answers(filepath.Join(m.RunDir, "bgp.sock")) {
		if n := routes(); n > 0 {
			out = append(out, warn(fmt.Sprintf("%d routes of a BGP speaker (protocol 119), and no speaker runs: they are not followed any more", n), "start the agent, which starts the speaker; or take them away: weft agent cleanup", "")...)
		}
	}
	if names, err := netns.List(); err == nil && !m.runs {
		prefix := filepath.Base(m.RunDir) + "-check-"
		if n := slices.IndexFunc(names, func(s string) bool { return strings.HasPrefix(s, prefix) }); n >= 0 {
			out = append(out, warn("namespaces of 'weft check' are left, such as "+names[n], "weft agent cleanup", "")...)
		}
	}
	if len(out) == 0 {
		return ok("nothing of weft is here that nobody looks after")
	}
	return out
}

// left lists what there is of a packet path.
func (m *machine) left() []string {
	var left []string
	ports := 0
	for _, d := range m.devices {
		switch {
		case strings.HasPrefix(d.Name, "weft-"):
			left = append(left, d.Name)
		case own(d):
			ports++
		}
	}
	if ports > 0 {
		left = append(left, fmt.Sprintf("%d devices of ports", ports))
	}
	return append(left, m.pinned()...)
}

// pinned lists the folders of pins of this node.
func (m *machine) pinned() []string {
	if m.agent != nil && m.agent.BPFFS != "" {
		if _, err := os.Stat(m.agent.BPFFS); err == nil {
			return []string{m.agent.BPFFS}
		}
		return nil
	}
	found, _ := filepath.Glob(filepath.Join(m.BPFFS, "*"))
	return slices.DeleteFunc(found, func(dir string) bool { return netns.Exists(filepath.Base(dir)) }) // a lab's node is in a namespace of that name
}

// unpinned lists the ports' devices whose programs have no pins: somebody removed them, and if no agent held them, they are off.
func (m *machine) unpinned() []string {
	var out []string
	dirs := m.pinned()
	for _, d := range m.devices {
		if !own(d) || strings.HasPrefix(d.Name, "weft-") || !d.Up {
			continue
		}
		pinned := slices.ContainsFunc(dirs, func(dir string) bool {
			_, err := os.Stat(filepath.Join(dir, "links", d.Name+"-from_port"))
			return err == nil
		})
		if !pinned {
			out = append(out, d.Name)
		}
	}
	return out
}

// routes counts those of weft's protocol.
func routes() int {
	t, err := fib.Open()
	if err != nil {
		return 0
	}
	defer t.Close()
	all, err := t.Routes()
	if err != nil {
		return 0
	}
	return len(all)
}

// others are networks that share a machine badly, or do not know that they share it.
var others = []struct {
	name      string
	devices   []string // beginnings of names
	processes []string
	pins      string // in the BPF file system
	why, fix  string
}{
	{
		"Open vSwitch",
		[]string{"ovs-system", "genev_sys_", "vxlan_sys_"},
		[]string{"ovs-vswitchd", "ovn-controller"},
		"",
		"it takes devices into its bridges, and its VXLAN tunnels use the same port", "leave weft's and its ports' devices out of its bridges; give its tunnels another port (options:dst_port)",
	},
	{
		"Cilium",
		[]string{"cilium_", "lxc"},
		[]string{"cilium-agent"},
		"cilium",
		"it attaches programs to the devices of the underlay and uses UDP port 8472 or 4789", "run its tunnels at 8472 (tunnel-port), and name the underlay's devices to it (devices) without weft's",
	},
	{
		"Calico",
		[]string{"cali", "vxlan.calico", "tunl0@"},
		[]string{"calico-felix", "calico-node"},
		"calico",
		"its VXLAN uses port 4789, and its rules drop what is forwarded", "set vxlanPort in its FelixConfiguration, and chainInsertMode to Append",
	},
	{"Flannel", []string{"flannel."}, []string{"flanneld"}, "", "its tunnels use the same port where it is told to", "leave its VXLAN at port 8472"},
	{"Kubernetes' kube-proxy", []string{"kube-ipvs0"}, []string{"kube-proxy"}, "", "its chains decide about what the machine itself receives and forwards", "nothing, if the machine's own services work: tenants' packets never go there"},
	{"Docker", []string{"docker0"}, []string{"dockerd"}, "", "it sets the policy of FORWARD to drop", "nothing for weft's ports; where this machine also routes for others, add rules to DOCKER-USER"},
}

func checkNetworks(_ context.Context, m *machine) []Finding {
	running := processes()
	var out []Finding
	for _, o := range others {
		var signs []string
		for _, d := range m.devices {
			if slices.ContainsFunc(o.devices, func(p string) bool { return strings.HasPrefix(d.Name, p) }) {
				signs = append(signs, "device "+d.Name)
			}
		}
		for _, p := range o.processes {
			if pid, found := running[p]; found {
				signs = append(signs, fmt.Sprintf("%s (process %d)", p, pid))
			}
		}
		if o.pins != "" {
			if _, err := os.Stat(filepath.Join(filepath.Dir(m.BPFFS), o.pins)); err == nil {
				signs = append(signs, "its pins in "+filepath.Dir(m.BPFFS))
			}
		}
		if len(signs) > 0 {
			out = append(out, warn(fmt.Sprintf("%s is here too (%s): %s", o.name, strings.Join(signs[:min(len(signs), 3)], ", "), o.why), o.fix, "")...)
		}
	}
	if len(out) == 0 {
		return ok("no other network was found on this machine")
	}
	return out
}

// processes are those that run, by the name that the kernel has of them, of at most 15 letters.
func processes() map[string]int {
	out := make(map[string]int)
	found, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, f := range found {
		if name, err := os.ReadFile(f); err == nil {
			pid, _ := strconv.Atoi(strings.Split(f, "/")[2])
			out[strings.TrimSpace(string(name))] = pid
		}
	}
	return out
}

func checkFirewall(_ context.Context, m *machine) []Finding {
	var out []Finding
	for _, c := range m.chains {
		switch {
		case c.Hook == "input" && c.Drop && !m.names(c, tunnelPort):
			out = append(out, fail(fmt.Sprintf("the chain %s drops what no rule lets in, and none speaks of UDP port %d: tunnels get no packets", c, tunnelPort),
				fmt.Sprintf("let it in from the other nodes: nft insert rule %s udp dport %d accept", c, tunnelPort), "nftables")...)
		case c.Hook == "output" && c.Drop && !m.names(c, tunnelPort):
			out = append(out, fail(fmt.Sprintf("the chain %s drops what no rule lets out, and none speaks of UDP port %d: tunnels send nothing", c, tunnelPort),
				fmt.Sprintf("let it out: nft insert rule %s udp dport %d accept", c, tunnelPort), "nftables")...)
		case c.Hook == "forward" && c.Drop:
			out = append(out, warn(fmt.Sprintf("the chain %s drops what is forwarded (Docker sets that): packets of tenants do not go there, but what this machine routes for others does", c),
				"nothing, unless this machine is a router of the underlay: then let its packets pass there", "nftables")...)
		}
	}
	if n := m.count(func(c survey.Chain) bool { return strings.HasPrefix(c.Name, "KUBE-") }); n > 0 {
		out = append(out, warn(fmt.Sprintf("%d chains of Kubernetes (KUBE-*) are in the machine's packet filter; weft's ports do not pass them", n), "if Kubernetes is gone from here, take them away: kube-proxy --cleanup", "")...)
	}
	if n := m.count(func(c survey.Chain) bool { return c.Table == "firewalld" }); n > 0 && !slices.ContainsFunc(m.chains, func(c survey.Chain) bool { return c.Table == "firewalld" && c.Names(tunnelPort) }) {
		out = append(out, fail(fmt.Sprintf("firewalld decides about what comes in, and none of its rules speaks of UDP port %d: tunnels get no packets", tunnelPort), fmt.Sprintf("firewall-cmd --permanent --add-port=%d/udp && firewall-cmd --reload", tunnelPort), "firewalld")...)
	}
	if i := slices.IndexFunc(m.chains, survey.Chain.SetsZone); i >= 0 {
		out = append(out, warn(fmt.Sprintf("the chain %s puts connections into zones: if tunnels' packets come in by one zone and leave by another, rules for established connections do not know them", m.chains[i]),
			fmt.Sprintf("leave the tunnels out: nft insert rule %s udp dport %d notrack", m.chains[i], tunnelPort), "nftables")...)
	}
	if text, err := os.ReadFile("/proc/thread-self/net/ip_tables_names"); err == nil && strings.Contains(string(text), "filter") {
		out = append(out, warn("iptables in its older form has rules, which were not looked at", fmt.Sprintf("iptables-legacy -S: UDP port %d has to be let in and out", tunnelPort), "iptables")...)
	}
	if len(out) == 0 {
		return ok(fmt.Sprintf("no packet filter stands before the tunnels (%d chains of nftables)", len(m.chains)))
	}
	return out
}

// names reports whether a chain, or one of its table that it may call, speaks of a port.
func (m *machine) names(c survey.Chain, port uint16) bool {
	return slices.ContainsFunc(m.chains, func(o survey.Chain) bool {
		return o.Family == c.Family && o.Table == c.Table && (o.Name == c.Name || o.Hook == "") && o.Names(port)
	})
}

func (m *machine) count(is func(survey.Chain) bool) int {
	n := 0
	for _, c := range m.chains {
		if is(c) {
			n++
		}
	}
	return n
}

func checkConntrack(context.Context, *machine) []Finding {
	count, err := strconv.Atoi(setting("netfilter/nf_conntrack_count"))
	most, err2 := strconv.Atoi(setting("netfilter/nf_conntrack_max"))
	if err != nil || err2 != nil {
		return nil // nothing tracks connections
	}
	return judgeConntrack(count, most)
}

func judgeConntrack(count, most int) []Finding {
	if most > 0 && count*10 >= most*8 {
		return warn(fmt.Sprintf("the kernel's table of connections is nearly full (%d of %d), and tunnels' packets are among them: new ones will be dropped", count, most),
			"do not track them: nft add rule inet raw prerouting udp dport 4789 notrack; or raise net.netfilter.nf_conntrack_max", "nftables")
	}
	return ok(fmt.Sprintf("the kernel tracks %d connections of at most %d", count, most))
}

func checkManagers(_ context.Context, m *machine) []Finding {
	var out []Finding
	if _, err := os.Stat(m.path("/run/NetworkManager")); err == nil && !m.said("NetworkManager/conf.d/*.conf", "weft-*") {
		out = append(out, warn("NetworkManager runs, and was not told to leave weft's devices alone: it may configure them, or the devices of ports", "put 'unmanaged-devices+=interface-name:weft-*;interface-name:wp*' under [keyfile] into /etc/NetworkManager/conf.d/weft.conf, and 'nmcli general reload'", "weft (its package brings that file)")...)
	}
	if _, err := os.Stat(m.path("/run/systemd/netif")); err == nil {
		if !m.said("systemd/network/*.network", "weft-*") {
			out = append(out, warn("systemd-networkd runs, and was not told to leave weft's devices alone", "put '[Match] Name=weft-* wp*' and '[Link] Unmanaged=yes' into /etc/systemd/network/00-weft.network", "weft (its package brings that file)")...)
		}
		if m.agent != nil && m.agent.BGPConfig != "" && !m.said("systemd/networkd.conf", "ManageForeignRoutes=no") && !m.said("systemd/networkd.conf.d/*.conf", "ManageForeignRoutes=no") {
			out = append(out, fail("systemd-networkd removes routes that it did not make, and the BGP speaker's are such: the machine would lose its way to other nodes", "put '[Network] ManageForeignRoutes=no' into /etc/systemd/networkd.conf.d/weft.conf, and restart systemd-networkd", "weft (its package brings that file)")...)
		}
	}
	if len(out) == 0 {
		return ok("nobody else configures weft's devices")
	}
	return out
}

// said reports whether one of a manager's files has a word.
func (m *machine) said(pattern, word string) bool {
	for _, dir := range []string{"/etc", "/run", "/usr/lib"} {
		files, _ := filepath.Glob(filepath.Join(m.path(dir), pattern))
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && strings.Contains(string(text), word) {
				return true
			}
		}
	}
	return false
}
