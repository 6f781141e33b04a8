// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	v1 "weft/api/v1"
	"weft/client"
)

// request and answer are those of the node's prober (internal/node/probe), on the wire.
type request struct {
	Do     string `json:"do"`
	Name   string `json:"name,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	Port   string `json:"port,omitempty"`
	To     string `json:"to,omitempty"`
	Size   int    `json:"size,omitempty"`
	Canary string `json:"canary,omitempty"`
	Frame  []byte `json:"frame,omitempty"`
}

type answer struct {
	OK       bool     `json:"ok"`
	Detail   string   `json:"detail"`
	Identity string   `json:"identity"`
	Seen     []string `json:"seen"`
	MTU      int      `json:"mtu"`
}

// talkPort is where every probe workload answers.
const talkPort = 7007

// The workloads of each tenant: two in one subnet on the first node, one in another subnet there, and one of each on the
// second node. Both tenants have the same addresses and MACs.
var layout = []struct {
	port, subnet, addr string
	node               int
}{
	{"p1", "s1", "10.99.1.10", 0},
	{"p2", "s1", "10.99.1.11", 0},
	{"p3", "s2", "10.99.2.10", 0},
	{"p4", "s1", "10.99.1.12", 1},
	{"p5", "s2", "10.99.2.11", 1},
}

func (r *run) tenant(side int) string { return fmt.Sprintf("%s%c-%s", tenantPrefix, 'a'+side, r.id) }

// setUp makes tenants, and the workloads on the nodes.
func (r *run) setUp(ctx context.Context) error {
	var docs []v1.Object
	for side := range 2 {
		docs = append(docs, r.documents(side)...)
	}
	for i, a := range r.sides[0] {
		a.sibling, r.sides[1][i].sibling = r.sides[1][i], a
	}
	if _, err := r.cfg.Client.Apply(ctx, docs, client.ApplyOptions{}); err != nil {
		return err
	}
	var mu sync.Mutex // guards r.mtu
	err := r.each(func(a *actor) error {
		out, err := r.ask(ctx, a, request{Do: "create", Tenant: a.tenant, Port: a.port})
		mu.Lock()
		defer mu.Unlock()
		if r.mtu == 0 || (out.MTU > 0 && out.MTU < r.mtu) {
			r.mtu = out.MTU
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.awaitApplied(ctx)
}

// documents lists the resources of one tenant and fills its side with actors.
func (r *run) documents(side int) []v1.Object {
	t := r.tenant(side)
	meta := func(kind v1.Kind, tenant, name string) (v1.TypeMeta, v1.Metadata) {
		return v1.TypeMeta{APIVersion: v1.APIVersion, Kind: kind}, v1.Metadata{Name: name, Tenant: tenant}
	}
	tenant, vpc := &v1.Tenant{}, &v1.VPC{}
	tenant.TypeMeta, tenant.Metadata = meta(v1.KindTenant, "", t)
	vpc.TypeMeta, vpc.Metadata = meta(v1.KindVPC, t, "main")
	vpc.Spec.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}
	docs := []v1.Object{tenant, vpc}
	for i, p := range []string{"10.99.1.0/24", "10.99.2.0/24"} {
		s := &v1.Subnet{Spec: v1.SubnetSpec{VPC: "main", Prefixes: []netip.Prefix{netip.MustParsePrefix(p)}}}
		s.TypeMeta, s.Metadata = meta(v1.KindSubnet, t, fmt.Sprintf("s%d", i+1))
		docs = append(docs, s)
	}
	for i, l := range layout {
		if l.node >= len(r.nodes) {
			continue
		}
		p := &v1.Port{Spec: v1.PortSpec{Subnet: l.subnet, Addresses: []netip.Addr{netip.MustParseAddr(l.addr)}, MAC: v1.MAC{2, 0, 0, 0, 0x99, byte(i + 1)}}}
		p.TypeMeta, p.Metadata = meta(v1.KindPort, t, l.port)
		docs = append(docs, p)
		r.sides[side] = append(r.sides[side], &actor{
			tenant: t, port: l.port, node: r.nodes[l.node], subnet: l.subnet, addr: l.addr, mac: p.Spec.MAC,
		})
	}
	return docs
}

// each runs f for every actor at the same time.
func (r *run) each(f func(a *actor) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex // guards errs
	var errs []error
	for _, side := range r.sides {
		for _, a := range side {
			wg.Go(func() {
				if err := f(a); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("%s: %w", a, err))
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// ask puts a request to the prober of an actor's node.
func (r *run) ask(ctx context.Context, a *actor, q request) (answer, error) {
	q.Name = strings.TrimPrefix(a.tenant, tenantPrefix) + "-" + a.port
	var out answer
	err := r.cfg.Client.Ask(ctx, a.node, "probe", q, &out)
	return out, err
}

// awaitApplied waits until every node knows every actor.
func (r *run) awaitApplied(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		waiting := ""
		for side := range 2 {
			o, err := r.cfg.Client.Get(ctx, v1.KindVPC, r.tenant(side), "main")
			if err != nil {
				return err
			}
			if st := o.(*v1.VPC).Status.Applied; len(st.Waiting) > 0 || st.Applied < st.Nodes {
				waiting = fmt.Sprintf("%s is in effect on %d of %d nodes, waiting for %v", r.tenant(side), st.Applied, st.Nodes, st.Waiting)
			}
		}
		if waiting == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New(waiting)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// cleanUp removes what this run made.
func (r *run) cleanUp(ctx context.Context) error {
	err := r.each(func(a *actor) error {
		_, err := r.ask(ctx, a, request{Do: "remove"})
		return err
	})
	for side := range 2 {
		err = errors.Join(err, removeTenant(ctx, r.cfg.Client, r.tenant(side)))
	}
	return err
}

func removeTenant(ctx context.Context, c *client.Client, name string) error {
	_, err := c.Delete(ctx, v1.KindTenant, "", name, client.DeleteOptions{Cascade: true})
	var e *v1.Error
	if errors.As(err, &e) && e.Code == v1.CodeNotFound {
		return nil
	}
	return err
}

// CleanUp removes what earlier runs left on any node and in the store. It returns the tenants that it removed.
func CleanUp(ctx context.Context, c *client.Client) ([]string, error) {
	st, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, n := range st.Nodes {
		if n.Status.Ready {
			var out answer
			errs = append(errs, c.Ask(ctx, n.Name, "probe", request{Do: "cleanup"}, &out))
		}
	}
	tenants, _, err := c.List(ctx, v1.KindTenant, "")
	errs = append(errs, err)
	var removed []string
	for _, t := range tenants {
		if name := t.Meta().Name; strings.HasPrefix(name, tenantPrefix) {
			errs = append(errs, removeTenant(ctx, c, name))
			removed = append(removed, name)
		}
	}
	return removed, errors.Join(errs...)
}
