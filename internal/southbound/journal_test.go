// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// world is rows, and the steps that made them.
type world struct {
	random *rand.Rand
	rows   map[Key]Row
	steps  uint64
}

func newWorld() *world {
	return &world{random: rand.New(rand.NewPCG(1, 2)), rows: map[Key]Row{}}
}

// step changes some rows.
func (w *world) step(snapshot bool) Step {
	w.steps++
	s := Step{Epoch: "e", Revision: w.steps, Snapshot: snapshot}
	if snapshot {
		clear(w.rows)
	}
	for range 1 + w.random.IntN(5) {
		r := Location{
			VNI: 1 + uint32(w.random.IntN(3)), Address: netip.AddrFrom4([4]byte{10, 0, 0, byte(w.random.IntN(20))}),
			Node: uint16(w.random.IntN(9)), MAC: MAC{2, 0, 0, 0, 0, byte(w.random.IntN(9))},
		}
		if _, ok := w.rows[r.Key()]; ok && !snapshot && len(s.Upserts) == 0 && w.random.IntN(2) == 0 {
			s.Deletes = append(s.Deletes, r.Key())
			delete(w.rows, r.Key())
			return s
		}
		s.Upserts = append(s.Upserts, r)
		w.rows[r.Key()] = r
	}
	return s
}

func sameRows(a, b map[Key]Row) bool { return maps.EqualFunc(a, b, Row.Equal) }

func mustRecall(t *testing.T, dir string) (*Journal, Recalled) {
	t.Helper()
	j, r, err := OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j, r
}

func TestJournalHasEveryStep(t *testing.T) {
	dir, w := t.TempDir(), newWorld()
	j, r := mustRecall(t, dir)
	if len(r.Rows) != 0 {
		t.Errorf("an empty folder has %v", r.Rows)
	}
	for i := range 500 {
		if err := j.Write(w.step(i%100 == 0), w.rows); err != nil {
			t.Fatal(err)
		}
		if i%7 != 0 {
			continue
		}
		if _, r = mustRecall(t, dir); !r.Whole || !sameRows(r.Rows, w.rows) { // as after a kill
			t.Fatalf("after step %d: %d rows, want %d", i, len(r.Rows), len(w.rows))
		}
	}
}

func TestJournalHasEveryKindOfRow(t *testing.T) {
	dir, rows := t.TempDir(), map[Key]Row{}
	for _, r := range everyRow() {
		rows[r.Key()] = r
	}
	j, _ := mustRecall(t, dir)
	if err := j.Write(Step{Snapshot: true}, rows); err != nil {
		t.Fatal(err)
	}
	if _, r := mustRecall(t, dir); !r.Whole || !sameRows(r.Rows, rows) {
		t.Errorf("%v", r.Rows)
	}
}

func TestJournalStaysSmall(t *testing.T) {
	dir, w := t.TempDir(), newWorld()
	j, _ := mustRecall(t, dir)
	j.slack = 20_000
	written := 0
	for written < 6*20_000 {
		s := w.step(false)
		if err := j.Write(s, w.rows); err != nil {
			t.Fatal(err)
		}
		data, err := record(s)
		if err != nil {
			t.Fatal(err)
		}
		written += len(data)
	}
	info, err := os.Stat(filepath.Join(dir, "rows"))
	if err != nil || info.Size() > 2*20_000 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	if _, r := mustRecall(t, dir); !sameRows(r.Rows, w.rows) {
		t.Error("rows were lost on the way")
	}
}

// damaged is a folder with two generations of rows, and what there was after each record.
func damaged(t *testing.T) (dir string, states []map[Key]Row, previous map[Key]Row) {
	t.Helper()
	dir = t.TempDir()
	w := newWorld()
	j, _ := mustRecall(t, dir)
	for i := range 8 {
		if i == 4 {
			previous = maps.Clone(w.rows)
			states = nil
		}
		if err := j.Write(w.step(i%4 == 0), w.rows); err != nil {
			t.Fatal(err)
		}
		states = append(states, maps.Clone(w.rows))
	}
	return dir, states, previous
}

// However a file is damaged, what is recalled is the rows of some moment, never a mixture, and it says that it may be old.
func TestDamagedJournalIsNeverAMixture(t *testing.T) {
	dir, states, previous := damaged(t)
	file := filepath.Join(dir, "rows")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known := func(rows map[Key]Row) bool {
		for _, s := range append(states, previous) {
			if sameRows(rows, s) {
				return true
			}
		}
		return false
	}
	fellBack := 0
	try := func(what string, data []byte, boundary bool) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		j, r, err := OpenJournal(dir)
		j.Close()
		if boundary {
			return // an end between two records cannot be seen
		}
		if err == nil || r.Whole || !known(r.Rows) {
			t.Errorf("%s: %d rows, whole %t, error %v", what, len(r.Rows), r.Whole, err)
		}
		if sameRows(r.Rows, previous) && strings.Contains(err.Error(), "the generation before is taken") {
			fellBack++
		}
	}
	ends := map[int]bool{}
	at := len(journalTitle) + 2
	for at < len(good) {
		at += 8 + int(good[at])<<24 + int(good[at+1])<<16 + int(good[at+2])<<8 + int(good[at+3])
		ends[at] = true
	}
	for n := range good {
		try(fmt.Sprintf("cut at %d", n), good[:n], ends[n])
		if n >= len(journalTitle) { // a digit of the format may become another one
			bad := append([]byte(nil), good...)
			bad[n] ^= 0x40
			try(fmt.Sprintf("byte %d changed", n), bad, false)
		}
	}
	if fellBack == 0 {
		t.Error("the generation before was never taken")
	}
	if err := os.WriteFile(filepath.Join(dir, "rows.old"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	try0, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, try0[:4], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, r, err := OpenJournal(dir); err == nil || len(r.Rows) != 0 || r.Whole {
		t.Errorf("of two damaged generations: %d rows, whole %t, error %v", len(r.Rows), r.Whole, err)
	}
}

func TestNewerJournalIsRefusedAndReplaced(t *testing.T) {
	dir, _, _ := damaged(t)
	newer := []byte(journalTitle + "2\nwhat only that build knows")
	if err := os.WriteFile(filepath.Join(dir, "rows"), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	j, r, err := OpenJournal(dir)
	if !errors.Is(err, ErrJournalNewer) || len(r.Rows) != 0 || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("%d rows, error %v", len(r.Rows), err)
	}
	w := newWorld()
	if err := j.Write(w.step(true), w.rows); err != nil {
		t.Fatal(err)
	}
	j.Close()
	if _, r := mustRecall(t, dir); !r.Whole || !sameRows(r.Rows, w.rows) {
		t.Error("rows that a server sent did not take its place")
	}
}

// Rows that could not be written make what is on disk older than the kernel.
func TestJournalThatMissedAStepIsNotWhole(t *testing.T) {
	dir, w := t.TempDir(), newWorld()
	j, _ := mustRecall(t, dir)
	if err := j.Write(w.step(true), w.rows); err != nil {
		t.Fatal(err)
	}
	before := maps.Clone(w.rows)
	if err := j.file.Close(); err != nil { // the disk fails
		t.Fatal(err)
	}
	if err := j.Write(w.step(false), w.rows); err == nil || j.Broken() == nil {
		t.Fatal("a step that was not written is no error")
	}
	if _, r, err := OpenJournal(dir); err == nil || r.Whole || !sameRows(r.Rows, before) {
		t.Errorf("%d rows, whole %t, error %v", len(r.Rows), r.Whole, err)
	}
	if err := j.Write(w.step(false), w.rows); err != nil || j.Broken() != nil {
		t.Fatal(err)
	}
	if _, r := mustRecall(t, dir); !r.Whole || !sameRows(r.Rows, w.rows) {
		t.Error("the next step did not save all rows")
	}
}

func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	w := newWorld()
	j, _, err := OpenJournal(dir)
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if err := j.Write(w.step(i == 0), w.rows); err != nil {
			f.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "rows"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(journalTitle + "2\n"))
	file := filepath.Join(dir, "fuzzed")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if rows, err := readGeneration(file); err == nil && rows == nil {
			t.Error("neither rows nor an error")
		}
	})
}

// FuzzRecord: a record whose checksum is right is refused, or says the same when it is written again; one whose checksum is
// wrong is refused.
func FuzzRecord(f *testing.F) {
	w := newWorld()
	for i := range 3 {
		data, err := record(w.step(i == 0))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data[8:])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		whole := slices.Concat(binary.BigEndian.AppendUint32(head, crc32.Checksum(data, castagnoli)), data)
		if len(data) > 0 {
			broken := slices.Clone(whole)
			broken[8+len(data)/2] ^= 1
			if step, err := readRecord(bufio.NewReader(bytes.NewReader(broken))); err == nil {
				t.Errorf("a broken record was read: %v", step)
			}
			if _, err := readRecord(bufio.NewReader(bytes.NewReader(whole[:len(whole)-1]))); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a record that was cut off: %v", err)
			}
		}
		step, err := readRecord(bufio.NewReader(bytes.NewReader(whole)))
		if err != nil {
			return
		}
		written, err := record(step)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readRecord(bufio.NewReader(bytes.NewReader(written)))
		if err != nil {
			t.Fatalf("%v was written and cannot be read: %v", step, err)
		}
		if twice, err := record(again); err != nil || !bytes.Equal(twice, written) {
			t.Errorf("%v came back as %v, error %v", step, again, err)
		}
	})
}
