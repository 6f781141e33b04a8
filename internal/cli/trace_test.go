// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// traces are what the desk answers, by destination.
var traces = map[string]v1.Trace{
	"10.0.2.4": {
		Packet: "tcp 10.0.1.4:* > 10.0.2.4:5432", Verdict: "delivered", Port: "red/db-1", Node: "host-3",
		Steps: []v1.TraceStep{
			{Node: "host-1", Stage: "from port", Object: "port/red/web-1", Decision: "pass", Detail: "source MAC and address are the port's"},
			{Node: "host-1", Stage: "route", Object: "vpc/red/main", Decision: "pass", Detail: "to subnet 10.0.2.0/24, TTL 64 to 63"},
			{Node: "host-1", Stage: "to tunnel", Object: "node/host-3", Decision: "pass", Detail: "VNI 4096, 198.19.0.2 to 198.19.0.4"},
			{Node: "host-3", Stage: "from tunnel", Object: "node/host-1", Decision: "pass", Detail: "198.19.0.2 may send VNI 4096, vpc/red/main"},
			{Node: "host-3", Stage: "to port", Object: "port/red/db-1", Decision: "deliver", Detail: "MAC 02:00:00:00:00:14"},
		},
	},
	"10.0.2.77": {
		Packet: "icmp 10.0.1.4 > 10.0.2.77", Verdict: "dropped", Node: "host-1", Reason: "no-location", Told: "host unreachable", Fix: "no port of VPC main has 10.0.2.77, and no route leads there: weft get ports,routetables -t red",
		Steps: []v1.TraceStep{
			{Node: "host-1", Stage: "from port", Object: "port/red/web-1", Decision: "pass", Detail: "source MAC and address are the port's"},
			{Node: "host-1", Stage: "route", Object: "vpc/red/main", Decision: "drop", Detail: "10.0.2.77 lives nowhere in the VPC"},
		},
	},
	"fd00:0:0:1::77": {
		Packet: "tcp [fd00:0:0:1::4]:* > [fd00:0:0:1::77]:80", Verdict: "dropped", Node: "host-1", Reason: "nd-unknown", Fix: "no port of VPC main has fd00:0:0:1::77: weft get ports -t red",
		Steps: []v1.TraceStep{
			{Node: "host-1", Stage: "neighbour", Object: "vpc/red/main", Decision: "drop", Detail: "nobody in the subnet has fd00:0:0:1::77"},
		},
	},
	"10.0.1.5": {
		Packet: "tcp 10.0.1.4:* > 10.0.1.5:80", Verdict: "delivered", Port: "red/web-2", Node: "host-1",
		Steps: []v1.TraceStep{
			{Node: "host-1", Stage: "from port", Object: "port/red/web-1", Decision: "pass", Detail: "source MAC and address are the port's"},
			{Node: "host-1", Stage: "bridge", Object: "vpc/red/main", Decision: "pass", Detail: "inside subnet 10.0.1.0/24"},
			{Node: "host-1", Stage: "to port", Object: "port/red/web-2", Decision: "deliver", Detail: "MAC 02:15:6f:11:af:23"},
		},
	},
	"10.0.1.1": {
		Packet: "icmp 10.0.1.4 > 10.0.1.1", Verdict: "answered", Node: "host-1",
		Steps: []v1.TraceStep{{Node: "host-1", Stage: "router", Object: "10.0.1.1", Decision: "answer", Detail: "echo reply"}},
	},
}

// TestOutputOfTraces compares what weft trace prints with testdata/*.golden.
func TestOutputOfTraces(t *testing.T) {
	newDesk(t)
	for name, line := range map[string]string{
		"trace":            "trace red/web-1 10.0.2.4:5432/tcp",
		"trace_dropped":    "trace red/web-1 10.0.2.77",
		"trace_ipv6":       "trace red/web-1 [fd00:0:0:1::77]:80/tcp",
		"trace_name":       "trace red/web-1 red/web-2:80/tcp",
		"trace_minimal":    "trace red/web-1 10.0.2.77 --minimal",
		"trace_json":       "trace red/web-1 10.0.2.77 -o json",
		"trace_yaml":       "trace red/web-1 10.0.1.1 -o yaml",
		"trace_answered":   "trace red/web-1 10.0.1.1",
		"trace_expected":   "trace red/web-1 10.0.2.77 --minimal --expect no-location",
		"trace_unexpected": "trace red/web-1 10.0.2.77 --minimal --expect delivered",
		"error_trace":      "trace red/web-1 10.0.2.4/tcp",
		"error_trace_name": "trace red/web-1 web-2 --ipv6",
		"error_trace_both": "trace red/web-1 web-2 --minimal -o json",
		"error_trace_vpc":  "trace red/web-1 blue/web-1",
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, line, strings.NewReplacer()) })
	}
}

// TestTraceByNameStaysInTheVPC: the same address in another VPC is somebody else's.
func TestTraceByNameStaysInTheVPC(t *testing.T) {
	d := newDesk(t)
	other := *d.objects["/api/v1/tenants/red/ports/web-2"].(*v1.Port)
	other.Status.VPC = "lab"
	d.objects["/api/v1/tenants/red/ports/other"] = &other
	d.objects["/api/v1/tenants/blue/ports/web-1"] = &other
	for name, want := range map[string]int{"web-2": 0, "red/web-2": 0, "other": 2, "blue/web-1": 2, "nobody": 3} {
		if _, errs, code := weft("", "trace", "red/web-1", name); code != want {
			t.Errorf("to %s: exit %d, want %d\n%s", name, code, want, errs)
		}
	}
}
