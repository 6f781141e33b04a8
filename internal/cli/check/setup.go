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
	"weft/internal/cli/check/attack"
)

// request and answer are those of the node's prober (internal/node/probe), on the wire.
type request struct {
	Do     string    `json:"do"`
	Name   string    `json:"name,omitempty"`
	Tenant string    `json:"tenant,omitempty"`
	Port   string    `json:"port,omitempty"`
	To     string    `json:"to,omitempty"`
	Size   int       `json:"size,omitempty"`
	Canary string    `json:"canary,omitempty"`
	Frames [][]byte  `json:"frames,omitempty"`
	Steps  []step    `json:"steps,omitempty"`
	After  int       `json:"after,omitempty"`
	VNI    uint32    `json:"vni,omitempty"`
	Many   []request `json:"many,omitempty"`

	pieces func(canary string) [][]byte // makes Frames
}

type step struct {
	Frames [][]byte `json:"frames"`
	Drops  uint64   `json:"drops,omitempty"`
}

type answer struct {
	OK       bool              `json:"ok"`
	Detail   string            `json:"detail"`
	Identity string            `json:"identity"`
	Seen     []string          `json:"seen"`
	Hops     []string          `json:"hops"`
	MTU      int               `json:"mtu"`
	Outcomes []outcome         `json:"outcomes"`
	Drops    map[string]uint64 `json:"drops"`
	Answers  []answer          `json:"answers"`
}

type outcome struct {
	Drops map[string]uint64 `json:"drops"`
}

// talkPort is where every probe workload answers.
const talkPort = 7007

// actor is one probe workload.
type actor struct {
	attack.Workload
	tenant, port, node string
	index              int    // in its side
	side               int    // 0 or 1
	sibling            *actor // in the other tenant, with the same addresses unless it has its own
	known              int    // canaries that it has told of
}

func (a *actor) String() string {
	return fmt.Sprintf("%s/%s (%s, %s) on %s", a.tenant, a.port, a.Addr4, a.Addr6, a.node)
}

// The workloads of each tenant: two in one subnet on the first node, one in another subnet there, and one of each on the
// other nodes. Both tenants have the same addresses and MACs, except that the last has an address that the other tenant
// has nowhere.
var layout = []struct {
	port   string
	subnet int
	host   uint16 // last part of both addresses
	node   int
	own    bool
}{
	{"p1", 1, 0x10, 0, false},
	{"p2", 1, 0x11, 0, false},
	{"p3", 2, 0x10, 0, false},
	{"p4", 1, 0x12, 1, false},
	{"p5", 2, 0x11, 1, false},
	{"p6", 1, 0x13, 2, false},
	{"p7", 2, 0x12, 2, false},
	{"p8", 1, 0x40, 0, true},
}

func (r *run) tenant(side int) string { return fmt.Sprintf("%s%c-%s", tenantPrefix, 'a'+side, r.id) }

// layOut names the actors of both sides.
func (r *run) layOut() {
	for side := range 2 {
		for i, l := range layout {
			if l.node >= len(r.nodes) {
				continue
			}
			host, mac := l.host, v1.MAC{2, 0, 0, 0, 0x99, byte(i + 1)}
			if l.own {
				host, mac[4] = host+uint16(side), 0x9a+byte(side)
			}
			r.sides[side] = append(r.sides[side], &actor{
				Workload: attack.Workload{Addr4: attack.Place(4, l.subnet, host), Addr6: attack.Place(6, l.subnet, host), MAC: mac, Subnet: l.subnet},
				tenant:   r.tenant(side), port: l.port, node: r.nodes[l.node], index: len(r.sides[side]), side: side,
			})
		}
	}
	for i, a := range r.sides[0] {
		a.sibling, r.sides[1][i].sibling = r.sides[1][i], a
	}
}

// setUp makes tenants, and the workloads on the nodes.
func (r *run) setUp(ctx context.Context) error {
	docs := append(r.documents(0), r.documents(1)...)
	if _, err := r.cfg.Client.Apply(ctx, docs, client.ApplyOptions{}); err != nil {
		return err
	}
	err := r.each(func(a *actor) error {
		out, err := r.ask(ctx, a, request{Do: "create", Tenant: a.tenant, Port: a.port})
		r.mu.Lock()
		defer r.mu.Unlock()
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

// documents lists the resources of one tenant.
func (r *run) documents(side int) []v1.Object {
	t := r.tenant(side)
	meta := func(kind v1.Kind, tenant, name string) (v1.TypeMeta, v1.Metadata) {
		return v1.TypeMeta{APIVersion: v1.APIVersion, Kind: kind}, v1.Metadata{Name: name, Tenant: tenant}
	}
	tenant, vpc := &v1.Tenant{}, &v1.VPC{}
	tenant.TypeMeta, tenant.Metadata = meta(v1.KindTenant, "", t)
	vpc.TypeMeta, vpc.Metadata = meta(v1.KindVPC, t, "main")
	vpc.Spec.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16"), netip.MustParsePrefix("fd00:99::/48")}
	docs := []v1.Object{tenant, vpc}
	for i := 1; i <= 2; i++ {
		s := &v1.Subnet{Spec: v1.SubnetSpec{VPC: "main", Prefixes: []netip.Prefix{
			netip.PrefixFrom(attack.Place(4, i, 0), 24), netip.PrefixFrom(attack.Place(6, i, 0), 64),
		}}}
		s.TypeMeta, s.Metadata = meta(v1.KindSubnet, t, fmt.Sprintf("s%d", i))
		docs = append(docs, s)
	}
	for _, a := range r.sides[side] {
		p := &v1.Port{Spec: v1.PortSpec{Subnet: fmt.Sprintf("s%d", a.Subnet), Addresses: []netip.Addr{a.Addr4, a.Addr6}, MAC: a.MAC}}
		p.TypeMeta, p.Metadata = meta(v1.KindPort, t, a.port)
		docs = append(docs, p)
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

// workload is the name of an actor at its node.
func (r *run) workload(a *actor) string {
	return strings.TrimPrefix(a.tenant, tenantPrefix) + "-" + a.port
}

// ask puts a request to the prober of an actor's node.
func (r *run) ask(ctx context.Context, a *actor, q request) (answer, error) {
	q.Name = r.workload(a)
	var out answer
	err := r.cfg.Client.Ask(ctx, a.node, "probe", q, &out)
	return out, err
}

// awaitApplied waits until every node knows every actor where it is now: the VPC itself was in effect before they were attached.
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
			r.vni[side] = o.(*v1.VPC).Status.VNI
			ports, _, err := r.cfg.Client.List(ctx, v1.KindPort, r.tenant(side))
			if err != nil {
				return err
			}
			if len(ports) != len(r.sides[side]) {
				return fmt.Errorf("%s has %d ports, not the %d of this check", r.tenant(side), len(ports), len(r.sides[side]))
			}
			for _, o := range ports {
				p := o.(*v1.Port)
				if st := p.Status.Applied; p.Status.Node == "" || len(st.Waiting) > 0 || st.Applied < st.Nodes {
					waiting = fmt.Sprintf("%s/%s is in effect on %d of %d nodes, waiting for %v", p.Tenant, p.Name, st.Applied, st.Nodes, st.Waiting)
				}
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
