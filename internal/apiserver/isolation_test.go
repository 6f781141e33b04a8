// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// estate is all that a tenant can have, with names that begin with prefix.
func estate(tenant, prefix string) string {
	return head("Tenant", "", tenant) +
		head("VPC", tenant, prefix+"vpc") + "spec: {prefixes: [10.0.0.0/16, 'fd00::/48']}\n" +
		head("Subnet", tenant, prefix+"web") + fmt.Sprintf("spec: {vpc: %svpc, prefixes: [10.0.1.0/24, 'fd00:0:0:1::/64']}\n", prefix) +
		head("Port", tenant, prefix+"fw") + fmt.Sprintf("spec: {subnet: %sweb, allowedSources: [0.0.0.0/0, '::/0']}\n", prefix) +
		head("RouteTable", tenant, prefix+"rt") + fmt.Sprintf("spec: {vpc: %svpc, subnets: [%[1]sweb], routes: [{to: 0.0.0.0/0, via: port/%[1]sfw}]}\n", prefix)
}

// snapshot is all that a tenant has, as stored.
func (s *site) snapshot(tenant string) string {
	s.t.Helper()
	var out []string
	for _, k := range v1.Kinds() {
		for _, o := range s.api.cfg.Store.View().List(k.Kind, tenant) {
			if !k.Tenanted && o.Meta().Name != tenant {
				continue
			}
			text, err := json.Marshal(o)
			if err != nil {
				s.t.Fatal(err)
			}
			out = append(out, string(text))
		}
	}
	return strings.Join(out, "\n")
}

// references are the documents of tenant blue with a name in each field that refers to a tenant's resource.
var references = map[string]string{
	"subnet_vpc":    head("Subnet", "blue", "x") + "spec: {vpc: '%s', prefixes: [10.0.7.0/24]}\n",
	"port_subnet":   head("Port", "blue", "x") + "spec: {subnet: '%s'}\n",
	"table_vpc":     head("RouteTable", "blue", "x") + "spec: {vpc: '%s'}\n",
	"table_subnet":  head("RouteTable", "blue", "x") + "spec: {vpc: bvpc, subnets: ['%s']}\n",
	"table_route":   head("RouteTable", "blue", "x") + "spec: {vpc: bvpc, routes: [{to: 0.0.0.0/0, via: 'port/%s'}]}\n",
	"table_second":  head("RouteTable", "blue", "x") + "spec: {vpc: bvpc, subnets: [], routes: [{to: 10.9.0.0/16, via: blackhole}, {to: '::/0', via: 'port/%s'}]}\n",
	"existing_port": head("Port", "blue", "bfw") + "spec: {subnet: '%s'}\n",
	"existing_net":  head("Subnet", "blue", "bweb") + "spec: {vpc: '%s', prefixes: [10.0.1.0/24, 'fd00:0:0:1::/64']}\n",
	"existing_rt":   head("RouteTable", "blue", "brt") + "spec: {vpc: bvpc, subnets: [bweb], routes: [{to: 0.0.0.0/0, via: 'port/%s'}]}\n",
}

// TestCVE20140056NoReferenceReachesAnotherTenant: in Neutron, a tenant could plug a port into another tenant's router by
// naming it (CVE-2014-0056). Here every field that refers to something is tried with every name of another tenant's, in
// every spelling; all are refused, as a name that nobody has is, so that the error does not tell which names there are.
func TestCVE20140056NoReferenceReachesAnotherTenant(t *testing.T) {
	s := newSite(t)
	s.mustApply(estate("red", "r") + estate("blue", "b") + node("host-1", "192.0.2.1"))
	red, before := s.snapshot("red"), s.api.cfg.Store.View().Revision()
	refusal := func(doc, name string) v1.Error {
		t.Helper()
		_, e := s.apply(fmt.Sprintf(doc, name))
		if e == nil {
			t.Fatalf("accepted:\n%s", fmt.Sprintf(doc, name))
		}
		e.RequestID = ""
		e.Message = strings.ReplaceAll(e.Message, name, "NAME")
		return *e
	}
	for field, doc := range references {
		t.Run(field, func(t *testing.T) {
			for _, name := range []string{"rvpc", "rweb", "rfw", "rrt"} {
				want := refusal(doc, "n"+name[1:])
				for _, spelling := range []string{name, "red/" + name, "/red/" + name, "../red/" + name, "red/port/" + name, name + "\\0", strings.ToUpper(name), "red." + name} {
					got := refusal(doc, spelling)
					if spelling == name && !reflect.DeepEqual(got, want) {
						t.Errorf("a name of another tenant's: %+v; of nobody's: %+v", got, want)
					}
				}
			}
		})
	}
	if after := s.api.cfg.Store.View().Revision(); after != before || s.snapshot("red") != red {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
}

// TestCVE20140056NoURLReachesAnotherTenant: neither does a path, a document sent to another's, a claim or a delete.
func TestCVE20140056NoURLReachesAnotherTenant(t *testing.T) {
	s := newSite(t)
	s.mustApply(estate("red", "r") + estate("blue", "b") + node("host-1", "192.0.2.1"))
	red, before := s.snapshot("red"), s.api.cfg.Store.View().Revision()
	for _, c := range []struct{ kind, plural, name string }{
		{"VPC", "vpcs", "rvpc"}, {"Subnet", "subnets", "rweb"}, {"Port", "ports", "rfw"}, {"RouteTable", "routetables", "rrt"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			for _, path := range []string{"/api/v1/tenants/blue/" + c.plural + "/" + c.name, "/api/v1/tenants/blue/" + c.plural + "/..%2f..%2fred%2f" + c.plural + "%2f" + c.name} {
				if status, data := s.do(method, path, "", token); status != http.StatusNotFound {
					t.Errorf("%s %s: %d %s", method, path, status, data)
				}
			}
		}
		doc := fmt.Sprintf(`{"apiVersion":"weft/v1","kind":"%s","metadata":{"tenant":"red","name":"%s"},"spec":{}}`, c.kind, c.name)
		if status, data := s.do(http.MethodPut, "/api/v1/tenants/blue/"+c.plural+"/"+c.name, doc, token); status != http.StatusUnprocessableEntity {
			t.Errorf("a document of red's at a path of blue's: %d %s", status, data)
		}
		if status, data := s.do(http.MethodGet, "/api/v1/tenants/blue/"+c.plural, "", token); status != http.StatusOK || strings.Contains(string(data), c.name) {
			t.Errorf("blue's list: %d %s", status, data)
		}
	}
	if _, err := s.api.Claim(t.Context(), "host-1", "blue", "rfw", true); codeOf(err) != v1.CodeNotFound {
		t.Errorf("blue claimed a port of red's: %v", err)
	}
	if after := s.api.cfg.Store.View().Revision(); after != before || s.snapshot("red") != red {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
}

// TestSameNamesOfTwoTenantsNeverMeet: what one tenant deletes, with all that uses it, is its own.
func TestSameNamesOfTwoTenantsNeverMeet(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/ports/afw", "/subnets/aweb", "/vpcs/avpc", ""} {
		s.mustApply(estate("red", "a") + estate("blue", "a"))
		red := s.snapshot("red")
		if _, e := s.result(s.do(http.MethodDelete, "/api/v1/tenants/blue"+path+"?cascade=true", "", token)); e != nil {
			t.Fatal(e)
		}
		if got := s.snapshot("red"); got != red {
			t.Errorf("delete of blue%s made of red's\n%s\nthis\n%s", path, red, got)
		}
	}
}
