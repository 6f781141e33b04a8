// SPDX-License-Identifier: Apache-2.0

package agentfile

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestWhatIsWrittenIsRead(t *testing.T) {
	want := File{
		Node: "host-1", Roles: []string{"host", "edge"}, Site: "north", Server: "[2001:db8::1]:7444", CA: "/etc/weft/ca.pem", TokenFile: "/etc/weft/node.token",
		Address: netip.MustParseAddr("2001:db8::7"), UnderlayMTU: 9000, StateDir: "/var/lib/weft/agent", RunDir: "/run/weft", BPFFS: "/sys/fs/bpf/weft/host-1", BGPConfig: "/etc/weft/bgp.yaml",
	}
	data, err := want.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Read(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, %v", got, err)
	}
	if err := os.WriteFile(path, append(data, "colour: red\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path); err == nil || !strings.Contains(err.Error(), "colour") {
		t.Errorf("an unknown word: error %v", err)
	}
}
