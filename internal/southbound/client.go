// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"weft/internal/southbound/pb"
)

// Node is what a Client drives: the agent. Rows and Ask are called on goroutines of their own, Rows one at a time.
type Node interface {
	// Hello returns how the node introduces itself, and the epoch and revision of the rows it holds.
	Hello() (hello Hello, epoch string, revision uint64)
	// Rows puts a step into effect and returns the rows that could not be.
	Rows(ctx context.Context, step Step) []Failure
	// Ask answers an operator's question.
	Ask(ctx context.Context, what string, argument json.RawMessage) (json.RawMessage, error)
	// Connected tells that the stream came up or went down.
	Connected(up bool)
}

// ClientConfig is what a Client needs.
type ClientConfig struct {
	Server string // host:port
	Node   Node
	Name   string // of the node
	Log    *slog.Logger
	Dial   func() []grpc.DialOption // asked for each connection; transport credentials are among them

	// Removed is told, once, that the server has removed the node; the client does not come back then. It may be nil.
	Removed func(reason error)
	// Unproven is told each time that the server does not take the node's proof of who it is. It may be nil.
	Unproven func(reason error)
}

// Client is the node's side of the stream.
type Client struct {
	cfg  ClientConfig
	acks chan *pb.Ack // room for one: the latest that Ack was given

	mu  sync.Mutex          // guards below
	api pb.SouthboundClient // of the latest stream that came up
	up  chan struct{}       // closed while the server has joined us; otherwise closed when it does
	bad map[string]Failure  // rows of the server that could not be read, by their key as people see it
}

// NewClient returns a client; it connects when Run is called.
func NewClient(cfg ClientConfig) (*Client, error) {
	conn, err := grpc.NewClient(cfg.Server, cfg.Dial()...) // each session has its own: this one only tells whether it can be
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Server, err)
	}
	if err := conn.Close(); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Server, err)
	}
	return &Client{cfg: cfg, acks: make(chan *pb.Ack, 1), up: make(chan struct{}), bad: make(map[string]Failure)}, nil
}

// Run keeps a stream to the server until ctx ends. It tries again after 0.1 s, doubling up to 2 s.
func (c *Client) Run(ctx context.Context) {
	const least, most = 100 * time.Millisecond, 2 * time.Second
	wait := least
	for ctx.Err() == nil {
		started := time.Now()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if c.cfg.Removed != nil && IsRemoved(err) {
			c.cfg.Removed(err)
			return
		}
		if c.cfg.Unproven != nil && status.Code(err) == codes.Unauthenticated {
			c.cfg.Unproven(err)
		}
		if time.Since(started) > 5*time.Second {
			wait = least
		}
		c.cfg.Log.Warn("stream to server ended", "server", c.cfg.Server, "err", err, "retry", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, most)
	}
}

// outbox sends from several goroutines, one message at a time.
type outbox struct {
	mu     sync.Mutex // one Send at a time
	stream grpc.BidiStreamingClient[pb.NodeMessage, pb.ServerMessage]
}

func (o *outbox) send(m *pb.NodeMessage) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.stream.Send(m)
}

// errSilent ends a stream over which the server is not heard.
var errSilent = errors.New("the server was not heard in time")

// session runs one stream to its end. It has a connection of its own: one that is half open is not used again, and none waits
// between its tries longer than Run does.
func (c *Client) session(ctx context.Context) error {
	ctx, cancelCause := context.WithCancelCause(ctx)
	cancel := func() { cancelCause(context.Canceled) }
	defer cancel()
	conn, err := grpc.NewClient(c.cfg.Server, c.cfg.Dial()...)
	if err != nil {
		return err
	}
	defer conn.Close()
	api := pb.NewSouthboundClient(conn)
	watchdog := time.AfterFunc(3*goneAfter, func() { cancelCause(errSilent) })
	defer watchdog.Stop()
	stream, err := api.Sync(ctx)
	if err != nil {
		return err
	}
	out := &outbox{stream: stream}
	hello, epoch, revision := c.cfg.Node.Hello()
	if len(c.unread()) > 0 {
		epoch, revision = "", 0 // all of it again: what the server sends as a difference would leave out what we could not read
	}
	if err := out.send(encodeHello(hello, epoch, revision)); err != nil {
		_, err = stream.Recv() // the reason why the server refused
		return FromStatus(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	steps := make(chan Step, 64) // ends when this function returns; a full one holds up the receiver, not the server's other nodes
	defer close(steps)
	wg.Go(func() { c.applySteps(ctx, out, steps); cancel() })
	wg.Go(func() { beat(ctx, out) })
	up := false
	defer func() {
		if up {
			c.mu.Lock()
			c.up = make(chan struct{})
			c.mu.Unlock()
			c.cfg.Node.Connected(false)
		}
	}()
	var pieces Step
	for {
		m, err := stream.Recv()
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			return errSilent
		}
		if err != nil {
			return FromStatus(err)
		}
		watchdog.Reset(goneAfter)
		if !up {
			up = true
			c.mu.Lock()
			c.api = api
			close(c.up)
			c.mu.Unlock()
			c.cfg.Node.Connected(true)
		}
		switch m := m.GetMessage().(type) {
		case *pb.ServerMessage_Rows:
			collect(&pieces, m.Rows)
			if m.Rows.GetSynced() {
				watchdog.Stop() // what is not read now is not the server's silence
				select {
				case steps <- pieces:
				case <-ctx.Done():
					return ctx.Err()
				}
				watchdog.Reset(goneAfter)
				pieces = Step{}
			}
		case *pb.ServerMessage_Ask:
			wg.Go(func() { c.answer(ctx, out, m.Ask) })
		}
	}
}

// collect adds one message to the step that it is a piece of. A row that cannot be read is deleted, where its key can: what
// was there before is no longer right. A delete that cannot be read is of a row that never could.
func collect(step *Step, m *pb.Rows) {
	upserts, badUpserts := decodeRows(m.GetUpserts())
	deletes, badDeletes := decodeKeys(m.GetDeletes())
	step.Epoch, step.Revision = m.GetEpoch(), m.GetRevision()
	step.Snapshot = step.Snapshot || m.GetSnapshot()
	step.Upserts = append(step.Upserts, upserts...)
	step.Deletes = append(step.Deletes, deletes...)
	step.bad, step.forget = append(step.bad, badUpserts...), append(step.forget, badDeletes...)
	for _, b := range badUpserts {
		if b.key != (Key{}) {
			step.Deletes = append(step.Deletes, b.key)
		}
	}
}

// take remembers which rows could not be read, until they come readable, go, or are left out of a snapshot.
func (c *Client) take(step Step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if step.Snapshot {
		clear(c.bad)
	}
	for _, b := range step.forget {
		delete(c.bad, b.failure.Key)
	}
	if len(c.bad) > 0 {
		for _, k := range step.Deletes {
			delete(c.bad, k.String())
		}
		for _, r := range step.Upserts {
			delete(c.bad, r.Key().String())
		}
	}
	for _, b := range step.bad {
		c.bad[b.failure.Key] = b.failure
		c.cfg.Log.Error("row of the server cannot be read", "row", b.failure.Key, "err", b.failure.Message)
	}
}

// unread lists the rows that could not be read.
func (c *Client) unread() []Failure {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Failure
	for _, key := range slices.Sorted(maps.Keys(c.bad)) {
		out = append(out, c.bad[key])
	}
	return out
}

// applySteps puts steps into effect one after the other and acknowledges each.
func (c *Client) applySteps(ctx context.Context, out *outbox, steps <-chan Step) {
	for {
		var ack *pb.Ack
		select {
		case <-ctx.Done():
			return
		case ack = <-c.acks:
		case step, ok := <-steps:
			if !ok {
				return
			}
			c.take(step)
			failures := c.cfg.Node.Rows(ctx, step)
			ack = encodeAck(step.Epoch, step.Revision, append(c.unread(), failures...))
		}
		if err := out.send(&pb.NodeMessage{Message: &pb.NodeMessage_Ack{Ack: ack}}); err != nil {
			return // the receiver sees the same end
		}
	}
}

// Ack tells the server again how the node stands, where that changed without a step: a row that failed is in effect now,
// or the other way round. Only the latest call before a connection counts.
func (c *Client) Ack(epoch string, revision uint64, failures []Failure) {
	ack := encodeAck(epoch, revision, append(c.unread(), failures...))
	for {
		select {
		case c.acks <- ack:
			return
		default:
		}
		select {
		case <-c.acks:
		default:
		}
	}
}

func encodeAck(epoch string, revision uint64, failures []Failure) *pb.Ack {
	ack := &pb.Ack{Epoch: epoch, Revision: revision}
	for _, f := range failures {
		ack.Failures = append(ack.Failures, &pb.Failure{Vni: f.VNI, Key: f.Key, Message: f.Message})
	}
	return ack
}

func beat(ctx context.Context, out *outbox) {
	t := time.NewTicker(heartbeatEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if out.send(&pb.NodeMessage{Message: &pb.NodeMessage_Heartbeat{Heartbeat: &pb.Heartbeat{}}}) != nil {
				return
			}
		}
	}
}

func (c *Client) answer(ctx context.Context, out *outbox, q *pb.Ask) {
	a := &pb.Answer{Id: q.GetId()}
	result, err := c.cfg.Node.Ask(ctx, q.GetWhat(), q.GetArgument())
	if err != nil {
		a.Error = err.Error()
	} else {
		a.Result = result
	}
	if err := out.send(&pb.NodeMessage{Message: &pb.NodeMessage_Answer{Answer: a}}); err != nil {
		c.cfg.Log.Debug("answer not sent", "err", err)
	}
}

// ErrNotConnected says that there is no stream to a server at present.
var ErrNotConnected = errors.New("the node is not connected to a server")

// joinWithin is how long a claim waits for the stream.
const joinWithin = 5 * time.Second

// joined waits until the server has taken the node's hello, and returns the way to it. A claim must not overtake it: the
// server releases what the hello does not list.
func (c *Client) joined(ctx context.Context) (pb.SouthboundClient, error) {
	c.mu.Lock()
	up := c.up
	c.mu.Unlock()
	select {
	case <-up:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.api, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(joinWithin):
		return nil, fmt.Errorf("%s: %w", c.cfg.Server, ErrNotConnected)
	}
}

// Claim binds a port to this node; the node must list it in a hello from before the call on. A refusal is a *RefusedError.
func (c *Client) Claim(ctx context.Context, tenant, port string, move bool) (string, error) {
	api, err := c.joined(ctx)
	if err != nil {
		return "", err
	}
	r, err := api.Claim(ctx, &pb.ClaimRequest{Node: c.cfg.Name, Tenant: tenant, Port: port, Move: move})
	if err != nil {
		return "", FromStatus(err)
	}
	return r.GetBinding(), nil
}

// Release gives a binding of this node up. A refusal is a *RefusedError.
func (c *Client) Release(ctx context.Context, tenant, port, binding string) error {
	api, err := c.joined(ctx)
	if err != nil {
		return err
	}
	_, err = api.Release(ctx, &pb.ReleaseRequest{Node: c.cfg.Name, Tenant: tenant, Port: port, Binding: binding})
	return FromStatus(err)
}

func encodeHello(h Hello, epoch string, revision uint64) *pb.NodeMessage {
	m := &pb.Hello{
		Node: h.Node, Address: h.Address.AsSlice(), Roles: h.Roles, Site: h.Site, Version: h.Version, Kernel: h.Kernel,
		Epoch: epoch, Revision: revision, Machine: h.Machine,
	}
	for _, b := range h.Bindings {
		m.Bindings = append(m.Bindings, &pb.Binding{Tenant: b.Tenant, Port: b.Port, Id: b.ID})
	}
	return &pb.NodeMessage{Message: &pb.NodeMessage_Hello{Hello: m}}
}

func decodeHello(m *pb.Hello) (Hello, error) {
	a, ok := netip.AddrFromSlice(m.GetAddress())
	if !ok || m.GetNode() == "" {
		return Hello{}, fmt.Errorf("hello needs a node name and an address of 4 or 16 bytes")
	}
	h := Hello{
		Node: m.GetNode(), Address: a, Roles: m.GetRoles(), Site: m.GetSite(),
		Version: m.GetVersion(), Kernel: m.GetKernel(), Machine: m.GetMachine(),
	}
	for _, b := range m.GetBindings() {
		h.Bindings = append(h.Bindings, Binding{Tenant: b.GetTenant(), Port: b.GetPort(), ID: b.GetId()})
	}
	return h, nil
}
