// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"path/filepath"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/node/port"
)

func TestRequestNamesOneWay(t *testing.T) {
	ns := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(ns, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	owner := uint32(7)
	for name, c := range map[string]struct {
		r      v1.AttachRequest
		way    port.Way
		device string
		field  string // of the error; "": none
	}{
		"netns":           {v1.AttachRequest{NetNS: ns}, port.WayNetNS, "eth0", ""},
		"netns_device":    {v1.AttachRequest{NetNS: ns, Device: "net0", Static: true}, port.WayNetNS, "net0", ""},
		"tap":             {v1.AttachRequest{Tap: "tap0", MultiQueue: true, Owner: &owner, Static: true}, port.WayTap, "tap0", ""},
		"veth":            {v1.AttachRequest{Veth: "box0"}, port.WayVeth, "box0", ""},
		"device":          {v1.AttachRequest{Device: "eth7", Force: true}, port.WayDevice, "eth7", ""},
		"nothing":         {v1.AttachRequest{}, "", "", "netns"},
		"two":             {v1.AttachRequest{Tap: "tap0", Veth: "box0"}, "", "", "veth"},
		"tap_and_device":  {v1.AttachRequest{Tap: "tap0", Device: "eth7"}, "", "", "device"},
		"long_name":       {v1.AttachRequest{Tap: "a-name-too-long0"}, "", "", "tap"},
		"template":        {v1.AttachRequest{Tap: "tap%d"}, "", "", "tap"}, // the kernel would choose a number
		"path":            {v1.AttachRequest{Device: "../eth0"}, "", "", "device"},
		"owner_of_device": {v1.AttachRequest{Device: "eth7", Owner: &owner}, "", "", "tap"},
		"force_of_netns":  {v1.AttachRequest{NetNS: ns, Force: true}, "", "", "force"},
		"no_netns":        {v1.AttachRequest{NetNS: "/nowhere"}, "", "", "netns"},
		"own_netns":       {v1.AttachRequest{NetNS: "/proc/self/ns/net"}, "", "", "netns"},
	} {
		t.Run(name, func(t *testing.T) {
			c.r.Tenant, c.r.Port = "red", "web-1"
			a, err := toWanted(c.r)
			if c.field != "" {
				if e := toAPIError(err); err == nil || e.Field != c.field || e.Fix == "" {
					t.Errorf("got %+v, %v; want an error of field %s with a remedy", a, err, c.field)
				}
				return
			}
			if err != nil || a.Way != c.way || a.Device != c.device || a.Static && c.way != port.WayNetNS {
				t.Errorf("got %+v, %v", a, err)
			}
		})
	}
}
