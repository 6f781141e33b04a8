// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"weft/internal/southbound"
)

var (
	routerMAC = southbound.MAC{0x02, 0x77, 0x65, 0x66, 0x74, 0x01}
	web1      = PortID{"red", "web-1"}
)

// world is two nodes: h1 with web-1 and db-1, h2 with web-2; VPC 4096.
func world() map[uint16]*Node {
	addr := netip.MustParseAddr
	common := []southbound.Row{
		southbound.VPC{VNI: 4096, Tenant: "red", Name: "main"},
		southbound.Subnet{VNI: 4096, Number: 1, Prefix: netip.MustParsePrefix("10.0.1.0/24"), Gateway: addr("10.0.1.1")},
		southbound.Subnet{VNI: 4096, Number: 2, Prefix: netip.MustParsePrefix("10.0.2.0/24"), Gateway: addr("10.0.2.1")},
		southbound.Peer{VNI: 4096, Node: 1, Name: "h1", Address: addr("198.19.0.1")},
		southbound.Peer{VNI: 4096, Node: 2, Name: "h2", Address: addr("198.19.0.2")},
		southbound.Location{VNI: 4096, Address: addr("10.0.1.4"), Node: 1, MAC: southbound.MAC{2, 4}, Subnet: 1},
		southbound.Location{VNI: 4096, Address: addr("10.0.1.5"), Node: 2, MAC: southbound.MAC{2, 5}, Subnet: 1},
		southbound.Location{VNI: 4096, Address: addr("10.0.2.4"), Node: 1, MAC: southbound.MAC{2, 9}, Subnet: 2},
		southbound.Subnet{VNI: 4096, Number: 1, Prefix: netip.MustParsePrefix("fd00:0:0:1::/64"), Gateway: addr("fd00:0:0:1::1")},
		southbound.Subnet{VNI: 4096, Number: 2, Prefix: netip.MustParsePrefix("fd00:0:0:2::/64"), Gateway: addr("fd00:0:0:2::1")},
		southbound.Location{VNI: 4096, Address: addr("fd00:0:0:1::4"), Node: 1, MAC: southbound.MAC{2, 4}, Subnet: 1},
		southbound.Location{VNI: 4096, Address: addr("fd00:0:0:1::5"), Node: 2, MAC: southbound.MAC{2, 5}, Subnet: 1},
		southbound.Location{VNI: 4096, Address: addr("fd00:0:0:2::4"), Node: 1, MAC: southbound.MAC{2, 9}, Subnet: 2},
	}
	port := func(name string, mac byte, a string, subnet uint32, gw string) southbound.Row {
		return southbound.Port{
			VNI: 4096, Tenant: "red", Name: name, Subnet: subnet, MAC: southbound.MAC{2, mac},
			Interfaces: []southbound.Interface{
				{Address: addr(a), Bits: 24, Gateway: addr(gw)},
				{Address: addr(fmt.Sprintf("fd00:0:0:%d::%x", subnet, addr(a).As4()[3])), Bits: 64, Gateway: addr(fmt.Sprintf("fd00:0:0:%d::1", subnet))},
			},
		}
	}
	cfg := Config{RouterMAC: routerMAC, MTU: 1450}
	return map[uint16]*Node{
		1: NewNode("h1", append(common, port("web-1", 4, "10.0.1.4", 1, "10.0.1.1"), port("db-1", 9, "10.0.2.4", 2, "10.0.2.1")), cfg),
		2: NewNode("h2", append(common, port("web-2", 5, "10.0.1.5", 1, "10.0.1.1")), cfg),
	}
}

func TestWalks(t *testing.T) {
	for to, want := range map[string]string{
		"10.0.1.5":  "h1 from port pass, h1 bridge pass, h1 to tunnel pass, h2 from tunnel pass, h2 to port deliver: local red/web-2",
		"10.0.2.4":  "h1 from port pass, h1 route pass, h1 to port deliver: local red/db-1",
		"10.0.1.1":  "h1 from port pass, h1 router answer: answer",
		"10.0.2.1":  "h1 from port pass, h1 router answer: answer",
		"10.0.1.77": "h1 drop arp-unknown: drop arp-unknown",
		"10.0.2.77": "h1 from port pass, h1 drop no-location: drop no-location",
		"192.0.2.1": "h1 from port pass, h1 drop no-location: drop no-location",
		"224.0.0.5": "h1 drop multicast: drop multicast",

		"fd00:0:0:1::5":  "h1 from port pass, h1 bridge pass, h1 to tunnel pass, h2 from tunnel pass, h2 to port deliver: local red/web-2",
		"fd00:0:0:2::4":  "h1 from port pass, h1 route pass, h1 to port deliver: local red/db-1",
		"fd00:0:0:1::1":  "h1 from port pass, h1 router answer: answer",
		"fd00:0:0:2::1":  "h1 from port pass, h1 router answer: answer",
		"fd00:0:0:1::77": "h1 drop nd-unknown: drop nd-unknown",
		"fd00:0:0:2::77": "h1 from port pass, h1 drop no-location: drop no-location",
		"2001:db8::1":    "h1 from port pass, h1 drop no-location: drop no-location",
		"ff02::5":        "h1 drop multicast: drop multicast",
	} {
		nodes := world()
		frame, err := nodes[1].Frame(web1, Flow{To: netip.MustParseAddr(to), Protocol: 6, Port: 80})
		if strings.HasSuffix(to, ".1.1") || strings.HasSuffix(to, ".2.1") || strings.HasPrefix(to, "fd00") && strings.HasSuffix(to, "::1") {
			frame, err = nodes[1].Frame(web1, Flow{To: netip.MustParseAddr(to), Protocol: 1})
		}
		if err != nil {
			t.Fatal(err)
		}
		steps, r := Walk(nodes, 1, web1, frame)
		var text []string
		for _, s := range steps {
			text = append(text, s.Node+" "+s.Stage+" "+s.Decision)
		}
		end := r.Verdict.String()
		switch r.Verdict {
		case Drop:
			end += " " + r.Reason
		case Local:
			end += " " + r.Port.String()
		}
		if got := strings.Join(text, ", ") + ": " + end; got != want {
			t.Errorf("to %s:\n got  %s\n want %s", to, got, want)
		}
	}
}

func TestUplinkBelievesOnlyPeersOfTheVNI(t *testing.T) {
	n := world()[2]
	frame, err := world()[1].Frame(web1, Flow{To: netip.MustParseAddr("10.0.1.5"), Protocol: 17, Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		vni  uint32
		from string
		want string
	}{
		{4096, "198.19.0.1", "local "},
		{4096, "198.19.0.2", "drop tunnel-peer-unknown"}, // the node itself
		{4096, "198.19.0.9", "drop tunnel-peer-unknown"},
		{4097, "198.19.0.1", "drop tunnel-peer-unknown"},
	} {
		r := n.FromUplink(c.vni, netip.MustParseAddr(c.from), frame)
		if got := fmt.Sprintf("%s %s", r.Verdict, r.Reason); got != c.want {
			t.Errorf("VNI %d from %s: %s, want %s", c.vni, c.from, got, c.want)
		}
	}
}

func TestModelDoesNotChangeWhatItIsGiven(t *testing.T) {
	n := world()[1]
	frame, err := n.Frame(web1, Flow{To: netip.MustParseAddr("10.0.2.4"), Protocol: 6, Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	before := string(frame)
	if r := n.FromPort(web1, frame); r.Verdict != Local || string(frame) != before || string(r.Frame) == before {
		t.Errorf("%s; the frame given changed: %v, the frame returned is routed: %v", r.Verdict, string(frame) != before, string(r.Frame) != before)
	}
}

func FuzzFromPort(f *testing.F) {
	n := world()[1]
	frame, err := n.Frame(web1, Flow{To: netip.MustParseAddr("10.0.2.4"), Protocol: 6, Port: 80})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add(askARP(n.ports[web1], netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("10.0.1.5")))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if r := n.FromPort(web1, frame); r.Verdict != Drop && len(r.Frame) != len(frame) {
			t.Errorf("%d bytes became %d", len(frame), len(r.Frame))
		}
	})
}
