// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"weft/internal/southbound"
)

func TestServedRowsOutliveTheAgent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dhcp.json")
	if rows, err := Load(file); err != nil || len(rows) != 0 {
		t.Fatalf("a first start has rows %v (%v)", rows, err)
	}
	want := map[uint32]southbound.Port{7: web1, 9: {VNI: 5000, Tenant: "blue"}}
	for range 2 {
		if err := Save(file, want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Load(file)
	if err != nil || !maps.EqualFunc(got, want, func(a, b southbound.Port) bool { return a.Equal(b) }) {
		t.Errorf("rows %v (%v), want %v", got, err, want)
	}
	if err := os.WriteFile(file, []byte(`{"7":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if rows, err := Load(file); err == nil {
		t.Errorf("half a file is read as %v", rows)
	}
}
