// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	v1 "weft/api/v1"
	"weft/client"
	"weft/lab"
	"weft/lab/bgp"
	"weft/lab/traffic"
)

// storyKey finds the story of a script.
type storyKey struct{}

// story is one script and its lab.
type story struct {
	lab    string
	dir    string
	l      *lab.Lab
	api    *client.Client
	echos  map[string]*exec.Cmd // by TENANT/PORT
	flows  map[string][]*traffic.Flow
	fabric uint64 // packets of flows that were lost, and not at a node
	forgot bool   // a node died, and with it what it had counted
	moved  bool   // a port's device went away, and with it what the kernel had counted there
}

// end takes the lab away, whatever happened.
func (s *story) end() error {
	if s.l == nil {
		return nil
	}
	books := s.settled()
	err := lab.Down(s.lab, nil)
	for _, e := range s.echos {
		_ = e.Wait() // killed with the lab
	}
	s.l = nil
	if errors.Is(err, lab.ErrUnknown) {
		err = nil
	}
	return errors.Join(books, err)
}

// up brings a data centre up, the default one without a file, without tenants or whole.
func (s *story) up(path string, whole bool, routing bgp.Program, progress io.Writer) error {
	topology, err := lab.LoadTopology(path)
	if err != nil {
		return err
	}
	if !whole {
		topology.Resources, topology.Objects, topology.Workloads = "", nil, nil
	}
	topology.Routing = cmp.Or(routing, topology.Routing)
	s.echos, s.flows = make(map[string]*exec.Cmd), make(map[string][]*traffic.Flow)
	s.l, err = lab.Up(context.Background(), lab.UpConfig{Name: s.lab, Topology: topology, Binary: program, Progress: progress})
	if err != nil {
		return err
	}
	if s.api, err = s.l.Client(); err != nil {
		return err
	}
	file, err := yaml.Marshal(client.Contexts{Current: s.lab, Contexts: []client.Context{s.l.Context()}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.config(), file, 0o600); err != nil {
		return err
	}
	for _, w := range s.l.Workloads {
		if err := s.startEcho(w.Port); err != nil {
			return err
		}
	}
	return nil
}

// config is a file of contexts with the story's own lab.
func (s *story) config() string { return filepath.Join(s.dir, ".weft-config.yaml") }

// attach attaches, or moves, a workload, and lets it answer who it is.
func (s *story) attach(port, node string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.l.Attach(ctx, port, node); err != nil {
		return err
	}
	if s.echos[port] != nil {
		return nil
	}
	return s.startEcho(port)
}

func (s *story) startEcho(port string) error {
	cmd := s.helper("echo", port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := s.l.Start(cmd, port); err != nil {
		return err
	}
	s.echos[port] = cmd
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("echo of %s: %w", port, err)
	}
	return nil
}

// helper is this very program in another part.
func (s *story) helper(what string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	if self, err := os.Executable(); err == nil {
		cmd.Path = self
	}
	cmd.Env = append(os.Environ(), helperVariable+"="+what, "WEFT_LAB="+s.lab)
	return cmd
}

// run runs cmd in a workload or on a node and returns what it wrote.
func (s *story) run(target string, cmd *exec.Cmd) (string, error) {
	var out, errOut strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := s.l.Start(cmd, target); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s on %s: %w\n%s%s", strings.Join(cmd.Args, " "), target, err, out.String(), errOut.String())
	}
	return out.String(), nil
}

// address finds what TENANT/PORT or an address means.
func (s *story) address(what string) (string, error) {
	tenant, name, ok := strings.Cut(what, "/")
	if !ok {
		return what, nil
	}
	o, err := s.api.Get(context.Background(), v1.KindPort, tenant, name)
	if err != nil {
		return "", err
	}
	p := o.(*v1.Port)
	if len(p.Status.Addresses) == 0 {
		return "", fmt.Errorf("%s has no address", what)
	}
	return p.Status.Addresses[0].String(), nil
}

// asks returns who answers at each address, as seen from a workload.
func (s *story) asks(from string, addresses ...string) (map[string]string, error) {
	out, err := s.run(from, s.helper("ask", addresses...))
	if err != nil {
		return nil, err
	}
	answers := make(map[string]string)
	for line := range strings.Lines(out) {
		if address, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			answers[address] = name
		}
	}
	return answers, nil
}

// isolated checks that nothing of one tenant can be reached by another: whoever answers, at any address that any tenant
// has, is of the asker's own tenant.
func (s *story) isolated(tenants []string) error {
	addresses, err := s.allAddresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, w := range s.l.Workloads {
		own, _, _ := strings.Cut(w.Port, "/")
		if !slices.Contains(tenants, own) {
			continue
		}
		answers, err := s.asks(w.Port, addresses...)
		errs = append(errs, err)
		for address, name := range answers {
			if !strings.HasPrefix(name, own+"/") {
				errs = append(errs, fmt.Errorf("%s reached %s at %s", w.Port, name, address))
			}
		}
	}
	return errors.Join(errs...)
}

// allAddresses lists the addresses of all ports of all tenants, and of the nodes.
func (s *story) allAddresses() ([]string, error) {
	ports, _, err := s.api.List(context.Background(), v1.KindPort, "")
	if err != nil {
		return nil, err
	}
	var all []string
	for _, o := range ports {
		for _, a := range o.(*v1.Port).Status.Addresses {
			all = append(all, a.String())
		}
	}
	for _, n := range s.l.Graph().Nodes {
		if a, err := netip.ParseAddr(n.Address); err == nil {
			all = append(all, a.String())
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// nowhere checks that no node, or not the one named, has anything of a VNI, in rows or in tables of the packet path.
func (s *story) nowhere(vni, node string) error {
	var errs []error
	for _, n := range s.l.Topology.Nodes {
		if !n.Role.HasAgent() || node != "" && n.Name != node {
			continue
		}
		for _, table := range []string{"rows", "port", "location", "sender"} {
			text, err := s.l.Agent(n.Name).Dump(context.Background(), table)
			errs = append(errs, err)
			for line := range strings.Lines(text) {
				if slices.Contains(strings.FieldsFunc(line, func(r rune) bool { return r < '0' || r > '9' }), vni) {
					errs = append(errs, fmt.Errorf("%s of %s: %s", table, n.Name, strings.TrimSpace(line)))
				}
			}
		}
	}
	return errors.Join(errs...)
}
