// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "weft/api/v1"
	"weft/internal/node/port"
)

const nameFix = "use at most 15 characters without '/' and spaces, for example eth0"

// toWanted fills defaults, and refuses what can be seen to be wrong in a request.
func toWanted(r v1.AttachRequest) (port.Attachment, error) {
	a := port.Attachment{
		ID: port.ID{Tenant: r.Tenant, Port: r.Port}, Static: r.Static, MultiQueue: r.MultiQueue, Owner: r.Owner, Force: r.Force,
	}
	if r.Tenant == "" || r.Port == "" {
		return a, invalid("port", v1.CodeRequired, "no port is named", "name it as TENANT/PORT, for example red/web-1")
	}
	if err := chooseWay(r, &a); err != nil {
		return a, err
	}
	if len(a.Device) > 15 || strings.ContainsAny(a.Device, "/% \t\n") || a.Device == "." || a.Device == ".." {
		return a, invalid(string(a.Way), v1.CodeInvalid, fmt.Sprintf("%q cannot be the name of an interface", a.Device), nameFix)
	}
	switch {
	case a.Way != port.WayTap && (r.MultiQueue || r.Owner != nil):
		return a, invalid("tap", v1.CodeInvalid, "several queues and an owner are of taps", "leave them out, or name a tap")
	case a.Force && a.Way != port.WayTap && a.Way != port.WayDevice:
		return a, invalid("force", v1.CodeInvalid, "only a tap or device that is there can be taken by force", "leave force out")
	case a.Way != port.WayNetNS:
		a.Static = false // the agent configures nothing in the node's own namespace
		return a, nil
	}
	return a, checkNetNS(a.NetNS)
}

// chooseWay finds the one way that the request names.
func chooseWay(r v1.AttachRequest, a *port.Attachment) error {
	const fix = "name one: netns (with device, the interface in it), tap, veth, or device alone"
	var named []string
	for _, w := range []struct {
		way           port.Way
		value, device string
	}{
		{port.WayNetNS, r.NetNS, r.Device},
		{port.WayTap, r.Tap, r.Tap},
		{port.WayVeth, r.Veth, r.Veth},
	} {
		if w.value != "" {
			named = append(named, string(w.way))
			a.Way, a.Device = w.way, w.device
		}
	}
	if r.Device != "" && r.NetNS == "" {
		named = append(named, string(port.WayDevice))
		a.Way, a.Device = port.WayDevice, r.Device
	}
	switch {
	case len(named) == 0:
		return invalid("netns", v1.CodeRequired, "nothing is named to attach the port to", fix)
	case len(named) > 1:
		return invalid(named[1], v1.CodeInvalid, "a port is attached in one way only, and these were named: "+strings.Join(named, ", "), fix)
	case a.Way != port.WayNetNS:
		return nil
	}
	if a.Device == "" {
		a.Device = "eth0"
	}
	a.NetNS = r.NetNS
	if !strings.Contains(a.NetNS, "/") {
		a.NetNS = filepath.Join("/run/netns", a.NetNS)
	}
	return nil
}

// checkNetNS refuses a namespace that is not there, and the node's own: a port's default route would become the node's.
func checkNetNS(path string) error {
	there, err := os.Stat(path)
	if err != nil {
		return &v1.Error{
			Status: 404, Code: v1.CodeNotFound, Field: "netns", Message: fmt.Sprintf("there is no network namespace %s: %v", path, err),
			Fix: "'ip netns list' shows those that have a name; 'ip netns add NAME' makes one",
		}
	}
	if here, err := os.Stat("/proc/thread-self/ns/net"); err == nil && os.SameFile(here, there) {
		return invalid("netns", v1.CodeInvalid, path+" is the node's own namespace", "make a pair of devices there with veth, or attach a device that is there")
	}
	return nil
}

func invalid(field, code, message, fix string) *v1.Error {
	return &v1.Error{Status: 400, Code: code, Field: field, Message: message, Fix: fix}
}

// peerOf is the workload's end of a pair, as it was made.
func peerOf(s port.State) string {
	if s.Way == port.WayNetNS || s.Way == port.WayVeth {
		return s.Device
	}
	return ""
}
