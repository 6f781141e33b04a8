// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "weft/api/v1"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tenant(name string) *v1.Tenant {
	return &v1.Tenant{TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindTenant}, Metadata: v1.Metadata{Name: name}}
}

func vpc(tenant, name string) *v1.VPC {
	return &v1.VPC{TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindVPC}, Metadata: v1.Metadata{Tenant: tenant, Name: name}}
}

func put(t *testing.T, s *Store, scope string, objects ...v1.Object) int64 {
	t.Helper()
	rev, err := s.Update(t.Context(), []string{scope}, func(tx *Tx) error {
		for _, o := range objects {
			tx.Put(v1.Clone(o))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func TestReadYourWritesAndOldViewsStay(t *testing.T) {
	s := open(t, t.TempDir())
	empty := s.View()
	rev := put(t, s, "", tenant("red"))
	o, ok := s.View().Get(v1.KindTenant, "", "red")
	if !ok || o.Meta().ResourceVersion != fmt.Sprint(rev) {
		t.Errorf("got %v, %v; want version %d", o, ok, rev)
	}
	if _, ok := empty.Get(v1.KindTenant, "", "red"); ok || empty.Count(v1.KindTenant) != 0 {
		t.Error("a view changed after it was taken")
	}
}

func TestListKeepsTenantsApart(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "a", vpc("a", "x"), vpc("a", "y"))
	put(t, s, "a-b", vpc("a-b", "z"))
	var got []string
	for _, o := range s.View().List(v1.KindVPC, "") {
		got = append(got, v1.ID(o))
	}
	if fmt.Sprint(got) != "[a/vpc/x a/vpc/y a-b/vpc/z]" {
		t.Errorf("all: %v", got)
	}
	if n := len(s.View().List(v1.KindVPC, "a")); n != 2 {
		t.Errorf("tenant a has %d", n)
	}
}

// TestOneScopeIsSerial lets many writers add to one number by read and write; none may be lost.
func TestOneScopeIsSerial(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "red", vpc("red", "main"))
	const writers, times = 8, 10
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range times {
				if err := increment(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	o, _ := s.View().Get(v1.KindVPC, "red", "main")
	if got := o.(*v1.VPC).Status.VNI; got != writers*times {
		t.Errorf("counted %d, want %d", got, writers*times)
	}
}

func increment(ctx context.Context, s *Store) error {
	_, err := s.Update(ctx, []string{"red"}, func(tx *Tx) error {
		o, ok := tx.Get(v1.KindVPC, "red", "main")
		if !ok {
			return errors.New("gone")
		}
		c := v1.Clone(o.(*v1.VPC))
		c.Status.VNI++
		tx.Put(c)
		return nil
	})
	return err
}

// TestTwoServersDoNotLoseWrites has two stores on one etcd write in the same scope: locks inside a process do not help.
func TestTwoServersDoNotLoseWrites(t *testing.T) {
	first := open(t, t.TempDir())
	second, err := Open(t.Context(), Config{Endpoints: first.members.endpoints(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	put(t, first, "red", vpc("red", "main"))
	if err := second.image.reached(t.Context(), first.View().Revision()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, s := range []*Store{first, second} {
		wg.Go(func() {
			for range 20 {
				if err := increment(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.image.reached(t.Context(), second.View().Revision()); err != nil {
		t.Fatal(err)
	}
	o, _ := first.View().Get(v1.KindVPC, "red", "main")
	if got := o.(*v1.VPC).Status.VNI; got != 40 {
		t.Errorf("counted %d, want 40", got)
	}
}

// TestManyScopesDrawFromOneCounter has more writers than there are tries: each number moves on under all the others.
func TestManyScopesDrawFromOneCounter(t *testing.T) {
	s := open(t, t.TempDir())
	var wg sync.WaitGroup
	for w := range 2 * tries {
		wg.Go(func() {
			scope := fmt.Sprint("t", w)
			_, err := s.Update(t.Context(), []string{scope}, func(tx *Tx) error {
				n, err := tx.Next("vni", 1, 1000)
				tx.Put(vpc(scope, fmt.Sprint("v", n)))
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.View().Count(v1.KindVPC); n != 2*tries {
		t.Errorf("%d VPCs, want %d", n, 2*tries)
	}
}

// TestSizeOfATransactionIsBounded writes the most that the API sends at once, and then more than etcd takes.
func TestSizeOfATransactionIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	write := func(scopes, objects int) error {
		var names []string
		for i := range scopes {
			names = append(names, fmt.Sprint("s", i))
		}
		_, err := s.Update(t.Context(), names, func(tx *Tx) error {
			for i := range objects {
				tx.Put(tenant(fmt.Sprint("t", i)))
			}
			return nil
		})
		return err
	}
	if err := write(201, 100); err != nil {
		t.Error(err)
	}
	if err := write(1, operationsMost); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many: error %v, want ErrTooLarge", err)
	}
	_, err := s.Update(t.Context(), []string{""}, func(tx *Tx) error {
		o := tenant("red")
		o.Labels = map[string]string{"x": strings.Repeat("x", requestBytes)}
		tx.Put(o)
		return nil
	})
	if !errors.Is(err, ErrTooLarge) {
		t.Errorf("too many bytes: error %v, want ErrTooLarge", err)
	}
}

func TestErrorWritesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	before := s.View().Revision()
	boom := errors.New("boom")
	_, err := s.Update(t.Context(), []string{"red"}, func(tx *Tx) error {
		tx.Put(vpc("red", "main"))
		if len(tx.List(v1.KindVPC, "red")) != 1 {
			t.Error("a transaction does not see its own write")
		}
		return boom
	})
	if !errors.Is(err, boom) || s.View().Revision() != before {
		t.Errorf("error %v, revision %d, was %d", err, s.View().Revision(), before)
	}
}

func TestCountersNeverGiveANumberTwice(t *testing.T) {
	dir := t.TempDir()
	seen := map[uint64]bool{}
	draw := func(s *Store, scope string) (n uint64) {
		_, err := s.Update(t.Context(), []string{scope}, func(tx *Tx) (err error) {
			n, err = tx.Next("vni", 4096, 1<<24-1)
			tx.Put(vpc(scope, fmt.Sprint("v", n)))
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return n
	}
	s, err := Open(t.Context(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for range 5 {
				n := draw(s, fmt.Sprint("t", w))
				mu.Lock()
				if seen[n] {
					t.Errorf("%d was given twice", n)
				}
				seen[n] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := draw(open(t, dir), "t0"); n != 4096+30 {
		t.Errorf("after a restart %d, want %d", n, 4096+30)
	}
	if _, err := (&Tx{view: s.View(), count: func() error { return nil }, counters: map[string]uint64{"x": 9}}).Next("x", 1, 9); !errors.Is(err, ErrUsedUp) {
		t.Errorf("error %v, want ErrUsedUp", err)
	}
}

func TestChangesAreCompleteAndResume(t *testing.T) {
	s := open(t, t.TempDir())
	since := s.View().Revision()
	put(t, s, "", tenant("red"))
	middle := put(t, s, "", tenant("blue"))
	put(t, s, "red", vpc("red", "main"))
	if _, err := s.Update(t.Context(), []string{"red"}, func(tx *Tx) error { tx.Delete(v1.KindVPC, "red", "main"); return nil }); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[int64]string{
		since:  "[ADDED tenant/red ADDED tenant/blue ADDED red/vpc/main DELETED red/vpc/main]",
		middle: "[ADDED red/vpc/main DELETED red/vpc/main]",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		ch, err := s.Changes(ctx, from)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range strings.Count(want, "ED ") {
			for _, e := range <-ch {
				o := e.Object
				if o == nil {
					o = e.Old
				}
				got = append(got, string(e.Type)+" "+v1.ID(o))
			}
		}
		cancel()
		if fmt.Sprint(got) != want {
			t.Errorf("from %d: %v, want %s", from, got, want)
		}
		for range ch { // ends with the context
		}
	}
	for _, since := range []int64{0, s.View().Revision() + 1} {
		if _, err := s.Changes(t.Context(), since); !errors.Is(err, ErrCompacted) {
			t.Errorf("from %d: error %v, want ErrCompacted", since, err)
		}
	}
}

func TestSlowReaderIsEndedAndHoldsNobodyUp(t *testing.T) {
	s := open(t, t.TempDir())
	ch, err := s.Changes(t.Context(), s.View().Revision())
	if err != nil {
		t.Fatal(err)
	}
	for i := range readerMost + 10 {
		s.image.mu.Lock()
		s.image.advance(s.image.revision+1, []Event{{Type: v1.EventAdded, Object: tenant(fmt.Sprint("t", i))}}, false)
		s.image.mu.Unlock()
	}
	n := 0
	for range ch {
		n++
	}
	if n != readerMost {
		t.Errorf("the reader got %d batches before its end, want %d", n, readerMost)
	}
}

// TestCompactionUnderTheWatch cuts the watch, compacts what came meanwhile, and wants the difference as events; who asked for each step is told to list.
func TestCompactionUnderTheWatch(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "", tenant("stays"), tenant("goes"))
	ch, err := s.Changes(t.Context(), s.View().Revision())
	if err != nil {
		t.Fatal(err)
	}
	lost := newImage(s.cfg.Log)
	lost.members = s.members
	if err := lost.list(t.Context()); err != nil {
		t.Fatal(err)
	}
	since := lost.revision
	old, err1 := lost.subscribe(t.Context(), since, false)
	each, err2 := lost.subscribe(t.Context(), since, true)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), []string{""}, func(tx *Tx) error {
		tx.Delete(v1.KindTenant, "", "goes")
		tx.Put(tenant("comes"))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rev := put(t, s, "", tenant("comes-too"))
	if _, err := s.members.clients[0].Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { lost.follow(ctx) })
	if err := lost.reached(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	cancel()
	wg.Wait()
	got := map[string]int{}
	for _, e := range <-old {
		got[string(e.Type)]++
	}
	if _, ok := <-each; ok {
		t.Error("who wants each step was told of the difference")
	}
	if _, err := lost.subscribe(t.Context(), since, true); !errors.Is(err, ErrCompacted) {
		t.Errorf("who wants each step, and begins before: %v", err)
	}
	if got["ADDED"] != 2 || got["DELETED"] != 1 || lost.current().Count(v1.KindTenant) != 3 {
		t.Errorf("events %v, %d tenants", got, lost.current().Count(v1.KindTenant))
	}
	<-ch
}

func TestUnreadableKeyHurtsNobodyElse(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.members.clients[0].Put(t.Context(), objectKey(v1.KindTenant, "", "bad"), "{"); err != nil {
		t.Fatal(err)
	}
	put(t, s, "", tenant("good"))
	if n := s.View().Count(v1.KindTenant); n != 1 {
		t.Errorf("%d tenants, want the good one", n)
	}
}

func TestStatus(t *testing.T) {
	s := open(t, t.TempDir())
	st, err := s.Status(t.Context())
	if err != nil || !st.Embedded || st.Members != 1 || st.Version == "" {
		t.Errorf("%+v, error %v", st, err)
	}
}

// TestKillLosesNoAcknowledgedWrite kills a process of its own in the middle of writes and reads what it had acknowledged.
func TestKillLosesNoAcknowledgedWrite(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_WRITER"); dir != "" {
		writeForever(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillLosesNoAcknowledgedWrite$")
	cmd.Env = append(os.Environ(), "STORE_TEST_WRITER="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "wrote "); ok {
			acknowledged = append(acknowledged, name)
		}
		if len(acknowledged) == 200 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // it was killed
	s := open(t, dir)
	for _, name := range acknowledged {
		if _, ok := s.View().Get(v1.KindTenant, "", name); !ok {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	if len(acknowledged) < 200 {
		t.Errorf("only %d writes were acknowledged", len(acknowledged))
	}
}

func writeForever(t *testing.T, dir string) {
	s := open(t, dir)
	for i := 0; ; i++ {
		name := fmt.Sprint("t", i)
		put(t, s, "", tenant(name))
		fmt.Println("wrote", name)
		time.Sleep(0)
	}
}

func TestRecordsAreNobodysResources(t *testing.T) {
	s := open(t, t.TempDir())
	changes, err := s.Changes(t.Context(), s.View().Revision())
	if err != nil {
		t.Fatal(err)
	}
	update := func(fn func(tx *Tx)) {
		t.Helper()
		if _, err := s.Update(t.Context(), []string{"records"}, func(tx *Tx) error { fn(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx *Tx) {
		tx.PutRecord("a/1", []byte("one"))
		tx.PutRecord("a/2", []byte("two"))
		tx.PutRecord("ab/3", []byte("three"))
		if got := tx.Record("a/1"); string(got) != "one" {
			t.Errorf("in the transaction: %q", got)
		}
	})
	if got := s.View().Records("a"); len(got) != 2 || string(got["1"]) != "one" || string(got["2"]) != "two" {
		t.Errorf("folder a: %q", got)
	}
	update(func(tx *Tx) {
		tx.DeleteRecord("a/1")
		tx.DeleteRecord("a/9")
		tx.Put(tenant("after"))
	})
	if got := s.View().Records("a"); len(got) != 1 || s.View().Record("a/1") != nil || string(s.View().Record("ab/3")) != "three" {
		t.Errorf("after a delete: %q", got)
	}
	for batch := range changes {
		if len(batch) > 0 {
			if len(batch) != 1 || batch[0].Object.Meta().Name != "after" {
				t.Errorf("watchers of resources hear of records: %+v", batch)
			}
			return
		}
	}
}
