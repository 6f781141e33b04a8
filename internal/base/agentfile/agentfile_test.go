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

// FuzzFile: a file is refused by its name, or means the same after it was written.
func FuzzFile(f *testing.F) {
	data, err := File{Node: "host-1", Roles: []string{"host"}, Server: ":7444", Address: netip.MustParseAddr("198.19.0.3"), UnderlayMTU: 1500}.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte("roles: [a, null]\naddress: fe80::1%eth0\n"))
	f.Add([]byte("node: a\n---\nnode: b\n"))
	path := filepath.Join(f.TempDir(), "agent.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v does not name the file", err)
			}
			return
		}
		written, err := got.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, written, 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Read(path)
		if len(got.Roles) == 0 {
			got.Roles, again.Roles = nil, nil
		}
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%+v came back as %+v, error %v", got, again, err)
		}
	})
}
