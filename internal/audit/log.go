// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"weft/internal/base/clock"
)

// Sizes of the log. A record has some 500 bytes.
const (
	fileMost  = 64 << 20 // bytes of a file; then another one is begun
	filesMost = 16       // files that are kept
	waitMost  = 10_000   // records that wait for a disk that takes nothing
)

// current is the file that is written; those before it are "audit-<first sequence>.log".
const current = "audit.log"

// Log is the log of one server. What is appended is on disk when Append returns.
type Log struct {
	dir  string
	log  *slog.Logger
	lock *os.File
	size int64 // at which another file is begun

	mu      sync.Mutex // guards below
	file    *os.File
	first   uint64 // sequence of the file's first record
	written int64  // bytes of whole records in the file
	last    Record
	waiting []byte // whole lines that the disk has not taken
	count   int    // of them
	syncing *sync.Cond
	synced  uint64 // sequence up to which all is on disk
	busy    bool   // somebody writes
	failed  error  // why the last write failed
}

// Open opens the log in dir, or begins it. A last line that was torn by the end of the process is cut off: nobody was answered for it. A
// log whose last records make no sense is an error: it is for people to look at.
func Open(dir string, log *slog.Logger) (*Log, error) {
	l := &Log{dir: dir, log: log, size: fileMost}
	l.syncing = sync.NewCond(&l.mu)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	var err error
	if l.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	if err := syscall.Flock(int(l.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		l.lock.Close()
		return nil, fmt.Errorf("open audit log: another process writes %s", dir)
	}
	if err := l.load(); err != nil {
		l.lock.Close()
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return l, nil
}

// load finds the end of the chain.
func (l *Log) load() error {
	l.last = Record{Hash: begin}
	path := filepath.Join(l.dir, current)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	l.file = f
	files, err := Files(l.dir)
	if err != nil {
		return err
	}
	end, err := l.lastOf(path)
	if err != nil {
		return err
	}
	if end == nil && len(files) > 1 { // it was just begun
		if end, err = l.lastOf(files[len(files)-2]); err != nil {
			return err
		}
		l.first = 0
	}
	if end != nil {
		l.last = *end
	}
	l.synced = l.last.Sequence
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := f.Seek(l.written, io.SeekStart); err != nil {
		return err
	}
	if torn := info.Size() - l.written; torn > 0 {
		l.log.Warn("the audit log's last line was not whole, and is cut off: the server was killed as it wrote it", "bytes", torn)
		return errors.Join(f.Truncate(l.written), f.Sync())
	}
	return nil
}

// lastOf returns the last whole record of a file, nil if it has none. Of the current file it notes the first one, and how far they reach.
func (l *Log) lastOf(path string) (*Record, error) {
	var last *Record
	var reached int64
	err := scan(path, func(line []byte, torn bool) error {
		if torn {
			return nil
		}
		r, err := open(line)
		if err != nil {
			return fmt.Errorf("%s: %w; 'weft audit verify' tells more. Move the folder away to begin another log", path, err)
		}
		if last == nil && filepath.Base(path) == current {
			l.first = r.Sequence
		}
		last, reached = &r, reached+int64(len(line))+1
		return nil
	})
	if filepath.Base(path) == current {
		l.written = reached
	}
	return last, err
}

// scan calls do with each line of a file; torn is one without a line feed.
func scan(path string, do func(line []byte, torn bool) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<16)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		torn := line[len(line)-1] != '\n'
		if !torn {
			line = line[:len(line)-1]
		}
		if err := do(line, torn); err != nil {
			return err
		}
	}
}

// Files returns the files of a log, the oldest first.
func Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); strings.HasPrefix(name, "audit-") && strings.HasSuffix(name, ".log") {
			names = append(names, filepath.Join(dir, name))
		}
	}
	slices.Sort(names) // the number has 20 digits
	if _, err := os.Stat(filepath.Join(dir, current)); !errors.Is(err, fs.ErrNotExist) {
		names = append(names, filepath.Join(dir, current))
	}
	return names, nil
}

// Last returns the last record; its Sequence is 0 where there is none.
func (l *Log) Last() Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Ready reports with an error that the disk does not take records: then nothing is to be done that has to be recorded.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil && !l.busy {
		l.flush() // it may work again
	}
	if l.failed != nil {
		return fmt.Errorf("the audit log cannot be written: %w", l.failed)
	}
	return nil
}

// Append numbers records, chains each to the one before, and returns when all are on disk; who appends meanwhile shares the next write. After
// an error the records are kept, and written as soon as the disk takes them.
func (l *Log) Append(records ...Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count >= waitMost {
		return fmt.Errorf("append to audit log: %d records wait already: %w", l.count, l.failed)
	}
	for _, r := range records {
		r.Sequence, r.Previous, r.Time = l.last.Sequence+1, l.last.Hash, clock.Now().UTC()
		line, err := seal(&r)
		if err != nil {
			return err
		}
		l.last = r
		l.waiting = append(l.waiting, line...)
		l.count++
	}
	for upTo := l.last.Sequence; l.synced < upTo; {
		if l.busy {
			l.syncing.Wait()
			continue
		}
		if l.flush(); l.failed != nil {
			return fmt.Errorf("append to audit log: %w", l.failed)
		}
	}
	return nil
}

// flush writes all that waits. The lock is given back meanwhile.
func (l *Log) flush() {
	l.busy = true
	data, upTo, count := l.waiting, l.last.Sequence, l.count
	l.waiting, l.count = nil, 0
	at := l.written
	l.mu.Unlock()
	_, err := l.file.WriteAt(data, at)
	if err == nil {
		err = l.file.Sync()
	}
	l.mu.Lock()
	l.busy, l.failed = false, err
	if err != nil {
		l.waiting, l.count = append(data, l.waiting...), l.count+count // over what was half-written
	} else {
		l.synced, l.written = upTo, at+int64(len(data))
		if l.first == 0 {
			l.first = upTo - uint64(count) + 1
		}
		if l.written >= l.size {
			if err := l.rotate(); err != nil {
				l.log.Error("begin another file of the audit log", "err", err)
			}
		}
	}
	l.syncing.Broadcast()
}

// rotate puts the file aside, begins another one, and removes those that are too many.
func (l *Log) rotate() error {
	aside := filepath.Join(l.dir, fmt.Sprintf("audit-%020d.log", l.first))
	if err := os.Rename(filepath.Join(l.dir, current), aside); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, current), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return errors.Join(err, os.Rename(aside, filepath.Join(l.dir, current)))
	}
	l.file.Close()
	l.file, l.written, l.first = f, 0, 0
	files, err := Files(l.dir)
	for ; len(files) > filesMost; files = files[1:] {
		l.log.Info("the oldest file of the audit log goes", "file", files[0])
		err = errors.Join(err, os.Remove(files[0]))
	}
	return err
}

// Close ends the writing.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.file.Close(), l.lock.Close())
}
