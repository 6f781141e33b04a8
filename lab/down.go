// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"weft/internal/netns"
	"weft/lab/disk"
)

// Down removes the lab name and all that belongs to it: processes, namespaces, pins, folders, context. It may be repeated
// after a failure, and after a crash of Up or of itself.
func Down(name string, progress io.Writer) error {
	if err := checkLabName(name); err != nil {
		return err
	}
	dir := filepath.Join(stateRoot, name)
	unlock, err := lock(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return unknown(name)
	}
	if err != nil {
		return err
	}
	defer unlock()
	l, err := Open(name)
	if err != nil {
		if l, err = salvage(name); err != nil {
			return err
		}
	}
	return l.remove(newSteps(progress))
}

// remove takes everything away; its folder last, so that it can be tried again.
func (l *Lab) remove(s *steps) error {
	ended, err := l.endProcesses()
	if err != nil {
		return err
	}
	s.done("%d processes ended", ended)
	namespaces, err := l.allNamespaces() // only now: nobody is left to make more
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		if err := netns.Delete(ns); err != nil {
			return err
		}
	}
	s.done("%d namespaces removed", len(namespaces))
	for _, p := range l.Paths {
		if err := os.RemoveAll(p); err != nil {
			return fmt.Errorf("remove %s: %w", p, err)
		}
	}
	if err := removeContext(l.Name); err != nil {
		return err
	}
	if err := disk.UnmountBelow(l.Dir()); err != nil {
		return err
	}
	if err := os.RemoveAll(l.Dir()); err != nil {
		return fmt.Errorf("remove %s: %w", l.Dir(), err)
	}
	for _, shared := range []string{pinRoot, runRoot, stateRoot, filepath.Dir(stateRoot)} {
		_ = os.Remove(shared) // fails while something else is in it, as it should
	}
	s.done("lab %s is gone", l.Name)
	return nil
}

// probeMark follows the name of a node's namespace in the names of those that its agent makes for 'weft check'.
const probeMark = "-check-"

// allNamespaces returns those of lab.json and those that agents made for a check and, killed, could not remove.
func (l *Lab) allNamespaces() ([]string, error) {
	names, err := netns.List()
	if err != nil {
		return nil, err
	}
	all := slices.Clone(l.Namespaces)
	for _, name := range names {
		isProbe := func(n TopologyNode) bool {
			return n.Role.HasAgent() && strings.HasPrefix(name, l.netNS(n.Name)+probeMark)
		}
		if slices.ContainsFunc(l.Topology.Nodes, isProbe) && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all, nil
}

// salvage lists what carries the name of a lab whose lab.json cannot be read.
func salvage(name string) (*Lab, error) {
	l := &Lab{Name: name, Topology: &Topology{}}
	names, err := netns.List()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if strings.HasPrefix(n, name+"-") {
			l.Namespaces = append(l.Namespaces, n)
		}
	}
	for _, root := range []string{runRoot, pinRoot} {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("look for the rest of lab %s: %w", name, err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), name+"-") {
				l.Paths = append(l.Paths, filepath.Join(root, e.Name()))
			}
		}
	}
	return l, nil
}

// DownAll removes every lab of this machine and returns how many there were.
func DownAll(progress io.Writer) (int, error) {
	names, err := labNames()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, Down(name, progress))
	}
	return len(names), errors.Join(errs...)
}
