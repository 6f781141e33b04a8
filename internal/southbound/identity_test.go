// SPDX-License-Identifier: Apache-2.0

package southbound

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"weft/internal/southbound/pb"
)

// TestNodeSpeaksForItselfAlone: with the proof of n1, a hello, a claim and a release in the name of n2 are refused, and so is a
// hello of another machine.
func TestNodeSpeaksForItselfAlone(t *testing.T) {
	s := newSite(t)
	s.hub.Update(4096, []Row{location(4096, 0, 1)}, map[uint16][]Row{2: nil})
	conn, err := grpc.NewClient(s.addr, says("n1", "secret")...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	api := pb.NewSouthboundClient(conn)
	for name, h := range map[string]Hello{"node": {Node: "n2"}, "machine": {Node: "n1", Machine: "m2"}} {
		h.Address = netip.MustParseAddr("198.19.0.1")
		stream, err := api.Sync(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(encodeHello(h, "", 0)); err != nil {
			t.Fatal(err)
		}
		if m, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("hello of another %s: %v, %v", name, m, err)
		}
	}
	if _, err := api.Claim(t.Context(), &pb.ClaimRequest{Node: "n2", Tenant: "red", Port: "free"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("claim for another node: %v", err)
	}
	if _, err := api.Release(t.Context(), &pb.ReleaseRequest{Node: "n2", Tenant: "red", Port: "free"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("release for another node: %v", err)
	}
	if _, ok := s.srv.Presence("n2"); ok {
		t.Error("n2 counts as present")
	}
}

// TestStreamEndsWithItsProof: a stream is cut off as the proof of its node ends, unless there was a later one meanwhile.
func TestStreamEndsWithItsProof(t *testing.T) {
	s := newSite(t)
	var joins atomic.Int32
	s.srv.cfg.Identify = func(ctx context.Context) (Caller, error) {
		p, err := whoSays(ctx)
		if p.Until = time.Now().Add(time.Second); joins.Add(1) > 1 {
			return Caller{}, status.Error(codes.Unauthenticated, "your time is over")
		}
		return p, err
	}
	unproven := make(chan error, 100)
	l := &listener{name: "n1"}
	c, err := NewClient(ClientConfig{
		Server: s.addr, Node: l, Name: l.name, Log: slog.New(slog.DiscardHandler), Unproven: func(err error) { unproven <- err },
		Dial: func() []grpc.DialOption { return says("n1", "secret") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { c.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	alive := func() bool { p, ok := s.srv.Presence("n1"); return ok && p.Alive }
	eventually(t, "connected", alive)
	s.srv.Renewed(Caller{Node: "n1", Machine: "another", Until: time.Now().Add(time.Hour)}) // not this node's
	until := time.Now().Add(2 * time.Second)
	s.srv.Renewed(Caller{Node: "n1", Until: until})
	eventually(t, "cut off", func() bool { return !alive() })
	if d := time.Since(until); d < 0 || d > time.Second {
		t.Errorf("cut off %s after the renewed proof ended", d)
	}
	if err := <-unproven; status.Code(err) != codes.Unauthenticated || errors.Is(err, context.Canceled) {
		t.Errorf("told %v", err)
	}
}
