// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// routed is tenant red with an appliance, and a route table of two subnets that leads to it.
func routed() string {
	return head("Tenant", "", "red") +
		head("VPC", "red", "main") + "spec: {prefixes: [10.0.0.0/16]}\n" +
		head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: [10.0.1.0/24]}\n" +
		head("Subnet", "red", "db") + "spec: {vpc: main, prefixes: [10.0.2.0/24]}\n" +
		head("Subnet", "red", "fw") + "spec: {vpc: main, prefixes: [10.0.3.0/24]}\n" +
		head("Port", "red", "web-1") + "spec: {subnet: web}\n" +
		head("Port", "red", "fw-1") + "spec: {subnet: fw, allowedSources: [0.0.0.0/0]}\n" +
		table("out", "[web, db]", "{to: 0.0.0.0/0, via: port/fw-1}, {to: 192.0.2.0/24, via: blackhole}")
}

func table(name, subnets, routes string) string {
	return head("RouteTable", "red", name) + "spec: {vpc: main, subnets: " + subnets + ", routes: [" + routes + "]}\n"
}

func (s *site) table(name string) *v1.RouteTable {
	s.t.Helper()
	o, ok := s.api.cfg.Store.View().Get(v1.KindRouteTable, "red", name)
	if !ok {
		s.t.Fatalf("route table %s is not stored", name)
	}
	return o.(*v1.RouteTable)
}

func TestTableGetsANumberAndKeepsIt(t *testing.T) {
	s := newSite(t)
	s.mustApply(routed())
	s.mustApply(table("second", "[]", ""))
	s.mustApply(table("out", "[web]", "{to: 0.0.0.0/0, via: blackhole}"))
	if a, b := s.table("out"), s.table("second"); a.Status.Number != 1 || b.Status.Number != 2 || a.Generation != 2 {
		t.Errorf("numbers %d and %d, generation %d", a.Status.Number, b.Status.Number, a.Generation)
	}
	s.mustApply(head("VPC", "red", "other") + "spec: {prefixes: [10.0.0.0/16]}\n" + head("RouteTable", "red", "elsewhere") + "spec: {vpc: other}\n")
	if n := s.table("elsewhere").Status.Number; n != 1 {
		t.Errorf("the first table of another VPC has number %d", n)
	}
	for _, i := range s.mustApply(table("second", "[]", "")).Items {
		if i.Action != v1.ActionUnchanged {
			t.Errorf("%s was %s by the same document", i.Name, i.Action)
		}
	}
}

func TestBadTableChangesNothing(t *testing.T) {
	s := newSite(t)
	s.mustApply(routed() + head("VPC", "red", "other") + "spec: {prefixes: [10.0.0.0/16]}\n" +
		head("Subnet", "red", "elsewhere") + "spec: {vpc: other, prefixes: [10.0.1.0/24]}\n" +
		head("Port", "red", "fw-2") + "spec: {subnet: elsewhere, allowedSources: [0.0.0.0/0]}\n")
	before := s.api.cfg.Store.View().Revision()
	for name, c := range map[string]struct{ doc, code, field, says, fix string }{
		"no_vpc":       {head("RouteTable", "red", "x") + "spec: {vpc: nowhere}\n", v1.CodeNoReference, "spec.vpc", `no VPC "nowhere"`, "create the VPC"},
		"moves":        {head("RouteTable", "red", "out") + "spec: {vpc: other}\n", v1.CodeImmutable, "spec.vpc", "stays there", "another route table"},
		"no_subnet":    {table("x", "[nowhere]", ""), v1.CodeNoReference, "spec.subnets[0]", `no subnet "nowhere"`, "create the subnet"},
		"other_subnet": {table("x", "[fw, elsewhere]", ""), v1.CodeOutside, "spec.subnets[1]", "in VPC other", "subnet of VPC main"},
		"has_one":      {table("x", "[fw, db]", ""), v1.CodeInUse, "spec.subnets[1]", "route table out", "take it out"},
		"no_port":      {table("x", "[]", "{to: 10.9.0.0/16, via: blackhole}, {to: 0.0.0.0/0, via: port/nobody}"), v1.CodeNoReference, "spec.routes[1].via", `no port "nobody"`, "create the port"},
		"other_port":   {table("x", "[]", "{to: 0.0.0.0/0, via: port/fw-2}"), v1.CodeOutside, "spec.routes[0].via", "in VPC other", "port of VPC main"},
		"no_sources":   {table("x", "[]", "{to: 0.0.0.0/0, via: port/web-1}"), v1.CodePrecondition, "spec.routes[0].via", "its own addresses only", "spec.allowedSources"},
		"emptied":      {head("Port", "red", "fw-1") + "spec: {subnet: fw}\n", v1.CodeInUse, "spec.allowedSources", "route table out", "red/routetable/out"},
		"no_way":       {table("x", "[]", "{to: 0.0.0.0/0, via: fw-1}"), v1.CodeInvalid, "spec.routes[0].via", "fw-1", "port/NAME"},
		"same_twice":   {table("x", "[]", "{to: 0.0.0.0/0, via: port/fw-1}, {to: 0.0.0.0/0, via: blackhole}"), v1.CodeDuplicate, "spec.routes[1].to", "0.0.0.0/0", "remove one"},
		"two_claim":    {table("x", "[fw]", "") + table("y", "[fw]", ""), v1.CodeInUse, "spec.subnets[0]", "route table", "take it out"},
	} {
		t.Run(name, func(t *testing.T) {
			_, e := s.apply(c.doc)
			if e == nil {
				t.Fatal("it was accepted")
			}
			if e.Code != c.code || e.Field != c.field || !strings.Contains(e.Message, c.says) || !strings.Contains(e.Fix, c.fix) || e.Object == "" {
				t.Errorf("got %s at %q: %s (%s); want %s at %q: %s (%s)", e.Code, e.Field, e.Message, e.Fix, c.code, c.field, c.says, c.fix)
			}
		})
	}
	if after := s.api.cfg.Store.View().Revision(); after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
}

func TestEveryErrorOfATableIsTold(t *testing.T) {
	s := newSite(t)
	s.mustApply(routed())
	_, e := s.apply(table("x", "[db, nowhere]", "{to: 10.8.0.0/16, via: port/web-1}, {to: 10.9.0.0/16, via: port/nobody}"))
	if e == nil || len(e.Errors) != 4 {
		t.Errorf("got %v, want four errors", e)
	}
}

// TestErrorIsToldOnce: what only follows from another document's error is not told.
func TestErrorIsToldOnce(t *testing.T) {
	s := newSite(t)
	_, e := s.apply(strings.Replace(routed(), "[10.0.0.0/16]", "[127.0.0.0/16]", 1))
	if e == nil || e.Object != "red/vpc/main" || len(e.Errors) != 0 {
		t.Errorf("got %+v, want one error", e)
	}
	_, e = s.apply(strings.Replace(routed(), "[10.0.1.0/24]", "[10.1.1.0/24]", 1))
	if e == nil || e.Object != "red/subnet/web" || len(e.Errors) != 0 {
		t.Errorf("got %+v, want one error", e)
	}
	s.mustApply(routed())
	_, e = s.apply(strings.ReplaceAll(routed(), "10.0.", "10.9."))
	if e == nil || e.Object != "red/subnet/web" || e.Code != v1.CodeInUse || len(e.Errors) != 2 {
		t.Errorf("got %+v, want two errors: web and fw cannot leave their ports", e)
	}
	_, e = s.apply(strings.Replace(strings.ReplaceAll(routed(), "10.0.", "10.9."), "10.9.2.", "10.8.2.", 1))
	if e == nil || e.Object != "red/subnet/db" || e.Code != v1.CodeOutside || len(e.Errors) != 0 {
		t.Errorf("got %+v, want one error: db is not in its VPC", e)
	}
}

// TestSetIsJudgedAsAWhole: a set of documents may pass through what could not stand alone.
func TestSetIsJudgedAsAWhole(t *testing.T) {
	s := newSite(t)
	s.mustApply(routed())
	s.mustApply(table("a-new", "[db]", "") + table("out", "[web]", "{to: 0.0.0.0/0, via: port/fw-1}"))
	s.mustApply(head("Port", "red", "fw-1") + "spec: {subnet: fw}\n" + table("out", "[web]", "{to: 0.0.0.0/0, via: blackhole}"))
	s.mustApply(head("VPC", "red", "empty") + "spec: {prefixes: [10.0.0.0/16]}\n" + head("Subnet", "red", "lone") + "spec: {vpc: empty, prefixes: [10.0.1.0/24]}\n")
	s.mustApply(head("VPC", "red", "empty") + "spec: {prefixes: [10.9.0.0/16]}\n" + head("Subnet", "red", "lone") + "spec: {vpc: empty, prefixes: [10.9.1.0/24]}\n")
	if p := s.port("red", "fw-1"); len(p.Spec.AllowedSources) != 0 {
		t.Errorf("the port may still send from %v", p.Spec.AllowedSources)
	}
}

func TestQuotaOfTables(t *testing.T) {
	s := newSite(t)
	s.mustApply(routed())
	s.mustApply(head("Tenant", "", "red") + "spec: {quota: {routeTables: 1}}\n")
	_, e := s.apply(table("second", "[]", ""))
	if e == nil || e.Code != v1.CodeQuota || !strings.Contains(e.Fix, "spec.quota.routeTables") {
		t.Errorf("error %v, want QUOTA", e)
	}
}

// TestQuotaOfRoutes: the tables of a node are shared by all tenants, so what one takes of them is bounded.
func TestQuotaOfRoutes(t *testing.T) {
	s := newSite(t)
	s.mustApply(routed()) // 2 routes, 3 ranges: 8 entries
	s.mustApply(head("Tenant", "", "red") + "spec: {quota: {routes: 9}}\n")
	before := s.api.cfg.Store.View().Revision()
	for name, c := range map[string]struct{ doc, field string }{
		"routes": {table("out", "[web, db]", "{to: 0.0.0.0/0, via: port/fw-1}, {to: 192.0.2.0/24, via: blackhole}, {to: 192.0.3.0/24, via: blackhole}, {to: 192.0.4.0/24, via: blackhole}"), "spec.routes"},
		"table":  {table("second", "[]", ""), "spec.routes"},
		"subnet": {head("Subnet", "red", "more") + "spec: {vpc: main, prefixes: [10.0.9.0/24]}\n", "spec.prefixes"},
		"range":  {head("Subnet", "red", "web") + "spec: {vpc: main, prefixes: [10.0.1.0/24, 10.0.9.0/24]}\n", "spec.prefixes"},
	} {
		_, e := s.apply(c.doc)
		if e == nil || e.Code != v1.CodeQuota || e.Field != c.field || !strings.Contains(e.Fix, "spec.quota.routes of tenant red") {
			t.Errorf("%s: error %+v, want QUOTA at %s", name, e, c.field)
		}
	}
	if after := s.api.cfg.Store.View().Revision(); after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
	s.mustApply(head("Tenant", "", "red") + "spec: {quota: {routes: 1}}\n")
	s.mustApply(table("out", "[web]", "{to: 192.0.2.0/24, via: blackhole}")) // less is possible, although it is too much still
	s.mustApply(head("VPC", "red", "b") + "spec: {prefixes: [10.0.0.0/8]}\n" + head("Port", "red", "p") + "spec: {subnet: web}\n")
}

func TestWhatATableUsesIsProtected(t *testing.T) {
	s := newSite(t)
	s.mustApply(routed())
	for _, c := range []struct{ path, users string }{
		{"vpcs/main", "red/routetable/out, red/port/fw-1, red/port/web-1, red/subnet/db, red/subnet/fw and 1 more"},
		{"subnets/db", "red/routetable/out"},
		{"subnets/web", "red/routetable/out, red/port/web-1"},
		{"subnets/fw", "red/routetable/out, red/port/fw-1"}, // by its port
		{"ports/fw-1", "red/routetable/out"},
	} {
		t.Run(strings.ReplaceAll(c.path, "/", "_"), func(t *testing.T) {
			_, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/red/"+c.path, "", token))
			if e == nil || e.Code != v1.CodeInUse || !strings.HasSuffix(e.Message, "by "+c.users) {
				t.Errorf("error %v, want the users %s", e, c.users)
			}
		})
	}
	if _, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/red/ports/web-1", "", token)); e != nil {
		t.Errorf("no route leads to the port, but: %v", e)
	}
}

// TestCascadeTakesOnlyWhatLeadsThere: a table of several subnets does not go with one of them, nor with an appliance, and
// its black holes stay.
func TestCascadeTakesOnlyWhatLeadsThere(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct{ path, done, subnets, routes string }{
		{"ports/fw-1", "configured routetable/out, deleted port/fw-1", "[web db]", "[{192.0.2.0/24 blackhole}]"},
		{"subnets/fw", "configured routetable/out, deleted port/fw-1, deleted subnet/fw", "[web db]", "[{192.0.2.0/24 blackhole}]"},
		{"subnets/web", "configured routetable/out, deleted port/web-1, deleted subnet/web", "[db]", "[{0.0.0.0/0 port/fw-1} {192.0.2.0/24 blackhole}]"},
		{"vpcs/main", "deleted routetable/out, deleted port/fw-1, deleted port/web-1, deleted subnet/db, deleted subnet/fw, deleted subnet/web, deleted vpc/main", "", ""},
	} {
		t.Run(strings.ReplaceAll(c.path, "/", "_"), func(t *testing.T) {
			s.mustApply(routed())
			generation := s.table("out").Generation
			for _, dry := range []string{"&dryRun=true", ""} {
				res, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/red/"+c.path+"?cascade=true"+dry, "", token))
				if e != nil {
					t.Fatal(e)
				}
				var done []string
				for _, i := range res.Items {
					info, _ := v1.KindByWord(string(i.Kind))
					done = append(done, fmt.Sprintf("%s %s/%s", i.Action, info.Singular, i.Name))
				}
				if got := strings.Join(done, ", "); got != c.done {
					t.Errorf("done: %s, want %s", got, c.done)
				}
			}
			if c.subnets == "" {
				if n := s.api.cfg.Store.View().Count(v1.KindRouteTable); n != 0 {
					t.Errorf("%d route tables are left", n)
				}
				return
			}
			if got := s.table("out"); fmt.Sprint(got.Spec.Subnets) != c.subnets || fmt.Sprint(got.Spec.Routes) != c.routes || got.Generation != generation+1 {
				t.Errorf("the table has %v, %v", got.Spec.Subnets, got.Spec.Routes)
			}
		})
	}
}

// TestExamplesAreTaken applies every file of examples/, twice.
func TestExamplesAreTaken(t *testing.T) {
	files, err := filepath.Glob("../../examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d examples, error %v", len(files), err)
	}
	s := newSite(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s.mustApply(string(text))
		for _, i := range s.mustApply(string(text)).Items {
			if i.Action != v1.ActionUnchanged {
				t.Errorf("%s: %s %s was %s the second time", file, i.Kind, i.Name, i.Action)
			}
		}
	}
	if p := s.port("amber", "fw-1"); fmt.Sprint(p.Status.Addresses) != "[10.0.3.4 fd00:0:0:3::4]" {
		t.Errorf("the appliance has %v", p.Status.Addresses)
	}
}
