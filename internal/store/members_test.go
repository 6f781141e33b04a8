// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	v1 "weft/api/v1"
	"weft/internal/store/cluster"
)

func TestMain(m *testing.M) {
	cluster.Main()
	os.Exit(m.Run())
}

// onMembers starts an etcd of three members and stores on it, each with ways of its own.
func onMembers(t *testing.T, stores int) (*cluster.Cluster, []*Store) {
	t.Helper()
	c, err := cluster.Start(t.Context(), filepath.Join(t.TempDir(), "etcd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	trust, err := Access{CAFile: c.File("ca.pem"), CertFile: c.File("client.pem"), KeyFile: c.File("client.key")}.TLS()
	if err != nil {
		t.Fatal(err)
	}
	var out []*Store
	for i := range stores {
		endpoints, err := c.Endpoints(i)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), Config{Endpoints: endpoints, TLS: trust, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		out = append(out, s)
	}
	return c, out
}

// TestMembersThatFailDelayWritesAndDoubleNone pauses each member, and cuts each one off, while a counter is counted up: each write gets
// through within some seconds, and is done once.
func TestMembersThatFailDelayWritesAndDoubleNone(t *testing.T) {
	t.Parallel()
	c, stores := onMembers(t, 1)
	s := stores[0]
	put(t, s, "red", vpc("red", "main"))
	const times = 10
	longest, counted := time.Duration(0), 0
	count := func() {
		t.Helper()
		for range times {
			began := time.Now()
			if err := increment(t.Context(), s); err != nil {
				t.Fatalf("after %d: %v", counted, err)
			}
			longest = max(longest, time.Since(began))
			counted++
		}
	}
	for i := range cluster.Members {
		for _, fault := range []func(){func() { c.Pause(i) }, func() { c.CutClient(0, i) }, func() { c.Isolate(i) }} {
			fault()
			count()
			if err := c.Heal(); err != nil {
				t.Fatal(err)
			}
		}
	}
	o, _ := s.View().Get(v1.KindVPC, "red", "main")
	if n := int(o.(*v1.VPC).Status.VNI); n != counted {
		t.Errorf("counted %d times to %d", counted, n)
	}
	if longest > writeWithin*3/4 {
		t.Errorf("a write took %s", longest)
	}
	t.Logf("%d writes, the longest took %s", counted, longest.Round(time.Millisecond))
}

// TestWithoutAMajorityNothingIsAcknowledged: writes are refused in time, all of them, what is there can be read, health says so; and all goes
// on when the members reach each other again.
func TestWithoutAMajorityNothingIsAcknowledged(t *testing.T) {
	t.Parallel()
	c, stores := onMembers(t, 1)
	s := stores[0]
	s.within = 3 * time.Second
	put(t, s, "", tenant("before"))
	for i := range cluster.Members {
		c.Isolate(i)
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range 20 { // all want the same lock
		wg.Go(func() {
			if _, err := s.Update(t.Context(), []string{""}, func(tx *Tx) error { tx.Put(tenant("lost")); return nil }); !errors.Is(err, ErrUnavailable) {
				t.Errorf("a write without a majority: %v", err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > s.within+time.Second {
		t.Errorf("20 writes were refused after %s", took)
	}
	began = time.Now()
	if _, err := s.Update(t.Context(), []string{"other"}, func(tx *Tx) error { tx.Put(tenant("lost")); return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a write without a majority: %v", err)
	}
	if took := time.Since(began); took > strainedWithin+time.Second {
		t.Errorf("another write was refused after %s", took)
	}
	if err := s.Health(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("health: %v", err)
	}
	if st, err := s.Status(t.Context()); err == nil || st.Members != cluster.Members || st.Answering != cluster.Members {
		t.Errorf("status: %+v, %v", st, err)
	}
	if _, ok := s.View().Get(v1.KindTenant, "", "before"); !ok {
		t.Error("what was there cannot be read")
	}
	if _, ok := s.View().Get(v1.KindTenant, "", "lost"); ok {
		t.Error("a refused write can be read")
	}
	if err := c.Heal(); err != nil {
		t.Fatal(err)
	}
	healed := time.Now()
	for s.Health() != nil && time.Since(healed) < 20*time.Second {
		time.Sleep(10 * time.Millisecond)
	}
	put(t, s, "", tenant("after"))
	t.Logf("writes again %s after the members reach each other", time.Since(healed).Round(time.Millisecond))
}

// TestNothingIsAnsweredFromAnOldView lets a store's watch hear nothing while another store writes. What it reads to refuse a write, or to leave
// things as they are, is what the other one wrote all the same; and so is what it reads after CatchUp.
func TestNothingIsAnsweredFromAnOldView(t *testing.T) {
	t.Parallel()
	c, stores := onMembers(t, 2)
	put(t, stores[0], "red", vpc("red", "main"))
	refusal := errors.New("refused")
	for i := range cluster.Members { // the watch is at one of them
		if err := stores[1].CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.CutClient(1, i)
		for n := range 3 {
			if err := increment(t.Context(), stores[0]); err != nil {
				t.Fatal(err)
			}
			o, _ := stores[0].View().Get(v1.KindVPC, "red", "main")
			want, saw := o.(*v1.VPC).Status.VNI, uint32(0)
			_, err := stores[1].Update(t.Context(), []string{"red"}, func(tx *Tx) error {
				o, _ := tx.Get(v1.KindVPC, "red", "main")
				saw = o.(*v1.VPC).Status.VNI
				if n == 0 {
					return refusal
				}
				return nil
			})
			if saw != want || (n == 0) != errors.Is(err, refusal) {
				t.Errorf("member %d cut: read %d, which was %d; error %v", i, saw, want, err)
			}
		}
		if err := increment(t.Context(), stores[0]); err != nil {
			t.Fatal(err)
		}
		if err := stores[1].CatchUp(t.Context()); err != nil || stores[1].View().Revision() < stores[0].View().Revision() {
			t.Errorf("caught up to %d of %d: %v", stores[1].View().Revision(), stores[0].View().Revision(), err)
		}
		if err := c.Heal(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestChangesOutliveARestart reads on from a revision before the store was closed, and is told to list where that was compacted.
func TestChangesOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	start := func() *Store {
		s, err := Open(t.Context(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	first := put(t, s, "", tenant("red"))
	put(t, s, "", tenant("blue"))
	if _, err := s.Update(t.Context(), []string{""}, func(tx *Tx) error { tx.Delete(v1.KindTenant, "", "red"); return nil }); err != nil {
		t.Fatal(err)
	}
	changed := tenant("blue")
	changed.Labels = map[string]string{"a": "b"}
	last := put(t, s, "", changed)
	changesSince := func(s *Store) (text string) {
		changes, err := s.Changes(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		for batch := range changes {
			for _, e := range batch {
				old, now := "", ""
				if e.Old != nil {
					old = e.Old.Meta().Name + e.Old.Meta().ResourceVersion
				}
				if e.Object != nil {
					now = e.Object.Meta().Name + e.Object.Meta().ResourceVersion
				}
				text += string(e.Type) + " " + old + ">" + now + "; "
				if e.Revision == last {
					return text
				}
			}
		}
		return text
	}
	before := changesSince(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start()
	if after := changesSince(s); after != before || before == "" {
		t.Errorf("before the restart: %s\nafter: %s", before, after)
	}
	if _, err := s.members.clients[0].Compact(t.Context(), last-1, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = start()
	if _, err := s.Changes(t.Context(), first); !errors.Is(err, ErrCompacted) {
		t.Errorf("changes that are compacted: %v", err)
	}
	if _, err := s.Changes(t.Context(), last-1); err != nil {
		t.Errorf("changes that are not: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
