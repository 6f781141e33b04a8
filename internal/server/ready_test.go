// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"testing"
	"time"

	"weft/internal/control/graph"
)

// TestNodesAreToldNothingUntilAllIsComputed starts a server anew whose computations take long. A node that comes back meanwhile, with
// the rows that it has, must not hear that it has none: it would take down its ports.
func TestNodesAreToldNothingUntilAllIsComputed(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	s.apply(network("red", 1))
	s.apply(network("blue", 1))
	h1 := s.join("h1", 1)
	h1.claim(t, "red", 0)
	h1.claim(t, "blue", 0)
	applied := func() bool {
		a, b := s.port("red", "web-0").Applied, s.port("blue", "web-0").Applied
		return a.Applied == 1 && b.Applied == 1
	}
	eventually(t, "in effect", applied)
	rows, _ := h1.count()
	epoch := h1.epochNow()
	h1.stop()
	s.stop()

	hold := make(chan struct{}) // one VPC is computed at once, the other when this is closed
	release := sync.OnceFunc(func() { close(hold) })
	s = startWith(t, Config{StateDir: dir, rows: func(r graph.Resources) graph.Rows {
		if r.Tenant.Name == "blue" {
			<-hold
		}
		return graph.Compute(graph.Resolve(r))
	}})
	t.Cleanup(release) // else the server would not end
	s.connect(h1)
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if n, _ := h1.count(); n != rows || h1.epochNow() != epoch {
			t.Fatalf("the node has %d rows of %d, before all are computed", n, rows)
		}
	}
	release()
	eventually(t, "in effect again", func() bool { return h1.epochNow() != epoch && applied() })
	if n, _ := h1.count(); n != rows {
		t.Errorf("%d rows of %d", n, rows)
	}
}
