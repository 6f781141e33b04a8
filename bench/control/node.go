// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"weft/internal/agent/enrol"
	"weft/internal/base/nodeid"
	"weft/internal/node/kernel"
	"weft/internal/node/overlay"
	"weft/internal/node/routing"
	"weft/internal/southbound"
)

// node is a node without a kernel: enrolment, certificate, stream and the handling of rows are the agent's own; what would be written
// to the kernel is forgotten.
type node struct {
	name   string
	client *southbound.Client
	probe  *probe
	ended  chan struct{} // closed when it has ended

	bytes atomic.Uint64 // that came in by the stream, as they were on the wire before encryption

	mu       sync.Mutex // guards below
	overlay  *overlay.Overlay
	routing  *routing.Routing
	bindings []southbound.Binding
	rows     map[southbound.Key]struct{}
	took     uint64 // rows that came, those that took the place of others among them
	epoch    string
	revision uint64
	synced   chan struct{} // closed by the first step
}

// nothing is a table of a kernel that is not there.
type nothing[K, V comparable] struct{}

func (nothing[K, V]) All() (map[K]V, error) { return make(map[K]V), nil }
func (nothing[K, V]) Put(K, V) error        { return nil }
func (nothing[K, V]) Delete(K) error        { return nil }

// address is the tunnel end of the i-th node.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).Next()
}

// join lets n nodes join, and returns when all are in sync.
func (s *cloud) join(ctx context.Context, n int) error {
	ctx, s.stop = context.WithCancel(ctx)
	for i := range n {
		m, err := s.newNode(ctx, i)
		if err != nil {
			return err
		}
		s.nodes = append(s.nodes, m)
	}
	for _, m := range s.nodes {
		select {
		case <-m.synced:
		case <-s.ended:
			return s.alive(ctx)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Minute):
			return fmt.Errorf("node %s is not in sync after a minute", m.name)
		}
	}
	return nil
}

func (s *cloud) newNode(ctx context.Context, i int) (*node, error) {
	n := &node{
		name: fmt.Sprintf("host-%d", i+1), probe: s.probe, rows: make(map[southbound.Key]struct{}),
		ended: make(chan struct{}), synced: make(chan struct{}),
	}
	n.overlay = overlay.New(overlay.Config{
		Node: n.name, Locations: nothing[kernel.LocationKey, kernel.Location]{}, Senders: nothing[kernel.SenderKey, kernel.Sender]{},
	})
	n.routing = routing.New(routing.Config{
		Node: n.name, Routes: nothing[kernel.RouteKey, kernel.Location]{}, Sources: nothing[kernel.SourceKey, kernel.Source]{},
	})
	dir := filepath.Join(s.dir, "nodes", n.name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make node %s: %w", n.name, err)
	}
	log := slog.New(slog.DiscardHandler)
	id, err := enrol.New(enrol.Config{
		ID: nodeid.ID{Node: n.name, Machine: "bench-" + n.name}, Server: s.southbound, Dir: dir, Log: log, Removed: func(error) {},
		CAFile: filepath.Join(s.dir, "ca.pem"), TokenFile: filepath.Join(s.dir, "node.token"),
	})
	if err != nil {
		return nil, fmt.Errorf("make node %s: %w", n.name, err)
	}
	h := hello{n, southbound.Hello{Node: n.name, Address: address(i), Roles: []string{"host"}, Version: "bench", Machine: "bench-" + n.name}}
	n.client, err = southbound.NewClient(southbound.ClientConfig{
		Server: s.southbound, Node: h, Name: n.name, Log: log,
		Dial: func() []grpc.DialOption { return append(id.Dial(), grpc.WithStatsHandler((*counter)(n))) },
	})
	if err != nil {
		return nil, fmt.Errorf("make node %s: %w", n.name, err)
	}
	go func() {
		defer close(n.ended)
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { id.Run(ctx) })
		select {
		case <-id.Ready():
			n.client.Run(ctx)
		case <-ctx.Done():
		}
	}()
	return n, nil
}

// hello is a node as the stream sees it.
type hello struct {
	*node
	as southbound.Hello
}

// Hello introduces the node (southbound.Node).
func (h hello) Hello() (southbound.Hello, string, uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	as := h.as
	as.Bindings = append(as.Bindings, h.bindings...)
	return as, h.epoch, h.revision
}

// Connected is not asked for (southbound.Node).
func (hello) Connected(bool) {}

// Ask answers nothing (southbound.Node).
func (hello) Ask(context.Context, string, json.RawMessage) (json.RawMessage, error) {
	return nil, errors.New("a node of the bench answers nothing")
}

// Rows puts a step into effect (southbound.Node).
func (h hello) Rows(_ context.Context, step southbound.Step) []southbound.Failure {
	failures := h.take(step)
	if len(failures) == 0 {
		h.probe.applied(h.name, step.Upserts, time.Now())
	}
	return failures
}

func (n *node) take(step southbound.Step) []southbound.Failure {
	n.mu.Lock()
	defer n.mu.Unlock()
	if step.Snapshot {
		clear(n.rows)
		n.overlay.Reset()
		n.routing.Reset()
	}
	for _, k := range step.Deletes {
		delete(n.rows, k)
		n.overlay.Delete(k)
		n.routing.Delete(k)
	}
	for _, r := range step.Upserts {
		n.rows[r.Key()] = struct{}{}
		n.overlay.Update(r)
		n.routing.Update(r)
		if p, ok := r.(southbound.Port); ok {
			for _, i := range p.Interfaces {
				n.overlay.SetDevice(p.VNI, i.Address, overlay.Device{IfIndex: 1, Kind: kernel.LocationPeer}, true)
				n.routing.SetDevice(p.VNI, i.Address, 1, kernel.LocationPeer, true)
			}
		}
	}
	n.took += uint64(len(step.Upserts))
	var failures []southbound.Failure
	if err := errors.Join(n.overlay.Apply(), n.routing.Apply()); err != nil {
		failures = append(failures, southbound.Failure{Key: "overlay", Message: err.Error()})
	}
	n.epoch, n.revision = step.Epoch, step.Revision
	select {
	case <-n.synced:
	default:
		close(n.synced)
	}
	return failures
}

// attach claims a port as the agent does.
func (n *node) attach(ctx context.Context, tenant, port string) error {
	b, err := n.client.Claim(ctx, tenant, port, false)
	if err != nil {
		return fmt.Errorf("attach %s/%s at %s: %w", tenant, port, n.name, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.bindings = append(n.bindings, southbound.Binding{Tenant: tenant, Port: port, ID: b})
	return nil
}

// heard returns how many rows the node holds, how many it was sent, and the bytes of all messages.
func (n *node) heard() (rows int, took, bytes uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.rows), n.took, n.bytes.Load()
}

// counter counts what comes by a node's connection (stats.Handler).
type counter node

// TagRPC is not asked for.
func (*counter) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn is not asked for.
func (*counter) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn is not asked for.
func (*counter) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC counts a message that came in.
func (c *counter) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InPayload); ok {
		c.bytes.Add(uint64(in.WireLength))
	}
}

// probe sees when the start of a port is in effect at all nodes that it concerns: each has a MAC address of its own, by which its
// location is known.
type probe struct {
	mu      sync.Mutex // guards below
	given   uint32     // MAC addresses
	waiting map[southbound.MAC]*pending
}

// mac is an address that no port of any VPC has had before.
func (p *probe) mac() southbound.MAC {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given++
	n := p.given
	return southbound.MAC{0x02, 0xbe, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// pending is a change on its way.
type pending struct {
	nodes int             // that have to have it
	have  map[string]bool // nodes that do
	last  time.Time
	done  chan struct{} // closed when all have it
}

func newProbe() *probe { return &probe{waiting: make(map[southbound.MAC]*pending)} }

// expect prepares for a change that concerns some nodes; it comes before the change is written.
func (p *probe) expect(mac southbound.MAC, nodes int) *pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &pending{nodes: nodes, have: make(map[string]bool, nodes), done: make(chan struct{})}
	p.waiting[mac] = w
	return w
}

// applied notes rows that are in effect at one more node.
func (p *probe) applied(node string, rows []southbound.Row, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 {
		return
	}
	for _, r := range rows {
		l, ok := r.(southbound.Location)
		if !ok {
			continue
		}
		if w := p.waiting[l.MAC]; w != nil {
			w.have[node], w.last = true, at
			if len(w.have) == w.nodes {
				delete(p.waiting, l.MAC)
				close(w.done)
			}
		}
	}
}

// wait returns how long after its beginning the change was in effect everywhere.
func (w *pending) wait(ctx context.Context, since time.Time) (time.Duration, error) {
	const most = 30 * time.Second
	select {
	case <-w.done:
		return w.last.Sub(since), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(most):
		return 0, fmt.Errorf("a change is not in effect everywhere after %s", most)
	}
}
