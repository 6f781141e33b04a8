// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"weft/lab/bgp"
)

// How long each part of Up may take.
const (
	serverWithin = 30 * time.Second
	agentsWithin = 30 * time.Second
	appliedLimit = 30 * time.Second
)

// Ports of a lab's server.
const (
	apiPort        = 7443 // on the machine's 127.0.0.1; the first free one from here
	apiPortsMost   = 100
	southboundPort = 7444 // on the server's loopback
)

// UpConfig says what to bring up.
type UpConfig struct {
	Name         string
	Topology     *Topology // as LoadTopology returns it
	Binary       string    // the program weft; not needed with UnderlayOnly
	UnderlayOnly bool      // namespaces, links and routes, but no process, tenant or workload
	Progress     io.Writer // gets a line at least every few seconds
}

// FailedUp is an Up that stopped half way. The lab is there for a look, and Down removes it.
type FailedUp struct {
	Lab string
	Err error
	Log string // the end of the log of the process that failed; may be empty
}

// Error says what failed, what the log says, and how to go on.
func (f *FailedUp) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "bring up lab %s: %v\n", f.Lab, f.Err)
	if f.Log != "" {
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(f.Log, "\n"))
	}
	fmt.Fprintf(&b, "what was made stays for a look; 'weft lab down %s' removes it", f.Lab)
	return b.String()
}

// Unwrap returns what failed.
func (f *FailedUp) Unwrap() error { return f.Err }

// bringUp is one Up on its way.
type bringUp struct {
	UpConfig
	*steps
	lab *Lab
	api *os.File // listening socket of the API
}

// Up brings a lab up and returns when all of it works. A failure once something is made is a *FailedUp.
func Up(ctx context.Context, cfg UpConfig) (*Lab, error) {
	if err := checkLabName(cfg.Name); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("bring up lab: network namespaces need root; try with sudo")
	}
	u := &bringUp{UpConfig: cfg, steps: newSteps(cfg.Progress), lab: newLab(cfg.Name, cfg.Topology)}
	u.lab.UnderlayOnly = cfg.UnderlayOnly
	if cfg.UnderlayOnly {
		u.lab.onlyNodes()
	}
	unlock, err := u.claim()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := u.run(ctx); err != nil {
		failed := &FailedUp{Lab: cfg.Name, Err: err}
		var on *nodeError
		for e := err; errors.As(e, &on); e = on.err { // the innermost knows best
			failed.Log = tail(u.lab.logFile(on.node, on.program))
		}
		return u.lab, failed
	}
	return u.lab, nil
}

// nodeError is an error whose cause the log of a node's process tells.
type nodeError struct {
	node, program string
	err           error
}

func (e *nodeError) Error() string { return e.node + ": " + e.err.Error() }
func (e *nodeError) Unwrap() error { return e.err }

// claim makes the lab's folder and locks it; before this nothing exists, after it Down finds all.
func (u *bringUp) claim() (unlock func(), err error) {
	dir := u.lab.Dir()
	if err := makeDir(dir); err != nil {
		return nil, fmt.Errorf("bring up lab: %w", err)
	}
	if unlock, err = lock(dir); err != nil {
		return nil, err
	}
	if err := u.refuseOld(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// makeDir makes a folder and those above it, again if the last of the other labs just took one of them away.
func makeDir(dir string) (err error) {
	for range 10 {
		if err = os.MkdirAll(dir, 0o700); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// refuseOld refuses to go over a lab that is there.
func (u *bringUp) refuseOld() error {
	old, err := Open(u.Name)
	switch {
	case errors.Is(err, ErrUnknown):
	case err != nil:
		return err
	default:
		since := " since " + old.Created.Local().Format("2006-01-02 15:04:05")
		if !old.Complete {
			since += ", incomplete"
		}
		return fmt.Errorf("%w: %s%s; remove it with 'weft lab down %s', or give the new one another --name", ErrExists, u.Name, since, u.Name)
	}
	entries, err := os.ReadDir(u.lab.Dir()) // what a Down left that was killed at its very end
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(u.lab.Dir(), e.Name())))
	}
	return err
}

// run does all of it in order.
func (u *bringUp) run(ctx context.Context) (err error) {
	if !u.UnderlayOnly {
		if err := u.openAPI(); err != nil {
			return err
		}
		defer u.api.Close()
	}
	if err := u.lab.save(); err != nil {
		return err
	}
	p := makePlan(u.Topology)
	if err := u.underlay(p); err != nil {
		return err
	}
	if !u.UnderlayOnly {
		steps := []func(context.Context, *plan) error{u.startServer, u.startAgents, u.awaitAgents, u.makeContext, u.applyResources, u.attachWorkloads, u.awaitApplied}
		if u.Topology.Routing != bgp.Static { // the server starts while the speakers find each other
			steps = slices.Insert(steps, 2, u.awaitRoutes)
			steps = slices.Insert(steps, 0, u.startRouting)
		}
		for _, step := range steps {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := step(ctx, p); err != nil {
				return err
			}
		}
	}
	u.lab.Complete = true
	if err := u.lab.save(); err != nil {
		return err
	}
	u.done("lab %s is up", u.Name)
	return nil
}

// openAPI opens the API's socket in the machine's own namespace, so that CLI and browser need no way into the lab. It leaves
// alone the port of another lab, whose server may just be away.
func (u *bringUp) openAPI() error {
	labs, err := List()
	if err != nil {
		return err
	}
	for port := apiPort; port < apiPort+apiPortsMost; port++ {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if slices.ContainsFunc(labs, func(l *Lab) bool { return l.API == address }) {
			continue
		}
		var l net.Listener
		l, err = net.Listen("tcp", address)
		if err != nil {
			continue
		}
		defer l.Close()
		u.lab.API = l.Addr().String()
		u.api, err = l.(*net.TCPListener).File()
		return err
	}
	return fmt.Errorf("open the API's socket: none of %d ports from %d is free: %w", apiPortsMost, apiPort, err)
}

// underlay makes namespaces, links and routes.
func (u *bringUp) underlay(p *plan) error {
	if err := buildNamespaces(u.lab, p); err != nil {
		return err
	}
	u.done("%d nodes", len(p.nodes))
	if err := buildLinks(u.lab, p); err != nil {
		return err
	}
	u.done("%d links, MTU %d", len(p.links), p.mtu)
	if u.Topology.Routing != bgp.Static && !u.UnderlayOnly {
		return nil
	}
	if err := buildRoutes(u.lab, p); err != nil {
		return err
	}
	u.done("routes, by all ways of the same length")
	return nil
}

// startServer starts the server with the API's socket, and waits until it answers.
func (u *bringUp) startServer(ctx context.Context, p *plan) error {
	n := p.server()
	state := u.lab.stateDir(n.Name)
	if err := makeDir(state); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	// LISTEN_PID cannot be known before the process is; the server takes the socket without it.
	err := u.lab.start(n.Name, "server", []*os.File{u.api}, []string{"LISTEN_FDS=1"}, u.Binary, "server",
		"--state-dir", state, "--listen", u.lab.API,
		"--southbound-listen", netip.AddrPortFrom(n.loopback, southboundPort).String())
	if err != nil {
		return err
	}
	u.api.Close() // the server alone answers now
	err = u.wait(ctx, serverWithin, "start the server", func(ctx context.Context) (string, error) {
		if err := u.lab.died(n.Name); err != nil {
			return "", err
		}
		c, err := u.lab.Client()
		if err != nil {
			return "it has not made its authority", nil
		}
		look, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := c.Status(look); err != nil {
			return err.Error(), nil
		}
		return "", nil
	})
	if err != nil {
		return &nodeError{n.Name, "server", err}
	}
	u.done("server answers at https://%s", u.lab.API)
	return nil
}

// startAgents starts the agents of hosts and edges.
func (u *bringUp) startAgents(_ context.Context, p *plan) error {
	server := p.server()
	for _, n := range p.nodes {
		if !n.joins() {
			continue
		}
		if err := makeDir(u.lab.runDir(n.Name)); err != nil {
			return fmt.Errorf("start agents: %w", err)
		}
		args := []string{
			u.Binary, "agent", "--node", n.Name, "--roles", string(n.Role),
			"--server", netip.AddrPortFrom(server.loopback, southboundPort).String(),
			"--ca", filepath.Join(u.lab.stateDir(server.Name), "ca.pem"),
			"--token-file", filepath.Join(u.lab.stateDir(server.Name), "node.token"),
			"--address", n.loopback.String(), "--underlay-mtu", strconv.Itoa(p.mtu),
			"--state-dir", u.lab.stateDir(n.Name), "--run-dir", u.lab.runDir(n.Name), "--bpffs", u.lab.pinDir(n.Name),
		}
		if u.Topology.Routing != bgp.Static {
			args = append(args, "--bgp-config", filepath.Join(u.lab.stateDir(n.Name), "bgp.yaml"))
		}
		if err := u.lab.start(n.Name, "agent", nil, nil, args...); err != nil {
			return err
		}
	}
	return nil
}

// awaitAgents waits until each agent has all rows in effect.
func (u *bringUp) awaitAgents(ctx context.Context, p *plan) error {
	var started []string
	for _, n := range p.nodes {
		if n.joins() {
			started = append(started, n.Name)
		}
	}
	waitingFor := ""
	err := u.wait(ctx, agentsWithin, "start the agents", func(ctx context.Context) (string, error) {
		for len(started) > 0 {
			waitingFor = started[0]
			if err := u.lab.died(waitingFor); err != nil {
				return "", err
			}
			look, cancel := context.WithTimeout(ctx, time.Second)
			st, err := u.lab.Agent(waitingFor).Status(look)
			cancel()
			if err != nil {
				return err.Error(), nil
			}
			if !st.Synced {
				return waitingFor + " is not synced", nil
			}
			u.done("%s is synced", waitingFor)
			started = started[1:]
		}
		return "", nil
	})
	if err != nil {
		return &nodeError{waitingFor, "agent", err}
	}
	return nil
}

// died says so if the process of a node has ended.
func (l *Lab) died(node string) error {
	for _, p := range l.Processes {
		if p.Node == node && !p.Alive() {
			return &nodeError{node, p.Program, fmt.Errorf("%s has ended", p.Program)}
		}
	}
	return nil
}

// tail returns the end of a log, with its name.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return "--- the end of " + path + "\n" + strings.Join(lines[max(0, len(lines)-15):], "\n") + "\n---"
}
