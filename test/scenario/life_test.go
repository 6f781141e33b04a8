// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"weft/lab"
)

func crash(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: crash NODE", errUsage)
	}
	return s.kill(args[0])
}

// kill ends the agent of a node as the kernel does when memory is short: it can do nothing about it.
func (s *story) kill(node string) error {
	if err := s.l.Signal(node, "agent", syscall.SIGKILL); err != nil {
		return err
	}
	i := slices.IndexFunc(s.l.Processes, func(p lab.Process) bool { return p.Node == node && p.Program == "agent" })
	for deadline := time.Now().Add(retryFor); s.l.Processes[i].Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return errors.New("the agent does not die")
		}
	}
	return nil
}

// boot leaves of the node what a machine has when it comes up: its disk, its links, and the workloads' namespaces, which
// somebody makes again.
func boot(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%w: boot NODE", errUsage)
	}
	if err := s.kill(args[0]); err != nil {
		return err
	}
	const devices = `for d in /sys/class/net/wp* /sys/class/net/weft-*; do test -e $d && ip link del ${d##*/}; done; true`
	const inside = "mount -t sysfs none /sys && " + devices // the namespace's own
	_, err := s.run(args[0], exec.Command("unshare", "-m", "sh", "-c", inside))
	return errors.Join(err, os.RemoveAll(filepath.Join("/sys/fs/bpf/weft", s.lab+"-"+args[0])), s.l.Restart(args[0], "agent", syscall.SIGTERM))
}

// scan starts the agent of a node again, to look for drift more often than each minute.
func scan(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%w: scan NODE EVERY", errUsage)
	}
	for i, p := range s.l.Processes {
		if p.Node == args[0] && p.Program == "agent" {
			s.l.Processes[i].Args = append(slices.Clone(p.Args), "--scan-every", args[1])
		}
	}
	return s.l.Restart(args[0], "agent", syscall.SIGTERM)
}
