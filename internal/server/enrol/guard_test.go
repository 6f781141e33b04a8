// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"weft/internal/audit"
	"weft/internal/southbound/pb"
)

// TestRefusalsAreLoggedOnce: an agent that tries again and again has one line a minute for each call, and what is no refusal has none.
func TestRefusalsAreLoggedOnce(t *testing.T) {
	var out bytes.Buffer
	s := New(Config{Audit: func(audit.Record) error { return nil }, Log: slog.New(slog.NewTextHandler(&out, nil))})
	from := func(address string) context.Context {
		return peer.NewContext(t.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(address), Port: 1234}})
	}
	no := status.Error(codes.Unauthenticated, "the certificate is no node's")
	for range 3 {
		s.refused(from("192.0.2.1"), pb.Southbound_Sync_FullMethodName, no)
		s.refused(from("192.0.2.2"), pb.Southbound_Sync_FullMethodName, status.Error(codes.PermissionDenied, "another's"))
	}
	s.refused(from("192.0.2.1"), pb.Southbound_Claim_FullMethodName, no)
	for _, err := range []error{nil, errors.New("cut off"), status.Error(codes.Unavailable, "the store"), status.Error(codes.FailedPrecondition, "drained")} {
		s.refused(from("192.0.2.3"), pb.Southbound_Sync_FullMethodName, err)
	}
	for range 3 { // with a name as long as a message may be
		if _, err := s.Enrol(from("192.0.2.4"), &pb.EnrolRequest{Node: strings.Repeat("x", 1<<20), Machine: "m"}); err == nil {
			t.Error("enrolled")
		}
	}
	if n := strings.Count(out.String(), "node refused"); n != 4 || out.Len() > 2000 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
	for range 2 * toldMost {
		s.refused(from(net.IPv4(10, 0, byte(len(s.told)>>8), byte(len(s.told))).String()), "x", no)
	}
	if len(s.told) > toldMost {
		t.Errorf("%d refusals are remembered", len(s.told))
	}
}

func TestCallWithoutARuleIsRefused(t *testing.T) {
	s := New(Config{})
	if _, err := s.guard(t.Context(), "/weft.southbound.v1.Southbound/New"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("%v", err)
	}
	if _, err := s.guard(t.Context(), pb.Southbound_Sync_FullMethodName); status.Code(err) != codes.Unauthenticated {
		t.Errorf("from nowhere: %v", err)
	}
	if _, err := CallerOf(t.Context()); status.Code(err) != codes.Unauthenticated {
		t.Errorf("nobody: %v", err)
	}
}
