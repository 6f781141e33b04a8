// SPDX-License-Identifier: Apache-2.0

// Package audit keeps the log of who did what: a chain of records on disk, each of which names the hash of the one before, so that nobody
// changes, removes or adds one unseen.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Record is one line of the log.
type Record struct {
	Sequence  uint64    `json:"sequence"` // 1, 2, 3 …
	Time      time.Time `json:"time"`
	Previous  string    `json:"previous"`  // hash of the record before; of the first one zeros
	Principal string    `json:"principal"` // "admin", "token:ID", "user:NAME", "node:NAME", "server", or "" for nobody known
	From      string    `json:"from,omitempty"`
	Operation string    `json:"operation"` // "apply", "delete", "claim" …
	Tenant    string    `json:"tenant,omitempty"`
	Object    string    `json:"object,omitempty"`
	Outcome   string    `json:"outcome"`            // "created", "done" …, or a code of an error
	Failed    bool      `json:"failed,omitempty"`   // Outcome is a code
	Revision  int64     `json:"revision,omitempty"` // of the store, after it
	Request   string    `json:"request,omitempty"`
	Detail    any       `json:"detail,omitempty"`
	Hash      string    `json:"hash,omitempty"` // of all before it in the line
}

// begin is what the first record names as the hash before it.
var begin = hex.EncodeToString(make([]byte, sha256.Size))

// hashField begins what stands behind the bytes that are hashed.
const hashField = `,"hash":"`

// hashTail is how long that is: the field, 64 digits, a quote and a brace.
const hashTail = len(hashField) + 2*sha256.Size + len(`"}`)

// seal writes a record as a line, with its hash: SHA-256 of the line up to it.
func seal(r *Record) ([]byte, error) {
	r.Hash = ""
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode audit record: %w", err)
	}
	text = text[:len(text)-1] // the brace
	r.Hash = hashOf(text)
	text = append(text, hashField...)
	text = append(text, r.Hash...)
	return append(text, '"', '}', '\n'), nil
}

func hashOf(text []byte) string {
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:])
}

// Errors of a line.
var (
	ErrBroken = errors.New("the chain is broken")
	errTorn   = errors.New("the line is not whole")
)

// open reads a line without its line feed, and checks its own hash.
func open(line []byte) (Record, error) {
	var r Record
	if len(line) < hashTail || !bytes.HasPrefix(line[len(line)-hashTail:], []byte(hashField)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return r, errTorn
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, fmt.Errorf("%w: %v", errTorn, err)
	}
	if got := hashOf(line[:len(line)-hashTail]); got != r.Hash {
		return r, fmt.Errorf("%w: record %d was changed: its hash is %s…, not %s…", ErrBroken, r.Sequence, got[:8], r.Hash[:min(8, len(r.Hash))])
	}
	return r, nil
}

// follows reports with an error that a record is not the next one after another.
func (r Record) follows(before Record) error {
	switch {
	case r.Sequence != before.Sequence+1:
		return fmt.Errorf("%w: record %d stands behind record %d: what is between was removed, or was put elsewhere", ErrBroken, r.Sequence, before.Sequence)
	case r.Previous != before.Hash:
		return fmt.Errorf("%w: record %d does not follow record %d as it is here", ErrBroken, r.Sequence, before.Sequence)
	}
	return nil
}
