// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	v1 "weft/api/v1"
	"weft/internal/base/nodeid"
	"weft/internal/server/authority"
	"weft/internal/server/enrol"
	"weft/internal/southbound/pb"
)

// What can become of a call, besides the codes of refusals.
const (
	let      = "let in"
	unproven = "Unauthenticated"
	denied   = "PermissionDenied"
)

// TestMatrixOfNodesCalls makes every call of the nodes' stream, in the name of node h1, as each kind of caller.
func TestMatrixOfNodesCalls(t *testing.T) {
	s := start(t, t.TempDir())
	s.apply(network("red", 1))
	h1 := nodeid.ID{Node: "h1", Machine: "m1"}
	for name, machine := range map[string]string{"h1": "m1", "h2": "m2", "h3": "m3"} {
		n := &node{name: name, machine: machine}
		s.joinAs(n, name[1]-'0')
		eventually(t, "joined", func() bool { return n.epochNow() != "" })
		n.stop()
	}
	s.call(http.MethodDelete, "/api/v1/nodes/h3", nil, nil)
	elsewhere, err := authority.Load(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := elsewhere.NodePair(h1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	signing, err := authority.Load(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	ofServer, err := signing.Server([]string{"h1"}, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ofAuthority, err := tls.LoadX509KeyPair(s.dir+"/ca.pem", s.dir+"/ca.key")
	if err != nil {
		t.Fatal(err)
	}
	callers := []struct {
		name    string
		pair    *tls.Certificate
		bearer  string
		call    string // what becomes of a call that needs a certificate
		renewal string // and of a renewal
	}{
		{"nobody", nil, "", unproven, unproven},
		{"join token", nil, s.token("node"), unproven, unproven},
		{"admin token", nil, s.token("admin"), unproven, unproven},
		{"own node", s.certificate(h1, time.Hour), "", let, let},
		{"own node, ended", s.certificate(h1, -time.Hour), "", unproven, let},
		{"own node, ended long ago", s.certificate(h1, -enrol.Grace-time.Minute), "", unproven, unproven},
		{"another node", s.certificate(nodeid.ID{Node: "h2", Machine: "m2"}, time.Hour), "", denied, v1.CodeInvalid},
		{"another node, with a token", s.certificate(nodeid.ID{Node: "h2", Machine: "m2"}, time.Hour), s.token("node"), denied, v1.CodeInvalid},
		{"removed node", s.certificate(nodeid.ID{Node: "h3", Machine: "m3"}, time.Hour), "", v1.CodeNodeRemoved, v1.CodeNodeRemoved},
		{"removed machine as own node", s.certificate(nodeid.ID{Node: "h1", Machine: "m3"}, time.Hour), "", v1.CodeNodeRemoved, v1.CodeNodeRemoved},
		{"another machine", s.certificate(nodeid.ID{Node: "h1", Machine: "m9"}, time.Hour), "", v1.CodeInUse, v1.CodeInUse},
		{"another system's node", foreign, "", unproven, unproven},
		{"the server", ofServer, "", unproven, unproven},
		{"the authority", &ofAuthority, "", unproven, unproven},
	}
	calls := nodeCalls(t, h1)
	if len(calls) != len(enrol.Rules) {
		t.Fatalf("%d calls are tried, and there are %d", len(calls), len(enrol.Rules))
	}
	cells := 0
	for _, c := range callers {
		conn := s.calls(c.pair)
		ctx := t.Context()
		if c.bearer != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.bearer)
		}
		for method, make := range calls {
			want := c.call
			switch enrol.Rules[method] {
			case enrol.Ended:
				want = c.renewal
			case enrol.Anybody:
				want = v1.CodeUnauthorized // for want of a join token that is one
			}
			cells++
			if got := outcome(make(ctx, conn)); got != want {
				t.Errorf("%s as %s: %s, want %s", path.Base(method), c.name, got, want)
			}
		}
		conn.Close()
	}
	t.Logf("%d cells", cells)
	if n := s.node("h1"); n.Machine != "m1" || slices.Contains([]string{"h2", "h3"}, s.port("red", "web-0").Node) {
		t.Errorf("the node is %+v, the port is at %q", n, s.port("red", "web-0").Node)
	}
}

// nodeCalls is each call by its name, made in the name of a node.
func nodeCalls(t *testing.T, id nodeid.ID) map[string]func(context.Context, *grpc.ClientConn) error {
	_, request := asking(t, id)
	return map[string]func(context.Context, *grpc.ClientConn) error{
		pb.Southbound_Sync_FullMethodName: func(ctx context.Context, conn *grpc.ClientConn) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := pb.NewSouthboundClient(conn).Sync(ctx)
			if err != nil {
				return err
			}
			_ = stream.Send(&pb.NodeMessage{Message: &pb.NodeMessage_Hello{Hello: &pb.Hello{ // what is wrong with it, Recv tells
				Node: id.Node, Machine: id.Machine, Address: netip.MustParseAddr("198.19.0.1").AsSlice(), Roles: []string{"host"},
			}}})
			_, err = stream.Recv()
			return err
		},
		pb.Southbound_Claim_FullMethodName: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := pb.NewSouthboundClient(conn).Claim(ctx, &pb.ClaimRequest{Node: id.Node, Tenant: "red", Port: "web-0"})
			return err
		},
		pb.Southbound_Release_FullMethodName: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := pb.NewSouthboundClient(conn).Release(ctx, &pb.ReleaseRequest{Node: id.Node, Tenant: "red", Port: "web-0", Binding: "none"})
			return err
		},
		pb.Enrolment_Renew_FullMethodName: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := pb.NewEnrolmentClient(conn).Renew(ctx, &pb.RenewRequest{Request: request})
			return err
		},
		pb.Enrolment_Enrol_FullMethodName: func(ctx context.Context, conn *grpc.ClientConn) error {
			_, err := pb.NewEnrolmentClient(conn).Enrol(ctx, &pb.EnrolRequest{Token: "guess", Node: id.Node, Machine: id.Machine, Request: request})
			return err
		},
	}
}

// outcome names what became of a call.
func outcome(err error) string {
	if err == nil {
		return let
	}
	if e := refusal(err); e != nil {
		return e.Code
	}
	return status.Code(err).String()
}
