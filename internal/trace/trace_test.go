// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
)

var update = flag.Bool("update", false, "write the golden files")

// flows are what web-1 is asked to send, for the golden file.
var flows = []struct {
	to       string
	protocol byte
	port     uint16 // 0: 80
}{
	{to: "10.0.1.5", protocol: 6},
	{to: "10.0.2.4", protocol: 6},
	{to: "10.0.1.1", protocol: 1},
	{to: "10.0.2.1", protocol: 1},
	{to: "10.0.2.1", protocol: 17},
	{to: "10.0.1.77", protocol: 6},
	{to: "10.0.2.77", protocol: 6},
	{to: "224.0.0.5", protocol: 17},
	{to: "255.255.255.255", protocol: 17},
	{to: "10.0.1.4", protocol: 1},
	{to: "10.0.2.200", protocol: 6},   // through an appliance at the other node, and back
	{to: "192.0.2.1", protocol: 6},    // to an appliance that has no way on
	{to: "198.51.100.1", protocol: 6}, // a blackhole
	{to: "203.0.113.1", protocol: 6},  // a next hop that is attached nowhere
	{to: "10.0.2.5", protocol: 6},     // a next hop that is the sender
	{to: "10.99.0.1", protocol: 6},    // appliances that send it round
	{to: "10.0.2.9", protocol: 6},     // at a node without rows
	{to: "10.0.2.10", protocol: 6},    // at a node that has not heard of it
	{to: "fd00:0:0:1::5", protocol: 6},
	{to: "fd00:0:0:2::4", protocol: 17},
	{to: "fd00:0:0:1::1", protocol: 1},
	{to: "fe80::1", protocol: 1},
	{to: "fd00:0:0:1::77", protocol: 6},
	{to: "fd00:0:0:2::77", protocol: 6},
	{to: "fd00:0:0:2::c8", protocol: 6},
	{to: "2001:db8:bad::1", protocol: 6},
	{to: "fe80::5", protocol: 17},
	{to: "ff02::5", protocol: 17},
	{to: "10.0.1.255", protocol: 17},
	{to: "255.255.255.255", protocol: 17, port: 67}, // DHCP
	{to: "10.0.1.1", protocol: 17, port: 67},
	{to: "ff02::1:2", protocol: 17, port: 547},
}

// TestWalks compares walks of packets with testdata/walks.golden.
func TestWalks(t *testing.T) {
	var out bytes.Buffer
	for _, f := range flows {
		nodes := world()
		frame, err := nodes[1].Frame(web1, Flow{To: addr(f.to), Protocol: f.protocol, Port: cmp.Or(f.port, 80)})
		if err != nil {
			t.Fatal(err)
		}
		steps, r := Walk(nodes, 1, web1, frame)
		fmt.Fprintf(&out, "protocol %d to %s port %d\n", f.protocol, f.to, cmp.Or(f.port, 80))
		table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		for _, s := range steps {
			fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\n", s.Node, s.Stage, s.Object, s.Decision, s.Detail)
		}
		table.Flush()
		fmt.Fprintf(&out, "  = %s\n\n", end(nodes[1], r))
	}
	const golden = "testdata/walks.golden"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(out.String(), "\n\n"), strings.Split(string(want), "\n\n")
	for i := range max(len(got), len(wanted)) {
		if i >= len(got) || i >= len(wanted) {
			t.Fatalf("%d walks, %d in %s", len(got), len(wanted), golden)
		}
		if got[i] != wanted[i] {
			t.Errorf("got\n%s\nwant\n%s", got[i], wanted[i])
		}
	}
}

// TestWalkGivesTheAppliancesPacket: what leaves an appliance has its MAC, one hop less, and the sender's address.
func TestWalkGivesTheAppliancesPacket(t *testing.T) {
	nodes := world()
	for to, ttl := range map[string]int{"10.0.2.200": 14 + 8, "fd00:0:0:2::c8": 14 + 7} {
		frame, err := nodes[1].Frame(web1, Flow{To: addr(to), Protocol: 6, Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		_, r := Walk(nodes, 1, web1, frame)
		if r.Port.Name != "db-2" || r.Frame[ttl] != 64-3 {
			t.Errorf("to %s: %s gets TTL %d; want red/db-2 and 61: two routers and the appliance", to, r.Port, r.Frame[ttl])
		}
	}
}

func TestTraceOfWhatIsNotThere(t *testing.T) {
	nodes := world()
	for id, to := range map[PortID]string{{"red", "nobody"}: "10.0.1.5", only4: "fd00:0:0:1::5", fw1: "10.0.1.5"} {
		if f, err := nodes[1].Frame(id, Flow{To: addr(to), Protocol: 6}); err == nil {
			t.Errorf("%s to %s at h1: %x", id, to, f)
		}
	}
	if steps, r := Walk(nodes, 7, web1, nil); len(steps) != 0 || r.Reason != reasonPortUnknown {
		t.Errorf("from a node that is not there: %v, %s", steps, r.Reason)
	}
}

func TestModelDoesNotChangeWhatItIsGiven(t *testing.T) {
	for _, s := range append(sentIPv4, sentIPv6...) {
		before := bytes.Clone(s.frame)
		if world()[1].FromPort(web1, s.frame); !bytes.Equal(s.frame, before) {
			t.Errorf("%s: the frame given has changed", s.name)
		}
	}
}
