// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"weft/internal/southbound/pb"
)

// site is a server with its hub on a loopback port.
type site struct {
	hub  *Hub
	srv  *Server
	addr string
}

// desk answers for the API: node numbers by name, claims of port "free" only.
type desk struct{ slow chan struct{} } // not nil: joins wait here

func (d desk) Join(_ context.Context, h Hello) (uint16, error) {
	if d.slow != nil {
		<-d.slow
	}
	if h.Node == "stranger" {
		return 0, &RefusedError{JSON: json.RawMessage(`{"code":"FORBIDDEN"}`)}
	}
	return uint16(h.Node[1] - '0'), nil
}

func (desk) Member(string) error { return nil }

func (desk) Claim(_ context.Context, node, _, port string, _ bool) (string, error) {
	if port != "free" {
		return "", &RefusedError{JSON: json.RawMessage(`{"code":"BINDING_TAKEN"}`), Text: "taken"}
	}
	return "binding-of-" + node, nil
}

func (desk) Release(context.Context, string, string, string, string) error { return nil }

// proof is what a node of these tests shows: its name, and whether that is true.
type proof map[string]string

func (p proof) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return p, nil
}

func (p proof) RequireTransportSecurity() bool { return false }

func says(node, token string) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(proof{"node": node, "token": token})}
}

// whoSays believes those who know the secret.
func whoSays(ctx context.Context) (Caller, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("token"); len(v) != 1 || v[0] != "secret" {
		return Caller{}, status.Error(codes.Unauthenticated, "who are you?")
	}
	return Caller{Node: md.Get("node")[0], Until: time.Now().Add(time.Hour)}, nil
}

func newSite(t *testing.T) *site { t.Helper(); return newSiteWith(t, desk{}) }

func newSiteWith(t *testing.T, h Handler) *site {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{hub: NewHub(), addr: l.Addr().String()}
	s.srv = NewServer(ServerConfig{Hub: s.hub, Handler: h, Identify: whoSays, Log: slog.New(slog.DiscardHandler)})
	g := grpc.NewServer()
	s.srv.Register(g)
	go g.Serve(l) //nolint:errcheck // ends with Stop
	t.Cleanup(g.Stop)
	return s
}

// listener is a node that keeps its rows and can be told to refuse or to stall.
type listener struct {
	name string

	mu       sync.Mutex
	replica  replica
	failures []Failure
	stall    chan struct{}
	ups      int
}

func (l *listener) Hello() (Hello, string, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Hello{Node: l.name, Address: netip.MustParseAddr("198.19.0.1")}, l.replica.epoch, l.replica.revision
}

func (l *listener) Rows(ctx context.Context, s Step) []Failure {
	if l.stall != nil {
		select {
		case <-l.stall:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replica.take(&testing.T{}, s)
	return l.failures
}

func (l *listener) Ask(_ context.Context, what string, arg json.RawMessage) (json.RawMessage, error) {
	if what == "fail" {
		return nil, errors.New("it failed")
	}
	return arg, nil
}

func (l *listener) Connected(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if up {
		l.ups++
	}
}

func (l *listener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.replica.rows)
}

// connect runs a client of the site until the test (or stop) ends it.
func (s *site) connect(t *testing.T, l *listener, token string) (c *Client, stop func()) {
	t.Helper()
	c, err := NewClient(ClientConfig{
		Server: s.addr, Node: l, Name: l.name, Log: slog.New(slog.DiscardHandler),
		Dial: func() []grpc.DialOption { return says(l.name, token) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { c.Run(ctx); close(ended) }()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-ended }) }
	t.Cleanup(stop)
	return c, stop
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestStreamCarriesSnapshotDeltaAndAck(t *testing.T) {
	s := newSite(t)
	rows := []Row{VPC{VNI: 4096, Tenant: "red", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}}}
	for i := range byte(250) {
		rows = append(rows, location(4096, i, 1))
	}
	own := map[uint16][]Row{1: {portRow(4096, "a")}}
	s.hub.Update(4096, rows, own)
	l := &listener{name: "n1"}
	_, stop := s.connect(t, l, "secret")
	applied := func() bool { n, a, _ := s.hub.Applied(4096); return n == 1 && a == 1 }
	eventually(t, "snapshot applied", func() bool { return l.count() == 252 && applied() })
	s.hub.Update(4096, rows[:11], own)
	eventually(t, "delta applied", func() bool { return l.count() == 12 && applied() })

	stop()
	eventually(t, "stream ended", func() bool { p, _ := s.srv.Presence("n1"); return !p.Alive })
	s.hub.Update(4096, rows[:6], own)
	sent := s.hub.Node(1).Sent
	l2 := &listener{name: "n1", replica: l.replica}
	s.connect(t, l2, "secret")
	eventually(t, "resumed", func() bool { return l2.count() == 7 && applied() })
	if got := s.hub.Node(1).Sent - sent; got != 5 {
		t.Errorf("resume sent %d rows, want the 5 that changed", got)
	}
}

func TestLargeSnapshotComesInPieces(t *testing.T) {
	s := newSite(t)
	var rows []Row
	for i := range 3*rowsPerMessage + 1 {
		rows = append(rows, Location{VNI: 4096, Address: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Node: 1})
	}
	s.hub.Update(4096, rows, map[uint16][]Row{1: nil})
	l := &listener{name: "n1"}
	s.connect(t, l, "secret")
	eventually(t, "all rows", func() bool { return l.count() == len(rows) })
	s.hub.Update(4096, nil, nil)
	eventually(t, "no rows", func() bool { return l.count() == 0 })
}

func TestStalledNodeHoldsNobodyUp(t *testing.T) {
	s := newSite(t)
	own := map[uint16][]Row{1: nil, 2: nil}
	s.hub.Update(4096, []Row{location(4096, 0, 1)}, own)
	stalled, brisk := &listener{name: "n1", stall: make(chan struct{})}, &listener{name: "n2"}
	s.connect(t, stalled, "secret")
	s.connect(t, brisk, "secret")
	for i := range byte(200) {
		s.hub.Update(4096, []Row{location(4096, i, 1), location(4096, i+1, 1)}, own)
	}
	eventually(t, "the other node is in sync", func() bool { _, _, w := s.hub.Applied(4096); return len(w) == 1 && w[0] == 1 })
	close(stalled.stall)
	eventually(t, "the stalled node catches up", func() bool { _, _, w := s.hub.Applied(4096); return len(w) == 0 })
}

func TestFailureIsToldAndTakenBack(t *testing.T) {
	s := newSite(t)
	s.hub.Update(4096, []Row{location(4096, 0, 1)}, map[uint16][]Row{1: nil})
	l := &listener{name: "n1", failures: []Failure{{VNI: 4096, Key: "location/4096/10.0.0.0", Message: "no room"}}}
	c, _ := s.connect(t, l, "secret")
	eventually(t, "failure told", func() bool { f := s.hub.Node(1).Failures; return len(f) == 1 && f[0] == l.failures[0] })
	if _, a, _ := s.hub.Applied(4096); a != 0 {
		t.Error("a row that failed counts as applied")
	}
	l.mu.Lock()
	epoch, revision := l.replica.epoch, l.replica.revision
	l.mu.Unlock()
	c.Ack(epoch, revision, nil)
	eventually(t, "failure taken back", func() bool { _, a, _ := s.hub.Applied(4096); return a == 1 })
}

func TestAskReachesTheNode(t *testing.T) {
	s := newSite(t)
	s.connect(t, &listener{name: "n1"}, "secret")
	eventually(t, "connected", func() bool { p, ok := s.srv.Presence("n1"); return ok && p.Alive })
	got, err := s.srv.Ask(t.Context(), "n1", "echo", json.RawMessage(`{"a":1}`))
	if err != nil || string(got) != `{"a":1}` {
		t.Errorf("answer %s, error %v", got, err)
	}
	if _, err := s.srv.Ask(t.Context(), "n1", "fail", nil); err == nil || err.Error() != "n1: it failed" {
		t.Errorf("error %v, want the node's own", err)
	}
	if _, err := s.srv.Ask(t.Context(), "n9", "echo", nil); !errors.Is(err, ErrNodeGone) {
		t.Errorf("error %v, want ErrNodeGone", err)
	}
}

func TestClaimKeepsTheAPIsOwnError(t *testing.T) {
	s := newSite(t)
	c, _ := s.connect(t, &listener{name: "n1"}, "secret")
	if b, err := c.Claim(t.Context(), "red", "free", false); err != nil || b != "binding-of-n1" {
		t.Errorf("binding %q, error %v", b, err)
	}
	_, err := c.Claim(t.Context(), "red", "taken", false)
	var refused *RefusedError
	if !errors.As(err, &refused) || string(refused.JSON) != `{"code":"BINDING_TAKEN"}` {
		t.Errorf("error %v, want the refusal with its JSON", err)
	}
}

// TestClaimWaitsForTheJoin: what a join does not list is released, so a claim may not come before it.
func TestClaimWaitsForTheJoin(t *testing.T) {
	slow := make(chan struct{})
	s := newSiteWith(t, desk{slow: slow})
	c, _ := s.connect(t, &listener{name: "n1"}, "secret")
	claimed := make(chan error, 1)
	go func() { _, err := c.Claim(t.Context(), "red", "free", false); claimed <- err }()
	select {
	case err := <-claimed:
		t.Fatalf("the claim came back (%v) before the node had joined", err)
	case <-time.After(200 * time.Millisecond):
	}
	close(slow)
	if err := <-claimed; err != nil {
		t.Error(err)
	}
}

func TestWrongTokenAndStrangerGetNoRows(t *testing.T) {
	s := newSite(t)
	s.hub.Update(4096, []Row{location(4096, 0, 1)}, map[uint16][]Row{1: nil})
	wrong, stranger := &listener{name: "n1"}, &listener{name: "stranger"}
	c, _ := s.connect(t, wrong, "guess")
	s.connect(t, stranger, "secret")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // several tries of each
	defer cancel()
	if _, err := c.Claim(ctx, "red", "free", false); err == nil {
		t.Error("a wrong token claimed a port")
	}
	if wrong.count()+stranger.count()+wrong.ups+stranger.ups != 0 {
		t.Error("rows went to a node that may not have them")
	}
	if _, ok := s.srv.Presence("n1"); ok {
		t.Error("a node with a wrong token counts as present")
	}
}

func TestSecondStreamOfANodeTakesOver(t *testing.T) {
	s := newSite(t)
	first, second := &listener{name: "n1"}, &listener{name: "n1"}
	_, stop := s.connect(t, first, "secret")
	eventually(t, "first is up", func() bool { p, ok := s.srv.Presence("n1"); return ok && p.Alive })
	defer stop()
	s.connect(t, second, "secret")
	eventually(t, "second is up", func() bool { second.mu.Lock(); defer second.mu.Unlock(); return second.ups > 0 })
}

// TestCVE201909735OddRowOfOneTenantStopsNoOther: in Neutron, a security group rule of one tenant that made no sense kept
// all rules of a host from being programmed (CVE-2019-9735, CVE-2019-10876, CVE-2014-0187).
func TestCVE201909735OddRowOfOneTenantStopsNoOther(t *testing.T) {
	s := newSite(t)
	own := map[uint16][]Row{1: nil}
	odd := []Row{
		location(4096, 4, 1),
		Location{VNI: 4096, Node: 1},                          // without an address
		Subnet{VNI: 4096, Prefix: prefixes("10.0.1.0/24")[0]}, // without a router
		Route{VNI: 4096, Table: 1, Prefix: prefixes("0.0.0.0/0")[0], Via: 9},
	}
	s.hub.Update(4096, odd, own)
	s.hub.Update(4097, []Row{location(4097, 4, 1)}, own)
	l := &listener{name: "n1"}
	c, stop := s.connect(t, l, "secret")
	applied := func(vni uint32) int { _, a, _ := s.hub.Applied(vni); return a }
	eventually(t, "the other tenant's rows are in effect", func() bool { return l.count() == 2 && applied(4097) == 1 })
	var keys []string
	for _, f := range s.hub.Node(1).Failures {
		keys = append(keys, f.Key)
	}
	if got := strings.Join(keys, " "); applied(4096) != 0 || got != "location/4096 route/4096/1/0.0.0.0/0 subnet/4096/10.0.1.0/24" {
		t.Errorf("of the odd one it is in effect on %d nodes; refused: %s", applied(4096), got)
	}
	c.Ack(l.replica.epoch, l.replica.revision, nil) // the agent mended something of its own
	s.hub.Update(4097, []Row{location(4097, 4, 1), location(4097, 5, 1)}, own)
	eventually(t, "changes arrive", func() bool { return l.count() == 3 && applied(4097) == 1 })
	if n := len(s.hub.Node(1).Failures); n != 3 || applied(4096) != 0 {
		t.Errorf("after another step %d rows are known as refused", n)
	}
	stop()
	l2 := &listener{name: "n1", replica: l.replica}
	s.connect(t, l2, "secret")
	eventually(t, "another client gets the rest", func() bool { return l2.count() == 3 })
	s.hub.Update(4096, []Row{location(4096, 4, 1), Subnet{VNI: 4096, Prefix: prefixes("10.0.1.0/24")[0], Gateway: netip.MustParseAddr("10.0.1.1")}}, own)
	eventually(t, "mended", func() bool { return l2.count() == 4 && applied(4096) == 1 && applied(4097) == 1 })
}

func TestRefusalIsReadable(t *testing.T) {
	err := FromStatus(ToStatus(&RefusedError{JSON: json.RawMessage(`{"object":"node/h","field":"spec.address","message":"it is IPv6","fix":"give it IPv4"}`)}))
	if want := "refused by the server: node/h: spec.address: it is IPv6 (give it IPv4)"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

// relay passes connections on until it is frozen: then it reads nothing and closes nothing, as a machine that lost its power.
type relay struct {
	l      net.Listener
	to     string
	mu     sync.Mutex // guards below
	frozen map[net.Conn]bool
	conns  []net.Conn
}

func newRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, to: to, frozen: make(map[net.Conn]bool)}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			go r.pass(in, out)
			go r.pass(out, in)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, c := range r.conns {
			c.Close()
		}
	})
	return r
}

func (r *relay) pass(from, to net.Conn) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		r.mu.Lock()
		frozen := r.frozen[from]
		r.mu.Unlock()
		if frozen {
			return
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			to.Close()
			return
		}
	}
}

// freeze freezes the connections that there are; new ones pass.
func (r *relay) freeze() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		r.frozen[c] = true
	}
}

func TestHalfOpenConnectionIsNoticedByBothAndReplaced(t *testing.T) {
	s := newSite(t)
	s.hub.Update(4096, []Row{location(4096, 0, 1)}, map[uint16][]Row{1: nil})
	r := newRelay(t, s.addr)
	s.addr = r.l.Addr().String()
	l := &listener{name: "n1"}
	s.connect(t, l, "secret")
	eventually(t, "rows", func() bool { return l.count() == 1 })
	joins := func() uint64 { s.srv.mu.Lock(); defer s.srv.mu.Unlock(); return s.srv.joins }
	before := joins()
	r.freeze()
	frozen := time.Now()
	eventually(t, "the server sees that the node is gone", func() bool { p, _ := s.srv.Presence("n1"); return !p.Alive })
	if took := time.Since(frozen); took > 3*time.Second {
		t.Errorf("the server noticed after %s", took)
	}
	eventually(t, "the node is back over a new connection", func() bool { p, _ := s.srv.Presence("n1"); return p.Alive && joins() == before+1 })
	if took := time.Since(frozen); took > 4*time.Second {
		t.Errorf("the node was back after %s", took)
	}
	s.hub.Update(4096, []Row{location(4096, 0, 1), location(4096, 1, 1)}, map[uint16][]Row{1: nil})
	eventually(t, "the next step", func() bool { return l.count() == 2 })
}

// TestNodeThatReadsNothingIsDropped heartbeats, but takes nothing, so that flow control holds up the server's sends.
func TestNodeThatReadsNothingIsDropped(t *testing.T) {
	s := newSite(t)
	s.srv.readsWithin = 500 * time.Millisecond
	conn, err := grpc.NewClient(s.addr, says("n1", "secret")...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := pb.NewSouthboundClient(conn).Sync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(encodeHello(Hello{Node: "n1", Address: netip.MustParseAddr("198.19.0.1")}, "", 0)); err != nil {
		t.Fatal(err)
	}
	go beat(t.Context(), &outbox{stream: stream})
	eventually(t, "joined", func() bool { p, ok := s.srv.Presence("n1"); return ok && p.Alive })
	var rows []Row
	for i := range 20_000 {
		rows = append(rows, Location{VNI: 4096, Address: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), Node: 1})
	}
	s.hub.Update(4096, rows, map[uint16][]Row{1: nil})
	began := time.Now()
	eventually(t, "dropped", func() bool { p, _ := s.srv.Presence("n1"); return !p.Alive })
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("dropped after %s", took)
	}
	for err = nil; err == nil; {
		_, err = stream.Recv()
	}
	if !strings.Contains(err.Error(), "has read nothing") {
		t.Errorf("told %v", err)
	}
}
