// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces that have names, and works inside them, leaving no thread in the wrong one.
//
// A name is a file below Dir on which the namespace is mounted, so that 'ip netns' and this package see the same ones.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Dir holds one file for each namespace that has a name.
const Dir = "/run/netns"

// nsfs is the kernel's number for the file system of namespaces (NSFS_MAGIC).
const nsfs = 0x6e736673

var (
	// ErrName says that a name cannot be a file name.
	ErrName = errors.New("not a name for a namespace")
	// ErrNotFound says that no namespace has the name.
	ErrNotFound = errors.New("no such network namespace")
)

// Path returns the file of the namespace name.
func Path(name string) string { return filepath.Join(Dir, name) }

// Exists says whether name is a namespace, not only a file that one was mounted on.
func Exists(name string) bool {
	var st unix.Statfs_t
	return checkName(name) == nil && unix.Statfs(Path(name), &st) == nil && st.Type == nsfs
}

// List returns the names of all namespaces, sorted.
func List() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if Exists(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Create makes a namespace with its loopback device up. One that exists is left as it is.
func Create(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if Exists(name) {
		return nil
	}
	if err := shareDir(); err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	f, err := os.OpenFile(Path(name), os.O_RDONLY|os.O_CREATE, 0o444)
	if err != nil {
		return fmt.Errorf("create namespace %s: %w", name, err)
	}
	f.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", Path(name), "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(fmt.Errorf("create namespace %s: %w", name, err), os.Remove(Path(name)))
	}
	ns, err := Open(name)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.SetUp("lo")
}

// Delete takes the name away; absent is fine. The namespace itself, with its devices, ends with its last process.
func Delete(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for { // a crash between two creations may have mounted twice
		err := unix.Unmount(Path(name), unix.MNT_DETACH)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("delete namespace %s: %w", name, err)
		}
	}
	if err := os.Remove(Path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete namespace %s: %w", name, err)
	}
	return nil
}

// shareDir makes Dir a mount that other mount namespaces see changes of, as 'ip netns add' does: without it, a service
// that was started with a private mount table would keep deleted namespaces alive.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	share := func() error { return unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "") }
	err := share()
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", Dir, err)
	}
	return share()
}

// Do runs fn in the namespace name, on a thread of its own. What fn starts in other goroutines is not inside.
func Do(name string, fn func() error) error {
	f, err := openFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return onThread(func() error {
		if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", name, err)
		}
		return fn()
	})
}

// onThread runs fn, which may change the thread's namespace, on a locked thread. The thread is used again only if it is
// back where it was; otherwise it ends with its goroutine.
func onThread(fn func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = errors.New("function ended its goroutine")
		runtime.LockOSThread()
		home, herr := os.Open("/proc/thread-self/ns/net")
		if herr != nil {
			runtime.UnlockOSThread()
			err = herr
			return
		}
		defer home.Close()
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = fn()
	}()
	<-done
	return err
}

func openFile(name string) (*os.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if !Exists(name) {
		return nil, fmt.Errorf("open namespace %s: %w", name, ErrNotFound)
	}
	f, err := os.Open(Path(name))
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", name, err)
	}
	return f, nil
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q: %w", name, ErrName)
	}
	return nil
}
