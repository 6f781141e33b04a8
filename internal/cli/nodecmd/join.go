// SPDX-License-Identifier: Apache-2.0

package nodecmd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/base/agentfile"
	"weft/internal/cli/term"
)

// joining is one machine on its way to being a node.
type joining struct {
	agentfile.File
	env       *term.Env
	token     string
	caHash    string
	address   string
	configDir string
	service   string // auto, systemd, background
	timeout   time.Duration
	agent     *client.Agent
}

func newJoinCommand(env *term.Env) *cobra.Command {
	j := &joining{env: env}
	var tokenFile string
	cmd := &cobra.Command{
		Use:   "join HOST:PORT --token TOKEN --ca-hash sha256:HEX",
		Short: "Make this machine a node",
		Long: `Make this machine a node of a running system; 'weft node token' prints this command with what it needs. Run it as root. It
looks whether the machine can be one, fetches the server's authority and compares it with --ca-hash, writes configuration
and token, starts the agent (as a systemd unit, where systemd runs; otherwise in the background), which gets the node's
certificate by the token, and waits until the node is ready; the token is removed then. No other node is touched. It can
be repeated.`,
		Example: `  weft node join 192.0.2.10:7444 --token TOKEN --ca-hash sha256:6f1c…
  weft node join 192.0.2.10:7444 --token-file token --ca-hash sha256:6f1c… --roles edge --bgp-config /etc/weft/bgp.yaml
  weft node join weft.example:7444 --token-file token --ca-hash sha256:6f1c… --name rack1-7 --address 192.0.2.31`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if tokenFile != "" {
				data, err := os.ReadFile(tokenFile)
				if err != nil {
					return term.Usagef("--token-file: %w", err)
				}
				j.token = strings.TrimSpace(string(data))
			}
			j.Server = args[0]
			if err := j.complete(); err != nil {
				return err
			}
			ctx, stop := term.WithSignals(cmd.Context())
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, j.timeout)
			defer cancel()
			return j.run(ctx)
		},
	}
	f := cmd.Flags()
	f.StringVar(&j.token, "token", "", "what lets a machine join (weft node token)")
	f.StringVar(&tokenFile, "token-file", "", "file with the token, so that it is in no list of processes")
	f.StringVar(&j.caHash, "ca-hash", "", "SHA-256 of the certificate of the server's authority, as sha256:HEX")
	f.StringVar(&j.Node, "name", "", "name of the node; default: this machine's, up to the first dot")
	f.StringVar(&j.address, "address", "", "underlay address of the node's tunnel end; default: the one from which the server is reached")
	f.StringSliceVar(&j.Roles, "roles", []string{"host"}, "what the node does: host, edge")
	f.StringVar(&j.Site, "site", "", "data centre of the node")
	f.IntVar(&j.UnderlayMTU, "underlay-mtu", 0, "MTU of the underlay, bytes; default: that of the device with the address")
	f.StringVar(&j.configDir, "config-dir", "/etc/weft", "folder of agent.yaml, ca.pem and node.token")
	f.StringVar(&j.StateDir, "state-dir", "/var/lib/weft/agent", "folder of what outlives the agent")
	f.StringVar(&j.RunDir, "run-dir", "/run/weft", "folder of agent.sock")
	f.StringVar(&j.BPFFS, "bpffs", "", "folder of pinned programs and tables; default /sys/fs/bpf/weft/NAME")
	f.StringVar(&j.BGPConfig, "bgp-config", "", "configuration of the node's BGP speaker, if the underlay is routed by BGP")
	f.StringVar(&j.service, "service", "auto", "how the agent runs: systemd, background, auto")
	f.DurationVar(&j.timeout, "timeout", time.Minute, "how long all of it may take")
	return cmd
}

// complete checks what was said and fills what was left open.
func (j *joining) complete() error {
	if j.Node == "" {
		host, _ := os.Hostname()
		j.Node, _, _ = strings.Cut(host, ".")
	}
	if _, _, err := net.SplitHostPort(j.Server); err != nil {
		return term.Usagef("%q is not HOST:PORT of the server's stream: %w", j.Server, err)
	}
	switch {
	case j.token == "":
		return term.Usagef("--token is missing; 'weft node token', where the system is administered, prints it")
	case !strings.HasPrefix(j.caHash, "sha256:"):
		return term.Usagef("--ca-hash is missing, or not sha256:HEX; without it, anybody could be the server: 'weft node token' prints it")
	case j.Node == "":
		return term.Usagef("this machine has no name: give the node one with --name")
	case j.service != "auto" && j.service != "systemd" && j.service != "background":
		return term.Usagef("--service %s is not possible; use systemd, background or auto", j.service)
	}
	if j.address != "" {
		var err error
		if j.Address, err = netip.ParseAddr(j.address); err != nil {
			return term.Usagef("--address: %w", err)
		}
	}
	j.BPFFS = cmp.Or(j.BPFFS, "/sys/fs/bpf/weft/"+j.Node)
	j.CA, j.TokenFile = filepath.Join(j.configDir, "ca.pem"), filepath.Join(j.configDir, "node.token")
	j.agent = client.NewAgent(filepath.Join(j.RunDir, "agent.sock"))
	return nil
}

// run goes through all steps; each tells on standard error that it is done.
func (j *joining) run(ctx context.Context) error {
	running, err := j.agent.Status(ctx)
	if err != nil {
		running = nil
	}
	switch {
	case running != nil && running.Removed == "" && running.Node != j.Node:
		return &v1.Error{
			Code: v1.CodeConflict, Object: "node/" + running.Node, Message: "this machine is that node already",
			Fix: fmt.Sprintf("join it as --name %s; or remove that node first: weft node remove %s", running.Node, running.Node),
		}
	case running != nil && running.Connected && running.Synced:
		j.tell("the agent runs already")
		return j.await(ctx)
	}
	if err := j.checkMachine(running != nil); err != nil {
		return err
	}
	ca, err := fetchAuthority(ctx, j.Server, j.caHash)
	if err != nil {
		return err
	}
	j.tell("server %s has the right authority", j.Server)
	if err := j.findUnderlay(); err != nil {
		return err
	}
	j.tell("tunnel end is %s, underlay MTU %d", j.Address, j.UnderlayMTU)
	if err := j.write(ca); err != nil {
		return err
	}
	if err := j.start(ctx, running); err != nil {
		return err
	}
	return j.await(ctx)
}

func (j *joining) tell(format string, args ...any) {
	fmt.Fprintf(j.env.Err, "  "+format+"\n", args...)
}

// findUnderlay decides tunnel end and MTU where they were left open.
func (j *joining) findUnderlay() error {
	if !j.Address.IsValid() {
		c, err := net.Dial("udp", j.Server) // sends nothing: it asks the routes
		if err != nil {
			return &v1.Error{Code: v1.CodePrecondition, Field: "address", Message: fmt.Sprintf("no route leads to the server: %v", err), Fix: "name the address of this node's tunnel end with --address"}
		}
		defer c.Close()
		from, err := netip.ParseAddrPort(c.LocalAddr().String())
		if err != nil {
			return fmt.Errorf("find the tunnel end: %w", err)
		}
		j.Address = from.Addr().Unmap().WithZone("")
	}
	if j.UnderlayMTU != 0 {
		return nil
	}
	devices, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("find the underlay's MTU: %w", err)
	}
	var found []underlayDevice
	for _, d := range devices {
		u := underlayDevice{mtu: d.MTU, loopback: d.Flags&net.FlagLoopback != 0, up: d.Flags&net.FlagUp != 0}
		addresses, err := d.Addrs()
		if err != nil {
			return fmt.Errorf("find the underlay's MTU: %w", err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				u.addresses = append(u.addresses, p.Addr())
			}
		}
		found = append(found, u)
	}
	j.UnderlayMTU, err = underlayMTU(j.Address, found)
	return err
}

// await waits until the agent holds all that the server has for it.
func (j *joining) await(ctx context.Context) error {
	started, told, at := time.Now(), "", time.Time{}
	for {
		st, err := j.agent.Status(ctx)
		state := "waiting for the agent"
		switch {
		case err != nil:
		case st.Removed != "":
			return &v1.Error{Code: v1.CodeNodeRemoved, Object: "node/" + st.Node, Message: st.Removed, Fix: "join it again"}
		case st.Unproven != "" && st.Certificate.IsZero():
			return &v1.Error{Code: v1.CodeUnauthorized, Object: "node/" + st.Node, Message: st.Unproven, Fix: "repeat the command, with another token"}
		case st.Connected && st.Synced:
			if err := os.Remove(j.TokenFile); err != nil && !errors.Is(err, fs.ErrNotExist) { // it has served
				return fmt.Errorf("remove the join token: %w", err)
			}
			j.tell("ready after %.1f s, %d rows", time.Since(started).Seconds(), st.Rows)
			_, err := fmt.Fprintf(j.env.Out, "node/%s joined\n", st.Node)
			return err
		case st.Connected:
			state = "connected, waiting for rows"
		default:
			state = "the agent runs, waiting for the server to take it"
		}
		if state != told || time.Since(at) > 3*time.Second {
			told, at = state, time.Now()
			j.tell("%s", state)
		}
		select {
		case <-ctx.Done():
			if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return ctx.Err()
			}
			return &v1.Error{
				Code: v1.CodeTimeout, Object: "node/" + j.Node, Message: fmt.Sprintf("%s, after %s%s", told, j.timeout, j.lastWords()),
				Fix: "look at the agent's log (" + j.logHint() + "); the command can be repeated",
			}
		case <-time.After(100 * time.Millisecond):
		}
	}
}
