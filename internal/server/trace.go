// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	v1 "weft/api/v1"
	"weft/internal/southbound"
	"weft/internal/store"
	"weft/internal/trace"
)

// traceMTU is larger than any packet of a trace: the MTU is the nodes' own, and not among the rows.
const traceMTU = 9000

// Trace walks a packet over the rows that the nodes were given (apiserver.Live).
func (l *live) Trace(tenant, name string, to netip.Addr, protocol string, port uint16) (*v1.Trace, error) {
	view := l.store.View()
	o, ok := view.Get(v1.KindPort, tenant, name)
	if !ok {
		return nil, &v1.Error{Status: http.StatusNotFound, Code: v1.CodeNotFound, Object: tenant + "/port/" + name, Message: "there is no such port", Fix: "'weft get ports -t " + tenant + "' lists them"}
	}
	p := o.(*v1.Port)
	if p.Status.Node == "" {
		return nil, &v1.Error{Status: http.StatusConflict, Code: v1.CodePrecondition, Object: v1.ID(p), Message: "the port is attached at no node, so it sends nothing", Fix: "attach it: weft attach " + tenant + "/" + name + " --netns NAME"}
	}
	nodes, start := l.traceNodes(view, p)
	id := trace.PortID{Tenant: tenant, Name: name}
	flow := trace.Flow{To: to.Unmap().WithZone(""), Port: port, Protocol: map[string]byte{"icmp": 1, "tcp": 6, "udp": 17}[protocol]}
	first, ok := nodes[start]
	if !ok {
		return nil, &v1.Error{Status: http.StatusConflict, Code: v1.CodePrecondition, Object: v1.ID(p), Message: "the rows of the port's VPC are not computed yet", Fix: "try again in a moment"}
	}
	frame, err := first.Frame(id, flow)
	if err != nil {
		return nil, &v1.Error{Status: http.StatusUnprocessableEntity, Code: v1.CodePrecondition, Object: v1.ID(p), Message: err.Error(), Fix: "its addresses: weft describe port " + id.String()}
	}
	steps, result := trace.Walk(nodes, start, id, frame)
	out := toTrace(steps, result)
	out.Packet = packetLine(first.Source(id, flow.To), flow, protocol)
	if result.Verdict == trace.Drop {
		out.Fix = traceFix(view, p, flow, result.Reason, steps)
	}
	return out, nil
}

// traceNodes builds the tables of every node that hosts the port's VPC.
func (l *live) traceNodes(view *store.View, p *v1.Port) (nodes map[uint16]*trace.Node, start uint16) {
	nodes = make(map[uint16]*trace.Node)
	tables := make(map[uint32]string)
	for _, o := range view.List(v1.KindRouteTable, p.Tenant) {
		if t := o.(*v1.RouteTable); t.Spec.VPC == p.Status.VPC {
			tables[t.Status.Number] = t.Name
		}
	}
	cfg := trace.Config{RouterMAC: southbound.MAC(v1.RouterMAC), MTU: traceMTU, Table: func(_, number uint32) string { return tables[number] }}
	for _, o := range view.List(v1.KindNode, "") {
		n := o.(*v1.Node)
		rows := l.hub.Rows(n.Status.Number)
		if len(rows) == 0 {
			continue
		}
		nodes[n.Status.Number] = trace.NewNode(n.Name, rows, cfg)
		if n.Name == p.Status.Node {
			start = n.Status.Number
		}
	}
	return nodes, start
}

// packetLine is a packet in one line; its source port is *, where it may be any.
func packetLine(from netip.Addr, f trace.Flow, protocol string) string {
	if protocol == "icmp" {
		return fmt.Sprintf("%s %s > %s", protocol, from, f.To)
	}
	source := netip.AddrPortFrom(from, f.Source()).String()
	if f.Source() == 0 {
		source = strings.TrimSuffix(source, "0") + "*"
	}
	return fmt.Sprintf("%s %s > %s", protocol, source, netip.AddrPortFrom(f.To, f.Port))
}

// toTrace writes a walk in the API's words.
func toTrace(steps []trace.Step, r trace.Result) *v1.Trace {
	out := &v1.Trace{Steps: []v1.TraceStep{}, Reason: r.Reason, Told: r.Tells()}
	for _, s := range steps {
		out.Steps = append(out.Steps, v1.TraceStep(s))
		out.Node = s.Node
	}
	switch r.Verdict {
	case trace.Local:
		out.Verdict, out.Port = "delivered", r.Port.String()
	case trace.Answer:
		out.Verdict = "answered"
	case trace.Consumed, trace.Service:
		out.Verdict = "consumed"
	default:
		out.Verdict = "dropped"
	}
	return out
}

// traceFix says what to look at where a packet is dropped; "" where the reason says it all.
func traceFix(view *store.View, p *v1.Port, f trace.Flow, reason string, steps []trace.Step) string {
	tenant, port, table := p.Tenant, p.Tenant+"/"+p.Name, ""
	if len(steps) > 0 {
		if name, ok := strings.CutPrefix(steps[len(steps)-1].Object, "routetable/"); ok {
			table = "weft describe routetable " + name
		}
	}
	switch reason {
	case "no-location", "arp-unknown", "nd-unknown":
		if table != "" {
			return "attach the port that the route leads to: " + table
		}
		if owner := ownerOf(view, p, f.To); owner != "" {
			return fmt.Sprintf("%s has %s, and is attached nowhere: weft attach %s --netns NAME", owner, f.To, owner)
		}
		if f.To.IsLinkLocalUnicast() && f.To.Is6() {
			return "a port speaks link-local with the router only; use addresses of the subnet: weft get ports -t " + tenant
		}
		if reason == "no-location" {
			return fmt.Sprintf("no port of VPC %s has %s, and no route leads there: weft get ports,routetables -t %s", p.Status.VPC, f.To, tenant)
		}
		return fmt.Sprintf("no port of VPC %s has %s: weft get ports -t %s", p.Status.VPC, f.To, tenant)
	case "blackhole":
		return table
	case "src-ip-spoof":
		return "add the source to the allowedSources of the port that sends it: weft explain port.spec.allowedSources"
	case "to-self":
		if table != "" {
			return "the appliance needs a route table that does not lead to itself: " + table
		}
		return "a workload gives packets to itself without sending them"
	case "router-proto":
		return fmt.Sprintf("the router answers ping only: weft trace %s %s", port, f.To)
	case "ttl-expired":
		return "routes lead in a circle: weft get routetables -t " + tenant + " -o wide"
	case "not-local", "tunnel-peer-unknown", "port-unknown":
		return "the nodes do not agree yet, or a port has moved: weft get nodes; weft describe vpc " + p.Status.VPC + " -t " + tenant
	case "multicast", "broadcast":
		return "a VPC carries packets to single addresses only"
	}
	return ""
}

// ownerOf is the port of the VPC that has an address without being attached; "": there is none.
func ownerOf(view *store.View, p *v1.Port, a netip.Addr) string {
	for _, o := range view.List(v1.KindPort, p.Tenant) {
		if q := o.(*v1.Port); q.Status.VPC == p.Status.VPC && q.Status.Node == "" && slices.Contains(q.Status.Addresses, a) {
			return q.Tenant + "/" + q.Name
		}
	}
	return ""
}
