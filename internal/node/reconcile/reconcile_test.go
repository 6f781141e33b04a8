// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// fake is a kernel table that counts writes and refuses the keys in broken.
type fake struct {
	have   map[int]string
	writes int
	broken map[int]bool
	unread bool
}

var errBroken = errors.New("no room")

func (f *fake) All() (map[int]string, error) {
	if f.unread {
		return nil, errBroken
	}
	return maps.Clone(f.have), nil
}

func (f *fake) Put(k int, v string) error {
	if f.broken[k] {
		return errBroken
	}
	f.writes++
	f.have[k] = v
	return nil
}

func (f *fake) Delete(k int) error {
	if f.broken[k] {
		return errBroken
	}
	f.writes++
	delete(f.have, k)
	return nil
}

func newFake(have map[int]string) *fake { return &fake{have: have, broken: map[int]bool{}} }

func TestFirstApplyPrunesAndKeepsWhatIsRight(t *testing.T) {
	f := newFake(map[int]string{1: "a", 2: "b", 3: "c"})
	tab := New("t", f)
	tab.Update(1, "a")
	tab.Update(2, "B")
	if err := tab.Apply(); err != nil {
		t.Fatal(err)
	}
	if want := map[int]string{1: "a", 2: "B"}; !maps.Equal(f.have, want) || f.writes != 2 {
		t.Errorf("have %v after %d writes, want %v after 2", f.have, f.writes, want)
	}
}

func TestNothingChangedWritesNothing(t *testing.T) {
	f := newFake(map[int]string{1: "a"})
	tab := New("t", f)
	for range 3 {
		tab.Reset()
		tab.Update(1, "a")
		tab.Rescan()
		if err := tab.Apply(); err != nil {
			t.Fatal(err)
		}
	}
	if f.writes != 0 {
		t.Errorf("%d writes, want 0", f.writes)
	}
}

func TestFailedEntryIsTriedAgainAndHoldsNothingElseUp(t *testing.T) {
	f := newFake(map[int]string{9: "old"})
	f.broken[1], f.broken[9] = true, true
	tab := New("t", f)
	tab.Update(1, "a")
	tab.Update(2, "b")
	err := tab.Apply()
	var entry *EntryError[int]
	if !errors.As(err, &entry) || !errors.Is(err, errBroken) {
		t.Fatalf("error %v, want an EntryError of %v", err, errBroken)
	}
	if f.have[2] != "b" {
		t.Error("entry 2 was held up by entry 1")
	}
	f.broken = nil
	if err := tab.Apply(); err != nil {
		t.Fatal(err)
	}
	if want := map[int]string{1: "a", 2: "b"}; !maps.Equal(f.have, want) {
		t.Errorf("have %v, want %v", f.have, want)
	}
}

func TestUnreadableTargetIsNotWritten(t *testing.T) {
	f := newFake(map[int]string{7: "x"})
	f.unread = true
	tab := New("t", f)
	tab.Update(1, "a")
	if err := tab.Apply(); err == nil || f.writes != 0 {
		t.Errorf("error %v, %d writes; want an error and no write", err, f.writes)
	}
}

func TestDriftIsMendedAfterRescan(t *testing.T) {
	f := newFake(map[int]string{})
	tab := New("t", f)
	tab.Update(1, "a")
	if err := tab.Apply(); err != nil {
		t.Fatal(err)
	}
	f.have = map[int]string{5: "alien"}
	tab.Rescan()
	if err := tab.Apply(); err != nil {
		t.Fatal(err)
	}
	if want := map[int]string{1: "a"}; !maps.Equal(f.have, want) {
		t.Errorf("have %v, want %v", f.have, want)
	}
}

// TestAnyHistoryEndsAtWhatIsWanted runs random calls, with failures and restarts, and compares at the end.
func TestAnyHistoryEndsAtWhatIsWanted(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := newFake(map[int]string{})
		tab, want := New("t", f), map[int]string{}
		for range 100 {
			k, v := r.IntN(8), string(rune('a'+r.IntN(3)))
			switch r.IntN(8) {
			case 0, 1, 2:
				tab.Update(k, v)
				want[k] = v
			case 3:
				tab.Delete(k)
				delete(want, k)
			case 4:
				f.broken[k] = !f.broken[k]
			case 5:
				_ = tab.Apply() // may fail: that is the point
			case 6:
				f.have[k] = "drift"
				tab.Rescan()
			case 7: // restart
				tab = New("t", f)
				for k, v := range want {
					tab.Update(k, v)
				}
			}
		}
		f.broken = nil
		if err := tab.Apply(); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(f.have, want) {
			t.Fatalf("seed %d: have %v, want %v", seed, f.have, want)
		}
	}
}

// Only what somebody else has changed is told, and only once the table had been what was wanted.
func TestDriftIsTold(t *testing.T) {
	f := newFake(map[int]string{9: "left by an earlier agent"})
	tab := New("t", f)
	var told []string
	tab.Tell(func(what string) { told = append(told, what) })
	apply := func() {
		t.Helper()
		if err := tab.Apply(); err != nil {
			t.Fatal(err)
		}
	}
	tab.Update(1, "a")
	tab.Update(2, "b")
	apply()
	tab.Update(3, "c") // ours to come
	tab.Rescan()
	apply()
	if len(told) != 0 {
		t.Errorf("told %v, and nobody has changed anything", told)
	}
	delete(f.have, 1)
	f.have[2], f.have[5] = "x", "y"
	tab.Rescan()
	apply()
	slices.Sort(told)
	if want := []string{"t 1 was missing", "t 2 was changed", "t 5 was not ours"}; !slices.Equal(told, want) {
		t.Errorf("told %v, want %v", told, want)
	}
}
