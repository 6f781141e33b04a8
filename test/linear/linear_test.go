// SPDX-License-Identifier: Apache-2.0

package linear

import (
	"context"
	"flag"
	"sync"
	"testing"
	"time"

	v1 "weft/api/v1"
)

var (
	operations = flag.Int64("operations", 4000, "how many operations are made under faults, and checked")
	seed       = flag.Uint64("seed", 1, "of the order of operations and faults")
	lasts      = flag.Duration("lasts", 600*time.Millisecond, "how long a fault lasts, about")
)

// TestWritesUnderFaultsAreLinearizable has clients write through one server while members of etcd and the server are killed, paused and cut
// off from each other.
func TestWritesUnderFaultsAreLinearizable(t *testing.T) {
	underFaults(t, 1)
}

// TestWritesThroughTwoServersAreLinearizable does the same with two servers on one etcd. What a server reads may be behind what the other has
// written, so only writes are checked, and what they are told: created or changed, unchanged, absent, another version, another's address.
func TestWritesThroughTwoServersAreLinearizable(t *testing.T) {
	underFaults(t, 2)
}

func underFaults(t *testing.T, servers int) {
	t.Helper()
	t.Parallel()
	s := newSite(t, servers)
	w := newWorkload(t, s, *operations/int64(servers))
	watching, endWatch := context.WithCancel(t.Context())
	var watchers sync.WaitGroup
	for i, r := range w.replicas {
		watchers.Go(func() { r.follow(watching, w.clients[i], v1.KindVPC) })
	}
	troubled, endTrouble := context.WithCancel(t.Context())
	told := make(chan string, 1)
	go func() { told <- s.trouble(troubled, *seed, *lasts) }()
	w.run(t.Context(), *seed)
	endTrouble()
	t.Logf("faults: %s", <-told)
	t.Log(w.summary())
	for i, r := range w.replicas {
		s.answers(i)
		var version int64
		var objects map[string]int64
		var err error
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); pause(t.Context(), 50*time.Millisecond) {
			if version, objects, err = versions(t.Context(), w.clients[i], v1.KindVPC); err == nil && r.same(objects) {
				break
			}
		}
		if err != nil {
			t.Error(err)
		}
		for _, text := range r.end(version, objects) {
			t.Errorf("watch at server %d: %s", i, text)
		}
		t.Logf("watch at server %d: %d steps, listed again %d times, away %d times", i, r.steps, r.expired, r.unsettle)
	}
	endWatch()
	watchers.Wait()
	for _, text := range w.violations {
		t.Error(text)
	}
}
