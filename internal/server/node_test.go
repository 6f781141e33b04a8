// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "weft/api/v1"
)

// TestRemovedNodeIsToldAndStaysAway removes a node while it is connected, and one that is dead and comes back.
func TestRemovedNodeIsToldAndStaysAway(t *testing.T) {
	s := start(t, t.TempDir())
	alive, dead := &node{name: "h1", machine: "m1"}, &node{name: "h2", machine: "m2"}
	s.joinAs(alive, 1)
	s.joinAs(dead, 2)
	s.apply(network("red", 1))
	dead.claim(t, "red", 0)
	eventually(t, "both joined", func() bool { return alive.epochNow() != "" && dead.epochNow() != "" })
	eventually(t, "both ready", func() bool { return s.node("h1").Ready && s.node("h2").Ready })
	number := s.node("h2").Number

	s.call(http.MethodDelete, "/api/v1/nodes/h1", nil, nil)
	removed := time.Now()
	eventually(t, "told while connected", func() bool { return alive.removed() != "" })
	if took := time.Since(removed); took > time.Second {
		t.Errorf("told after %s", took)
	}
	if !strings.Contains(alive.removed(), "removed from the system") {
		t.Errorf("told %q", alive.removed())
	}

	dead.stop()
	if e := s.refused(http.MethodDelete, "/api/v1/nodes/h2"); e.Code != v1.CodeInUse {
		t.Errorf("removed with a port attached: %+v", e)
	}
	s.call(http.MethodDelete, "/api/v1/nodes/h2?cascade=true", nil, nil)
	if st := s.port("red", "web-0"); st.Node != "" {
		t.Errorf("port at %q", st.Node)
	}
	s.connect(dead) // with the binding that it had
	eventually(t, "told as it comes back", func() bool { return dead.removed() != "" })
	if e := s.refused(http.MethodGet, "/api/v1/nodes/h2"); e.Code != v1.CodeNotFound {
		t.Errorf("the removed node is there: %+v", e)
	}

	again := &node{name: "h2", machine: "m3"}
	s.joinAs(again, 2)
	eventually(t, "joined anew", func() bool { return again.epochNow() != "" })
	if n := s.node("h2").Number; n == number {
		t.Errorf("number %d was given twice", n)
	}
}

func TestDrainedNodeTakesNoFurtherPort(t *testing.T) {
	s := start(t, t.TempDir())
	h1, h2 := s.join("h1", 1), s.join("h2", 2)
	s.apply(network("red", 2))
	h1.claim(t, "red", 0)
	drain := func(drained string) {
		s.apply("apiVersion: weft/v1\nkind: Node\nmetadata: {name: h1}\nspec: {address: 198.19.0.1, roles: [host], drained: " + drained + "}\n")
	}
	drain("true")
	if _, err := h1.c.Claim(t.Context(), "red", "web-1", false); err == nil || !strings.Contains(err.Error(), "weft node resume h1") {
		t.Errorf("claim of a further port: %v", err)
	}
	if id, err := h1.c.Claim(t.Context(), "red", "web-0", false); err != nil || id != s.port("red", "web-0").Binding {
		t.Errorf("claim of the port that it has: %q, %v", id, err)
	}
	h1.stop() // a restart of the agent does not resume it
	s.connect(h1)
	eventually(t, "ready", func() bool { return s.node("h1").Ready })
	if _, err := h1.c.Claim(t.Context(), "red", "web-1", false); err == nil {
		t.Error("a hello resumed the node")
	}
	if _, err := h2.c.Claim(t.Context(), "red", "web-0", true); err != nil {
		t.Errorf("move to another node: %v", err)
	}
	drain("false")
	if _, err := h1.c.Claim(t.Context(), "red", "web-1", false); err != nil {
		t.Errorf("claim after resume: %v", err)
	}
}
