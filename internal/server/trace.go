// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/http"
	"net/netip"

	v1 "weft/api/v1"
	"weft/internal/southbound"
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
	nodes, start := l.traceNodes(p)
	id := trace.PortID{Tenant: tenant, Name: name}
	flow := trace.Flow{To: to.Unmap().WithZone(""), Port: port, Protocol: map[string]byte{"icmp": 1, "tcp": 6, "udp": 17}[protocol]}
	first, ok := nodes[start]
	if !ok {
		return nil, &v1.Error{Status: http.StatusConflict, Code: v1.CodePrecondition, Object: v1.ID(p), Message: "the rows of the port's VPC are not computed yet", Fix: "try again in a moment"}
	}
	frame, err := first.Frame(id, flow)
	if err != nil {
		return nil, &v1.Error{Status: http.StatusUnprocessableEntity, Code: v1.CodePrecondition, Object: v1.ID(p), Message: err.Error()}
	}
	steps, result := trace.Walk(nodes, start, id, frame)
	return toTrace(p, flow, protocol, steps, result), nil
}

// traceNodes builds the tables of every node that hosts the port's VPC.
func (l *live) traceNodes(p *v1.Port) (nodes map[uint16]*trace.Node, start uint16) {
	nodes = make(map[uint16]*trace.Node)
	cfg := trace.Config{RouterMAC: southbound.MAC(v1.RouterMAC), MTU: traceMTU}
	for _, o := range l.store.View().List(v1.KindNode, "") {
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

// toTrace writes a walk in the API's words.
func toTrace(p *v1.Port, f trace.Flow, protocol string, steps []trace.Step, r trace.Result) *v1.Trace {
	out := &v1.Trace{Steps: []v1.TraceStep{}, Reason: r.Reason, Told: trace.ToldWords(r.Told)}
	var from netip.Addr
	for _, a := range p.Status.Addresses {
		if a.Is4() == f.To.Is4() {
			from = a
		}
	}
	out.Packet = fmt.Sprintf("%s %s > %s", protocol, from, f.To)
	if protocol != "icmp" {
		out.Packet = fmt.Sprintf("%s %s > %s", protocol, netip.AddrPortFrom(from, trace.SourcePort), netip.AddrPortFrom(f.To, f.Port))
	}
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
