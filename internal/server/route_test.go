// SPDX-License-Identifier: Apache-2.0

package server

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/southbound"
)

// text is what the node holds of one table, one row a line.
func (n *node) text(table southbound.Table) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, k := range slices.SortedFunc(maps.Keys(n.rows), southbound.Key.Compare) {
		if k.Table == table {
			out = append(out, n.rows[k].String())
		}
	}
	return strings.Join(out, "\n")
}

// TestRouteTableReachesEveryNodeOfItsVPC: from the document to the rows of all nodes, and their acknowledgement to status.
func TestRouteTableReachesEveryNodeOfItsVPC(t *testing.T) {
	s := start(t, t.TempDir())
	h1 := s.join("h1", 1)
	s.apply(network("red", 1) + `---
apiVersion: weft/v1
kind: Subnet
metadata: {tenant: red, name: fw}
spec: {vpc: main, prefixes: [10.0.3.0/24]}
---
apiVersion: weft/v1
kind: Port
metadata: {tenant: red, name: web-9}
spec: {subnet: fw, mac: '02:00:00:00:00:09', allowedSources: ["::/0", 0.0.0.0/0]}
---
apiVersion: weft/v1
kind: RouteTable
metadata: {tenant: red, name: out}
spec: {vpc: main, subnets: [web], routes: [{to: 0.0.0.0/0, via: port/web-9}, {to: 192.0.2.0/24, via: blackhole}]}
`)
	h1.claim(t, "red", 0)
	unreachable := "route/4096/1/0.0.0.0/0 via=port node=0 mac=00:00:00:00:00:00\nroute/4096/1/192.0.2.0/24 via=blackhole"
	eventually(t, "the first node has the routes", func() bool { return h1.text(southbound.TableRoute) == unreachable })
	if p := h1.text(southbound.TablePort); !strings.Contains(p, "table=1 address=10.0.1.4/24") {
		t.Errorf("the port's row is %s", p)
	}
	h2 := s.join("h2", 2) // after the other, so that its number is 2
	h2.claim(t, "red", 9)
	through := strings.ReplaceAll(strings.ReplaceAll(unreachable, "node=0", "node=2"), "mac=00:00:00:00:00:00", "mac=02:00:00:00:00:09")
	for _, n := range []*node{h1, h2} {
		eventually(t, n.name+" knows where the appliance is", func() bool { return n.text(southbound.TableRoute) == through })
	}
	if p := h2.text(southbound.TablePort); !strings.Contains(p, "sources=[0.0.0.0/0 ::/0]") || strings.Contains(p, "table=") {
		t.Errorf("the appliance's row is %s", p)
	}
	eventually(t, "status says so", func() bool {
		var rt v1.RouteTable
		s.call(http.MethodGet, "/api/v1/tenants/red/routetables/out", nil, &rt)
		return rt.Status.Number == 1 && rt.Status.Applied.Nodes == 2 && rt.Status.Applied.Applied == 2
	})
	s.call(http.MethodDelete, "/api/v1/tenants/red/ports/web-9?cascade=true", nil, nil)
	eventually(t, "the black hole stays", func() bool { return h1.text(southbound.TableRoute) == "route/4096/1/192.0.2.0/24 via=blackhole" })
	s.call(http.MethodDelete, "/api/v1/tenants/red/routetables/out", nil, nil)
	eventually(t, "no routes are left", func() bool {
		return h1.text(southbound.TableRoute) == "" && !strings.Contains(h1.text(southbound.TablePort), "table=")
	})
}
