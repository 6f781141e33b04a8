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
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"google.golang.org/protobuf/proto"

	"weft/internal/southbound/pb"
)

// A Journal keeps a node's rows on disk, for an agent that starts while no server is reachable:
//
//	rows        "weft rows 1\n", then records: all rows there were, then each step since
//	rows.old    the generation before
//	rows.next   the generation that is being written
//
// A record is the length of what follows it (4 bytes, big-endian), its CRC-32C (4 bytes), and the rows as they come from
// the server. A step is written before it is put into effect, so what is whole on disk is never older than the kernel.
type Journal struct {
	dir    string
	file   *os.File // of this generation, at its end; nil: the next step begins a generation
	size   int64    // of the file
	whole  int64    // of its first record, with what is before it
	slack  int64    // journalSlack, but in tests
	broken error    // why what is on disk may be older than the kernel
}

const (
	journalTitle  = "weft rows "
	journalFormat = 1

	// A generation ends when its steps take more than this and twice its beginning, bytes.
	journalSlack = 1 << 20
	// recordMost is more than any record: a length above it is not one.
	recordMost = 1 << 30
)

// ErrJournalNewer says that the rows were written by a newer build in a form that this one does not know.
var ErrJournalNewer = errors.New("the rows on disk are of a newer build of weft")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Recalled is what a journal had.
type Recalled struct {
	Rows map[Key]Row
	// Whole says that nothing is missing. Otherwise the rows are of some time before the end, for a node that has nothing
	// better: one that was booted.
	Whole bool
}

// OpenJournal reads what the folder has. An error says what could not be read; what is returned beside it can be used as
// far as it goes, and the journal in any case.
func OpenJournal(dir string) (*Journal, Recalled, error) {
	j := &Journal{dir: dir, slack: journalSlack}
	rows, err := readGeneration(j.path("rows"))
	switch {
	case err == nil:
		return j, Recalled{rows, true}, nil
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(j.path("rows.old")); err != nil {
			return j, Recalled{}, nil // never any
		}
	case errors.Is(err, ErrJournalNewer), rows != nil:
		return j, Recalled{rows, false}, err
	}
	rows, olderErr := readGeneration(j.path("rows.old"))
	if errors.Is(olderErr, fs.ErrNotExist) {
		return j, Recalled{}, err
	}
	return j, Recalled{rows, false}, errors.Join(fmt.Errorf("%w; the generation before is taken", err), olderErr)
}

func (j *Journal) path(name string) string { return filepath.Join(j.dir, name) }

// Write adds a step; all is what the rows are with it. If it fails, what is on disk is marked as not whole, and the next
// call tries to write all rows.
func (j *Journal) Write(step Step, all map[Key]Row) error {
	err := j.write(step, all)
	if err == nil {
		j.broken = nil
		return nil
	}
	j.close()
	if j.broken == nil { // from here on the kernel is ahead: the file becomes a generation before
		if rerr := os.Rename(j.path("rows"), j.path("rows.old")); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	j.broken = fmt.Errorf("save rows: %w", err)
	return j.broken
}

// Broken returns why the rows on disk are not those in effect; nil: they are.
func (j *Journal) Broken() error { return j.broken }

// Close ends the writing.
func (j *Journal) Close() { j.close() }

func (j *Journal) close() {
	if j.file != nil {
		_ = j.file.Close() // what counts was written; a crash could have come here as well
		j.file = nil
	}
}

func (j *Journal) write(step Step, all map[Key]Row) error {
	if step.Snapshot || j.file == nil || j.size > j.slack+3*j.whole {
		return j.begin(Step{Epoch: step.Epoch, Revision: step.Revision, Snapshot: true}, all)
	}
	data, err := record(step)
	if err != nil {
		return err
	}
	n, err := j.file.Write(data)
	j.size += int64(n)
	return err
}

// begin writes a new generation in place of the present one.
func (j *Journal) begin(step Step, all map[Key]Row) error {
	j.close()
	step.Upserts = make([]Row, 0, len(all))
	for _, r := range all {
		step.Upserts = append(step.Upserts, r)
	}
	first, err := record(step)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path("rows.next"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	data := append(fmt.Appendf(nil, "%s%d\n", journalTitle, journalFormat), first...)
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), j.keepOld(), os.Rename(j.path("rows.next"), j.path("rows")), syncDir(j.dir)); err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size, j.whole = f, int64(len(data)), int64(len(data))
	return nil
}

// keepOld gives the present generation its second name, so that there is one under the first at any time.
func (j *Journal) keepOld() error {
	if _, err := os.Stat(j.path("rows")); err != nil {
		return nil // none to keep: the one before stays
	}
	if err := os.Remove(j.path("rows.old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(j.path("rows"), j.path("rows.old"))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func record(step Step) ([]byte, error) {
	m := &pb.Rows{Epoch: step.Epoch, Revision: step.Revision, Snapshot: step.Snapshot, Synced: true}
	for _, r := range step.Upserts {
		m.Upserts = append(m.Upserts, encodeRow(r))
	}
	for _, k := range step.Deletes {
		m.Deletes = append(m.Deletes, encodeKey(k))
	}
	data, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 0, 8+len(data)), uint32(len(data)))
	return append(binary.BigEndian.AppendUint32(out, crc32.Checksum(data, castagnoli)), data...), nil
}

// readGeneration reads a file as far as it is whole. Rows beside an error are those up to the damage; nil: not even the
// beginning can be read.
func readGeneration(file string) (map[Key]Row, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	in := bufio.NewReader(bytes.NewReader(data))
	title, err := in.ReadString('\n')
	var format int
	if _, serr := fmt.Sscanf(title, journalTitle+"%d\n", &format); err != nil || serr != nil || format < 1 {
		return nil, fmt.Errorf("%s holds no rows: it begins with %q", file, strings.ToValidUTF8(title[:min(len(title), 20)], "?"))
	}
	if format > journalFormat {
		return nil, fmt.Errorf("%w: %s has format %d, this build reads %d; it is left until a server sends rows", ErrJournalNewer, file, format, journalFormat)
	}
	var rows map[Key]Row
	for n := 1; ; n++ {
		step, err := readRecord(in)
		if errors.Is(err, io.EOF) && n > 1 {
			return rows, nil
		}
		if err == nil && step.Snapshot != (n == 1) {
			err = errors.New("out of order")
		}
		if err != nil {
			return rows, fmt.Errorf("record %d of %s is damaged: %w", n, file, err)
		}
		if rows == nil {
			rows = make(map[Key]Row, len(step.Upserts))
		}
		for _, k := range step.Deletes {
			delete(rows, k)
		}
		for _, r := range step.Upserts {
			rows[r.Key()] = r
		}
	}
}

// readRecord returns io.EOF at the very end only.
func readRecord(in *bufio.Reader) (Step, error) {
	var head [8]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return Step{}, err
	}
	length := binary.BigEndian.Uint32(head[:4])
	if length > recordMost {
		return Step{}, fmt.Errorf("length %d", length)
	}
	var data bytes.Buffer
	if _, err := io.CopyN(&data, in, int64(length)); err != nil {
		return Step{}, io.ErrUnexpectedEOF
	}
	if sum := crc32.Checksum(data.Bytes(), castagnoli); sum != binary.BigEndian.Uint32(head[4:]) {
		return Step{}, fmt.Errorf("checksum %08x, it should be %08x", sum, binary.BigEndian.Uint32(head[4:]))
	}
	var m pb.Rows
	if err := proto.Unmarshal(data.Bytes(), &m); err != nil {
		return Step{}, err
	}
	var step Step
	collect(&step, &m)
	if len(step.bad) > 0 {
		return Step{}, errors.New(step.bad[0].failure.Key + ": " + step.bad[0].failure.Message)
	}
	return step, nil
}
