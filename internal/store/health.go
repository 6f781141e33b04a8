// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	v1 "weft/api/v1"
)

// Times of the look at etcd's health.
const (
	lookEvery    = time.Second
	statusWithin = time.Second // of one member
)

// look asks a majority of etcd again and again whether it is there. So it is known without asking whether writes can be done, and an image
// whose watch is at a member that stands still is not behind for long, also where nothing is written.
func (s *Store) look(ctx context.Context) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, tryWithin)
		member, at := s.members.now()
		resp, err := member.Get(clientv3.WithRequireLeader(try), prefix+"f/", clientv3.WithCountOnly())
		if err != nil && ctx.Err() == nil {
			s.members.leave(at)
		} else if err == nil {
			err = s.image.reached(try, resp.Header.Revision)
		}
		cancel()
		if ctx.Err() == nil {
			s.found(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(lookEvery):
		}
	}
}

// found notes what a look at etcd gave.
func (s *Store) found(err error) {
	now := &trouble{err: err, since: time.Now()}
	before := s.health.Load()
	switch {
	case before != nil && before.err == nil && err == nil:
		return
	case before != nil && before.err != nil && err != nil:
		now.since = before.since
	case err != nil:
		s.cfg.Log.Warn("etcd does not answer; what is there can be read, nothing can be changed", "err", err)
	case before != nil:
		s.strained.Store(false)
		s.cfg.Log.Info("etcd answers again", "after", time.Since(before.since).Round(time.Millisecond).String())
	}
	s.health.Store(now)
}

// trouble is what the last look at etcd found; no error: none.
type trouble struct {
	err   error
	since time.Time
}

// Health returns an error while etcd does not answer, that is while nothing can be written. It does not ask: it is at most some seconds old.
func (s *Store) Health() error {
	if h := s.health.Load(); h != nil && h.err != nil {
		return fmt.Errorf("%w for %s: %v", ErrUnavailable, time.Since(h.since).Round(time.Second), h.err)
	}
	return nil
}

// Status asks etcd, and each of its members, how it is. With an error, what could be had is returned, too.
func (s *Store) Status(ctx context.Context) (v1.StoreStatus, error) {
	st := v1.StoreStatus{Embedded: s.etcd != nil}
	silent := len(s.members.clients)
	var mu sync.Mutex // guards st and silent
	var wg sync.WaitGroup
	for _, c := range s.members.clients {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, statusWithin)
			defer cancel()
			m, err := c.Status(ctx, c.Endpoints()[0])
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				silent--
				st.Version, st.SizeBytes = m.Version, max(st.SizeBytes, m.DbSize)
			}
		})
	}
	start := time.Now()
	member, _ := s.members.now()
	_, err := member.Get(clientv3.WithRequireLeader(ctx), prefix+"f/", clientv3.WithCountOnly())
	took := time.Since(start)
	st.Members = len(s.members.clients)
	if err == nil {
		var list *clientv3.MemberListResponse
		if list, err = member.MemberList(ctx); err == nil {
			st.Members = len(list.Members) // the server need not be told of all of them
		}
	}
	wg.Wait()
	st.Answering = max(0, st.Members-silent)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = errors.New("no answer in time")
		}
		return st, fmt.Errorf("%d of %d members answer, and not what a majority has: %w", st.Answering, st.Members, err)
	}
	st.LatencyMS = float64(took.Microseconds()) / 1000
	return st, nil
}
