// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"weft/internal/base/privtest"
	"weft/internal/node/kernel/device"
)

const (
	port   = 4789
	other  = 3784
	nobody = 65534
)

// inNamespace runs f in a network namespace of its own.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	privtest.Require(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// pins is a folder for pins that is gone after the test.
func pins(t *testing.T) string {
	t.Helper()
	dir := filepath.Join("/sys/fs/bpf/weft-test", fmt.Sprintf("guard-%d", os.Getpid()))
	t.Cleanup(func() {
		os.RemoveAll(dir)
		os.Remove(filepath.Dir(dir))
	})
	return dir
}

// send tries each way to name an addressee, as a user, and sees whether it is refused. The namespace has no route, so what
// is let through fails otherwise.
func send(user, port int, refused bool) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(user), uintptr(user), ^uintptr(0)); errno != 0 {
		return errno
	}
	defer unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, ^uintptr(0))
	to4 := &unix.SockaddrInet4{Port: port, Addr: [4]byte{198, 19, 0, 2}}
	to6 := &unix.SockaddrInet6{Port: port, Addr: [16]byte{0xfd, 15: 2}}
	mapped := &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 198, 13: 19, 15: 2}}
	for i, to := range []unix.Sockaddr{to4, to6, mapped} {
		family := unix.AF_INET6
		if i == 0 {
			family = unix.AF_INET
		}
		fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Sendto(fd, []byte("x"), 0, to); errors.Is(err, unix.EPERM) != refused {
			return fmt.Errorf("user %d sends to %+v: %w, want refused %v", user, to, err, refused)
		}
		if err := unix.Connect(fd, to); errors.Is(err, unix.EPERM) != refused {
			return fmt.Errorf("user %d connects to %+v: %w, want refused %v", user, to, err, refused)
		}
	}
	return nil
}

// Moby's overlay took a VXLAN packet of any process on a host for one of the host (CVE-2026-92542 among others).
func TestCVE_2026_92542_ProcessesDoNotSpeakAsTheNode(t *testing.T) {
	dir := pins(t)
	inNamespace(t, func() error {
		if err := send(nobody, port, false); err != nil {
			return fmt.Errorf("before: %w", err)
		}
		if err := Keep(dir, port, other); err != nil {
			return err
		}
		before := device.Writes()
		if err := Keep(dir, port, other); err != nil || device.Writes() != before {
			return fmt.Errorf("the second time writes %d: %w", device.Writes()-before, err)
		}
		return errors.Join(send(nobody, port, true), send(nobody, other, true), send(0, port, false), send(nobody, port+1, false))
	})
	inNamespace(t, func() error { return send(nobody, port, false) }) // another machine
}

// What was left for another namespace of the node's goes, and only that.
func TestGuardOfAnotherNamespaceGoes(t *testing.T) {
	dir := pins(t)
	for range 2 {
		inNamespace(t, func() error {
			if err := Keep(dir, port, other); err != nil {
				return err
			}
			left, err := os.ReadDir(dir)
			if err == nil && len(left) != len(hooks) {
				err = fmt.Errorf("%d pins, want %d", len(left), len(hooks))
			}
			return errors.Join(err, send(nobody, port, true))
		})
	}
}
