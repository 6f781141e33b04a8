// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// listen is a service manager: it makes the socket and the environment, and hands out what it is told.
func listen(t *testing.T, name string, watchdog time.Duration) <-chan string {
	t.Helper()
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	told := make(chan string, 64)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			told <- string(buf[:n])
		}
	}()
	if name[0] == 0 {
		name = "@" + name[1:]
	}
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	return told
}

func expect(t *testing.T, told <-chan string, want string) {
	t.Helper()
	select {
	case got := <-told:
		if got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	case <-time.After(2 * time.Second):
		t.Fatalf("%q was not told", want)
	}
}

func TestManagerIsTold(t *testing.T) {
	for name, socket := range map[string]string{
		"file":     filepath.Join(t.TempDir(), "notify"),
		"abstract": "\x00weft-notify-test-" + strconv.Itoa(os.Getpid()),
	} {
		t.Run(name, func(t *testing.T) {
			told := listen(t, socket, time.Second)
			m := Find()
			if err := errors.Join(m.Ready("serves\n3 ports"), m.Stopping()); err != nil {
				t.Fatal(err)
			}
			expect(t, told, "READY=1\nSTATUS=serves 3 ports")
			expect(t, told, "STOPPING=1")
			if os.Getenv("NOTIFY_SOCKET")+os.Getenv("WATCHDOG_USEC")+os.Getenv("WATCHDOG_PID") != "" {
				t.Error("children would speak for this process")
			}
		})
	}
}

func TestWhoHangsIsNotAlive(t *testing.T) {
	told := listen(t, filepath.Join(t.TempDir(), "notify"), 40*time.Millisecond)
	var hangs atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	ended, refused := make(chan struct{}), make(chan struct{}, 64)
	go func() {
		defer close(ended)
		Find().Watch(ctx, func(ctx context.Context) error {
			if hangs.Load() {
				<-ctx.Done()
				refused <- struct{}{}
				return ctx.Err()
			}
			return nil
		})
	}()
	expect(t, told, "WATCHDOG=1")
	expect(t, told, "WATCHDOG=1")
	hangs.Store(true)
	<-refused // what was told before this is out
	for len(told) > 0 {
		<-told
	}
	<-refused
	if len(told) > 0 {
		t.Error("a process that hangs says that it is alive")
	}
	hangs.Store(false)
	expect(t, told, "WATCHDOG=1")
	cancel()
	<-ended
}

func TestNobodyListens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	m := Find()
	if m.Listens() || m.Ready("") != nil || m.Stopping() != nil {
		t.Error("something is told to nobody")
	}
	m.Watch(t.Context(), func(context.Context) error { t.Error("somebody asks"); return nil }) // returns at once
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := Find().Ready(""); err == nil {
		t.Error("a manager that is gone was told")
	}
}

func TestWatchdogOfAnotherProcess(t *testing.T) {
	listen(t, filepath.Join(t.TempDir(), "notify"), time.Second)
	t.Setenv("WATCHDOG_PID", "1")
	if m := Find(); m.every != 0 {
		t.Errorf("the watchdog of another process is ours: %v", m.every)
	}
}
