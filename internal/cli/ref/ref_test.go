// SPDX-License-Identifier: Apache-2.0

package ref

import (
	"fmt"
	"strings"
	"testing"

	"weft/internal/cli/term"
)

func TestWhatStandsBehindAVerb(t *testing.T) {
	for line, want := range map[string]string{
		"port":                         "port//",
		"vpc,sn":                       "vpc// subnet//",
		"ports web-1 red/web-2":        "port//web-1 port/red/web-2",
		"port/web-1 Node/host-1":       "port//web-1 node//host-1",
		"port/red/web-1":               "port/red/web-1",
		"red/port/web-1 blue/vpc/main": "port/red/web-1 vpc/blue/main", // as -o name writes it
		"node/host-1 tenant/red":       "node//host-1 tenant//red",
		"port/port/x":                  "port/port/x",
		"vpc/port/x":                   "may be a vpc of tenant port, or a port of tenant vpc",
		"red/prot/web-1":               "there is no kind \"red\"",
		"prot":                         "did you mean port?",
		"vpc,port web-1":               "names can follow one kind only",
		"port/":                        "names no port",
		"port red/":                    "names no port",
		"port/web-1 web-2":             "is not KIND/NAME",
	} {
		refs, err := Parse(strings.Split(line, " "))
		var got []string
		for _, r := range refs {
			got = append(got, fmt.Sprintf("%s/%s/%s", r.Kind.Singular, r.Tenant, r.Name))
		}
		text := strings.Join(got, " ")
		if err != nil {
			if text = err.Error(); term.ExitCode(err) != term.ExitUsage {
				t.Errorf("%s: %v is no mistake of usage", line, err)
			}
		}
		if err == nil && text != want || err != nil && !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %s", line, text, want)
		}
	}
}
