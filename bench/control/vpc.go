// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	v1 "weft/api/v1"
	"weft/internal/southbound"
)

// Sizes that do not change.
const (
	subnets     = 255 // of a large VPC, /24 each
	fewPorts    = 4   // of a tenant among many
	tenantNodes = 2   // nodes that such a tenant is on
	tenantSets  = 14  // of such tenants whose documents go into one request
	apart       = 10 * time.Millisecond
)

// vpc is a VPC, and the nodes that its ports are attached at in turn.
type vpc struct {
	tenant   string
	few      bool // one subnet, few ports
	nodes    []*node
	ports    []*v1.Port
	attached int // ports from the first on
}

func newVPC(tenant string, nodes []*node) *vpc { return &vpc{tenant: tenant, nodes: nodes} }

// documents are the tenant, its VPC and its subnets.
func (v *vpc) documents() []v1.Object {
	n := subnets
	if v.few {
		n = 1
	}
	t := &v1.Tenant{TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindTenant}, Metadata: v1.Metadata{Name: v.tenant}}
	net := &v1.VPC{TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindVPC}, Metadata: v1.Metadata{Name: "main", Tenant: v.tenant}}
	net.Spec.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}
	docs := []v1.Object{t, net}
	for i := range n {
		s := &v1.Subnet{
			TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindSubnet},
			Metadata: v1.Metadata{Name: fmt.Sprintf("subnet-%d", i), Tenant: v.tenant},
		}
		s.Spec.VPC = "main"
		s.Spec.Prefixes = []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24)}
		docs = append(docs, s)
	}
	return docs
}

// next are the documents of n further ports, of all subnets in turn.
func (v *vpc) next(n int) []v1.Object {
	var docs []v1.Object
	for range n {
		p := &v1.Port{
			TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindPort},
			Metadata: v1.Metadata{Name: fmt.Sprintf("port-%d", len(v.ports)), Tenant: v.tenant},
		}
		p.Spec.Subnet = "subnet-0"
		if !v.few {
			p.Spec.Subnet = fmt.Sprintf("subnet-%d", len(v.ports)%subnets)
		}
		v.ports = append(v.ports, p)
		docs = append(docs, p)
	}
	return docs
}

func (v *vpc) create(ctx context.Context, s *cloud) error { return s.write(ctx, v.documents()...) }

// add makes n further ports.
func (v *vpc) add(ctx context.Context, s *cloud, n int) error { return s.write(ctx, v.next(n)...) }

// grow adds n ports, attaches them, and returns when they are in effect on all nodes.
func (v *vpc) grow(ctx context.Context, s *cloud, n int) error {
	if err := v.add(ctx, s, n-1); err != nil {
		return err
	}
	if err := v.attach(ctx, s); err != nil {
		return err
	}
	_, err := v.change(ctx, s) // a node takes steps in order
	return err
}

// attach attaches what is not, all nodes at once, each one port after the other.
func (v *vpc) attach(ctx context.Context, s *cloud) error { return attachAll(ctx, s, []*vpc{v}) }

// attachAll attaches the ports of VPCs that are not, all nodes at once, each one port after the other.
func attachAll(ctx context.Context, s *cloud, vpcs []*vpc) error {
	type port struct{ tenant, name string }
	share := make(map[*node][]port)
	for _, v := range vpcs {
		for ; v.attached < len(v.ports); v.attached++ {
			n := v.nodes[v.attached%len(v.nodes)]
			share[n] = append(share[n], port{v.tenant, v.ports[v.attached].Name})
		}
	}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for n, ports := range share {
		wg.Go(func() {
			for _, p := range ports {
				if err := n.attach(ctx, p.tenant, p.name); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(append(errs, s.alive(ctx))...)
}

// createAll makes VPCs of few ports with all that is in them, many in a request.
func createAll(ctx context.Context, s *cloud, vpcs []*vpc) error {
	var docs []v1.Object
	for i, v := range vpcs {
		docs = append(docs, v.documents()...)
		docs = append(docs, v.next(fewPorts)...)
		if (i+1)%tenantSets == 0 || i == len(vpcs)-1 {
			if err := s.write(ctx, docs...); err != nil {
				return err
			}
			docs = nil
		}
	}
	return nil
}

// change starts one further port: it is written at the API and attached at its node. It returns how long after the beginning of the
// first request its location is in effect on all nodes.
func (v *vpc) change(ctx context.Context, s *cloud) (time.Duration, error) {
	docs := v.next(1)
	p := v.ports[len(v.ports)-1]
	p.Spec.MAC = v1.MAC(s.probe.mac())
	w := s.probe.expect(southbound.MAC(p.Spec.MAC), len(v.nodes))
	start := time.Now()
	if err := s.write(ctx, docs...); err != nil {
		return 0, err
	}
	if err := v.attach(ctx, s); err != nil {
		return 0, err
	}
	took, err := w.wait(ctx, start)
	if err != nil {
		return 0, errors.Join(fmt.Errorf("port %s of %s: %w", p.Name, v.tenant, err), s.alive(ctx))
	}
	return took, nil
}

// changes makes n changes, one after the other is in effect and a little later; it returns how long each took, in ms.
func (v *vpc) changes(ctx context.Context, s *cloud, n int) (ms []float64, err error) {
	for range n {
		took, err := v.change(ctx, s)
		if err != nil {
			return nil, err
		}
		ms = append(ms, took.Seconds()*1000)
		time.Sleep(apart)
	}
	return ms, nil
}

// Noise: so many changes in one request, so often.
const (
	noiseSet   = 100
	noiseEvery = 100 * time.Millisecond
)

// noise changes what a thousand ports a second may send from, until stop is called, which returns the rate that it came to.
func (v *vpc) noise(ctx context.Context, s *cloud) (stop func() (rate float64, err error)) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	start, changed := time.Now(), 0
	go func() {
		t := time.NewTicker(noiseEvery)
		defer t.Stop()
		for next := 0; ; next += noiseSet {
			var docs []v1.Object
			for i := range min(noiseSet, len(v.ports)) {
				p := v.ports[(next+i)%len(v.ports)]
				p.Spec.AllowedSources = []netip.Prefix{source(next + i)}
				docs = append(docs, p)
			}
			if err := s.write(ctx, docs...); err != nil {
				if ctx.Err() != nil {
					err = nil
				}
				done <- err
				return
			}
			changed += len(docs)
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-t.C:
			}
		}
	}()
	return func() (float64, error) {
		took := time.Since(start).Seconds()
		cancel()
		err := <-done
		return float64(changed) / took, err
	}
}

// source is a range that no port has had before, for a million calls.
func source(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 16 + byte(n>>16)&15, byte(n >> 8), byte(n)}), 32)
}

// heard sums up what all nodes hold and were sent.
func (s *cloud) heard() (rows int, took, bytes uint64) {
	for _, n := range s.nodes {
		r, t, b := n.heard()
		rows, took, bytes = rows+r, took+t, bytes+b
	}
	return rows, took, bytes
}

// quiet returns when no node has been sent a row for a while.
func (s *cloud) quiet(ctx context.Context) error {
	const still, most = 500 * time.Millisecond, time.Minute
	_, last, _ := s.heard()
	for start, since := time.Now(), time.Now(); time.Since(since) < still; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(still / 10):
		}
		if _, now, _ := s.heard(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(start) > most {
			return fmt.Errorf("nodes are sent rows %s after the last write", most)
		}
	}
	return nil
}
