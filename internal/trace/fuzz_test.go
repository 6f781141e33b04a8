// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bytes"
	"slices"
	"testing"
)

// sane sees what must hold of any frame: an end with all that belongs to it, and of a frame that goes on nothing changed but
// MACs, TTL and header checksum.
func sane(t *testing.T, n *Node, frame []byte, r Result) {
	t.Helper()
	if (r.Verdict == Drop) != (r.Reason != "") || (r.Verdict == Local) != (r.Port != PortID{}) || (r.Verdict == Tunnel) != r.Remote.IsValid() {
		t.Errorf("%x: %+v", frame, r)
	}
	if r.Told != nil && (r.Verdict != Drop || len(r.Told) > ethernetLen+ipv6Len+icmpLen+quoteMost || r.Tells() == "") {
		t.Errorf("%x: told %x", frame, r.Told)
	}
	switch r.Verdict {
	case Local:
		if _, ok := n.ports[r.Port]; !ok {
			t.Errorf("%x goes to %s, which is not here", frame, r.Port)
		}
		fallthrough
	case Tunnel:
		p := packet{frame: slices.Clone(frame)}
		p.ethernet()
		changes := [][2]int{{0, 12}, {ethernetLen + 8, ethernetLen + 9}, {ethernetLen + 10, ethernetLen + 12}}
		if p.typ == typeIPv6 {
			changes = [][2]int{{0, 12}, {ethernetLen + 7, ethernetLen + 8}}
		}
		for _, c := range changes {
			if c[1] <= min(len(frame), len(r.Frame)) {
				copy(p.frame[c[0]:c[1]], r.Frame[c[0]:])
			}
		}
		if !bytes.Equal(p.frame, r.Frame) {
			t.Errorf("%x left as %x", frame, r.Frame)
		}
	case Drop, Consumed, Service:
		if !bytes.Equal(frame, r.Frame) {
			t.Errorf("%x, which goes no further, became %x", frame, r.Frame)
		}
	}
}

func FuzzFromPort(f *testing.F) {
	n := world()[1]
	for _, s := range append(sentIPv4, sentIPv6...) {
		f.Add(s.frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		r := n.FromPort(web1, frame)
		sane(t, n, frame, r)
		p := packet{frame: slices.Clone(frame)}
		if r.Verdict == Local || r.Verdict == Tunnel {
			if p.ethernet() != "" || p.fixed() != "" || p.src != macWeb1 || p.ip.src != address(n.ports[web1], p.ip.src.Is4()) {
				t.Errorf("%x is not from the port", frame)
			}
		}
	})
}

func FuzzFromUplink(f *testing.F) {
	n := world()[1]
	f.Add(ip{src: b4, dst: a4}.frame(macWeb1, macWeb2))
	f.Add(ip{src: b6, dst: a6}.frame(macWeb1, macWeb2))
	f.Add(ip{src: b4, dst: "192.0.2.1"}.frame(macFW1, routerMAC))
	f.Add(ip{src: b6, dst: a6, first: protoFragment, options: fragmentLater}.frame(macWeb1, macWeb2))
	f.Fuzz(func(t *testing.T, frame []byte) {
		r := n.FromUplink(4096, addr("198.19.0.2"), frame)
		sane(t, n, frame, r)
		if r.Verdict != Drop && r.Verdict != Local || !bytes.Equal(r.Frame, frame) || r.Told != nil {
			t.Errorf("%x: %+v", frame, r)
		}
	})
}

func FuzzFromService(f *testing.F) {
	n := world()[1]
	f.Add(ip{src: g4, dst: a4}.frame(macWeb1, macWeb2))
	f.Add(ip{src: "fe80::1", dst: "ff02::1"}.frame(group, macWeb2))
	f.Fuzz(func(t *testing.T, frame []byte) {
		r := n.FromService(web1, frame)
		sane(t, n, frame, r)
		if r.Verdict == Local && (r.Port != web1 || !bytes.Equal(r.Frame[6:12], routerMAC[:])) {
			t.Errorf("%x: %+v", frame, r)
		}
	})
}

// FuzzWalk walks whatever a workload sends to its end, appliances on the way.
func FuzzWalk(f *testing.F) {
	for _, s := range append(sentIPv4, sentIPv6...) {
		f.Add(s.frame)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		steps, r := Walk(world(), 1, web1, frame)
		if len(steps) == 0 || r.Verdict == Tunnel {
			t.Errorf("%x: %v, %+v", frame, steps, r)
		}
	})
}
