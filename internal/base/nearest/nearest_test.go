// SPDX-License-Identifier: Apache-2.0

package nearest

import (
	"slices"
	"testing"
)

func TestSlipsFindTheirWord(t *testing.T) {
	known := []string{"port", "subnet", "vpc", "node", "tenant", "routetable", "allowedSources"}
	for word, want := range map[string]string{
		"prot": "port", "sunbet": "subnet", "SUBNETZ": "subnet", "vcp": "vpc", "nod": "node", "rotetabel": "routetable",
		"allowedsource": "allowedSources", "colour": "", "x": "", "": "",
	} {
		if got := Of(word, slices.Values(known)); got != want {
			t.Errorf("%q: found %q, want %q", word, got, want)
		}
	}
}

func TestOrderOfWordsDoesNotMatter(t *testing.T) {
	a, b := Of("por", slices.Values([]string{"port", "pore"})), Of("por", slices.Values([]string{"pore", "port"}))
	if a != b {
		t.Errorf("%q, and in another order %q", a, b)
	}
}
