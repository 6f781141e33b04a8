// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

const goodPort = `{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"web-1"},"spec":{"subnet":"web"}}`

func TestDecodeRefuses(t *testing.T) {
	for name, c := range map[string]struct{ doc, code, field, fix string }{
		"unknown_field":   {`{"apiVersion":"weft/v1","kind":"VPC","metadata":{"tenant":"red","name":"m"},"spec":{"prefixs":["10.0.0.0/16"]}}`, CodeUnknownField, "spec.prefixs", "spec.prefixes"},
		"other_case":      {`{"apiVersion":"weft/v1","kind":"VPC","metadata":{"tenant":"red","name":"m"},"spec":{"Prefixes":["10.0.0.0/16"]}}`, CodeUnknownField, "spec.Prefixes", "spec.prefixes"},
		"duplicate_field": {`{"apiVersion":"weft/v1","kind":"VPC","metadata":{"name":"m","name":"n"}}`, CodeDuplicate, "metadata.name", "remove one"},
		"unknown_kind":    {`{"apiVersion":"weft/v1","kind":"Vpc"}`, CodeUnknownKind, "kind", "VPC"},
		"unknown_version": {`{"apiVersion":"weft/v2","kind":"VPC"}`, CodeUnknownKind, "apiVersion", "weft/v1"},
		"wrong_type":      {`{"apiVersion":"weft/v1","kind":"VPC","metadata":{"name":7}}`, CodeInvalid, "metadata.name", "quote"},
		"not_a_list":      {`{"apiVersion":"weft/v1","kind":"VPC","spec":{"prefixes":"10.0.0.0/16"}}`, CodeInvalid, "spec.prefixes", "a list"},
		"bad_prefix":      {`{"apiVersion":"weft/v1","kind":"VPC","spec":{"prefixes":["10.0.0/16"]}}`, CodeInvalid, "spec.prefixes[0]", "10.0.1.0/24"},
		"host_bits":       {vpc(`"10.0.0.5/24"`), CodeHostBits, "spec.prefixes[0]", "write 10.0.0.0/24"},
		"no_length":       {`{"apiVersion":"weft/v1","kind":"VPC","spec":{"prefixes":["10.0.0.0"]}}`, CodeInvalid, "spec.prefixes[0]", "10.0.0.0/32"},
		"bad_address":     {`{"apiVersion":"weft/v1","kind":"Port","spec":{"addresses":["10.0.0.4/24"]}}`, CodeInvalid, "spec.addresses[0]", "write 10.0.0.4"},
		"bad_mac":         {`{"apiVersion":"weft/v1","kind":"Port","spec":{"mac":"02-00"}}`, CodeInvalid, "spec.mac", "02:00"},
		"negative_number": {`{"apiVersion":"weft/v1","kind":"Port","status":{"vni":-1}}`, CodeInvalid, "status.vni", "whole number"},
		"not_json":        {`{"apiVersion":`, CodeMalformed, "", "brackets"},
		"two_documents":   {goodPort + goodPort, CodeMalformed, "", "one document"},
		"list":            {`[]`, CodeMalformed, "", "apiVersion"},
		"deep":            {`{"apiVersion":"weft/v1","kind":"VPC","x":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, CodeTooLarge, "", "no kind"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := DecodeJSON([]byte(c.doc))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, error %v; want an *Error", o, err)
			}
			if e.Code != c.code || (c.field != "" && e.Field != c.field) || !strings.Contains(e.Fix, c.fix) {
				t.Errorf("got code %s, field %q, fix %q; want %s, %q, %q", e.Code, e.Field, e.Fix, c.code, c.field, c.fix)
			}
		})
	}
}

func TestDecodeFindsEveryError(t *testing.T) {
	_, err := DecodeJSON([]byte(`{"apiVersion":"weft/v1","kind":"VPC","metadata":{"tenant":"red","nam":"m","labels":{"a":1}},"spec":{"prefixes":["10.0.0.5/24","x"],"y":1}}`))
	var many ErrorList
	if !errors.As(err, &many) {
		t.Fatalf("got %v, want a list", err)
	}
	var got []string
	for _, e := range many {
		got = append(got, e.Code+" at "+e.Field)
		if e.Object != "red/vpc" || e.Fix == "" {
			t.Errorf("%s is about %q, fix %q", e.Code, e.Object, e.Fix)
		}
	}
	want := "INVALID at metadata.labels.a, UNKNOWN_FIELD at metadata.nam, HOST_BITS at spec.prefixes[0], INVALID at spec.prefixes[1], UNKNOWN_FIELD at spec.y"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestValidateFindsEveryError(t *testing.T) {
	for name, c := range map[string]struct {
		doc    string
		fields []string // code at field
	}{
		"good_port":      {goodPort, nil},
		"ipv6":           {vpc(`"fd00::/48"`), nil},
		"both":           {vpc(`"fd00::/48","10.0.0.0/16","2001:db8::/32"`), nil},
		"wide6":          {vpc(`"fd00::/16"`), nil},
		"narrow6":        {vpc(`"fd00::/124"`), nil},
		"too_wide6":      {vpc(`"fc00::/15"`), []string{"INVALID at spec.prefixes[0]"}},
		"too_narrow6":    {vpc(`"fd00::/125"`), []string{"INVALID at spec.prefixes[0]"}},
		"link_local6":    {vpc(`"fe80::/64"`), []string{"INVALID at spec.prefixes[0]"}},
		"site_local6":    {vpc(`"fec0::/16"`), []string{"INVALID at spec.prefixes[0]"}},
		"multicast6":     {vpc(`"ff0e::/16"`), []string{"INVALID at spec.prefixes[0]"}},
		"mapped":         {vpc(`"::ffff:10.0.0.0/112"`), []string{"INVALID at spec.prefixes[0]"}},
		"holds_special":  {vpc(`"169.0.0.0/8"`), []string{"INVALID at spec.prefixes[0]"}},
		"overlap6":       {vpc(`"fd00::/48","10.0.0.0/16","fd00:0:0:1::/64"`), []string{"OVERLAP at spec.prefixes[2]"}},
		"overlap":        {vpc(`"10.0.0.0/16","10.0.1.0/24"`), []string{"OVERLAP at spec.prefixes[1]"}},
		"multicast":      {vpc(`"224.0.0.0/8"`), []string{"INVALID at spec.prefixes[0]"}},
		"too_wide":       {vpc(`"10.0.0.0/7"`), []string{"INVALID at spec.prefixes[0]"}},
		"none":           {vpc(``), []string{"REQUIRED at spec.prefixes"}},
		"two_errors":     {vpc(`"fe80::/48","127.0.0.0/16"`), []string{"INVALID at spec.prefixes[0]", "INVALID at spec.prefixes[1]"}},
		"null_prefix":    {vpc(`null`), []string{"INVALID at spec.prefixes[0]"}},
		"labels":         {`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"a","labels":{"b!":"x","a!":"x","c":"-"}}}`, []string{"INVALID at metadata.labels", "INVALID at metadata.labels", "INVALID at metadata.labels.c"}},
		"many_dns":       {`{"apiVersion":"weft/v1","kind":"Subnet","metadata":{"tenant":"red","name":"a"},"spec":{"vpc":"m","prefixes":["10.0.0.0/24"],"dns":["10.0.0.2"` + strings.Repeat(`,"10.0.0.2"`, 8) + `]}}`, []string{"TOO_LARGE at spec.dns"}},
		"many_roles":     {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"192.0.2.1","roles":["x"` + strings.Repeat(`,"x"`, 100_000) + `]}}`, []string{"TOO_LARGE at spec.roles"}},
		"bad_site":       {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"192.0.2.1","roles":["host"],"site":"A B"}}`, []string{"INVALID at spec.site"}},
		"bad_name":       {`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"Red_1"}}`, []string{"INVALID at metadata.name"}},
		"no_tenant":      {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"name":"a"},"spec":{"subnet":"s"}}`, []string{"REQUIRED at metadata.tenant"}},
		"stray_tenant":   {`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"a","tenant":"b"}}`, []string{"INVALID at metadata.tenant"}},
		"gateway_out":    {subnet("10.0.2.1"), []string{"OUTSIDE at spec.gateway"}},
		"gateway_net":    {subnet("10.0.1.0"), []string{"RESERVED at spec.gateway"}},
		"gateway_bcast":  {subnet("10.0.1.255"), []string{"RESERVED at spec.gateway"}},
		"gateway6":       {subnet("fd00:0:0:1::ffff"), nil},
		"gateway6_out":   {subnet("fd00:0:0:2::1"), []string{"OUTSIDE at spec.gateway"}},
		"gateway6_net":   {subnet("fd00:0:0:1::"), []string{"RESERVED at spec.gateway"}},
		"gateway6_last":  {subnet("fd00:0:0:1:ffff:ffff:ffff:ffff"), nil}, // IPv6 has no broadcast
		"gateway_zone":   {subnet("fd00:0:0:1::5%eth0"), []string{"INVALID at spec.gateway"}},
		"group_mac":      {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a"},"spec":{"subnet":"s","mac":"01:00:5e:00:00:01"}}`, []string{"INVALID at spec.mac"}},
		"router_mac":     {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a"},"spec":{"subnet":"s","mac":"02:77:65:66:74:01"}}`, []string{"RESERVED at spec.mac"}},
		"two_addresses":  {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a"},"spec":{"subnet":"s","addresses":["10.0.0.4","10.0.0.5"]}}`, []string{"INVALID at spec.addresses[1]"}},
		"both_addresses": {port(`"addresses":["fd00::4","10.0.0.4"]`), nil},
		"two_v6":         {port(`"addresses":["fd00::4","fd00::5"]`), []string{"INVALID at spec.addresses[1]"}},
		"three":          {port(`"addresses":["fd00::4","10.0.0.4","10.0.0.5"]`), []string{"TOO_LARGE at spec.addresses"}},
		"mapped_address": {port(`"addresses":["::ffff:10.0.0.4"]`), []string{"INVALID at spec.addresses[0]"}},
		"link_local":     {port(`"addresses":["fe80::4"]`), []string{"INVALID at spec.addresses[0]"}},
		"sources":        {port(`"allowedSources":["0.0.0.0/0","::/0","10.0.0.0/8","203.0.113.7/32"]`), nil},
		"half_of_all":    {port(`"allowedSources":["0.0.0.0/1","128.0.0.0/1"]`), nil},
		"sources_twice":  {port(`"allowedSources":["10.0.0.0/8","10.0.0.0/8"]`), []string{"DUPLICATE at spec.allowedSources[1]"}},
		"sources_bad": {
			port(`"allowedSources":["169.254.0.0/16","127.0.0.1/32","224.0.0.0/4","0.0.0.0/8","fe80::/64","ff02::/16","::1/128","::ffff:0:0/96",null]`),
			[]string{
				"INVALID at spec.allowedSources[0]", "INVALID at spec.allowedSources[1]", "INVALID at spec.allowedSources[2]", "INVALID at spec.allowedSources[3]",
				"INVALID at spec.allowedSources[4]", "INVALID at spec.allowedSources[5]", "INVALID at spec.allowedSources[6]", "INVALID at spec.allowedSources[7]",
				"INVALID at spec.allowedSources[8]",
			},
		},
		"many_sources":    {port(`"allowedSources":["10.0.0.0/8"` + strings.Repeat(`,"10.0.0.0/8"`, 32) + `]`), []string{"TOO_LARGE at spec.allowedSources"}},
		"table":           {table(`"subnets":["web","db"],"routes":[{"to":"0.0.0.0/0","via":"port/fw-1"},{"to":"::/0","via":"port/fw-1"},{"to":"10.9.0.0/16","via":"blackhole"}]`), nil},
		"empty_table":     {table(``), nil},
		"subnet_twice":    {table(`"subnets":["web","web"]`), []string{"DUPLICATE at spec.subnets[1]"}},
		"subnet_nameless": {table(`"subnets":["","A B"]`), []string{"REQUIRED at spec.subnets[0]", "INVALID at spec.subnets[1]"}},
		"route_twice":     {table(`"routes":[{"to":"10.9.0.0/16","via":"blackhole"},{"to":"10.8.0.0/16","via":"blackhole"},{"to":"10.9.0.0/16","via":"port/a"}]`), []string{"DUPLICATE at spec.routes[2].to"}},
		"route_nowhere":   {table(`"routes":[{"to":"10.9.0.0/16"}]`), []string{"REQUIRED at spec.routes[0].via"}},
		"route_all_bad": {table(`"routes":[null,{"to":"10.9.0.0/16","via":"fw-1"},{"to":"169.254.169.254/32","via":"port/"},{"to":"fe80::/10","via":"port/A"}]`), []string{
			"INVALID at spec.routes[0].to", "REQUIRED at spec.routes[0].via", "INVALID at spec.routes[1].via",
			"INVALID at spec.routes[2].to", "REQUIRED at spec.routes[2].via", "INVALID at spec.routes[3].to", "INVALID at spec.routes[3].via",
		}},
		"many_routes": {table(`"routes":[{}` + strings.Repeat(`,{}`, 1000) + `]`), []string{"TOO_LARGE at spec.routes"}},
		"node6":       {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"2001:db8::1","roles":["host"]}}`, nil},
		"node_local":  {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"fe80::1","roles":["host"]}}`, []string{"INVALID at spec.address"}},
		"quota":       {`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"a"},"spec":{"quota":{"routeTables":-1}}}`, []string{"INVALID at spec.quota.routeTables"}},
		"node_role":   {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"192.0.2.1","roles":["hots"]}}`, []string{"INVALID at spec.roles[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := DecodeJSON([]byte(c.doc))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range o.Validate() {
				got = append(got, e.Code+" at "+e.Field)
				if e.Message == "" || e.Fix == "" {
					t.Errorf("%s at %s has message %q and fix %q", e.Code, e.Field, e.Message, e.Fix)
				}
			}
			if strings.Join(got, ", ") != strings.Join(c.fields, ", ") {
				t.Errorf("got %v, want %v", got, c.fields)
			}
		})
	}
}

func vpc(prefixes string) string {
	return `{"apiVersion":"weft/v1","kind":"VPC","metadata":{"tenant":"red","name":"main"},"spec":{"prefixes":[` + prefixes + `]}}`
}

func subnet(gateway string) string {
	return `{"apiVersion":"weft/v1","kind":"Subnet","metadata":{"tenant":"red","name":"web"},"spec":{"vpc":"main","prefixes":["10.0.1.0/24","fd00:0:0:1::/64"],"gateway":"` + gateway + `"}}`
}

func port(fields string) string {
	return `{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a"},"spec":{"subnet":"s",` + fields + `}}`
}

func table(fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return `{"apiVersion":"weft/v1","kind":"RouteTable","metadata":{"tenant":"red","name":"rt"},"spec":{"vpc":"main"` + fields + `}}`
}

func TestRouterHasAnAddressInEveryRange(t *testing.T) {
	o, err := DecodeJSON([]byte(subnet("10.0.1.99")))
	if err != nil {
		t.Fatal(err)
	}
	s := o.(*Subnet)
	for address, why := range map[string]string{
		"10.0.1.0": "network", "10.0.1.1": "router", "10.0.1.2": "resolver", "10.0.1.3": "later", "10.0.1.4": "", "10.0.1.99": "router", "10.0.1.255": "broadcast",
		"fd00:0:0:1::": "network", "fd00:0:0:1::1": "router", "fd00:0:0:1::3": "later", "fd00:0:0:1::4": "", "fd00:0:0:1:ffff:ffff:ffff:ffff": "",
	} {
		if got := s.Reserved(netip.MustParseAddr(address)); (why == "") != (got == "") || !strings.Contains(got, why) {
			t.Errorf("%s is reserved because %q, want %q", address, got, why)
		}
	}
	if a, b := s.Gateway(s.Spec.Prefixes[0]), s.Gateway(s.Spec.Prefixes[1]); a.String() != "10.0.1.99" || b.String() != "fd00:0:0:1::1" {
		t.Errorf("the router has %s and %s", a, b)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	o, err := DecodeJSON([]byte(`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a","labels":{"app":"web"}},"spec":{"subnet":"s","addresses":["10.0.0.4"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	c := Clone(o).(*Port)
	c.Labels["app"] = "db"
	c.Spec.Addresses[0] = c.Spec.Addresses[0].Next()
	if o.Meta().Labels["app"] != "web" || o.(*Port).Spec.Addresses[0] == c.Spec.Addresses[0] || SameSpec(o, c) {
		t.Error("the clone shares memory with its original")
	}
	back, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeJSON(back)
	if err != nil || !SameSpec(o, again) {
		t.Errorf("round trip through %s gave %v, error %v", back, again, err)
	}
}

func FuzzDecodeJSON(f *testing.F) {
	f.Add([]byte(goodPort))
	f.Add([]byte(vpc(`"10.0.0.0/16","fd00::/48"`)))
	f.Add([]byte(subnet("fd00:0:0:1::1")))
	f.Add([]byte(port(`"addresses":["fd00::4"],"allowedSources":["::/0"]`)))
	f.Add([]byte(table(`"subnets":["web"],"routes":[{"to":"::/0","via":"port/fw-1"},{"to":"10.0.0.0/8","via":"blackhole"}]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := DecodeJSON(data)
		if err != nil {
			return
		}
		o.Validate()
		o.Default()
		back, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("%s was read, but cannot be written: %v", data, err)
		}
		if again, err := DecodeJSON(back); err != nil || !SameSpec(o, again) {
			t.Fatalf("%s became %s: %v", data, back, err)
		}
	})
}

// TestCVE202228224FieldsOfWhatDoesNotExistAreRefused: in Calico, an annotation for floating addresses was believed although
// the feature was off, and drew other workloads' routes (CVE-2022-28224). Here a field is known and checked, or refused; and
// what a document says in status is the system's to say.
func TestCVE202228224FieldsOfWhatDoesNotExistAreRefused(t *testing.T) {
	for _, field := range []string{`"floatingIPs":["203.0.113.7"]`, `"floatingIP":"203.0.113.7"`, `"publicAddress":"203.0.113.7"`, `"vni":4097`, `"securityGroups":["x"]`, `"owner":"system"`} {
		for kind, doc := range map[string]string{"Port": port(field), "RouteTable": table(field)} {
			if _, err := DecodeJSON([]byte(doc)); err == nil || !strings.Contains(err.Error(), "no such field") {
				t.Errorf("%s with %s: error %v", kind, field, err)
			}
		}
	}
	o, err := DecodeJSON([]byte(`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a","annotations":{"floating":"x"}},"spec":{"subnet":"s"}}`))
	if err == nil {
		t.Errorf("annotations were taken: %+v", o)
	}
}
