// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/agent/cleanup"
	"weft/internal/base/agentfile"
	"weft/internal/cli/term"
)

// agentUnit is what systemd runs the agent as.
const agentUnit = "weft-agent.service"

// stopWithin is how long an agent may take to end.
const stopWithin = 20 * time.Second

func cleanupCommand(env *term.Env) *cobra.Command {
	cfg := cleanup.Config{StateDir: "/var/lib/weft/agent", RunDir: "/run/weft", BPFFS: "/sys/fs/bpf/weft/" + defaultNode()}
	var config string
	var yes, stop bool
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Take the packet path out of this machine: its ports go dark",
		Long: `Take all that the agent has put into this machine's kernel out of it: programs, tables, devices, routes of its own. Ports that
are attached here go dark; the command says which, and asks. Devices that weft did not make are given back, down. It needs
neither a server nor an agent, and may be repeated. What the machine is (` + "`/etc/weft`" + `, its identity) stays: the
agent can be started again, and workloads attached again.

Stopping an agent does none of this: packets go on without it.`,
		Example: `  weft agent cleanup              # says what goes dark, and asks
  weft agent cleanup --stop        # ends the agent first
  weft agent cleanup --stop --yes  # and does not ask`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cleanupFrom(cmd, config, &cfg); err != nil {
				return err
			}
			ctx, cancel := term.WithSignals(cmd.Context())
			defer cancel()
			return runCleanup(ctx, env, cfg, yes, stop)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&yes, "yes", false, "do not ask")
	f.BoolVar(&stop, "stop", false, "end the agent first, if it runs")
	f.StringVar(&config, "config", "/etc/weft/agent.yaml", "file that says where the agent kept its things; flags go before it, and it may be gone")
	f.StringVar(&cfg.StateDir, "state-dir", cfg.StateDir, "folder of what outlives the agent")
	f.StringVar(&cfg.RunDir, "run-dir", cfg.RunDir, "folder of agent.sock")
	f.StringVar(&cfg.BPFFS, "bpffs", cfg.BPFFS, "folder of pinned programs and tables")
	return cmd
}

// cleanupFrom takes from the agent's file what no flag says.
func cleanupFrom(cmd *cobra.Command, config string, cfg *cleanup.Config) error {
	said := cmd.Flags().Changed
	file, err := agentfile.Read(config)
	if errors.Is(err, fs.ErrNotExist) && !said("config") {
		return nil
	}
	if err != nil {
		return err
	}
	for _, s := range []struct {
		flag  string
		to    *string
		value string
	}{{"state-dir", &cfg.StateDir, file.StateDir}, {"run-dir", &cfg.RunDir, file.RunDir}, {"bpffs", &cfg.BPFFS, file.BPFFS}} {
		if !said(s.flag) && s.value != "" {
			*s.to = s.value
		}
	}
	return nil
}

func runCleanup(ctx context.Context, env *term.Env, cfg cleanup.Config, yes, stop bool) error {
	if stop {
		if err := stopAgent(ctx, env, cfg); err != nil {
			return err
		}
	}
	found, err := cleanup.Do(ctx, cfg, func(f *cleanup.Found) error {
		tellFound(env, f)
		if f.Empty() || yes {
			return nil
		}
		return confirm(env, f)
	})
	switch {
	case errors.Is(err, cleanup.ErrAgentRuns):
		return &v1.Error{Code: v1.CodePrecondition, Message: "the agent runs, and would put all of it back", Fix: "say --stop, and it is ended first"}
	case err != nil:
		return err
	case found.Empty():
		_, err = fmt.Fprintln(env.Out, "nothing of weft is in this machine's kernel")
		return err
	}
	_, err = fmt.Fprintf(env.Out, "clean: %d ports, %d devices, %d routes\n", len(found.Ports), len(found.Devices), len(found.Routes))
	return err
}

// tellFound says what goes, and first what that means.
func tellFound(env *term.Env, f *cleanup.Found) {
	for _, p := range f.Dark() {
		fmt.Fprintf(env.Err, "  goes dark: %s\n", p)
	}
	for what, names := range map[string][]string{"devices": f.Devices, "namespaces": f.Namespaces} {
		if len(names) > 0 {
			fmt.Fprintf(env.Err, "  %s: %s\n", what, strings.Join(names, ", "))
		}
	}
	if f.Pins != "" {
		fmt.Fprintf(env.Err, "  programs and tables: %s\n", f.Pins)
	}
	switch {
	case f.Speaker:
		fmt.Fprintln(env.Err, "  the BGP speaker runs: it and its routes stay")
	case len(f.Routes) > 0:
		fmt.Fprintf(env.Err, "  routes of the speaker, which does not run: %d\n", len(f.Routes))
	}
}

func confirm(env *term.Env, f *cleanup.Found) error {
	if !term.IsTerminal(env.In) {
		return term.Usagef("%d ports go dark; without a terminal to ask at, say --yes", len(f.Dark()))
	}
	fmt.Fprintf(env.Err, "Take it away? %d ports go dark [y/N] ", len(f.Dark()))
	answer, err := bufio.NewReader(env.In).ReadString('\n')
	if err != nil || !strings.EqualFold(strings.TrimSpace(answer), "y") {
		return errors.New("nothing was done")
	}
	return nil
}

// stopAgent ends the agent that serves the socket; none is fine. One that systemd runs is stopped there, or it would be back.
func stopAgent(ctx context.Context, env *term.Env, cfg cleanup.Config) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	agent := client.NewAgent(filepath.Join(cfg.RunDir, "agent.sock"))
	st, err := agent.Status(ctx)
	if err != nil {
		return nil // nobody answers: if one runs nevertheless, it has the lock
	}
	if unitRuns(ctx, st.PID) {
		if out, err := exec.CommandContext(ctx, "systemctl", "stop", agentUnit).CombinedOutput(); err != nil {
			return fmt.Errorf("stop the agent: %w: %s", err, bytes.TrimSpace(out))
		}
	} else if err := syscall.Kill(st.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop the agent, process %d: %w", st.PID, err)
	}
	for {
		if err := syscall.Kill(st.PID, 0); errors.Is(err, syscall.ESRCH) {
			fmt.Fprintf(env.Err, "  the agent was ended (process %d)\n", st.PID)
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stop the agent, process %d: it has not ended: %w", st.PID, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// unitRuns reports whether a process is the unit's.
func unitRuns(ctx context.Context, pid int) bool {
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		return false
	}
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=MainPID", "--value", agentUnit).Output()
	return err == nil && strings.TrimSpace(string(out)) == fmt.Sprint(pid)
}
