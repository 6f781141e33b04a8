// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"encoding/json"
	"time"
)

// List is the answer to a request for many resources of one kind.
type List struct {
	TypeMeta
	ResourceVersion string            `json:"resourceVersion" doc:"Version of the whole store that the list shows; a watch goes on from here."`
	Items           []json.RawMessage `json:"items" doc:"The resources, ordered by tenant and name."`
}

// Event is one step of a watch.
type Event struct {
	Type            EventType       `json:"type" doc:"What happened." enum:"ADDED,MODIFIED,DELETED,BOOKMARK"`
	ResourceVersion string          `json:"resourceVersion" doc:"Version of the whole store after the step."`
	Object          json.RawMessage `json:"object,omitempty" doc:"The resource as it is now, or as it last was."`
}

// EventType says what happened to a resource.
type EventType string

// The steps of a watch. A BOOKMARK has no object: it says that all before its resourceVersion was sent.
const (
	EventAdded    EventType = "ADDED"
	EventModified EventType = "MODIFIED"
	EventDeleted  EventType = "DELETED"
	EventBookmark EventType = "BOOKMARK"
)

// Action says what a write did, or with a dry run would do, to a resource.
type Action string

// What a write can do to a resource.
const (
	ActionCreated    Action = "created"
	ActionConfigured Action = "configured"
	ActionUnchanged  Action = "unchanged"
	ActionDeleted    Action = "deleted"
)

// Result is the answer to a write of several documents.
type Result struct {
	DryRun          bool         `json:"dryRun,omitempty" doc:"Nothing was written."`
	ResourceVersion string       `json:"resourceVersion" doc:"Version of the whole store that holds the write."`
	Items           []ResultItem `json:"items" doc:"One entry for each resource, in the order in which they were given."`
}

// ResultItem is what happened to one resource.
type ResultItem struct {
	Action Action          `json:"action" doc:"What was done." enum:"created,configured,unchanged,deleted"`
	Kind   Kind            `json:"kind"`
	Tenant string          `json:"tenant,omitempty"`
	Name   string          `json:"name"`
	Object json.RawMessage `json:"object,omitempty" doc:"The resource after the write (before it, where it was deleted)."`
}

// ClusterStatus is the answer to "how is it?".
type ClusterStatus struct {
	Version         string         `json:"version" doc:"Build of the server."`
	ResourceVersion string         `json:"resourceVersion" doc:"Version of the whole store."`
	UptimeSeconds   int64          `json:"uptimeSeconds"`
	Store           StoreStatus    `json:"store"`
	Nodes           []Node         `json:"nodes"`
	Counts          map[string]int `json:"counts" doc:"How many resources there are of each kind (plural)."`
	Drops           uint64         `json:"drops" doc:"Packets dropped on all nodes that are connected, since their programs were loaded."`
	Warnings        []string       `json:"warnings,omitempty" doc:"What an operator should look at, in sentences."`
}

// StoreStatus is how the store is.
type StoreStatus struct {
	Embedded  bool    `json:"embedded" doc:"The server runs etcd itself."`
	Version   string  `json:"version" doc:"Version of etcd."`
	Members   int     `json:"members"`
	Answering int     `json:"answering,omitempty" doc:"Members, but for those that the server has asked in vain."`
	LatencyMS float64 `json:"latencyMs" doc:"Time of one linearizable read, in milliseconds."`
	SizeBytes int64   `json:"sizeBytes"`
}

// Drop counts packets that one node dropped for one reason, as on a real wire: segments of a super-packet count each.
type Drop struct {
	Node    string `json:"node"`
	Tenant  string `json:"tenant,omitempty" doc:"Empty where the packet belonged to no known tenant."`
	Reason  string `json:"reason" example:"src-ip-spoof"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes" doc:"Layer 3 bytes, headers counted once per segment."`
	Meaning string `json:"meaning,omitempty" doc:"The reason in a sentence."`
}

// AttachRequest asks an agent, on its local socket, to attach a port, in one way: to a namespace (NetNS), a tap (Tap), a pair of
// devices (Veth), or a device that is there (Device alone).
type AttachRequest struct {
	Tenant string `json:"tenant"`
	Port   string `json:"port"`
	NetNS  string `json:"netns,omitempty" doc:"Path of a network namespace, or its name below /run/netns; the agent makes an interface in it."`
	Device string `json:"device,omitempty" doc:"With netns: name of the interface inside it, default eth0. Alone: a device of the node's namespace that is there."`
	Tap    string `json:"tap,omitempty" doc:"A tap of the node's namespace, made if it is not there."`
	Veth   string `json:"veth,omitempty" doc:"Name of the workload's end of a pair of devices, made in the node's namespace and left down, to be taken anywhere."`

	MultiQueue bool    `json:"multiQueue,omitempty" doc:"Tap: for several queues; whoever opens it must then ask for that."`
	Owner      *uint32 `json:"owner,omitempty" doc:"Tap: number of the user who may open it beside root."`
	Force      bool    `json:"force,omitempty" doc:"Tap, device: take it although the node has addresses or devices on it."`

	Move   bool `json:"move,omitempty" doc:"Take the port although another node has it."`
	Static bool `json:"static,omitempty" doc:"Netns: give the interface its address, MTU and default route."`
}

// DetachRequest asks an agent, on its local socket, to detach a port.
type DetachRequest struct {
	Tenant string `json:"tenant"`
	Port   string `json:"port"`
}

// Attachment is a port attached at a node.
type Attachment struct {
	Tenant     string   `json:"tenant"`
	Port       string   `json:"port"`
	Way        string   `json:"way" doc:"How it is attached." enum:"netns,veth,tap,device"`
	NetNS      string   `json:"netns,omitempty" doc:"Namespace of the workload."`
	Device     string   `json:"device" doc:"The workload's end of a pair as it was made, or the tap or device."`
	HostDevice string   `json:"hostDevice" doc:"The device in the node's namespace at which packets are checked."`
	Made       bool     `json:"made,omitempty" doc:"Tap: the agent made it, and removes it."`
	Binding    string   `json:"binding"`
	Addresses  []string `json:"addresses,omitempty"`
	MAC        string   `json:"mac,omitempty" doc:"What the workload's interface must have."`
	MTU        int      `json:"mtu,omitempty"`
	Ready      bool     `json:"ready" doc:"The packet path has the port."`
	Error      string   `json:"error,omitempty"`
}

// AgentStatus is what an agent says of itself on its local socket.
type AgentStatus struct {
	Node        string       `json:"node"`
	Version     string       `json:"version"`
	PID         int          `json:"pid" doc:"Number of the agent's process."`
	Removed     string       `json:"removed,omitempty" doc:"Why the machine is no node any more, where it was removed."`
	Certificate time.Time    `json:"certificateEnds,omitzero" doc:"When the node's certificate ends; absent: it has none."`
	Unproven    string       `json:"unproven,omitempty" doc:"Why the server does not give the node a certificate, where it said so."`
	Connected   bool         `json:"connected" doc:"The stream to a server is up."`
	Synced      bool         `json:"synced" doc:"All rows the server has for the node are in effect."`
	Revision    uint64       `json:"revision"`
	Rows        int          `json:"rows"`
	Writes      uint64       `json:"writes" doc:"Writes to the kernel since the agent started."`
	Mended      uint64       `json:"mended" doc:"Of these, writes that undid what somebody else had changed."`
	Attachments []Attachment `json:"attachments"`
	Errors      []string     `json:"errors,omitempty"`
}

// Trace is what would become of a packet, computed from what the nodes were told; nothing is sent.
type Trace struct {
	Packet  string      `json:"packet" doc:"The packet in one line." example:"tcp 10.0.1.4:* > 10.0.2.4:5432"`
	Steps   []TraceStep `json:"steps" doc:"What is decided on the way, in order."`
	Verdict string      `json:"verdict" doc:"How it ends." enum:"delivered,answered,consumed,dropped"`
	Port    string      `json:"port,omitempty" doc:"Delivered: who gets it, as tenant/port."`
	Node    string      `json:"node" doc:"Where it ends."`
	Reason  string      `json:"reason,omitempty" doc:"Dropped: the drop reason that would count." example:"no-location"`
	Told    string      `json:"told,omitempty" doc:"Dropped: what the router tells the sender, by ICMP; absent: nothing." example:"host unreachable"`
	Fix     string      `json:"fix,omitempty" doc:"Dropped: what to look at, or to do."`
}

// TraceStep is one decision.
type TraceStep struct {
	Node     string `json:"node"`
	Stage    string `json:"stage" example:"route"`
	Object   string `json:"object" example:"vpc/red/main"`
	Decision string `json:"decision" example:"pass"`
	Detail   string `json:"detail,omitempty"`
}

// Join is what a machine needs to become a node.
type Join struct {
	Server string    `json:"server" doc:"Host and port of the nodes' stream; the host is empty where the server listens on all of its addresses."`
	Token  string    `json:"token" doc:"Join token: it lets a machine have its first certificate, and nothing else. It is shown here only."`
	CAHash string    `json:"caHash" doc:"SHA-256 of the certificate of the server's authority, as sha256:HEX."`
	ID     string    `json:"id" doc:"Name of the token, by which it is listed and revoked."`
	Ends   time.Time `json:"ends" doc:"When the token ends."`
}

// JoinRequest says what a join token is to be good for.
type JoinRequest struct {
	For  string `json:"for,omitempty" doc:"How long the token is good, 1 second to 30 days; default 1h." example:"1h"`
	Node string `json:"node,omitempty" doc:"The only node that may be joined with it, also if there is one of that name, which is not heard any more. Default: any that is not there yet." example:"host-1"`
	Uses int    `json:"uses,omitempty" minimum:"0" maximum:"1000" doc:"How many machines may use it; default: any number."`
}

// JoinToken is a join token, of which the server itself knows only a hash.
type JoinToken struct {
	ID    string    `json:"id"`
	State string    `json:"state" doc:"Good, Ended, UsedUp or Revoked." enum:"Good,Ended,UsedUp,Revoked"`
	Node  string    `json:"node,omitempty" doc:"The only node that may be joined with it."`
	Uses  int       `json:"uses,omitempty" doc:"How many machines may use it; absent: any number."`
	Used  int       `json:"used" doc:"How many have."`
	Made  time.Time `json:"made"`
	Ends  time.Time `json:"ends"`
}

// JoinTokens is all join tokens that are kept.
type JoinTokens struct {
	Items []JoinToken `json:"items" doc:"The newest first."`
}
