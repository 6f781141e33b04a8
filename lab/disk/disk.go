// SPDX-License-Identifier: Apache-2.0

// Package disk gives folders of a lab small disks of their own, which can be full without harm to the machine.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// roomBytes is the room of a small disk beyond what is on it: etcd lays out its next log before it needs it.
const roomBytes = 192 << 20

// IsSmall says whether a folder has a disk of its own.
func IsSmall(dir string) (bool, error) {
	var here, above syscall.Stat_t
	if err := errors.Join(syscall.Stat(dir, &here), syscall.Stat(filepath.Dir(dir), &above)); err != nil {
		return false, fmt.Errorf("look at %s: %w", dir, err)
	}
	return here.Dev != above.Dev, nil
}

// MakeSmall puts a folder on a small file system of its own. Nobody may be using it.
func MakeSmall(dir string) error {
	used := int64(0)
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			used += info.Size()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("measure %s: %w", dir, err)
	}
	next := dir + ".small"
	if err := os.MkdirAll(next, 0o700); err != nil {
		return fmt.Errorf("make a small disk: %w", err)
	}
	if err := syscall.Mount("weft-lab", next, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", used+roomBytes)); err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	out, err := exec.Command("cp", "-a", dir+"/.", next).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("copy %s to a small disk: %w: %s", dir, err, out)
	} else if err = syscall.Mount(next, dir, "", syscall.MS_BIND, ""); err != nil {
		err = fmt.Errorf("mount the small disk at %s: %w", dir, err)
	}
	return errors.Join(err, syscall.Unmount(next, syscall.MNT_DETACH), os.Remove(next))
}

// Fill makes a file of what is left of its disk.
func Fill(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk: %w", err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
	return nil
}

// UnmountBelow unmounts the small disks below a folder.
func UnmountBelow(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for line := range strings.Lines(string(mounts)) {
		if words := strings.Fields(line); len(words) > 4 && strings.HasPrefix(words[4], dir+"/") {
			if err := syscall.Unmount(words[4], syscall.MNT_DETACH); err != nil {
				return fmt.Errorf("unmount %s: %w", words[4], err)
			}
		}
	}
	return nil
}
