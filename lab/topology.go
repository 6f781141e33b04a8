// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	v1 "weft/api/v1"
	"weft/lab/bgp"
)

// Role says what a node does.
type Role string

// The roles of a lab's nodes.
const (
	RoleRouter Role = "router" // forwards between its links
	RoleHost   Role = "host"   // runs workloads, and an agent
	RoleEdge   Role = "edge"   // forwards between underlay and outside, and runs an agent
	RoleServer Role = "server" // runs the server
	RoleClient Role = "client" // stands outside
)

// Forwards says whether packets may pass through a node of the role.
func (r Role) Forwards() bool { return r == RoleRouter || r == RoleEdge }

// HasAgent says whether a node of the role runs an agent.
func (r Role) HasAgent() bool { return r == RoleHost || r == RoleEdge }

// Topology is what a lab consists of, as its file says.
type Topology struct {
	Underlay  netip.Prefix       `yaml:"underlay"`
	Loopbacks netip.Prefix       `yaml:"loopbacks"`
	Outside   netip.Prefix       `yaml:"outside"`
	MTU       int                `yaml:"mtu"`     // of every link, bytes; 0: 1500
	Routing   bgp.Program        `yaml:"routing"` // what routers run: weft, bird, frr, static; "": weft
	Nodes     []TopologyNode     `yaml:"nodes"`
	Resources string             `yaml:"resources"` // file of documents to apply, beside the topology's
	Workloads []TopologyWorkload `yaml:"workloads"`

	Objects []v1.Object `yaml:"-" json:"-"` // what the file Resources holds
}

// TopologyNode is a machine of the lab: a network namespace.
type TopologyNode struct {
	Name    string   `yaml:"name"`
	Role    Role     `yaml:"role"`
	Uplinks []string `yaml:"uplinks"` // nodes, named before this one, to which it has a link each
	Spare   bool     `yaml:"spare"`   // a host or edge that is not joined yet: up starts no agent there
}

// joins says whether up makes the node one of the system's.
func (n TopologyNode) joins() bool { return n.Role.HasAgent() && !n.Spare }

// TopologyWorkload is a namespace attached to a port.
type TopologyWorkload struct {
	Port string `yaml:"port"` // TENANT/PORT
	Node string `yaml:"node"`
}

// DefaultTopology is the name of the built-in topology.
const DefaultTopology = "dc1"

// builtin holds the topologies that need no file.
//
//go:embed topologies/*.yaml
var builtin embed.FS

// Bounds of what a topology may say.
const (
	roomBits  = 8   // that a prefix leaves for hosts, at least
	nodesMost = 200 // numbers of nodes are the last byte of their loopbacks and MACs
	mtuLeast  = 1280
	mtuMost   = 9216
	nameMost  = 12 // bytes: the name of a node is that of the other end's device, where 15 fit
)

var nameForm = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`)

// LoadTopology reads the topology in the file path; "" is the built-in one.
func LoadTopology(path string) (*Topology, error) {
	fsys, name := fs.FS(builtin), "topologies/"+DefaultTopology+".yaml"
	if path != "" {
		fsys, name = os.DirFS(filepath.Dir(path)), filepath.Base(path)
	}
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	t, err := DecodeTopology(data)
	if err != nil {
		return nil, fmt.Errorf("topology %s: %w", name, err)
	}
	if t.Resources == "" {
		return t, nil
	}
	file := strings.TrimSuffix(name, filepath.Base(name)) + t.Resources
	if data, err = fs.ReadFile(fsys, file); err != nil {
		return nil, fmt.Errorf("topology %s: read resources (a file beside the topology's): %w", name, err)
	}
	if t.Objects, err = v1.DecodeYAML(data); err != nil {
		return nil, fmt.Errorf("topology %s: resources %s: %w", name, t.Resources, err)
	}
	return t, nil
}

// DecodeTopology reads a topology strictly: it refuses what it does not know. It does not read the resources.
func DecodeTopology(data []byte) (*Topology, error) {
	t := &Topology{}
	if err := yaml.UnmarshalWithOptions(data, t, yaml.Strict()); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	if t.MTU == 0 {
		t.MTU = 1500
	}
	if t.Routing == "" {
		t.Routing = bgp.Weft
	}
	return t, t.Check()
}

// Check refuses what cannot be built.
func (t *Topology) Check() error {
	if err := errors.Join(t.checkPrefixes(), t.checkNodes(), t.checkWorkloads()); err != nil {
		return err
	}
	return t.checkRoom()
}

func (t *Topology) checkPrefixes() error {
	var errs []error
	for _, p := range []struct {
		field  string
		prefix netip.Prefix
	}{{"underlay", t.Underlay}, {"loopbacks", t.Loopbacks}, {"outside", t.Outside}} {
		if !p.prefix.IsValid() || p.prefix != p.prefix.Masked() || p.prefix.Addr().BitLen()-p.prefix.Bits() < roomBits {
			errs = append(errs, fmt.Errorf("%s: %s is not a prefix with at least %d bits for hosts, and none of them set, such as 198.18.0.0/16 or fd98::/64", p.field, p.prefix, roomBits))
		}
	}
	if t.Underlay.Addr().Is4() != t.Loopbacks.Addr().Is4() || t.Underlay.Addr().Is4() != t.Outside.Addr().Is4() {
		errs = append(errs, errors.New("underlay, loopbacks and outside: write all three in IPv4, or all in IPv6"))
	}
	if !slices.Contains(bgp.Programs(), t.Routing) {
		errs = append(errs, fmt.Errorf("routing: %q is none of %v", t.Routing, bgp.Programs()))
	}
	if t.MTU < mtuLeast || t.MTU > mtuMost {
		errs = append(errs, fmt.Errorf("mtu: %d is not in %d to %d", t.MTU, mtuLeast, mtuMost))
	}
	return errors.Join(errs...)
}

func (t *Topology) checkNodes() error {
	var errs []error
	seen := make(map[string]bool)
	servers := 0
	for _, n := range t.Nodes {
		switch {
		case len(n.Name) > nameMost || !nameForm.MatchString(n.Name):
			errs = append(errs, fmt.Errorf("nodes: %q is not a name: lower-case letters, digits and '-', at most %d", n.Name, nameMost))
		case seen[n.Name]:
			errs = append(errs, fmt.Errorf("nodes: %s is there twice", n.Name))
		}
		switch n.Role {
		case RoleServer:
			servers++
		case RoleRouter, RoleHost, RoleEdge, RoleClient:
		default:
			errs = append(errs, fmt.Errorf("node %s: role %q is none of router, host, edge, server, client", n.Name, n.Role))
		}
		if n.Spare && !n.Role.HasAgent() {
			errs = append(errs, fmt.Errorf("node %s: only a host or an edge can be spare", n.Name))
		}
		up := make(map[string]bool)
		for _, u := range n.Uplinks {
			if !seen[u] {
				errs = append(errs, fmt.Errorf("node %s: uplink %s is not a node named before it", n.Name, u))
			}
			if up[u] {
				errs = append(errs, fmt.Errorf("node %s: uplink %s is there twice", n.Name, u))
			}
			up[u] = true
		}
		seen[n.Name] = true
	}
	if servers != 1 {
		errs = append(errs, fmt.Errorf("nodes: there are %d with the role server; one is needed", servers))
	}
	if len(t.Nodes) > nodesMost {
		errs = append(errs, fmt.Errorf("nodes: there are %d; at most %d fit", len(t.Nodes), nodesMost))
	}
	return errors.Join(errs...)
}

// checkRoom sees that the prefixes are apart and have an address for every loopback and for both ends of every link.
func (t *Topology) checkRoom() error {
	if t.Underlay.Overlaps(t.Loopbacks) || t.Underlay.Overlaps(t.Outside) || t.Loopbacks.Overlaps(t.Outside) {
		return errors.New("underlay, loopbacks and outside: the prefixes overlap")
	}
	inside, outside := 0, 0
	for _, n := range t.Nodes {
		if n.Role == RoleClient {
			outside += 2 * len(n.Uplinks)
		} else {
			inside += 2 * len(n.Uplinks)
		}
	}
	if size := room(t.Underlay); inside > size {
		return fmt.Errorf("underlay: %s has %d addresses, the links need %d", t.Underlay, size, inside)
	}
	if size := room(t.Outside); outside+len(t.Nodes) >= size {
		return fmt.Errorf("outside: %s has %d addresses, clients and their links need more", t.Outside, size)
	}
	return nil
}

func (t *Topology) checkWorkloads() error {
	var errs []error
	seen := make(map[string]bool)
	for _, w := range t.Workloads {
		tenant, port, ok := strings.Cut(w.Port, "/")
		if !ok || !nameForm.MatchString(tenant) || !nameForm.MatchString(port) {
			errs = append(errs, fmt.Errorf("workloads: port %q is not written TENANT/PORT", w.Port))
		}
		if seen[w.Port] {
			errs = append(errs, fmt.Errorf("workloads: port %s is there twice", w.Port))
		}
		seen[w.Port] = true
		if n := t.node(w.Node); n == nil || n.Role != RoleHost || n.Spare {
			errs = append(errs, fmt.Errorf("workload %s: %q is not a node with the role host", w.Port, w.Node))
		}
	}
	return errors.Join(errs...)
}

func (t *Topology) node(name string) *TopologyNode {
	for i := range t.Nodes {
		if t.Nodes[i].Name == name {
			return &t.Nodes[i]
		}
	}
	return nil
}
