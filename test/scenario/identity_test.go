// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
)

// with starts a program of a node again, with further flags from now on; a flag that is there twice counts as said last.
func with(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("%w: with NODE PROGRAM FLAG...", errUsage)
	}
	for i, p := range s.l.Processes {
		if p.Node == args[0] && p.Program == args[1] {
			s.l.Processes[i].Args = append(slices.Clone(p.Args), args[2:]...)
		}
	}
	return s.l.Restart(args[0], args[1], syscall.SIGTERM)
}

// streams counts how often a node's stream came up, as the server's log has it.
func streams(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 2 || !strings.HasPrefix(args[1], "want=") {
		return fmt.Errorf("%w: streams NODE want=N", errUsage)
	}
	data, err := os.ReadFile(filepath.Join(s.l.Dir(), "server-1.log"))
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, `msg="node connected"`) && strings.Contains(line, "node="+args[0]+" ") {
			n++
		}
	}
	if fmt.Sprint("want=", n) != args[1] {
		return fmt.Errorf("%s has connected %d times", args[0], n)
	}
	return nil
}
