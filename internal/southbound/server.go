// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"weft/internal/base/clock"
	"weft/internal/southbound/pb"
)

// ErrNodeGone is the answer to a question for a node that is not connected.
var ErrNodeGone = errors.New("node is not connected")

// Hello is how a node introduces itself.
type Hello struct {
	Node     string
	Address  netip.Addr // tunnel end
	Roles    []string
	Site     string
	Version  string
	Kernel   string
	Machine  string // identity, from its own disk; "": it has none
	Bindings []Binding
}

// Binding is one attachment of a port at a node.
type Binding struct {
	Tenant, Port, ID string
}

// Handler is what a server does for nodes besides sending rows.
type Handler interface {
	// Join registers the node that says hello and returns its number.
	Join(ctx context.Context, hello Hello) (number uint16, err error)
	// Member reports with an error that a node which joined was removed meanwhile.
	Member(node string) error
	// Claim binds a port to the node and returns the identity of the binding.
	Claim(ctx context.Context, node, tenant, port string, move bool) (binding string, err error)
	// Release gives a binding up; a binding that is no longer current is fine.
	Release(ctx context.Context, node, tenant, port, binding string) error
}

// Caller is who a node has proved to be.
type Caller struct {
	Node, Machine string
	Until         time.Time // when the proof ends
}

// ServerConfig is what a Server needs. Every field is required.
type ServerConfig struct {
	Hub      *Hub
	Handler  Handler
	Identify func(ctx context.Context) (Caller, error) // who calls; its error is what the caller gets
	Log      *slog.Logger
}

// Server is the server's side of the stream.
type Server struct {
	pb.UnimplementedSouthboundServer
	cfg         ServerConfig
	readsWithin time.Duration // the constant, but for tests

	mu       sync.Mutex // guards all below
	sessions map[string]*session
	asks     map[uint64]chan *pb.Answer
	lastAsk  uint64
	joins    uint64 // counts streams
}

// session is one node's stream, kept after its end to tell when the node was last heard.
type session struct {
	hello    Hello
	number   uint16
	drop     chan error   // room for one: why the server ends the stream
	ask      chan *pb.Ask // room for 16; a node that does not read loses questions, not rows
	sending  atomic.Int64 // since when a message waits to be sent, in Unix nanoseconds; 0: none does
	lastSeen time.Time    // guarded by Server.mu
	open     bool         // guarded by Server.mu
	until    time.Time    // guarded by Server.mu; when the node's proof of who it is ends
}

// Presence is what a server knows of a node's connection.
type Presence struct {
	Hello    Hello
	Number   uint16
	LastSeen time.Time
	Alive    bool      // connected, and heard within 2.5 s
	Until    time.Time // when the certificate ends by which it is connected, or its latest renewal
}

// NewServer returns a server that Register adds to a gRPC server.
func NewServer(cfg ServerConfig) *Server {
	return &Server{cfg: cfg, readsWithin: readsWithin, sessions: make(map[string]*session), asks: make(map[uint64]chan *pb.Answer)}
}

// Register adds the service to g.
func (s *Server) Register(g *grpc.Server) { pb.RegisterSouthboundServer(g, s) }

// Sync serves one node until its stream ends.
func (s *Server) Sync(stream grpc.BidiStreamingServer[pb.NodeMessage, pb.ServerMessage]) error {
	caller, err := s.cfg.Identify(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	m := first.GetHello()
	if m == nil {
		return status.Error(codes.InvalidArgument, "the first message must be a hello")
	}
	hello, err := decodeHello(m)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if err := caller.is(hello.Node); err != nil {
		return err
	}
	if hello.Machine != caller.Machine {
		return status.Errorf(codes.PermissionDenied, "the certificate is machine %s's, and not %q's", caller.Machine, hello.Machine)
	}
	number, err := s.cfg.Handler.Join(stream.Context(), hello)
	if err != nil {
		return ToStatus(err)
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	ses := s.open(hello, number, caller.Until)
	defer s.close(ses)
	if err := s.cfg.Handler.Member(hello.Node); err != nil { // it was removed before it could be told so
		return ToStatus(err)
	}
	log := s.cfg.Log.With("node", hello.Node)
	log.Info("node connected", "number", number, "resume", m.GetRevision())
	ends := make(chan error, 2) // of both; they end at the latest when this function returns
	go func() { ends <- s.receive(stream, ses) }()
	go func() { ends <- s.send(ctx, stream, ses, m.GetEpoch(), m.GetRevision()) }()
	err = s.supervise(ses, ends)
	log.Info("node disconnected", "err", err)
	return err
}

// Bounds of a stream.
const (
	lookEvery   = 250 * time.Millisecond
	readsWithin = 10 * time.Second // a node that takes nothing for so long is cut off; it resumes where it was
)

// supervise returns when a stream has ended or has to: the node is silent, as over a connection that is half open, or reads
// nothing, or is to be dropped.
func (s *Server) supervise(ses *session, ends <-chan error) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case err := <-ends:
			return err
		case err := <-ses.drop:
			return ToStatus(err)
		case <-look.C:
		}
		s.mu.Lock()
		silent, until := time.Since(ses.lastSeen), ses.until
		s.mu.Unlock()
		if clock.Now().After(until) {
			return status.Errorf(codes.Unauthenticated, "the node's certificate ended at %s, and was not renewed", until.UTC().Format(time.RFC3339))
		}
		if silent > goneAfter {
			return status.Errorf(codes.DeadlineExceeded, "the node was not heard for %s", goneAfter)
		}
		if since := ses.sending.Load(); since != 0 && time.Since(time.Unix(0, since)) > s.readsWithin {
			return status.Errorf(codes.ResourceExhausted, "the node has read nothing for %s", s.readsWithin)
		}
	}
}

// Drop ends the stream of a node, if it has one, with a reason, and forgets the node.
func (s *Server) Drop(node string, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses := s.sessions[node]; ses != nil {
		ses.end(reason)
		delete(s.sessions, node)
		s.joins++
	}
}

// end has the session's stream ended; the first reason counts.
func (ses *session) end(reason error) {
	select {
	case ses.drop <- reason:
	default:
	}
}

// push sends one message; supervise sees how long it takes.
func (ses *session) push(stream grpc.BidiStreamingServer[pb.NodeMessage, pb.ServerMessage], m *pb.ServerMessage) error {
	ses.sending.Store(time.Now().UnixNano())
	defer ses.sending.Store(0)
	return stream.Send(m)
}

// is refuses a caller that speaks for another node.
func (c Caller) is(node string) error {
	if c.Node != node {
		return status.Errorf(codes.PermissionDenied, "the certificate is node %s's, and not %q's", c.Node, node)
	}
	return nil
}

// Renewed tells that a node has a proof that ends later; a stream that it has goes on until then.
func (s *Server) Renewed(c Caller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses := s.sessions[c.Node]; ses != nil && ses.hello.Machine == c.Machine && c.Until.After(ses.until) {
		ses.until = c.Until
	}
}

// errTakenOver ends the stream of a node that opened another one.
var errTakenOver = errors.New("another stream of this node took over")

func (s *Server) open(hello Hello, number uint16, until time.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.sessions[hello.Node]; old != nil {
		old.end(errTakenOver)
	}
	ses := &session{
		hello: hello, number: number, open: true, lastSeen: time.Now(), until: until,
		ask: make(chan *pb.Ask, 16), drop: make(chan error, 1),
	}
	s.joins++
	s.sessions[hello.Node] = ses
	return ses
}

func (s *Server) close(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses.open = false
}

// send hands out rows as they change, questions, and a heartbeat each second.
func (s *Server) send(ctx context.Context, stream grpc.BidiStreamingServer[pb.NodeMessage, pb.ServerMessage], ses *session, epoch string, since uint64) error {
	wake := s.cfg.Hub.Wake(ses.number)
	defer s.cfg.Hub.Signal(ses.number) // what woke this stream as it ended is for the next one
	beat := time.NewTicker(heartbeatEvery)
	defer beat.Stop()
	first := true
	for {
		step := s.cfg.Hub.Next(ses.number, epoch, since)
		if first || step.Snapshot || len(step.Upserts)+len(step.Deletes) > 0 {
			if err := sendStep(ses, stream, step); err != nil {
				return err
			}
		}
		first, epoch, since = false, step.Epoch, step.Revision
	waiting:
		for {
			var msg *pb.ServerMessage
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-wake:
				break waiting
			case q := <-ses.ask:
				msg = &pb.ServerMessage{Message: &pb.ServerMessage_Ask{Ask: q}}
			case <-beat.C:
				msg = &pb.ServerMessage{Message: &pb.ServerMessage_Heartbeat{Heartbeat: &pb.Heartbeat{}}}
			}
			if err := ses.push(stream, msg); err != nil {
				return err
			}
		}
	}
}

// rowsPerMessage keeps a message below gRPC's limit of 4 MiB by a wide margin.
const rowsPerMessage = 2000

// sendStep sends a step in pieces; the last one is marked synced.
func sendStep(ses *session, stream grpc.BidiStreamingServer[pb.NodeMessage, pb.ServerMessage], step Step) error {
	piece := &pb.Rows{Epoch: step.Epoch, Revision: step.Revision, Snapshot: step.Snapshot}
	flush := func() error {
		err := ses.push(stream, &pb.ServerMessage{Message: &pb.ServerMessage_Rows{Rows: piece}})
		piece = &pb.Rows{Epoch: step.Epoch, Revision: step.Revision}
		return err
	}
	for _, k := range step.Deletes {
		piece.Deletes = append(piece.Deletes, encodeKey(k))
		if len(piece.Deletes) == rowsPerMessage {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	for _, r := range step.Upserts {
		piece.Upserts = append(piece.Upserts, encodeRow(r))
		if len(piece.Upserts) == rowsPerMessage {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	piece.Synced = true
	return flush()
}

// receive takes the node's messages until the stream ends.
func (s *Server) receive(stream grpc.BidiStreamingServer[pb.NodeMessage, pb.ServerMessage], ses *session) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		s.mu.Lock()
		ses.lastSeen = time.Now()
		s.mu.Unlock()
		switch m := m.GetMessage().(type) {
		case *pb.NodeMessage_Ack:
			var failures []Failure
			for _, f := range m.Ack.GetFailures() {
				failures = append(failures, Failure{VNI: f.GetVni(), Key: f.GetKey(), Message: f.GetMessage()})
			}
			s.cfg.Hub.Ack(ses.number, m.Ack.GetEpoch(), m.Ack.GetRevision(), failures)
		case *pb.NodeMessage_Answer:
			s.mu.Lock()
			ch := s.asks[m.Answer.GetId()]
			delete(s.asks, m.Answer.GetId())
			s.mu.Unlock()
			if ch != nil {
				ch <- m.Answer
			}
		}
	}
}

// Presence returns what is known of the node's connection, if the node was ever connected.
func (s *Server) Presence(node string) (Presence, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ses, ok := s.sessions[node]
	if !ok {
		return Presence{}, false
	}
	return Presence{
		Hello: ses.hello, Number: ses.number, LastSeen: ses.lastSeen,
		Alive: ses.open && time.Since(ses.lastSeen) < goneAfter, Until: ses.until,
	}, true
}

// Version changes when a node comes, goes, or falls silent.
func (s *Server) Version() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.joins
	for _, ses := range s.sessions {
		if ses.open && time.Since(ses.lastSeen) < goneAfter {
			v += 1 << 32
		}
	}
	return v
}

// Ask puts a question to a node and waits for its answer. The error is ErrNodeGone where the node is not connected.
func (s *Server) Ask(ctx context.Context, node, what string, argument json.RawMessage) (json.RawMessage, error) {
	s.mu.Lock()
	ses, ok := s.sessions[node]
	if !ok || !ses.open {
		s.mu.Unlock()
		return nil, fmt.Errorf("ask %s: %w", node, ErrNodeGone)
	}
	s.lastAsk++
	id := s.lastAsk
	answer := make(chan *pb.Answer, 1)
	s.asks[id] = answer
	s.mu.Unlock()
	defer func() { s.mu.Lock(); delete(s.asks, id); s.mu.Unlock() }()
	select {
	case ses.ask <- &pb.Ask{Id: id, What: what, Argument: argument}:
	case <-ctx.Done():
		return nil, fmt.Errorf("ask %s: %w", node, ctx.Err())
	}
	for {
		select {
		case a := <-answer:
			if a.GetError() != "" {
				return nil, fmt.Errorf("%s: %s", node, a.GetError())
			}
			return a.GetResult(), nil
		case <-ctx.Done():
			return nil, fmt.Errorf("ask %s: %w", node, ctx.Err())
		case <-time.After(heartbeatEvery):
			if p, _ := s.Presence(node); !p.Alive {
				return nil, fmt.Errorf("ask %s: %w", node, ErrNodeGone)
			}
		}
	}
}

// callerIs refuses a call in the name of another node.
func (s *Server) callerIs(ctx context.Context, node string) error {
	caller, err := s.cfg.Identify(ctx)
	if err != nil {
		return err
	}
	return caller.is(node)
}

// Claim binds a port for the node that calls.
func (s *Server) Claim(ctx context.Context, r *pb.ClaimRequest) (*pb.ClaimResponse, error) {
	if err := s.callerIs(ctx, r.GetNode()); err != nil {
		return nil, err
	}
	binding, err := s.cfg.Handler.Claim(ctx, r.GetNode(), r.GetTenant(), r.GetPort(), r.GetMove())
	if err != nil {
		return nil, ToStatus(err)
	}
	return &pb.ClaimResponse{Binding: binding}, nil
}

// Release gives a binding up for the node that calls.
func (s *Server) Release(ctx context.Context, r *pb.ReleaseRequest) (*pb.ReleaseResponse, error) {
	if err := s.callerIs(ctx, r.GetNode()); err != nil {
		return nil, err
	}
	if err := s.cfg.Handler.Release(ctx, r.GetNode(), r.GetTenant(), r.GetPort(), r.GetBinding()); err != nil {
		return nil, ToStatus(err)
	}
	return &pb.ReleaseResponse{}, nil
}
