// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"strings"
	"testing"
	"time"
)

const good = `
as: 4200000003
routerID: 198.19.0.3
announce: [198.19.0.3/32, "fd00:19::3/128"]
source: [198.19.0.3, "fd00:19::3"]
peers:
  - {name: tor-1, address: 198.18.0.0, as: 4200000001, relation: provider, bfd: true}
  - {address: 198.18.0.2, as: 4200000002, relation: customer, device: tor-2, password: secret}
`

func TestConfig(t *testing.T) {
	c, err := DecodeConfig([]byte(good))
	if err != nil || c.Hold != 9*time.Second || c.Restart != 120*time.Second || len(c.Peers) != 2 || !c.Peers[0].BFD || c.Peers[1].Password != "secret" {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, change := range map[string][3]string{
		"unknown word":   {"announce:", "advertise:", "advertise"},
		"own AS":         {"as: 4200000001", "as: 4200000003", "another autonomous system"},
		"no AS":          {"as: 4200000003", "as: 0", "as: 0"},
		"router ID":      {"routerID: 198.19.0.3", `routerID: "::1"`, "routerID"},
		"host bits":      {"198.19.0.3/32", "198.19.0.3/24", "host bits"},
		"prefix twice":   {"fd00:19::3/128", "198.19.0.3/32", "twice"},
		"peer twice":     {"198.18.0.2", "198.18.0.0", "twice"},
		"relation":       {"relation: customer", "relation: friend", "friend"},
		"two sources":    {`"fd00:19::3"]`, "198.19.0.9]", "source"},
		"hold":           {"as: 4200000003", "hold: 1s\nas: 4200000003", "hold"},
		"parts of a s":   {"as: 4200000003", "hold: 3500ms\nas: 4200000003", "whole seconds"},
		"restart":        {"as: 4200000003", "restart: 2h\nas: 4200000003", "restart"},
		"peer's address": {"198.18.0.2", "224.0.0.5", "not that of one neighbour"},
		"mapped":         {"address: 198.18.0.2", `address: "::ffff:198.18.0.2"`, "not that of one neighbour"},
	} {
		if !strings.Contains(good, change[0]) {
			t.Fatalf("%s: %q is not there", name, change[0])
		}
		_, err := DecodeConfig([]byte(strings.Replace(good, change[0], change[1], 1)))
		if err == nil || !strings.Contains(err.Error(), change[2]) {
			t.Errorf("%s: %v, want %q", name, err, change[2])
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeConfig(data)
		if err != nil {
			return
		}
		if c.AS == 0 || !c.RouterID.Is4() || c.Hold < holdLeast || len(c.Peers) > peersMost {
			t.Errorf("taken: %+v", c)
		}
		for _, p := range c.Peers {
			if p.AS == c.AS || p.Relation != Provider && p.Relation != Customer {
				t.Errorf("taken: peer %+v", p)
			}
		}
	})
}
