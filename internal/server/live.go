// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/clock"
	"weft/internal/server/enrol"
	"weft/internal/southbound"
	"weft/internal/store"
)

// live is the part of status that is not stored: what nodes have acknowledged and how they are.
type live struct {
	store      *store.Store
	hub        *southbound.Hub
	nodes      *southbound.Server
	controller *controller
	enrol      *enrol.Service
	version    string
	started    time.Time
	nodeLife   time.Duration // of nodes' certificates
}

// askWithin bounds a question to a node where the caller set no bound.
const askWithin = 3 * time.Second

// Fill writes the live part of an object's status (apiserver.Live).
func (l *live) Fill(obj v1.Object) {
	switch o := obj.(type) {
	case *v1.VPC:
		o.Status.Applied = l.applied(o, vpcID{o.Tenant, o.Name})
	case *v1.Subnet:
		o.Status.Applied = l.applied(o, vpcID{o.Tenant, o.Spec.VPC})
	case *v1.RouteTable:
		o.Status.Applied = l.applied(o, vpcID{o.Tenant, o.Spec.VPC})
	case *v1.Port:
		o.Status.Applied = l.applied(o, vpcID{o.Tenant, o.Status.VPC})
		o.Status.State = l.portState(o)
	case *v1.Node:
		l.fillNode(o)
	}
}

// Version sums what Fill depends on besides the store: acknowledgements, computations, and who is alive (apiserver.Live).
func (l *live) Version() uint64 {
	return l.hub.Version() + l.nodes.Version() + l.controller.version.Load()
}

// applied counts the nodes of the VPC on which a resource of it is in effect.
func (l *live) applied(o v1.Object, id vpcID) v1.Applied {
	revision, vni := l.controller.computed(id)
	nodes, applied, waiting := l.hub.Applied(vni)
	out := v1.Applied{Nodes: nodes, Applied: applied}
	if stored, err := strconv.ParseInt(o.Meta().ResourceVersion, 10, 64); err != nil || revision < stored {
		out.Applied, out.Waiting = 0, []string{"(server)"} // its rows are not computed yet
		return out
	}
	view := l.store.View()
	for _, n := range waiting[:min(len(waiting), 5)] {
		out.Waiting = append(out.Waiting, nodeName(view, n))
	}
	return out
}

// nodeName returns the name of a node by its number.
func nodeName(view *store.View, number uint16) string {
	for _, o := range view.List(v1.KindNode, "") {
		if n := o.(*v1.Node); n.Status.Number == number {
			return n.Name
		}
	}
	return fmt.Sprintf("node %d", number)
}

// portState is Detached, NodeGone, Pending or Attached.
func (l *live) portState(p *v1.Port) string {
	if p.Status.Node == "" {
		return "Detached"
	}
	presence, ok := l.nodes.Presence(p.Status.Node)
	if !ok || !presence.Alive {
		return "NodeGone"
	}
	if slices.Contains(p.Status.Applied.Waiting, p.Status.Node) || slices.Contains(p.Status.Applied.Waiting, "(server)") {
		return "Pending"
	}
	return "Attached"
}

// alive reports whether a node's agent is connected.
func (l *live) alive(node string) bool {
	p, ok := l.nodes.Presence(node)
	return ok && p.Alive
}

func (l *live) fillNode(n *v1.Node) {
	for _, o := range l.store.View().List(v1.KindPort, "") {
		if o.(*v1.Port).Status.Node == n.Name {
			n.Status.Ports++
		}
	}
	presence, ok := l.nodes.Presence(n.Name)
	if !ok {
		n.Status.State = v1.NodeNever
		return
	}
	st := l.hub.Node(presence.Number)
	n.Status.Rows = st.Rows
	n.Status.LastSeen, n.Status.CertificateEnds = presence.LastSeen, presence.Until
	n.Status.Version, n.Status.Kernel = presence.Hello.Version, presence.Hello.Kernel
	switch {
	case !presence.Alive:
		n.Status.State = v1.NodeGone
	case !st.InSync:
		n.Status.State = v1.NodeSyncing
	case nodeTrouble(st) != "":
		n.Status.State, n.Status.Reason = v1.NodeDegraded, nodeTrouble(st)
	default:
		n.Status.State, n.Status.Ready = v1.NodeReady, true
	}
}

// nodeTrouble is what a node says of itself, not of one VPC's rows; "": nothing.
func nodeTrouble(st southbound.NodeState) string {
	var all []string
	for _, f := range st.Failures {
		if f.VNI == 0 {
			all = append(all, f.Message)
		}
	}
	return strings.Join(all, "; ")
}

// Status tells how the nodes are (apiserver.Live).
func (l *live) Status(ctx context.Context) v1.ClusterStatus {
	st := v1.ClusterStatus{Version: l.version, UptimeSeconds: int64(time.Since(l.started).Seconds())}
	for _, o := range l.store.View().List(v1.KindNode, "") {
		n := v1.Clone(o.(*v1.Node))
		l.Fill(n)
		st.Nodes = append(st.Nodes, *n)
		switch n.Status.State {
		case v1.NodeGone:
			st.Warnings = append(st.Warnings, fmt.Sprintf("%s: its agent has not been heard for %s; what it forwards goes on as it was: weft describe node %s",
				n.Name, time.Since(n.Status.LastSeen).Round(time.Second), n.Name))
		case v1.NodeNever:
			st.Warnings = append(st.Warnings, fmt.Sprintf("%s: its agent has not been heard since the server started", n.Name))
		}
		if left := n.Status.CertificateEnds.Sub(clock.Now()); n.Status.Ready && left < l.nodeLife/6 { // half of what there is for tries
			st.Warnings = append(st.Warnings, fmt.Sprintf("%s: its certificate ends in %s and was not renewed; the log of its agent says why",
				n.Name, left.Round(time.Second)))
		}
		for _, f := range l.hub.Node(n.Status.Number).Failures {
			st.Warnings = append(st.Warnings, fmt.Sprintf("%s: %s: %s", n.Name, f.Key, f.Message))
		}
	}
	drops, err := l.Drops(ctx, "")
	if err != nil {
		st.Warnings = append(st.Warnings, "drop counters are incomplete: "+err.Error())
	}
	for _, d := range drops {
		st.Drops += d.Packets
	}
	return st
}

// nodeDrop is a counter as a node gives it, with the tenant's number.
type nodeDrop struct {
	Tenant  uint32 `json:"tenant"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Meaning string `json:"meaning"`
}

// Drops asks every connected node for its counters (apiserver.Live). Counters of nodes that answered are returned even
// where the error names others.
func (l *live) Drops(ctx context.Context, tenant string) ([]v1.Drop, error) {
	view := l.store.View()
	names := make(map[uint32]string)
	for _, o := range view.List(v1.KindTenant, "") {
		names[o.(*v1.Tenant).Status.Number] = o.Meta().Name
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards out, errs
	var out []v1.Drop
	var errs []error
	for _, o := range view.List(v1.KindNode, "") {
		node := o.Meta().Name
		if !l.alive(node) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askWithin)
			defer cancel()
			counts, err := askDrops(ctx, l.nodes, node)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
			}
			for _, c := range counts {
				name := names[c.Tenant]
				if c.Tenant != 0 && name == "" {
					name = fmt.Sprintf("(deleted tenant %d)", c.Tenant)
				}
				if tenant == "" || name == tenant {
					out = append(out, v1.Drop{Node: node, Tenant: name, Reason: c.Reason, Packets: c.Packets, Bytes: c.Bytes, Meaning: c.Meaning})
				}
			}
		})
	}
	wg.Wait()
	slices.SortFunc(out, compareDrops)
	return out, errors.Join(errs...)
}

func askDrops(ctx context.Context, nodes *southbound.Server, node string) ([]nodeDrop, error) {
	body, err := nodes.Ask(ctx, node, "drops", nil)
	if err != nil {
		return nil, err
	}
	var counts []nodeDrop
	if err := json.Unmarshal(body, &counts); err != nil {
		return nil, fmt.Errorf("drop counters of %s: %w", node, err)
	}
	return counts, nil
}

// Ask passes an operator's question on to a node (apiserver.Live).
func (l *live) Ask(ctx context.Context, node, what string, argument json.RawMessage) (json.RawMessage, error) {
	body, err := l.nodes.Ask(ctx, node, what, argument)
	switch {
	case errors.Is(err, southbound.ErrNodeGone):
		return nil, &v1.Error{
			Status: http.StatusServiceUnavailable, Code: v1.CodeNodeGone, Object: "node/" + node,
			Message: "the node's agent is not connected", Fix: "look at 'weft get nodes' and at the agent's log on that node",
		}
	case errors.Is(err, context.DeadlineExceeded):
		return nil, &v1.Error{Status: http.StatusGatewayTimeout, Code: v1.CodeTimeout, Object: "node/" + node, Message: err.Error()}
	case err != nil:
		return nil, &v1.Error{Status: http.StatusUnprocessableEntity, Code: v1.CodePrecondition, Object: "node/" + node, Message: err.Error()}
	}
	return body, nil
}
