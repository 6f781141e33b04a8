// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	v1 "weft/api/v1"
	"weft/client"
	"weft/lab/dhcp"
)

// Context returns what a CLI needs to reach the lab's server.
func (l *Lab) Context() client.Context {
	server := l.serverNode()
	return client.Context{
		Name: l.Name, Server: "https://" + l.API, Lab: l.Name,
		TokenFile: filepath.Join(l.stateDir(server), "admin.token"), CAFile: filepath.Join(l.stateDir(server), "ca.pem"),
	}
}

// Client returns a client of the lab's server.
func (l *Lab) Client() (*client.Client, error) { return l.Context().Client() }

func (l *Lab) serverNode() string {
	for _, n := range l.Topology.Nodes {
		if n.Role == RoleServer {
			return n.Name
		}
	}
	return ""
}

// makeContext lets the CLI speak to this lab from now on.
func (u *bringUp) makeContext(context.Context, *plan) error {
	err := client.UpdateContexts(func(c *client.Contexts) error {
		if i := slices.IndexFunc(c.Contexts, func(x client.Context) bool { return x.Name == u.Name }); i >= 0 && c.Contexts[i].Lab == "" {
			return fmt.Errorf("there is a context %s that is not a lab's; give the lab another --name", u.Name)
		}
		c.Add(u.lab.Context())
		return nil
	})
	if err != nil {
		return err
	}
	u.done("context %s is the current one", u.Name)
	return nil
}

// removeContext takes the lab's context away; absent is fine.
func removeContext(name string) error {
	isIt := func(x client.Context) bool { return x.Name == name && x.Lab == name }
	now, err := client.LoadContexts()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(now.Contexts, isIt) {
		return nil // and leave the file as it is
	}
	return client.UpdateContexts(func(c *client.Contexts) error {
		if slices.ContainsFunc(c.Contexts, isIt) {
			c.Remove(name)
		}
		return nil
	})
}

// applyResources gives the server the topology's documents.
func (u *bringUp) applyResources(ctx context.Context, _ *plan) error {
	if len(u.Topology.Objects) == 0 {
		return nil
	}
	c, err := u.lab.Client()
	if err != nil {
		return err
	}
	if _, err := c.Apply(ctx, u.Topology.Objects, client.ApplyOptions{}); err != nil {
		return &nodeError{u.lab.serverNode(), "server", fmt.Errorf("apply %s: %w", u.Topology.Resources, err)}
	}
	count := make(map[v1.Kind]int)
	for _, o := range u.Topology.Objects {
		count[o.GetKind()]++
	}
	var parts []string
	for _, k := range v1.Kinds() {
		if count[k.Kind] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[k.Kind], k.Plural))
		}
	}
	u.done("%s", strings.Join(parts, ", "))
	return nil
}

// attachWorkloads makes the workloads' namespaces and attaches them, side by side.
func (u *bringUp) attachWorkloads(ctx context.Context, _ *plan) error {
	var wg sync.WaitGroup
	errs := make([]error, len(u.lab.Workloads))
	for i, w := range u.lab.Workloads {
		if err := buildNamespace(w.NetNS, workloadSettings); err != nil {
			return err
		}
		wg.Go(func() {
			if err := u.lab.attach(ctx, w); err != nil {
				errs[i] = &nodeError{w.Node, "agent", err}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	u.done("%d workloads attached, each with its addresses by DHCP", len(u.lab.Workloads))
	return nil
}

func (l *Lab) attach(ctx context.Context, w Workload) error {
	tenant, port, _ := strings.Cut(w.Port, "/")
	a, err := l.Agent(w.Node).Attach(ctx, v1.AttachRequest{Tenant: tenant, Port: port, NetNS: w.NetNS, Device: workloadDevice, Move: true})
	if err != nil {
		return fmt.Errorf("attach %s: %w", w.Port, err)
	}
	return w.lease(ctx, a)
}

// lease gives an attached workload its addresses as any machine gets them.
func (w Workload) lease(ctx context.Context, a *v1.Attachment) error {
	var ipv4, ipv6 bool
	for _, p := range a.Addresses {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			return fmt.Errorf("attachment of %s: %w", w.Port, err)
		}
		ipv4, ipv6 = ipv4 || prefix.Addr().Is4(), ipv6 || prefix.Addr().Is6()
	}
	if err := (dhcp.Client{NetNS: w.NetNS, Device: workloadDevice}).Lease(ctx, ipv4, ipv6); err != nil {
		return fmt.Errorf("%s got %w; 'weft dump dhcp --node %s' tells what was asked and answered", w.Port, err, w.Node)
	}
	return nil
}

// workloadDevice is the interface of a workload.
const workloadDevice = "eth0"

// Attach makes the workload's namespace, if it is not there, and attaches it to its port on a node: a workload that has
// moved, or is new. Its old attachment is undone first.
func (l *Lab) Attach(ctx context.Context, port, node string) error {
	if n := l.Topology.node(node); n == nil || n.Role != RoleHost {
		return fmt.Errorf("%w: %s is not a host of lab %s", ErrTarget, node, l.Name)
	}
	if !strings.Contains(port, "/") {
		return fmt.Errorf("%w: port %q is not written TENANT/PORT", ErrTarget, port)
	}
	w := Workload{Port: port, Node: node, NetNS: l.netNS(strings.ReplaceAll(port, "/", "-"))}
	i := slices.IndexFunc(l.Workloads, func(x Workload) bool { return x.Port == port })
	if i < 0 {
		l.Workloads, l.Namespaces = append(l.Workloads, w), append(l.Namespaces, w.NetNS)
		if err := l.save(); err != nil {
			return err
		}
		if err := buildNamespace(w.NetNS, workloadSettings); err != nil {
			return err
		}
	} else if old := l.Workloads[i]; old.Node != node {
		tenant, name, _ := strings.Cut(port, "/")
		if err := l.Agent(old.Node).Detach(ctx, v1.DetachRequest{Tenant: tenant, Port: name}); err != nil {
			return fmt.Errorf("detach %s from %s: %w", port, old.Node, err)
		}
		l.Workloads[i] = w
		if err := l.save(); err != nil {
			return err
		}
	}
	return l.attach(ctx, w)
}

// awaitApplied waits until every resource is in effect on every node that it concerns.
func (u *bringUp) awaitApplied(ctx context.Context, _ *plan) error {
	c, err := u.lab.Client()
	if err != nil {
		return err
	}
	err = u.wait(ctx, appliedLimit, "wait for the packet path", func(ctx context.Context) (string, error) { return notApplied(ctx, c) })
	if err == nil {
		u.done("everything is in effect on every node that it concerns")
	}
	return err
}

// notApplied names a resource that is not in effect everywhere.
func notApplied(ctx context.Context, c *client.Client) (string, error) {
	for _, k := range []v1.Kind{v1.KindVPC, v1.KindSubnet, v1.KindPort} {
		objects, _, err := c.List(ctx, k, "")
		if err != nil {
			return "", err
		}
		for _, o := range objects {
			var a v1.Applied
			switch o := o.(type) {
			case *v1.VPC:
				a = o.Status.Applied
			case *v1.Subnet:
				a = o.Status.Applied
			case *v1.Port:
				a = o.Status.Applied
			}
			if a.Applied < a.Nodes {
				m := o.Meta()
				return fmt.Sprintf("%s %s/%s is on %d of %d nodes, not on %s", k, m.Tenant, m.Name, a.Applied, a.Nodes, strings.Join(a.Waiting, ", ")), nil
			}
		}
	}
	return "", nil
}
