// SPDX-License-Identifier: Apache-2.0

package port

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzAttachments: a state file is refused, or what it says is there again after it was written.
func FuzzAttachments(f *testing.F) {
	f.Add([]byte(`[{"id":{"Tenant":"red","Port":"web-1"},"netns":"/run/netns/a","device":"eth0","static":true,"binding":"b"}]`))
	f.Add([]byte(`[{"id":{"Tenant":"red","Port":"vm"},"way":"tap","device":"tap0","owner":7,"made":true,"before":{}},{"id":{"Tenant":"red","Port":"vm"}}]`))
	f.Add([]byte(`null`))
	file := filepath.Join(f.TempDir(), "attachments.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := loadAttachments(file)
		if err != nil {
			return
		}
		p := &Ports{cfg: Config{StateFile: file}, have: make(map[ID]*attached)}
		for _, a := range list {
			if a.Way == "" {
				t.Errorf("%s is attached in no way", a.ID)
			}
			p.have[a.ID] = &attached{Attachment: a}
		}
		if err := p.save(); err != nil {
			t.Fatal(err)
		}
		again, err := loadAttachments(file)
		if err != nil || len(again) != len(p.have) {
			t.Fatalf("%d attachments came back as %d, error %v", len(p.have), len(again), err)
		}
		for _, a := range again {
			was, werr := json.Marshal(p.have[a.ID].Attachment)
			is, err := json.Marshal(a)
			if err != nil || werr != nil || string(was) != string(is) {
				t.Errorf("%s came back as %s, errors %v, %v", was, is, werr, err)
			}
		}
	})
}
