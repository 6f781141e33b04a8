// SPDX-License-Identifier: Apache-2.0

package tracecmd

import (
	"fmt"
	"strings"
	"testing"

	"weft/internal/cli/term"
)

// text is the flow as a user would write it.
func (f flow) text() string {
	host := f.name
	switch {
	case f.to.Is6() && f.protocol != "icmp":
		host = "[" + f.to.String() + "]"
	case f.to.IsValid():
		host = f.to.String()
	}
	if f.protocol == "icmp" {
		return host
	}
	return fmt.Sprintf("%s:%d/%s", host, f.port, f.protocol)
}

// FuzzDestination: a destination is refused as a mistake of the user's, or is an address or a name, and means the same when
// it is written down again.
func FuzzDestination(f *testing.F) {
	for _, s := range []string{"10.0.2.4", "[fd00::4]:53/udp", "red/db-1:5432/tcp", "fd00::4:5432/tcp", "[db-1]:80/tcp", "fe80::1%eth0", "::ffff:10.0.0.1", "10.0.2:080/tcp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseFlow(s)
		if err != nil {
			if term.ExitCode(err) != term.ExitUsage {
				t.Errorf("%q is refused as %v", s, err)
			}
			return
		}
		if got.to.IsValid() == (got.name != "") {
			t.Fatalf("%q is %+v", s, got)
		}
		if got.protocol == "icmp" && got.port != 0 {
			t.Errorf("%q is an echo to port %d", s, got.port)
		}
		if again, err := parseFlow(got.text()); err != nil || again != got {
			t.Errorf("%q is %+v, written %q and then %+v, error %v", s, got, got.text(), again, err)
		}
		if got.name == "" {
			return
		}
		tenant, port, err := term.ParsePort(got.name, "red")
		if whole := tenant + "/" + port; err != nil || whole != got.name && whole != "red/"+got.name || strings.Contains(port, "/") {
			t.Errorf("%q names port %q of tenant %q, error %v", s, port, tenant, err)
		}
	})
}
