// SPDX-License-Identifier: Apache-2.0

package v1

import (
	"encoding/json"
	"errors"
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
		"good_port":     {goodPort, nil},
		"ipv6":          {vpc(`"fd00::/48"`), []string{"UNSUPPORTED at spec.prefixes[0]"}},
		"overlap":       {vpc(`"10.0.0.0/16","10.0.1.0/24"`), []string{"OVERLAP at spec.prefixes[1]"}},
		"multicast":     {vpc(`"224.0.0.0/8"`), []string{"INVALID at spec.prefixes[0]"}},
		"too_wide":      {vpc(`"10.0.0.0/7"`), []string{"INVALID at spec.prefixes[0]"}},
		"none":          {vpc(``), []string{"REQUIRED at spec.prefixes"}},
		"two_errors":    {vpc(`"fd00::/48","127.0.0.0/16"`), []string{"UNSUPPORTED at spec.prefixes[0]", "INVALID at spec.prefixes[1]"}},
		"null_prefix":   {vpc(`null`), []string{"INVALID at spec.prefixes[0]"}},
		"labels":        {`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"a","labels":{"b!":"x","a!":"x","c":"-"}}}`, []string{"INVALID at metadata.labels", "INVALID at metadata.labels", "INVALID at metadata.labels.c"}},
		"many_dns":      {`{"apiVersion":"weft/v1","kind":"Subnet","metadata":{"tenant":"red","name":"a"},"spec":{"vpc":"m","prefixes":["10.0.0.0/24"],"dns":["10.0.0.2"` + strings.Repeat(`,"10.0.0.2"`, 8) + `]}}`, []string{"TOO_LARGE at spec.dns"}},
		"many_roles":    {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"192.0.2.1","roles":["x"` + strings.Repeat(`,"x"`, 100_000) + `]}}`, []string{"TOO_LARGE at spec.roles"}},
		"bad_site":      {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"192.0.2.1","roles":["host"],"site":"A B"}}`, []string{"INVALID at spec.site"}},
		"bad_name":      {`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"Red_1"}}`, []string{"INVALID at metadata.name"}},
		"no_tenant":     {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"name":"a"},"spec":{"subnet":"s"}}`, []string{"REQUIRED at metadata.tenant"}},
		"stray_tenant":  {`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"a","tenant":"b"}}`, []string{"INVALID at metadata.tenant"}},
		"gateway_out":   {subnet("10.0.2.1"), []string{"OUTSIDE at spec.gateway"}},
		"gateway_net":   {subnet("10.0.1.0"), []string{"RESERVED at spec.gateway"}},
		"gateway_bcast": {subnet("10.0.1.255"), []string{"RESERVED at spec.gateway"}},
		"group_mac":     {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a"},"spec":{"subnet":"s","mac":"01:00:5e:00:00:01"}}`, []string{"INVALID at spec.mac"}},
		"router_mac":    {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a"},"spec":{"subnet":"s","mac":"02:77:65:66:74:01"}}`, []string{"RESERVED at spec.mac"}},
		"two_addresses": {`{"apiVersion":"weft/v1","kind":"Port","metadata":{"tenant":"red","name":"a"},"spec":{"subnet":"s","addresses":["10.0.0.4","10.0.0.5"]}}`, []string{"INVALID at spec.addresses[1]"}},
		"node_role":     {`{"apiVersion":"weft/v1","kind":"Node","metadata":{"name":"a"},"spec":{"address":"192.0.2.1","roles":["hots"]}}`, []string{"INVALID at spec.roles[0]"}},
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
	return `{"apiVersion":"weft/v1","kind":"Subnet","metadata":{"tenant":"red","name":"web"},"spec":{"vpc":"main","prefixes":["10.0.1.0/24"],"gateway":"` + gateway + `"}}`
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
	f.Add([]byte(vpc(`"10.0.0.0/16"`)))
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
