// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"testing"
	"time"
)

func TestLockIsOnesAtATime(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("locked twice: %v", err)
	}
	time.AfterFunc(100*time.Millisecond, unlock) // as a child of one that was killed does
	again, err := lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
