// SPDX-License-Identifier: Apache-2.0

package tracecmd

import (
	"fmt"
	"testing"
)

func TestDestinationOfATrace(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.2.4": "10.0.2.4 0 icmp", "fd00::4": "fd00::4 0 icmp", "[fd00::4]": "fd00::4 0 icmp", "fe80::1%eth0": "fe80::1%eth0 0 icmp",
		"10.0.2.4:5432/tcp": "10.0.2.4 5432 tcp", "[fd00::4]:53/udp": "fd00::4 53 udp",
		"db-1": "db-1 0 icmp", "red/db-1": "red/db-1 0 icmp", "red/db-1:5432/tcp": "red/db-1 5432 tcp", "db-1:53/udp": "db-1 53 udp",
		"10.0.2.4:5432": "", "fd00::4:5432/tcp": "", "10.0.2.4/tcp": "", "10.0.2.4:5432/icmp": "", "10.0.2.4:70000/tcp": "", "": "",
		"[10.0.2.4]:80/tcp": "", "[fd00::4:80/tcp": "", "fd00::4]:80/tcp": "", "[db-1]:80/tcp": "", "red/db-1:80": "", "red/a/b": "", "10.0.2:80/tcp": "",
	} {
		f, err := parseFlow(text)
		got := fmt.Sprintf("%s%s %d %s", f.to, f.name, f.port, f.protocol)
		if !f.to.IsValid() {
			got = fmt.Sprintf("%s %d %s", f.name, f.port, f.protocol)
		}
		if (want == "") != (err != nil) || (err == nil && got != want) {
			t.Errorf("%q is %s, error %v; want %s", text, got, err, want)
		}
	}
}
