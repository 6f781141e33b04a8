// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

const smallTopology = `
underlay: 198.18.0.0/16
loopbacks: 198.19.0.0/16
outside: 198.51.100.0/24
nodes:
  - {name: tor-1, role: router}
  - {name: host-1, role: host, uplinks: [tor-1]}
  - {name: server-1, role: server, uplinks: [tor-1]}
workloads:
  - {port: red/web-1, node: host-1}
`

func TestTopologyRefusesWhatItDoesNotUnderstand(t *testing.T) {
	if _, err := DecodeTopology([]byte(smallTopology)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown-field":    {"nodes:", "speed: 10G\nnodes:", "speed"},
		"unknown-role":     {"role: host", "role: hots", "hots"},
		"host-bits":        {"198.18.0.0/16", "198.18.0.1/16", "underlay"},
		"overlap":          {"198.19.0.0/16", "198.18.0.0/16", "overlap"},
		"not-a-prefix":     {"198.18.0.0/16", "here", "here"},
		"uplink-unknown":   {"host, uplinks: [tor-1]", "host, uplinks: [tor-9]", "tor-9"},
		"uplink-twice":     {"host, uplinks: [tor-1]", "host, uplinks: [tor-1, tor-1]", "twice"},
		"node-twice":       {"name: host-1", "name: tor-1", "twice"},
		"long-name":        {"name: host-1", "name: a-very-long-name", "a-very-long-name"},
		"no-server":        {"role: server", "role: host", "role server"},
		"workload-nowhere": {"node: host-1", "node: tor-1", "role host"},
		"port-form":        {"red/web-1", "web-1", "TENANT/PORT"},
		"mtu":              {"nodes:", "mtu: 100\nnodes:", "mtu"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeTopology([]byte(strings.Replace(smallTopology, c.old, c.new, 1)))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v does not speak of %q", err, c.want)
			}
		})
	}
}

func FuzzDecodeTopology(f *testing.F) {
	f.Add([]byte(smallTopology))
	data, err := builtin.ReadFile("topologies/dc1.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		topology, err := DecodeTopology(data)
		if err != nil {
			return
		}
		taken := map[netip.Addr]string{}
		take := func(a netip.Addr, who string) {
			if !a.IsValid() || taken[a] != "" {
				t.Errorf("%s has address %s, which is %q's, too", who, a, taken[a])
			}
			taken[a] = who
		}
		for _, n := range makePlan(topology).nodes { // what is accepted can be planned
			take(n.loopback, n.Name)
			for _, end := range n.ends {
				take(end.address.Addr(), n.Name+" to "+end.peer.Name)
			}
		}
	})
}

func TestExampleIsWhatTheLabApplies(t *testing.T) {
	data, err := os.ReadFile("../examples/two-tenants.yaml")
	if err != nil {
		t.Fatal(err)
	}
	example, err := v1.DecodeYAML(data)
	if err != nil {
		t.Fatal(err)
	}
	applied := make(map[string]string)
	key := func(o v1.Object) string { return string(o.GetKind()) + " " + o.Meta().Tenant + "/" + o.Meta().Name }
	for _, o := range defaultTopology(t).Objects {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		applied[key(o)] = string(text)
	}
	for _, o := range example {
		if text, err := json.Marshal(o); err != nil || applied[key(o)] != string(text) {
			t.Errorf("%s differs: %s, the lab has %s", key(o), text, applied[key(o)])
		}
	}
}

func TestPlanGivesTheDefaultLabItsAddresses(t *testing.T) {
	p := makePlan(defaultTopology(t))
	for node, want := range map[string]string{
		"tor-1": "198.19.0.1", "host-1": "198.19.0.3", "server-1": "198.19.0.8", "client-1": "198.51.100.9",
	} {
		if got := p.node(node).loopback.String(); got != want {
			t.Errorf("%s has %s, want %s", node, got, want)
		}
	}
	seen := make(map[string]bool)
	for _, n := range p.nodes {
		if n.Role != RoleRouter && len(n.Uplinks) != 2 {
			t.Errorf("%s has %d uplinks", n.Name, len(n.Uplinks))
		}
		for _, e := range n.ends {
			if seen[e.mac.String()] || seen[e.address.String()] {
				t.Errorf("%s: %s or %s is there twice", n.Name, e.mac, e.address)
			}
			seen[e.mac.String()], seen[e.address.String()] = true, true
		}
		for _, r := range n.routes {
			if n.Role != RoleRouter && p.node("tor-1").loopback != r.To.Addr() && p.node("tor-2").loopback != r.To.Addr() &&
				!strings.HasPrefix(n.Name, "edge") && n.Role != RoleClient && len(r.By) != 2 {
				t.Errorf("%s to %s has %d ways, want 2", n.Name, r.To, len(r.By))
			}
		}
		if len(n.routes) != len(p.nodes)-1 {
			t.Errorf("%s has %d routes", n.Name, len(n.routes))
		}
	}
}

func TestGraphFormats(t *testing.T) {
	l := newLab("dc1", defaultTopology(t))
	for format, want := range map[string]string{
		"text": "host-1     host    198.19.0.3", "dot": `"host-1" -- "tor-1"`, "mermaid": "host_1 --- tor_1", "json": `"from": "host-1"`,
	} {
		var b bytes.Buffer
		if err := l.Graph().Write(&b, format); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: %v\n%s", format, err, b.String())
		}
	}
	if err := l.Graph().Write(&bytes.Buffer{}, "svg"); err == nil {
		t.Error("svg was accepted")
	}
}
