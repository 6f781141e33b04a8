// SPDX-License-Identifier: Apache-2.0

// Package nodecmd is weft node: machines join a running system and leave it, and no other machine is touched.
package nodecmd

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/term"
)

// New returns the command with all that is below it; nodes completes a node's name.
func New(env *term.Env, nodes cobra.CompletionFunc) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Let machines join the system, drain them, remove them",
		Long: `The life of a node: 'weft node token' makes a join token and prints the command that makes a machine a node, which is run there.
'weft node drain' lets no further ports be attached there; once the last is gone, 'weft node remove' takes the node out.
'weft get nodes' lists them.`,
		Example: "  weft node token\n  weft node drain host-3 --wait\n  weft node remove host-3",
	}
	drain, resume, remove := newDrainCommand(env), newResumeCommand(env), newRemoveCommand(env)
	for _, c := range []*cobra.Command{drain, resume, remove} {
		c.ValidArgsFunction = nodes
	}
	cmd.AddCommand(newTokenCommand(env, nodes), newJoinCommand(env), drain, resume, remove)
	return cmd
}

func newDrainCommand(env *term.Env) *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "drain NODE", Short: "Let no further ports be attached at a node", Args: cobra.ExactArgs(1),
		Long: `Let no further ports be attached at a node. Those that are stay, and their packets pass; they are listed. Detach them
there, or take them over from another node (weft attach --move). With --wait it returns when the last one is gone.`,
		Example: "  weft node drain host-3\n  weft node drain host-3 --wait\n  weft node drain host-3 --wait --timeout 10m",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			if err := setDrained(cmd.Context(), env, c, args[0], true); err != nil {
				return err
			}
			ports, err := portsAt(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if !wait || len(ports) == 0 {
				return listPorts(env, args[0], ports)
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			return awaitEmpty(ctx, env, c, args[0], timeout)
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until no port is attached there any more")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "how long to wait")
	return cmd
}

func newResumeCommand(env *term.Env) *cobra.Command {
	return &cobra.Command{
		Use: "resume NODE", Short: "Let ports be attached at a drained node again", Args: cobra.ExactArgs(1),
		Example: "  weft node resume host-3\n  weft node resume host-3 && weft wait node host-3 --for condition=Ready",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			return setDrained(cmd.Context(), env, c, args[0], false)
		},
	}
}

// triesMost bounds how often a write that met another's is made again.
const triesMost = 10

// setDrained writes the node's spec.drained, and nothing else of it.
func setDrained(ctx context.Context, env *term.Env, c *client.Client, name string, drained bool) error {
	for try := 1; ; try++ {
		o, err := c.Get(ctx, v1.KindNode, "", name)
		if err != nil {
			return err
		}
		n := o.(*v1.Node)
		word := map[bool]string{true: "drained", false: "resumed"}[drained]
		if n.Spec.Drained == drained {
			fmt.Fprintf(env.Out, "node/%s %s already\n", name, word)
			return nil
		}
		n.Spec.Drained = drained
		_, err = c.Apply(ctx, []v1.Object{n}, client.ApplyOptions{})
		var e *v1.Error
		if errors.As(err, &e) && e.Code == v1.CodeConflict && try < triesMost {
			continue
		}
		if err == nil {
			fmt.Fprintf(env.Out, "node/%s %s\n", name, word)
		}
		return err
	}
}

// portsAt lists the ports that are attached at a node.
func portsAt(ctx context.Context, c *client.Client, node string) ([]string, error) {
	all, _, err := c.List(ctx, v1.KindPort, "")
	if err != nil {
		return nil, err
	}
	var ports []string
	for _, o := range all {
		if p := o.(*v1.Port); p.Status.Node == node {
			ports = append(ports, p.Tenant+"/"+p.Name)
		}
	}
	return ports, nil
}

// shownMost is how many ports are named.
const shownMost = 20

func listPorts(env *term.Env, node string, ports []string) error {
	if len(ports) == 0 {
		fmt.Fprintf(env.Err, "no port is attached at %s\n", node)
		return nil
	}
	fmt.Fprintf(env.Err, "still attached at %s (%d): %s\n", node, len(ports), named(ports))
	return nil
}

func named(ports []string) string {
	if more := len(ports) - shownMost; more > 0 {
		return strings.Join(ports[:shownMost], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(ports, ", ")
}

// awaitEmpty waits until no port is attached at the node, and tells what it waits for.
func awaitEmpty(ctx context.Context, env *term.Env, c *client.Client, node string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	told, at := "", time.Time{}
	for {
		ports, err := portsAt(ctx, c, node)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if text := named(ports); err == nil && (text != told || time.Since(at) > 5*time.Second) {
			told, at = text, time.Now()
			_ = listPorts(env, node, ports) // it only prints
		}
		if err == nil && len(ports) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return &v1.Error{
				Code: v1.CodeTimeout, Object: "node/" + node, Message: fmt.Sprintf("ports are still attached after %s: %s", timeout, told),
				Fix: "detach them there (weft detach), or take them over from another node (weft attach --move)",
			}
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func newRemoveCommand(env *term.Env) *cobra.Command {
	var force, yes bool
	cmd := &cobra.Command{
		Use: "remove NODE", Short: "Take a node out of the system", Args: cobra.ExactArgs(1),
		Long: `Take a node out of the system. It is refused while ports are attached there, or may be attached only there: detach or move
those first. A node that is dead cannot let them go: --force detaches them all.

The machine's agent is told, also if it comes back later: it takes down what it still has, and does not join again by
itself. The node's number is never given to another one.`,
		Example: "  weft node drain host-3 --wait && weft node remove host-3 --yes\n  weft node remove host-3\n  weft node remove host-3 --force --yes   # it is dead",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := env.Client()
			if err != nil {
				return err
			}
			return remove(cmd.Context(), env, c, args[0], force, yes)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "also with ports attached, if the node is dead: they are detached")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func remove(ctx context.Context, env *term.Env, c *client.Client, name string, force, yes bool) error {
	o, err := c.Get(ctx, v1.KindNode, "", name)
	if err != nil {
		return err
	}
	n := o.(*v1.Node)
	if dead := n.Status.State == v1.NodeGone || n.Status.State == v1.NodeNever; force && !dead && n.Status.Ports > 0 {
		return &v1.Error{
			Code: v1.CodeNodeAlive, Object: "node/" + name, Message: fmt.Sprintf("the node is alive (%s) and has %d ports: --force is for dead ones", n.Status.State, n.Status.Ports),
			Fix: "weft node drain " + name + " --wait; or stop its agent first, if its workloads are to be cut off",
		}
	}
	plan, err := c.Delete(ctx, v1.KindNode, "", name, client.DeleteOptions{Cascade: force, DryRun: true})
	if err != nil {
		return inUse(err, name)
	}
	if !yes {
		if err := ask(env, name, n, len(plan.Items)-1); err != nil {
			return err
		}
	}
	res, err := c.Delete(ctx, v1.KindNode, "", name, client.DeleteOptions{Cascade: force})
	if err != nil {
		return inUse(err, name)
	}
	for _, i := range res.Items {
		if i.Kind == v1.KindPort {
			fmt.Fprintf(env.Out, "port/%s/%s freed\n", i.Tenant, i.Name)
		}
	}
	fmt.Fprintf(env.Out, "node/%s removed\n", name)
	return nil
}

// inUse gives the API's refusal the remedies of this command.
func inUse(err error, node string) error {
	var e *v1.Error
	if errors.As(err, &e) && e.Code == v1.CodeInUse {
		c := *e
		c.Fix = fmt.Sprintf("detach or move those first: weft node drain %s --wait; if the node is dead: weft node remove %s --force", node, node)
		return &c
	}
	return err
}

func ask(env *term.Env, name string, n *v1.Node, ports int) error {
	fmt.Fprintf(env.Err, "  node/%s (%s, %s) will be removed\n", name, n.Spec.Address, cmp.Or(n.Status.State, "state unknown"))
	if ports > 0 {
		fmt.Fprintf(env.Err, "  %d ports will be detached, or no longer bound to it\n", ports)
	}
	if !term.IsTerminal(env.In) {
		return term.Usagef("there is no terminal to ask at whether to remove %s: add --yes", name)
	}
	fmt.Fprintf(env.Err, "remove %s? [y/N] ", name)
	line, _ := bufio.NewReader(env.In).ReadString('\n')
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		fmt.Fprintln(env.Err, "nothing was removed")
		return term.Code(term.ExitFailure)
	}
	return nil
}
