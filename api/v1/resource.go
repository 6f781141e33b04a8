// SPDX-License-Identifier: Apache-2.0

package v1

import "time"

// Kind names a type of resource, as written in the field "kind".
type Kind string

// The kinds of weft/v1.
const (
	KindTenant     Kind = "Tenant"
	KindNode       Kind = "Node"
	KindVPC        Kind = "VPC"
	KindSubnet     Kind = "Subnet"
	KindPort       Kind = "Port"
	KindRouteTable Kind = "RouteTable"
)

// KindInfo says how a kind is written in URLs, tables and on the command line.
type KindInfo struct {
	Kind     Kind
	Singular string   // "subnet": as in "subnet/web"
	Plural   string   // "subnets": as in URLs
	Short    []string // other accepted words
	Tenanted bool     // lives in a tenant; otherwise it belongs to the cluster
	New      func() Object
	Doc      string // what the kind is, in a sentence
}

// Kinds lists every kind in the order in which documents must be created: a kind refers only to kinds before it.
func Kinds() []KindInfo {
	return []KindInfo{
		{
			KindTenant, "tenant", "tenants", nil, false, func() Object { return &Tenant{} },
			"A customer: the owner of VPCs, and the unit of isolation, quota and accounting.",
		},
		{
			KindNode, "node", "nodes", nil, false, func() Object { return &Node{} },
			"A machine that runs the agent. It registers itself when it joins.",
		},
		{
			KindVPC, "vpc", "vpcs", nil, true, func() Object { return &VPC{} },
			"A private network of a tenant: addresses of the tenant's own choice behind one distributed virtual router.",
		},
		{
			KindSubnet, "subnet", "subnets",
			[]string{"sn"},
			true, func() Object { return &Subnet{} },
			"A part of a VPC's addresses, with the router as its first hop.",
		},
		{
			KindPort, "port", "ports", nil, true, func() Object { return &Port{} },
			"One interface of a workload.",
		},
		{
			KindRouteTable, "routetable", "routetables",
			[]string{"rt"},
			true, func() Object { return &RouteTable{} },
			"Where packets go that leave some subnets of a VPC, instead of straight to their destination.",
		},
	}
}

// KindByWord finds a kind by its name in any accepted spelling: "Port", "port", "ports".
func KindByWord(word string) (KindInfo, bool) {
	for _, k := range Kinds() {
		if word == string(k.Kind) || word == k.Singular || word == k.Plural {
			return k, true
		}
		for _, s := range k.Short {
			if word == s {
				return k, true
			}
		}
	}
	return KindInfo{}, false
}

// New returns an empty resource of a kind, with its apiVersion and kind written; false if there is no such kind.
func New(kind Kind) (Object, bool) {
	info, ok := KindByWord(string(kind))
	if !ok || info.Kind != kind {
		return nil, false
	}
	o := info.New()
	*o.Type() = TypeMeta{APIVersion: APIVersion, Kind: kind}
	return o, true
}

// Object is a resource of any kind.
type Object interface {
	// GetKind returns the kind of the resource's Go type, whatever the document says.
	GetKind() Kind
	// Meta returns the resource's metadata for reading and writing.
	Meta() *Metadata
	// Type returns the resource's apiVersion and kind for reading and writing.
	Type() *TypeMeta
	// Validate checks the document by itself (not against others) and returns every error found.
	Validate() ErrorList
	// Default fills what the user left open and what needs no other document to decide.
	Default()
	// ClearStatus empties the status, which is the system's to write.
	ClearStatus()
}

// TypeMeta opens every document.
type TypeMeta struct {
	APIVersion string `json:"apiVersion" doc:"Always weft/v1." enum:"weft/v1" must:"weft/v1" example:"weft/v1"`
	Kind       Kind   `json:"kind" doc:"Kind of the resource, for example Port." must:"one of the kinds that 'weft explain' lists" example:"Port"`
}

// Type returns the document's own apiVersion and kind.
func (t *TypeMeta) Type() *TypeMeta { return t }

// Metadata names a resource. Fields below Labels are written by the system.
type Metadata struct {
	Name   string            `json:"name" doc:"Name, unique per kind in its tenant: lower-case letters, digits and '-', at most 63." example:"web-1" must:"lower-case letters, digits and '-' between them, at most 63; unique per kind in its tenant; it cannot change"`
	Tenant string            `json:"tenant,omitempty" doc:"Tenant that owns the resource; absent for cluster kinds." example:"red" must:"the name of a tenant; it cannot change"`
	Labels map[string]string `json:"labels,omitempty" doc:"Free key-value pairs for selection." must:"at most 64 pairs; keys and values of letters, digits and '-', '_', '.', '/' between them, at most 63" example:"{\"app\":\"web\"}"`

	UID             string    `json:"uid,omitempty" doc:"Identity of this very resource; a resource deleted and created again has another." readOnly:"true"`
	ResourceVersion string    `json:"resourceVersion,omitempty" doc:"Version of the stored document. Sent back on a write, the write is refused if it is no longer current." must:"the version that was read, or nothing" example:"812"`
	Generation      int64     `json:"generation,omitempty" doc:"Counts changes of spec." readOnly:"true"`
	CreatedAt       time.Time `json:"createdAt,omitzero" doc:"Time of creation." readOnly:"true"`
}

// Meta returns m itself.
func (m *Metadata) Meta() *Metadata { return m }

// Applied says on how many of the nodes that need a resource it is in effect.
type Applied struct {
	Nodes   int      `json:"nodes" doc:"Nodes that the resource concerns."`
	Applied int      `json:"applied" doc:"Nodes on which the current generation is in effect."`
	Waiting []string `json:"waiting,omitempty" doc:"Names of at most five nodes that have not acknowledged the current generation."`
}
