// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/names"
	"weft/internal/cli/term"
)

// agentFlags say which agent's local socket is meant.
type agentFlags struct{ node, socket string }

func (f *agentFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.node, "node", "", "in a lab: the node; default: the agent of this machine")
	cmd.Flags().StringVar(&f.socket, "socket", "", "path of the agent's socket; default /run/weft/agent.sock")
}

// agent returns a client of the agent. The nodes of a lab share the machine, so each has a folder of its own.
func (f *agentFlags) agent(t client.Context) (*client.Agent, error) {
	switch {
	case f.socket != "":
		return client.NewAgent(f.socket), nil
	case f.node != "" && t.Lab == "":
		return nil, term.Usagef("--node is for labs; on a node itself leave it out, or name the agent's --socket")
	case f.node != "":
		return client.NewAgent(filepath.Join("/run/weft", t.Lab+"-"+f.node, "agent.sock")), nil
	case t.Lab != "":
		return nil, term.Usagef("the context is lab %s: name one of its nodes with --node, for example --node host-1", t.Lab)
	}
	return client.NewAgent("/run/weft/agent.sock"), nil
}

func newAttachCommand(env *term.Env) *cobra.Command {
	var f agentFlags
	var r v1.AttachRequest
	var owner string
	cmd := &cobra.Command{
		Use:   "attach TENANT/PORT (--netns NAME | --tap NAME | --veth NAME | --device NAME)",
		Short: "Attach a port of this node to a namespace, a tap or a device",
		Long: `Attach a port: the node's agent claims it, makes or takes the interface, and returns when packets can pass. Exactly one of
these says how:

  --netns NAME    an interface in a network namespace, with its address and default route set. It is called
                  eth0 unless --device says otherwise.
  --tap NAME      a tap for a virtual machine. If it is not there, it is made (persistent, so it outlives the
                  machine), and removed at detach; one that is there is taken, and given back at detach.
  --veth NAME     a pair of devices; the workload's end is called NAME and is left in the node's namespace, down,
                  for you to put where it belongs. The pair is removed at detach.
  --device NAME   any Ethernet device that is there: a network card, one end of a pair that you made, a macvtap.
                  It is given back at detach, and never removed.

What a tap, pair or device leads to has to use the port's MAC, which is printed; it learns address, MTU and routes by DHCP.
A device that the node needs is refused: its tunnel's or default route's, a member of a bridge, one that another
port has. One that has other addresses or devices on it is taken only with --force.

It can be repeated; a port that another node has is refused unless --move. Run it on the node, as root.`,
		Example: `  weft attach red/web-1 --netns web
  weft attach red/web-1 --netns web --device net0 --move
  weft attach red/vm-1 --tap tap0
  weft attach red/vm-2 --tap tap1 --multi-queue --owner libvirt-qemu
  weft attach red/box --veth box0 && ip link set box0 netns box
  weft attach red/metal --device eth7
  weft attach red/mine --netns mine --node host-1      # in a lab`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: names.Ports(env, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkWay(&r, owner, cmd.Flags().Changed("static")); err != nil {
				return err
			}
			t, err := env.OptionalTarget()
			if err != nil {
				return err
			}
			if r.Tenant, r.Port, err = term.ParsePort(args[0], t.Tenant); err != nil {
				return err
			}
			agent, err := f.agent(t)
			if err != nil {
				return err
			}
			a, err := agent.Attach(cmd.Context(), r)
			if err != nil {
				return err
			}
			return printAttached(env, a)
		},
	}
	f.register(cmd)
	fl := cmd.Flags()
	fl.StringVar(&r.NetNS, "netns", "", "network namespace: a name (ip netns list) or a path")
	fl.StringVar(&r.Tap, "tap", "", "tap of this node, made if it is not there")
	fl.StringVar(&r.Veth, "veth", "", "name of the workload's end of a new pair of devices")
	fl.StringVar(&r.Device, "device", "", "with --netns: name of the interface in the namespace (default eth0); alone: a device of this node that is there")
	fl.BoolVar(&r.MultiQueue, "multi-queue", false, "with --tap: for several queues; the virtual machine must ask for them then")
	fl.StringVar(&owner, "owner", "", "with --tap: user, by name or number, who may open it beside root")
	fl.BoolVar(&r.Force, "force", false, "with --tap or --device: take it although the node has addresses or devices on it")
	fl.BoolVar(&r.Move, "move", false, "take the port although another node has it")
	fl.BoolVar(&r.Static, "static", true, "with --netns: give the interface its address, MTU and default route")
	return cmd
}

// checkWay refuses what cannot be meant, before anybody is asked.
func checkWay(r *v1.AttachRequest, owner string, static bool) error {
	var named []string
	for _, w := range []struct{ flag, value string }{{"--netns", r.NetNS}, {"--tap", r.Tap}, {"--veth", r.Veth}, {"--device", r.Device}} {
		if w.value != "" && (w.flag != "--device" || r.NetNS == "") {
			named = append(named, w.flag)
		}
	}
	switch {
	case len(named) == 0:
		return term.Usagef("say what to attach the port to: --netns NAME (a namespace; 'ip netns list'), --tap NAME (a virtual machine), --veth NAME (a new pair of devices) or --device NAME (a device that is there; 'ip link')")
	case len(named) > 1:
		return term.Usagef("a port is attached in one way: leave out all but one of %s", strings.Join(named, ", "))
	case r.Tap == "" && (r.MultiQueue || owner != ""):
		return term.Usagef("--multi-queue and --owner go with --tap")
	case r.Force && r.NetNS+r.Veth != "":
		return term.Usagef("--force goes with --tap or --device: only a device that is there can be in use")
	case static && r.Static && r.NetNS == "":
		return term.Usagef("--static goes with --netns: elsewhere the workload learns its address by DHCP")
	}
	r.Static = r.Static && r.NetNS != ""
	if owner == "" {
		return nil
	}
	number := owner
	if u, err := user.Lookup(owner); err == nil {
		number = u.Uid
	}
	id, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return term.Usagef("--owner: this machine has no user %q", owner)
	}
	r.Owner = new(uint32)
	*r.Owner = uint32(id)
	return nil
}

// printAttached says what the workload has, and, for what the agent does not set, what it must be given.
func printAttached(env *term.Env, a *v1.Attachment) error {
	addresses := strings.Join(a.Addresses, ", ")
	var err error
	switch a.Way {
	case "tap":
		_, err = fmt.Fprintf(env.Out, "%s/%s attached: tap %s has %s, MAC %s, MTU %d\n", a.Tenant, a.Port, a.Device, addresses, a.MAC, a.MTU)
		fmt.Fprintf(env.Err, "  for QEMU: -netdev tap,id=%[1]s,ifname=%[1]s,script=no,downscript=no -device virtio-net-pci,netdev=%[1]s,mac=%[2]s,host_mtu=%[3]d\n", a.Device, a.MAC, a.MTU)
	case "veth":
		_, err = fmt.Fprintf(env.Out, "%s/%s attached: %s has %s, MAC %s, MTU %d\n", a.Tenant, a.Port, a.Device, addresses, a.MAC, a.MTU)
		fmt.Fprintf(env.Err, "  it is down, in this namespace: put it where it belongs, for example 'ip link set %s netns NAME', and bring it up there\n", a.Device)
	case "device":
		_, err = fmt.Fprintf(env.Out, "%s/%s attached: what is behind %s has %s, MAC %s, MTU %d\n", a.Tenant, a.Port, a.Device, addresses, a.MAC, a.MTU)
	default:
		_, err = fmt.Fprintf(env.Out, "%s/%s attached: %s in %s has %s, MTU %d\n", a.Tenant, a.Port, a.Device, a.NetNS, addresses, a.MTU)
	}
	return err
}

func newDetachCommand(env *term.Env) *cobra.Command {
	var f agentFlags
	cmd := &cobra.Command{
		Use: "detach TENANT/PORT", Short: "Detach a port from this node", Args: cobra.ExactArgs(1),
		Long: `Detach a port: no packet passes any more, and the port is free for other nodes. What the agent made for it is removed. A
tap or device that was there before is given back as it was, but down: bring it up when its packets may go to the node.`,
		ValidArgsFunction: names.Ports(env, 1),
		Example:           "  weft detach red/web-1\n  weft detach web-1 -t red\n  weft detach red/mine --node host-1      # in a lab",
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := env.OptionalTarget()
			if err != nil {
				return err
			}
			var r v1.DetachRequest
			if r.Tenant, r.Port, err = term.ParsePort(args[0], t.Tenant); err != nil {
				return err
			}
			agent, err := f.agent(t)
			if err != nil {
				return err
			}
			if err := agent.Detach(cmd.Context(), r); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Out, "%s/%s detached\n", r.Tenant, r.Port)
			return err
		},
	}
	f.register(cmd)
	return cmd
}
