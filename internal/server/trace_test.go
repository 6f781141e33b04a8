// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// twoNodes is red/main at two nodes: web-1 and an appliance at host-1, db-1 at host-2 by way of the appliance.
func twoNodes() string {
	port := func(name, subnet, addresses, mac, node, rest string) string {
		return doc("Port", "red", name, fmt.Sprintf("spec: {subnet: %s%s}\nstatus: {addresses: [%s], mac: '02:00:00:00:00:%s', vpc: main, vni: 4096, node: '%s', binding: b}", subnet, rest, addresses, mac, node))
	}
	return hosts + "---\napiVersion: weft/v1\nkind: Node\nmetadata: {name: host-2}\nspec: {address: 192.0.2.2, roles: [host]}\nstatus: {number: 2, ready: true}\n" +
		doc("Tenant", "", "red", "status: {number: 1}") +
		doc("VPC", "red", "main", "spec: {prefixes: [10.0.0.0/16, 'fd00::/48']}\nstatus: {vni: 4096}") +
		doc("Subnet", "red", "web", "spec: {vpc: main, prefixes: [10.0.1.0/24, 'fd00:0:0:1::/64'], gateway: 10.0.1.1}\nstatus: {number: 1}") +
		doc("Subnet", "red", "db", "spec: {vpc: main, prefixes: [10.0.2.0/24]}\nstatus: {number: 2}") +
		port("web-1", "web", "10.0.1.4, 'fd00:0:0:1::4'", "04", "host-1", "") +
		port("fw-1", "db", "10.0.2.9", "09", "host-1", ", allowedSources: [0.0.0.0/0]") +
		port("db-1", "db", "10.0.2.4", "14", "host-2", "") +
		port("idle", "db", "10.0.2.5", "15", "", "") +
		doc("RouteTable", "red", "rt", "spec: {vpc: main, subnets: [web], routes: [{to: 10.0.2.0/25, via: port/fw-1}, {to: 10.9.0.0/16, via: blackhole}]}\nstatus: {number: 1}")
}

// TestTraceTellsEndAndRemedy: over rows as the controller makes them.
func TestTraceTellsEndAndRemedy(t *testing.T) {
	b := newBench(t)
	b.write(twoNodes())
	b.run()
	eventually(t, "both nodes have rows", func() bool { return b.text(1, 4096) != "" && b.text(2, 4096) != "" })
	l := &live{store: b.st, hub: b.hub}
	for _, c := range []struct {
		from, to, protocol string
		port               uint16
		want               string // what is answered, without steps
		steps              string // parts of them, in order
	}{
		{
			"web-1", "10.0.2.4", "tcp", 5432, "tcp 10.0.1.4:* > 10.0.2.4:5432, delivered at host-2 red/db-1",
			"routetable/red/rt pass 10.0.2.0/25 by 10.0.2.9|port/red/fw-1 forward|10.0.1.4 is an allowed source|192.0.2.1 to 192.0.2.2|port/red/db-1 deliver",
		},
		{"web-1", "10.0.1.1", "icmp", 0, "icmp 10.0.1.4 > 10.0.1.1, answered at host-1", "echo reply"},
		{"web-1", "fd00:0:0:1::1", "icmp", 0, "icmp fd00:0:0:1::4 > fd00:0:0:1::1, answered at host-1", "echo reply"},
		{"web-1", "fd00:0:0:2::4", "tcp", 80, "tcp [fd00:0:0:1::4]:* > [fd00:0:0:2::4]:80, dropped at host-1 no-location, told unreachable, no route, fix no port of VPC main has fd00:0:0:2::4, and no route", "lives nowhere"},
		{"web-1", "10.9.1.1", "udp", 53, "udp 10.0.1.4:* > 10.9.1.1:53, dropped at host-1 blackhole, told host unreachable, fix weft describe routetable red/rt", "routetable/red/rt drop 10.9.0.0/16 is a blackhole"},
		{"web-1", "10.0.1.9", "icmp", 0, "icmp 10.0.1.4 > 10.0.1.9, dropped at host-1 arp-unknown, fix no port of VPC main has 10.0.1.9", "nobody in the subnet"},
		{"web-1", "10.0.2.5", "icmp", 0, "icmp 10.0.1.4 > 10.0.2.5, dropped at host-1 arp-unknown, fix red/idle has 10.0.2.5, and is attached nowhere", "port/red/fw-1 forward"},
		{"web-1", "255.255.255.255", "udp", 67, "udp 10.0.1.4:68 > 255.255.255.255:67, consumed at host-1", "to agent port/red/web-1 deliver DHCP"},
		{"web-1", "ff02::1:2", "udp", 547, "udp [fe80::ff:fe00:4]:546 > [ff02::1:2]:547, consumed at host-1", "DHCPv6"},
		{"web-1", "fe80::5", "icmp", 0, "icmp fe80::ff:fe00:4 > fe80::5, dropped at host-1 nd-unknown, fix a port speaks link-local with the router only", ""},
		{"web-1", "::ffff:10.0.1.1", "icmp", 0, "icmp 10.0.1.4 > 10.0.1.1, answered at host-1", ""},
		{"db-1", "10.0.1.4", "tcp", 80, "tcp 10.0.2.4:* > 10.0.1.4:80, delivered at host-1 red/web-1", "VNI 4096, 192.0.2.2 to 192.0.2.1|192.0.2.2 may send"},
	} {
		got, err := l.Trace("red", c.from, netip.MustParseAddr(c.to), c.protocol, c.port)
		if err != nil {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
			continue
		}
		text := fmt.Sprintf("%s, %s at %s", got.Packet, got.Verdict, got.Node)
		for _, part := range []struct{ before, text string }{{" ", got.Port}, {" ", got.Reason}, {", told ", got.Told}, {", fix ", got.Fix}} {
			if part.text != "" {
				text += part.before + part.text
			}
		}
		if !strings.HasPrefix(text, c.want) {
			t.Errorf("%s to %s:\n got  %s\n want %s", c.from, c.to, text, c.want)
		}
		rest := ""
		for _, s := range got.Steps {
			rest += fmt.Sprintf("%s %s %s %s %s\n", s.Node, s.Stage, s.Object, s.Decision, s.Detail)
		}
		for part := range strings.SplitSeq(c.steps, "|") {
			_, after, ok := strings.Cut(rest, part)
			if !ok {
				t.Errorf("%s to %s: no %q in\n%v", c.from, c.to, part, got.Steps)
			}
			rest = after
		}
	}
}

func TestTraceOfAPortThatSendsNothing(t *testing.T) {
	b := newBench(t)
	b.write(twoNodes())
	b.run()
	eventually(t, "the nodes have rows", func() bool { return b.text(1, 4096) != "" })
	l := &live{store: b.st, hub: b.hub}
	for name, want := range map[string]string{
		"nobody": v1.CodeNotFound,     // no such port
		"idle":   v1.CodePrecondition, // attached nowhere
		"fw-1":   v1.CodePrecondition, // no IPv6 address
	} {
		_, err := l.Trace("red", name, netip.MustParseAddr("fd00:0:0:1::4"), "icmp", 0)
		var e *v1.Error
		if !errors.As(err, &e) || e.Code != want {
			t.Errorf("%s: %v; want %s", name, err, want)
		}
	}
}
