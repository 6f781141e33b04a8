// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// forgeries are packets with a tunnel header that a process on a node sends, without being the node's tunnel: to the
// tunnel end of each node that takes part, from an address that is no node's tunnel end; and to its own node's, in its
// very name. None may enter either tenant's network.
func (r *run) forgeries() []*test {
	var tests []*test
	add := func(name string, own bool) {
		t := &test{Case: Case{Name: name, Note: "tunnel-peer-unknown"}}
		t.also = func(ctx context.Context, t *test) error {
			for _, from := range r.nodes {
				for _, to := range r.nodes {
					if own == (from == to) {
						if err := r.forge(ctx, t, from, to); err != nil {
							return err
						}
					}
				}
			}
			return nil
		}
		tests = append(tests, t)
	}
	add("forged by a process on another node", false)
	add("forged by a process on the same node", true)
	return tests
}

// forge sends a frame for every workload of a node from a process of another, or of the same.
func (r *run) forge(ctx context.Context, t *test, from, to string) error {
	for side := range 2 {
		var frames [][]byte
		path := fmt.Sprintf("a process on %s -> tunnel end %s of %s, VNI %d", from, r.tunnels[to], to, r.vni[side])
		for _, victim := range r.sides[side] {
			for _, v := range versions {
				if victim.node == to {
					c := r.canary(t, nil, want{}, path) // nobody may hear it
					frames = append(frames, r.aim(r.sides[side][0], victim).Frame(v, c))
				}
			}
		}
		if len(frames) == 0 {
			continue
		}
		t.Packets += len(frames)
		if err := r.forged(ctx, t, path, from, to, request{Do: "tunnel", To: r.tunnels[to], VNI: r.vni[side], Frames: frames}); err != nil {
			return err
		}
	}
	return nil
}

// forged sends the frames and wants the other node to count them as from nobody that it knows.
func (r *run) forged(ctx context.Context, t *test, path, from, to string, q request) error {
	before, err := r.dropsOfNobody(ctx, to)
	if err != nil {
		return err
	}
	var a answer
	if err := r.cfg.Client.Ask(ctx, from, "probe", q, &a); err != nil {
		return err
	}
	if !a.OK {
		if strings.Contains(a.Detail, "no address beside its tunnel end") {
			t.Note = "not from " + from + ": " + a.Detail
			return nil
		}
		return fmt.Errorf("%s: %s", from, a.Detail)
	}
	for deadline := time.Now().Add(r.cfg.countWithin); ; {
		after, err := r.dropsOfNobody(ctx, to)
		if err != nil {
			return err
		}
		got := after["tunnel-peer-unknown"] - before["tunnel-peer-unknown"]
		if got >= uint64(len(q.Frames)) {
			return nil
		}
		if time.Now().After(deadline) {
			t.fail(path, fmt.Sprintf("%d drops for tunnel-peer-unknown", len(q.Frames)), fmt.Sprint(got))
			return nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// dropsOfNobody counts what a node dropped of no tenant that it knows.
func (r *run) dropsOfNobody(ctx context.Context, node string) (map[string]uint64, error) {
	var a answer
	err := r.cfg.Client.Ask(ctx, node, "probe", request{Do: "drops"}, &a)
	return a.Drops, err
}
