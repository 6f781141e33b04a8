// SPDX-License-Identifier: Apache-2.0

package test

import (
	"slices"
	"testing"

	"weft/bpf/instrument"
)

// Every call that is to be exchanged is there, so that none is exchanged in vain.
func TestInstrumentFindsEveryCall(t *testing.T) {
	var found []string
	for _, p := range loadSpec(t).Programs {
		found = append(found, instrument.Found(p.Instructions)...)
	}
	for _, want := range []string{
		"noted_lookup_port_info", "noted_lookup_ovl_locations", "noted_lookup_ovl_senders", "noted_lookup_rt_routes",
		"noted_lookup_port_sources", "noted_index_pass_count", "noted_index_receive_count", "noted_key_drop_count",
		"noted_redirect", "noted_redirect_peer", "noted_change_type", "noted_set_tunnel", "given_get_tunnel",
	} {
		if !slices.Contains(found, want) {
			t.Errorf("no call for %s", want)
		}
	}
}
