// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Graph is a lab as nodes and links, as -o json shows it.
type Graph struct {
	Name  string      `json:"name"`
	Nodes []GraphNode `json:"nodes"`
	Links []GraphLink `json:"links"`
}

// GraphNode is a node or a workload.
type GraphNode struct {
	Name    string `json:"name"`
	Role    string `json:"role"` // of a node, or "workload"
	Address string `json:"address,omitempty"`
}

// GraphLink joins two nodes.
type GraphLink struct {
	From        string `json:"from"`
	To          string `json:"to"`
	FromAddress string `json:"fromAddress,omitempty"`
	ToAddress   string `json:"toAddress,omitempty"`
}

// GraphFormats are the ways in which a graph can be written.
var GraphFormats = []string{"text", "dot", "mermaid", "json"}

// Graph returns the lab as nodes and links.
func (l *Lab) Graph() *Graph {
	p := makePlan(l.Topology)
	g := &Graph{Name: l.Name}
	for _, n := range p.nodes {
		g.Nodes = append(g.Nodes, GraphNode{n.Name, string(n.Role), n.loopback.String()})
	}
	for _, k := range p.links {
		g.Links = append(g.Links, GraphLink{k.a.node.Name, k.b.node.Name, k.a.address.String(), k.b.address.String()})
	}
	for _, w := range l.Workloads {
		g.Nodes = append(g.Nodes, GraphNode{Name: w.Port, Role: "workload"})
		g.Links = append(g.Links, GraphLink{From: w.Port, To: w.Node})
	}
	return g
}

// Write writes the graph in one of GraphFormats.
func (g *Graph) Write(w io.Writer, format string) error {
	var b strings.Builder
	switch format {
	case "text":
		g.text(&b)
	case "dot":
		g.dot(&b)
	case "mermaid":
		g.mermaid(&b)
	case "json":
		data, err := json.MarshalIndent(g, "", "  ")
		if err != nil {
			return fmt.Errorf("write graph: %w", err)
		}
		b.Write(append(data, '\n'))
	default:
		return fmt.Errorf("%q is not a way to write a graph: use one of %s", format, strings.Join(GraphFormats, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// text lists each node with the ends of its links.
func (g *Graph) text(b *strings.Builder) {
	for _, n := range g.Nodes {
		if n.Role == "workload" {
			continue
		}
		fmt.Fprintf(b, "%-10s %-7s %s\n", n.Name, n.Role, n.Address)
		for _, k := range g.Links {
			switch {
			case k.From == n.Name:
				fmt.Fprintf(b, "  -- %-10s %s to %s\n", k.To, k.FromAddress, k.ToAddress)
			case k.To == n.Name && k.ToAddress == "":
				fmt.Fprintf(b, "  :: %s\n", k.From)
			case k.To == n.Name:
				fmt.Fprintf(b, "  -- %-10s %s to %s\n", k.From, k.ToAddress, k.FromAddress)
			}
		}
	}
}

func (g *Graph) dot(b *strings.Builder) {
	fmt.Fprintf(b, "graph %q {\n  rankdir=BT\n", g.Name)
	shapes := map[string]string{string(RoleRouter): "box", "workload": "plaintext", string(RoleClient): "ellipse"}
	for _, n := range g.Nodes {
		shape := shapes[n.Role]
		if shape == "" {
			shape = "box3d"
		}
		fmt.Fprintf(b, "  %q [shape=%s, label=%q]\n", n.Name, shape, strings.TrimRight(n.Name+"\n"+n.Address, "\n"))
	}
	for _, k := range g.Links {
		fmt.Fprintf(b, "  %q -- %q\n", k.From, k.To)
	}
	b.WriteString("}\n")
}

func (g *Graph) mermaid(b *strings.Builder) {
	b.WriteString("graph BT\n")
	id := strings.NewReplacer("/", "_", "-", "_").Replace
	for _, n := range g.Nodes {
		fmt.Fprintf(b, "  %s[\"%s\"]\n", id(n.Name), strings.TrimSuffix(n.Name+"<br/>"+n.Address, "<br/>"))
	}
	for _, k := range g.Links {
		fmt.Fprintf(b, "  %s --- %s\n", id(k.From), id(k.To))
	}
}
