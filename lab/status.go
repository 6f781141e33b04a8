// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	v1 "weft/api/v1"
	"weft/internal/netns"
)

// Status is how a lab is, as -o json shows it.
type Status struct {
	Name         string           `json:"name"`
	Complete     bool             `json:"complete"` // up went through
	Healthy      bool             `json:"healthy"`  // all that should be there is, and works
	UnderlayOnly bool             `json:"underlayOnly,omitempty"`
	Created      time.Time        `json:"created"`
	API          string           `json:"api,omitempty"`
	Dir          string           `json:"dir"`
	Nodes        []NodeStatus     `json:"nodes"`
	Workloads    []WorkloadStatus `json:"workloads"`
}

// NodeStatus is how one node is.
type NodeStatus struct {
	Name    string `json:"name"`
	Role    Role   `json:"role"`
	Address string `json:"address"` // its loopback
	NetNS   string `json:"netns"`
	PID     int    `json:"pid,omitempty"` // of its process, if it lives
	State   string `json:"state"`         // "Running", "Forwarding", "Syncing", "Dead", "Gone"
	Detail  string `json:"detail,omitempty"`
}

// WorkloadStatus is how one workload is.
type WorkloadStatus struct {
	Port    string   `json:"port"`
	Node    string   `json:"node"`
	NetNS   string   `json:"netns"`
	Address []string `json:"addresses,omitempty"`
	State   string   `json:"state"` // "Ready", "Detached", "Failed", "Gone"
	Detail  string   `json:"detail,omitempty"`
}

// statusWithin is how long an agent may take to answer.
const statusWithin = 2 * time.Second

// Status asks every node how it is.
func (l *Lab) Status(ctx context.Context) *Status {
	s := &Status{
		Name: l.Name, Complete: l.Complete, Healthy: l.Complete, UnderlayOnly: l.UnderlayOnly, Created: l.Created, API: l.API, Dir: l.Dir(),
		Nodes: make([]NodeStatus, len(l.Topology.Nodes)), Workloads: []WorkloadStatus{},
	}
	agents := make([]*v1.AgentStatus, len(l.Topology.Nodes))
	var wg sync.WaitGroup
	for i, n := range makePlan(l.Topology).nodes {
		wg.Go(func() { s.Nodes[i], agents[i] = l.nodeStatus(ctx, n) })
	}
	wg.Wait()
	attached := make(map[string]v1.Attachment) // by node and port
	for i, a := range agents {
		if a != nil {
			for _, at := range a.Attachments {
				attached[s.Nodes[i].Name+" "+at.Tenant+"/"+at.Port] = at
			}
		}
		s.Healthy = s.Healthy && slices.Contains([]string{"Running", "Forwarding", "Idle"}, s.Nodes[i].State)
	}
	for _, w := range l.Workloads {
		at, ok := attached[w.Node+" "+w.Port]
		ws := WorkloadStatus{Port: w.Port, Node: w.Node, NetNS: w.NetNS, Address: at.Addresses, Detail: at.Error}
		switch {
		case !netns.Exists(w.NetNS):
			ws.State = "Gone"
		case !ok:
			ws.State = "Detached"
		case !at.Ready:
			ws.State = "Failed"
		default:
			ws.State = "Ready"
		}
		s.Healthy = s.Healthy && ws.State == "Ready"
		s.Workloads = append(s.Workloads, ws)
	}
	return s
}

func (l *Lab) nodeStatus(ctx context.Context, n *planNode) (NodeStatus, *v1.AgentStatus) {
	s := NodeStatus{Name: n.Name, Role: n.Role, Address: n.loopback.String(), NetNS: l.netNS(n.Name), State: "Idle"}
	i := l.process(n.Name, "")
	hasProcess := (n.joins() || n.Role == RoleServer || i >= 0) && !l.UnderlayOnly
	if i >= 0 && l.Processes[i].Alive() {
		s.PID = l.Processes[i].PID
	}
	ended := slices.IndexFunc(l.Processes, func(p Process) bool { return p.Node == n.Name && !p.Alive() })
	switch {
	case !netns.Exists(s.NetNS):
		s.State, s.Detail = "Gone", "its namespace does not exist"
	case ended >= 0:
		s.State, s.Detail = "Dead", fmt.Sprintf("its %s has ended; see %s", l.Processes[ended].Program, l.Processes[ended].Log)
	case hasProcess && s.PID == 0:
		s.State, s.Detail = "Dead", "its process is not there; see "+l.logFile(n.Name, "")
	case hasProcess && n.Role.HasAgent():
		return l.agentStatus(ctx, s)
	case hasProcess:
		s.State = "Running"
	case n.Role.Forwards():
		s.State = "Forwarding"
	}
	return s, nil
}

func (l *Lab) agentStatus(ctx context.Context, s NodeStatus) (NodeStatus, *v1.AgentStatus) {
	ctx, cancel := context.WithTimeout(ctx, statusWithin)
	defer cancel()
	a, err := l.Agent(s.Name).Status(ctx)
	switch {
	case err != nil:
		s.State, s.Detail = "Dead", err.Error()
		return s, nil
	case !a.Connected:
		s.State, s.Detail = "Syncing", "not connected to the server"
	case !a.Synced:
		s.State = "Syncing"
	default:
		s.State, s.Detail = "Running", fmt.Sprintf("synced, %d rows, %d ports", a.Rows, len(a.Attachments))
	}
	if len(a.Errors) > 0 {
		s.Detail = fmt.Sprintf("%d errors, the first: %s", len(a.Errors), a.Errors[0])
	}
	return s, a
}
