// SPDX-License-Identifier: Apache-2.0

package labcmd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
	"weft/lab"
)

func newLabNodeCommand(env *term.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Let a spare machine of a lab join the system, and leave it",
		Long: `A node that the topology calls spare has its links and routes, and no agent. 'weft lab node add' runs there what an operator
would run, 'weft node join'; 'weft lab node remove' takes it out again.`,
		Example: "  weft lab node add host-4\n  weft lab node remove host-4",
	}
	for use, run := range map[string]func(context.Context, *term.Env, *lab.Lab, lab.TopologyNode) error{"add": addNode, "remove": removeNode} {
		cmd.AddCommand(newSpareCommand(env, use, run))
	}
	return cmd
}

func newSpareCommand(env *term.Env, use string, run func(context.Context, *term.Env, *lab.Lab, lab.TopologyNode) error) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:               use + " NODE",
		Short:             map[string]string{"add": "Let a spare machine join the system", "remove": "Take such a node out of the system, and end its agent"}[use],
		Example:           "  weft lab node " + use + " host-4\n  weft lab node " + use + " host-4 --name dc2",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeTargets(env),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := openLab(env, name)
			if err != nil {
				return err
			}
			i := slices.IndexFunc(l.Topology.Nodes, func(n lab.TopologyNode) bool { return n.Name == args[0] && n.Spare })
			if i < 0 {
				return fmt.Errorf("%w: %s is no spare machine of lab %s: the topology says which are", lab.ErrTarget, args[0], l.Name)
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			return run(ctx, env, l, l.Topology.Nodes[i])
		},
	}
	labFlag(cmd, &name)
	return cmd
}

// addNode runs 'weft node join' on the machine.
func addNode(ctx context.Context, env *term.Env, l *lab.Lab, n lab.TopologyNode) error {
	c, err := l.Client()
	if err != nil {
		return err
	}
	join, err := c.Join(ctx, v1.JoinRequest{Node: n.Name, Uses: 1})
	if err != nil {
		return err
	}
	ns, err := l.Target(n.Name)
	if err != nil {
		return err
	}
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	state := filepath.Join(l.Dir(), n.Name)
	config := filepath.Join(state, "etc")
	cmd := exec.CommandContext(ctx, binary, "node", "join", join.Server, "--token", join.Token, "--ca-hash", join.CAHash, //nolint:gosec // this program, with arguments of its own making
		"--name", n.Name, "--roles", string(n.Role), "--underlay-mtu", fmt.Sprint(l.Topology.MTU), "--service", "background",
		"--config-dir", config, "--state-dir", state, "--run-dir", "/run/weft/"+ns, "--bpffs", "/sys/fs/bpf/weft/"+ns)
	cmd.Stdout, cmd.Stderr = env.Out, env.Err
	if err := l.Start(cmd, n.Name); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("weft node join on %s: %w", n.Name, err)
	}
	st, err := l.Agent(n.Name).Status(ctx)
	if err != nil {
		return err
	}
	if err := l.Forget(n.Name, "agent"); err != nil {
		return err
	}
	return l.Adopt(n.Name, "agent", st.PID, binary, "agent", "--config", filepath.Join(config, "agent.yaml"))
}

// idleWithin is how long an agent may take to hear that its node was removed.
const idleWithin = 5 * time.Second

// removeNode removes the node, and ends its agent once that has taken everything down.
func removeNode(ctx context.Context, env *term.Env, l *lab.Lab, n lab.TopologyNode) error {
	c, err := l.Client()
	if err != nil {
		return err
	}
	if _, err := c.Delete(ctx, v1.KindNode, "", n.Name, client.DeleteOptions{}); err != nil {
		return err
	}
	for deadline := time.Now().Add(idleWithin); ; time.Sleep(20 * time.Millisecond) {
		st, err := l.Agent(n.Name).Status(ctx)
		if err != nil {
			return err
		}
		if st.Removed != "" {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the agent of %s was not told within %s that its node is removed", n.Name, idleWithin)
		}
	}
	if err := l.Signal(n.Name, "agent", syscall.SIGTERM); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "node/%s removed\n", n.Name)
	return l.Forget(n.Name, "agent") // what a crash here leaves is found by its namespace
}
