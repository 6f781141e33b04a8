// SPDX-License-Identifier: Apache-2.0

package linear

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"weft/internal/store/cluster"
)

// fault is something that goes wrong, until all is healed.
type fault struct {
	name  string
	begin func(ctx context.Context, s *site, rng *rand.Rand)
}

// someone is the leader every other time, and any member else.
func someone(ctx context.Context, s *site, rng *rand.Rand) int {
	if leader := s.etcd.Leader(ctx); leader >= 0 && rng.IntN(2) == 0 {
		return leader
	}
	return rng.IntN(cluster.Members)
}

// faults are all there are.
var faults = []fault{
	{"member_killed", func(ctx context.Context, s *site, rng *rand.Rand) { s.etcd.Kill(someone(ctx, s, rng)) }},
	{"member_paused", func(ctx context.Context, s *site, rng *rand.Rand) { s.etcd.Pause(someone(ctx, s, rng)) }},
	{"member_cut_off", func(ctx context.Context, s *site, rng *rand.Rand) { s.etcd.Isolate(someone(ctx, s, rng)) }},
	{"two_members_cut", func(_ context.Context, s *site, rng *rand.Rand) {
		i := rng.IntN(cluster.Members)
		s.etcd.Cut(i, (i+1)%cluster.Members, true)
	}},
	{"one_way_cut", func(ctx context.Context, s *site, rng *rand.Rand) {
		i := someone(ctx, s, rng)
		s.etcd.Cut(i, (i+1+rng.IntN(2))%cluster.Members, false)
	}},
	{"server_cut_off_from_member", func(ctx context.Context, s *site, rng *rand.Rand) {
		s.etcd.CutClient(rng.IntN(len(s.servers)), someone(ctx, s, rng))
	}},
	{"no_majority_killed", func(_ context.Context, s *site, rng *rand.Rand) {
		i := rng.IntN(cluster.Members)
		s.etcd.Kill(i)
		s.etcd.Kill((i + 1) % cluster.Members)
	}},
	{"no_majority_cut", func(_ context.Context, s *site, _ *rand.Rand) {
		for i := range cluster.Members {
			s.etcd.Isolate(i)
		}
	}},
	{"server_killed", func(_ context.Context, s *site, rng *rand.Rand) { s.servers[rng.IntN(len(s.servers))].kill() }},
	{"server_and_member_killed", func(ctx context.Context, s *site, rng *rand.Rand) {
		s.servers[rng.IntN(len(s.servers))].kill()
		s.etcd.Kill(someone(ctx, s, rng))
	}},
}

// trouble breaks and heals until ctx ends: all faults in an order that the seed decides, and all of them again. Everything is compacted now
// and then. It returns how often each one was.
func (s *site) trouble(ctx context.Context, seed uint64, lasts time.Duration) string {
	rng := rand.New(rand.NewPCG(seed, 0))
	counts := make(map[string]int)
	for ctx.Err() == nil {
		for _, i := range rng.Perm(len(faults)) {
			f := faults[i]
			pause(ctx, lasts/2+time.Duration(rng.Int64N(int64(lasts/2))))
			if ctx.Err() != nil {
				break
			}
			f.begin(ctx, s, rng)
			counts[f.name]++
			pause(ctx, lasts/2+time.Duration(rng.Int64N(int64(lasts))))
			s.heal()
			if rng.IntN(2) == 0 {
				compact, cancel := context.WithTimeout(ctx, 5*time.Second)
				if _, err := s.etcd.Compact(compact); err == nil {
					counts["compacted"]++
				}
				cancel()
			}
		}
	}
	s.heal()
	var text []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		text = append(text, fmt.Sprintf("%s %d", name, counts[name]))
	}
	return strings.Join(text, ", ")
}

// heal makes everything work again.
func (s *site) heal() {
	if err := s.etcd.Heal(); err != nil {
		s.t.Error(err)
	}
	for _, p := range s.servers {
		if err := p.revive(); err != nil {
			s.t.Error(err)
		}
	}
}
