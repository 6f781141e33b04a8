// SPDX-License-Identifier: Apache-2.0

package tracecmd

import (
	"fmt"
	"testing"
)

func TestDestinationOfATrace(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.2.4": "10.0.2.4 0 icmp", "fd00::4": "fd00::4 0 icmp", "10.0.2.4:5432/tcp": "10.0.2.4 5432 tcp", "[fd00::4]:53/udp": "fd00::4 53 udp",
		"10.0.2.4:5432": "", "fd00::4:5432/tcp": "", "10.0.2.4/tcp": "", "10.0.2.4:5432/icmp": "", "10.0.2.4:70000/tcp": "", "": "",
	} {
		to, port, protocol, err := parseFlow(text)
		if got := fmt.Sprintf("%s %d %s", to, port, protocol); (want == "") != (err != nil) || (err == nil && got != want) {
			t.Errorf("%q is %s, error %v; want %s", text, got, err, want)
		}
	}
}
