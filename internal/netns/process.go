// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// Start starts cmd in the namespace name; its threads and children stay there.
func Start(cmd *exec.Cmd, name string) error {
	return Do(name, cmd.Start) // a new process takes the namespace of the thread that made it
}

// PIDs returns the processes whose main thread is in the namespace name.
func PIDs(name string) ([]int, error) {
	f, err := openFile(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	want, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("look at namespace %s: %w", name, err)
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil {
			continue
		}
		if is, err := os.Stat("/proc/" + p.Name() + "/ns/net"); err == nil && os.SameFile(want, is) { // otherwise it has ended
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Exec replaces this process by the program path in the namespace name. It returns only if it could not.
func Exec(name, path string, args, env []string) error {
	return Do(name, func() error {
		return fmt.Errorf("run %s in %s: %w", path, name, unix.Exec(path, args, env))
	})
}
