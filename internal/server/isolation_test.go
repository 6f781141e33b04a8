// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/control/graph"
	"weft/internal/southbound"
	"weft/internal/store"
)

// bench is a controller over its own etcd, to which documents are written as they are, past admission.
type bench struct {
	t   *testing.T
	st  *store.Store
	hub *southbound.Hub
	c   *controller
}

func newBench(t *testing.T) *bench {
	t.Helper()
	st, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, st: st, hub: southbound.NewHub()}
	b.c = newController(st, b.hub, slog.New(slog.DiscardHandler))
	return b
}

// run lets the controller work until the test ends.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { b.c.run(ctx); close(ended) }()
	b.t.Cleanup(func() {
		cancel()
		<-ended
		if err := b.st.Close(); err != nil {
			b.t.Error(err)
		}
	})
}

func (b *bench) write(docs string) {
	b.t.Helper()
	objects, err := v1.DecodeYAML([]byte(docs))
	if err != nil {
		b.t.Fatal(err)
	}
	_, err = b.st.Update(b.t.Context(), []string{"", "red", "blue"}, func(tx *store.Tx) error {
		for _, o := range objects {
			tx.Put(o)
		}
		return nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// text is what a node is to hold of a VNI.
func (b *bench) text(node uint16, vni uint32) string {
	var out []string
	for _, r := range b.hub.Rows(node) {
		if r.Key().VNI == vni {
			out = append(out, r.String())
		}
	}
	return strings.Join(out, "\n")
}

func doc(kind, tenant, name, rest string) string {
	if tenant != "" {
		tenant = "tenant: " + tenant + ", "
	}
	return fmt.Sprintf("---\napiVersion: weft/v1\nkind: %s\nmetadata: {%sname: %s}\n%s\n", kind, tenant, name, rest)
}

// whole is a tenant with a VPC, a subnet and a port at host-1.
func whole(tenant string, number, vni int) string {
	return doc("Tenant", "", tenant, fmt.Sprintf("status: {number: %d}", number)) +
		doc("VPC", tenant, "main", fmt.Sprintf("spec: {prefixes: [10.0.0.0/16]}\nstatus: {vni: %d}", vni)) +
		doc("Subnet", tenant, "web", "spec: {vpc: main, prefixes: [10.0.1.0/24], gateway: 10.0.1.1}\nstatus: {number: 1}") +
		doc("Port", tenant, "web-1", fmt.Sprintf("spec: {subnet: web}\nstatus: {addresses: [10.0.1.4], mac: '02:00:00:00:00:0%d', vpc: main, vni: %d, node: host-1, binding: b}", number, vni))
}

const hosts = "---\napiVersion: weft/v1\nkind: Node\nmetadata: {name: host-1}\nspec: {address: 192.0.2.1, roles: [host]}\nstatus: {number: 1, ready: true, ports: 0, rows: 0}\n"

// TestCVE201909735OddResourceStopsNoOtherTenant: in Neutron, a rule of one tenant that made no sense kept the rules of all
// others on its host from being programmed (CVE-2019-9735, CVE-2019-10876, CVE-2014-0187). Here red's resources are odd in
// ways that admission does not let through; blue's rows are what they would be without red.
func TestCVE201909735OddResourceStopsNoOtherTenant(t *testing.T) {
	b := newBench(t)
	b.write(hosts + whole("blue", 2, 4097))
	b.run()
	eventually(t, "blue has rows", func() bool { return strings.Contains(b.text(1, 4097), "port/4097/blue/web-1") })
	want := b.text(1, 4097)
	for name, odd := range map[string]string{
		"no_vni":            doc("VPC", "red", "main", "spec: {prefixes: [10.0.0.0/16]}"),
		"wide_vni":          doc("VPC", "red", "main", "spec: {prefixes: [10.0.0.0/16]}\nstatus: {vni: 16777216}"),
		"anothers_vni":      doc("VPC", "red", "main", "spec: {prefixes: [10.0.0.0/16]}\nstatus: {vni: 4097}"),
		"no_ranges":         doc("Subnet", "red", "web", "spec: {vpc: main, prefixes: []}\nstatus: {number: 1}"),
		"range_of_nothing":  doc("Subnet", "red", "web", "spec: {vpc: main, prefixes: ['']}\nstatus: {number: 1}"),
		"subnet_of_nothing": doc("Subnet", "red", "web", "spec: {vpc: nowhere, prefixes: [10.0.1.0/24]}\nstatus: {number: 1}"),
		"port_of_nothing":   doc("Port", "red", "web-1", "spec: {subnet: nowhere}\nstatus: {vpc: main, vni: 4096, node: host-1}"),
		"empty_port":        doc("Port", "red", "web-1", "spec: {subnet: web}\nstatus: {vpc: main, node: host-1}"),
		"port_at_nowhere":   doc("Port", "red", "web-1", "spec: {subnet: web}\nstatus: {vpc: main, node: host-9}"),
		"empty_source":      doc("Port", "red", "web-1", "spec: {subnet: web, allowedSources: ['']}\nstatus: {vpc: main, node: host-1, addresses: ['']}"),
		"empty_route":       doc("RouteTable", "red", "rt", "spec: {vpc: main, subnets: [web, web, nowhere], routes: [{to: '', via: ''}, {to: '', via: port/}, {to: 0.0.0.0/0, via: port/nobody}]}"),
		"table_of_nothing":  doc("RouteTable", "red", "rt", "spec: {vpc: nowhere, subnets: [web]}\nstatus: {number: 1}"),
		"no_tenant_number":  doc("Tenant", "", "red", ""),
	} {
		t.Run(name, func(t *testing.T) {
			b.write(whole("red", 1, 4096) + doc("RouteTable", "red", "rt", "spec: {vpc: main}\nstatus: {number: 1}"))
			b.write(odd)
			b.write(doc("Port", "blue", "web-2", "spec: {subnet: web}\nstatus: {addresses: [10.0.1.5], mac: '02:00:00:00:00:22', vpc: main, vni: 4097, node: host-1, binding: b}"))
			eventually(t, "blue's change is computed", func() bool { return strings.Contains(b.text(1, 4097), "10.0.1.5") })
			_, err := b.st.Update(t.Context(), []string{"blue"}, func(tx *store.Tx) error { tx.Delete(v1.KindPort, "blue", "web-2"); return nil })
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "and taken back", func() bool { return b.text(1, 4097) == want })
		})
	}
	b.write(whole("red", 1, 4096) + doc("RouteTable", "red", "rt", "spec: {vpc: main}\nstatus: {number: 1}"))
	eventually(t, "red is whole again", func() bool { return strings.Contains(b.text(1, 4096), "port/4096/red/web-1") })
}

// TestPanicOverOneVPCStopsNoOther: what nobody foresaw in one VPC leaves its rows as they were, and the rest at work.
func TestPanicOverOneVPCStopsNoOther(t *testing.T) {
	b := newBench(t)
	var broken atomic.Bool
	rows := b.c.rows
	b.c.rows = func(r graph.Resources) graph.Rows {
		if broken.Load() && r.VPC.Tenant == "red" {
			panic("nobody foresaw that")
		}
		return rows(r)
	}
	b.write(hosts + whole("red", 1, 4096) + whole("blue", 2, 4097))
	b.run()
	eventually(t, "both have rows", func() bool { return b.text(1, 4096) != "" && b.text(1, 4097) != "" })
	before := b.text(1, 4096)
	broken.Store(true)
	for _, tenant := range []string{"red", "blue"} {
		b.write(doc("Subnet", tenant, "more", "spec: {vpc: main, prefixes: [10.0.9.0/24], gateway: 10.0.9.1}\nstatus: {number: 2}"))
	}
	eventually(t, "blue's change is computed", func() bool { return strings.Contains(b.text(1, 4097), "10.0.9.0/24") })
	if got := b.text(1, 4096); got != before {
		t.Errorf("red's rows became\n%s\nfrom\n%s", got, before)
	}
	broken.Store(false)
	b.write(doc("Subnet", "red", "third", "spec: {vpc: main, prefixes: [10.0.8.0/24], gateway: 10.0.8.1}\nstatus: {number: 3}"))
	eventually(t, "red goes on", func() bool {
		return strings.Contains(b.text(1, 4096), "10.0.9.0/24") && strings.Contains(b.text(1, 4096), "10.0.8.0/24")
	})
}

// TestCVE202341378UnfinishedHandshakesStopNobody: in Calico's Typha, a client that did not finish its TLS handshake kept all
// others from connecting (CVE-2023-41378).
func TestCVE202341378UnfinishedHandshakesStopNobody(t *testing.T) {
	s := start(t, t.TempDir())
	for i := range 200 {
		for _, addr := range []string{s.southbound, strings.TrimPrefix(s.api, "https://")} {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if i%2 == 0 {
				if _, err := c.Write([]byte{0x16, 3, 1, 2, 0, 1}); err != nil { // a ClientHello that goes no further
					t.Fatal(err)
				}
			}
		}
	}
	begin := time.Now()
	h1 := s.join("h1", 1)
	s.apply(network("red", 1))
	h1.claim(t, "red", 0)
	eventually(t, "a node gets its rows", func() bool { rows, _ := h1.count(); return rows == 5 })
	if took := time.Since(begin); took > 5*time.Second { // a tenth of a second, without the race detector and neighbours
		t.Errorf("beside unfinished handshakes it took %s", took)
	}
}
