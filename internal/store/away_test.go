// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/base/privtest"
)

// etcdProcess runs an etcd in a process of its own until it is killed.
func etcdProcess(t *testing.T, dir string) (endpoint string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestEtcdThatIsAway$")
	cmd.Env = append(os.Environ(), "STORE_TEST_ETCD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill() // it may be dead already
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if at, ok := strings.CutPrefix(lines.Text(), "etcd at "); ok {
			return at, kill
		}
	}
	t.Fatal("etcd did not start")
	return "", nil
}

// TestEtcdThatIsAway kills an external etcd under a store, and starts it again: what was read can be read, writes are refused
// within the bound, and everything goes on by itself, the changes too.
func TestEtcdThatIsAway(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_ETCD"); dir != "" {
		_, endpoint, err := startEmbedded(t.Context(), Config{Dir: dir, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("etcd at", endpoint)
		select {}
	}
	dir := t.TempDir()
	endpoint, kill := etcdProcess(t, dir)
	s, err := Open(t.Context(), Config{Endpoints: []string{endpoint}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	put(t, s, "", tenant("before"))
	changes, err := s.Changes(t.Context(), s.View().Revision())
	if err != nil {
		t.Fatal(err)
	}
	kill()
	asked := time.Now()
	write := func(name string) error {
		_, err := s.Update(t.Context(), []string{""}, func(tx *Tx) error { tx.Put(tenant(name)); return nil })
		return err
	}
	if err := write("lost"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a write while etcd is away: %v", err)
	}
	if took := time.Since(asked); took > writeWithin+time.Second {
		t.Errorf("refused after %s", took)
	}
	asked = time.Now()
	for range 20 {
		if err := write("lost"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("a further write while etcd is away: %v", err)
		}
	}
	if took := time.Since(asked); took > writeWithin {
		t.Errorf("20 writes were refused within %s, as if each had to wait", took)
	}
	if _, ok := s.View().Get(v1.KindTenant, "", "before"); !ok {
		t.Error("what was there cannot be read")
	}
	etcdProcess(t, dir)
	back := time.Now()
	for deadline := back.Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = write("after"); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		t.Fatalf("etcd is back, and writes are refused: %v", err)
	}
	t.Logf("writes again %s after etcd's start", time.Since(back).Round(time.Millisecond))
	for deadline := time.After(5 * time.Second); ; {
		select {
		case batch, ok := <-changes:
			if !ok {
				t.Fatal("the changes ended")
			}
			for _, e := range batch {
				if e.Object != nil && e.Object.Meta().Name == "after" {
					return
				}
			}
		case <-deadline:
			t.Fatal("the change was not told")
		}
	}
}

// TestFullDisk fills the file system of the embedded etcd under writes, and makes room again.
func TestFullDisk(t *testing.T) {
	privtest.Require(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=320m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	state := filepath.Join(dir, "etcd")
	s, err := Open(t.Context(), Config{Dir: state, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "", tenant("before"))

	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(chunk) // to the last byte
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	before := s.View().Revision()
	for i := range 20 {
		_, err := s.Update(t.Context(), []string{""}, func(tx *Tx) error { tx.Put(tenant(fmt.Sprint("t", i))); return nil })
		if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "MiB left") {
			t.Fatalf("a write to a full disk: %v", err)
		}
	}
	if s.View().Revision() != before {
		t.Error("something was written")
	}
	if _, err := s.Status(t.Context()); err != nil {
		t.Errorf("reading from a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	put(t, s, "", tenant("after"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(t.Context(), Config{Dir: state, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	for name, want := range map[string]bool{"before": true, "t0": false, "after": true} {
		if _, ok := again.View().Get(v1.KindTenant, "", name); ok != want {
			t.Errorf("tenant %s is there: %v", name, ok)
		}
	}
}
