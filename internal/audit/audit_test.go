// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func newLog(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func write(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Append(Record{Principal: "admin", Operation: "apply", Tenant: []string{"red", "blue"}[i%2], Object: fmt.Sprintf("port/p-%d", i), Outcome: "created", Detail: map[string]any{"spec": "<&>\u2028"}}); err != nil {
			t.Fatal(err)
		}
	}
}

func verify(t *testing.T, dir string) (*Verdict, error) {
	t.Helper()
	files, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	return Verify(files...)
}

func TestChainGoesOnAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		l := newLog(t, dir)
		write(t, l, 5)
		if _, err := Open(dir, slog.New(slog.DiscardHandler)); err == nil {
			t.Error("two write one log")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	v, err := verify(t, dir)
	if err != nil || v.Records != 15 || v.From != 1 || v.To != 15 || v.Torn {
		t.Errorf("%+v, %v", v, err)
	}
}

// Any byte that is changed, any line that is taken away, put elsewhere or added is found.
func TestEveryChangeIsFound(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir)
	write(t, l, 6)
	path := filepath.Join(dir, current)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(good, []byte("\n"))
	lines = lines[:len(lines)-1]
	try := func(what string, data []byte) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "x.log")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if v, err := Verify(file); !errors.Is(err, ErrBroken) || v.Broken == "" {
			t.Errorf("%s: %+v, %v", what, v, err)
		}
	}
	for i := range len(good) - 1 { // without the last line feed, the last line is torn, which is not the chain's fault
		for _, b := range []byte{good[i] ^ 1, good[i] ^ 0x20, '\n'} {
			if b == good[i] {
				continue
			}
			changed := bytes.Clone(good)
			changed[i] = b
			if i > len(good)-len(lines[5])-1 && b == '\n' {
				continue // the last line alone is torn
			}
			try(fmt.Sprintf("byte %d", i), changed)
		}
	}
	for i := range len(lines) - 1 {
		if i > 0 {
			try(fmt.Sprintf("line %d away", i), bytes.Join(append(append([][]byte{}, lines[:i]...), lines[i+1:]...), nil))
		}
		swapped := append([][]byte{}, lines...)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		try(fmt.Sprintf("line %d swapped", i), bytes.Join(swapped, nil))
		try(fmt.Sprintf("line %d twice", i), bytes.Join(append(append(append([][]byte{}, lines[:i+1]...), lines[i]), lines[i+1:]...), nil))
	}
	try("something else", append(bytes.Clone(good), "{}\n"...))
	try("an empty line", append(bytes.Clone(good), '\n'))
	if v, err := Verify(path); err != nil || v.Head != l.Last().Hash {
		t.Errorf("as it is: %+v, %v", v, err)
	}
}

func TestTornLineIsCutOff(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir)
	write(t, l, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, current)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	second := bytes.IndexByte(whole, '\n') + 1
	third := second + bytes.IndexByte(whole[second:], '\n') + 1
	for cut := third; cut < len(whole); cut += 7 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := newLog(t, dir)
		if l.Last().Sequence != 2 {
			t.Fatalf("cut at %d: the last is %d", cut, l.Last().Sequence)
		}
		write(t, l, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if v, err := verify(t, dir); err != nil || v.Records != 3 {
			t.Errorf("cut at %d: %+v, %v", cut, v, err)
		}
	}
	if err := os.WriteFile(path, bytes.Replace(whole, []byte("admin"), []byte("nobod"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, slog.New(slog.DiscardHandler)); !errors.Is(err, ErrBroken) {
		t.Errorf("a changed log is gone on with: %v", err)
	}
}

func TestFilesAreBegunAndTheOldestGo(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir)
	l.size = 2_000
	write(t, l, 40)
	if v, err := verify(t, dir); err != nil || v.Records != 40 {
		t.Fatalf("%+v, %v", v, err)
	}
	write(t, l, 400)
	files, err := Files(dir)
	if err != nil || len(files) > filesMost+1 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	v, err := verify(t, dir)
	if err != nil || v.To != 440 || v.From < 2 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := Verify(append(files[:1:1], files[2:]...)...); !errors.Is(err, ErrBroken) {
		t.Errorf("a file away: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, newLog(t, dir), 1)
	if v, err := verify(t, dir); err != nil || v.To != 441 {
		t.Errorf("opened again: %+v, %v", v, err)
	}
}

func TestManyWritersShareWrites(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir)
	var all sync.WaitGroup
	began := time.Now()
	for range 50 {
		all.Go(func() {
			for range 40 {
				if err := l.Append(Record{Operation: "apply", Outcome: "created"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%.0f records/s", 2000/time.Since(began).Seconds())
	if v, err := verify(t, dir); err != nil || v.Records != 2000 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A disk that takes nothing loses no record: they are written when it does again.
func TestDiskThatTakesNothing(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir)
	write(t, l, 2)
	good := l.file
	var err error
	if l.file, err = os.Open(filepath.Join(dir, current)); err != nil { // cannot be written
		t.Fatal(err)
	}
	for range 3 {
		if err := l.Append(Record{Operation: "apply", Outcome: "created"}); err == nil {
			t.Error("it says that it was written")
		}
	}
	if l.Ready() == nil {
		t.Error("it is ready")
	}
	l.file.Close()
	l.file = good
	if err := l.Ready(); err != nil {
		t.Errorf("the disk is back: %v", err)
	}
	if v, err := verify(t, dir); err != nil || v.Records != 5 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestReadFilters(t *testing.T) {
	dir := t.TempDir()
	l := newLog(t, dir)
	l.size = 3_000
	write(t, l, 40)
	if err := l.Append(Record{Principal: "token:x", Operation: "delete", Tenant: "red", Object: "port/p-1", Outcome: "FORBIDDEN", Failed: true}); err != nil {
		t.Fatal(err)
	}
	all, err := Read(dir, Filter{})
	if err != nil || len(all) != 41 {
		t.Fatalf("%d, %v", len(all), err)
	}
	for name, test := range map[string]struct {
		filter Filter
		want   int
	}{
		"tenant":    {Filter{Tenant: "red"}, 21},
		"principal": {Filter{Principal: "token:x"}, 1},
		"failed":    {Filter{Failed: true}, 1},
		"object":    {Filter{Object: "port/p-1"}, 2},
		"begins":    {Filter{Object: "port/p-1*"}, 12},
		"operation": {Filter{Operation: "apply", Tenant: "blue"}, 20},
		"limit":     {Filter{Limit: 7}, 7},
		"after":     {Filter{After: 38}, 3},
		"after_all": {Filter{After: 41}, 0},
		"since":     {Filter{Since: all[40].Time}, 1},
		"until":     {Filter{Until: all[0].Time}, 0},
		"between":   {Filter{Since: all[10].Time, Until: all[12].Time}, 2},
	} {
		got, err := Read(dir, test.filter)
		if err != nil || len(got) != test.want {
			t.Errorf("%s: %d, want %d, %v", name, len(got), test.want, err)
		}
		for i := 1; i < len(got); i++ {
			if got[i].Sequence <= got[i-1].Sequence {
				t.Errorf("%s: %d behind %d", name, got[i].Sequence, got[i-1].Sequence)
			}
		}
	}
}

// FuzzVerify: whatever is in a file, it is judged without a crash, and what is found good was sealed.
func FuzzVerify(f *testing.F) {
	first := Record{Sequence: 1, Previous: begin, Operation: "start", Outcome: "done"}
	line, err := seal(&first)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte("{}\n"))
	f.Add(append(bytes.Clone(line), line...))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x.log")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := Verify(path)
		if (err == nil) != (v.Broken == "") {
			t.Errorf("%+v, %v", v, err)
		}
		if err == nil && uint64(bytes.Count(data, []byte("\n"))) != v.Records {
			t.Errorf("%d lines, %d records", bytes.Count(data, []byte("\n")), v.Records)
		}
		if _, err := Read(filepath.Dir(path), Filter{}); err != nil {
			t.Error(err)
		}
	})
}
