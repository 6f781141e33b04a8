// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "weft/api/v1"
	"weft/internal/base/nodeid"
	"weft/internal/southbound"
	"weft/internal/southbound/pb"
)

// renew asks for another certificate by the one that there is.
func (s *site) renew(pair *tls.Certificate, id nodeid.ID) (*tls.Certificate, error) {
	s.t.Helper()
	key, request := asking(s.t, id)
	conn := s.calls(pair)
	defer conn.Close()
	got, err := pb.NewEnrolmentClient(conn).Renew(s.t.Context(), &pb.RenewRequest{Request: request})
	if err != nil {
		return nil, err
	}
	made, _ := s.given(key, got, nil)
	return made, nil
}

// TestStreamOutlivesCertificates: with certificates for two seconds that are renewed, a stream stays up while many of them end; once
// they are not, it is cut off, and the node is known again by the certificate that ended.
func TestStreamOutlivesCertificates(t *testing.T) {
	const life = 2 * time.Second // a certificate ends with a whole second: it lives for one at least
	s := startWith(t, Config{StateDir: t.TempDir(), NodeLife: life, NodeGrace: 1500 * time.Millisecond})
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	key, request := asking(t, id)
	pair, e := s.enrol(id, s.token("node"), key, request)
	if e != nil {
		t.Fatal(e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream, err := pb.NewSouthboundClient(s.calls(pair)).Sync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&pb.NodeMessage{Message: &pb.NodeMessage_Hello{Hello: &pb.Hello{Node: "h1", Machine: "m1", Address: netip.MustParseAddr("198.19.0.9").AsSlice(), Roles: []string{"host"}}}}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	go func() {
		for stream.Send(&pb.NodeMessage{Message: &pb.NodeMessage_Heartbeat{Heartbeat: &pb.Heartbeat{}}}) == nil {
			time.Sleep(200 * time.Millisecond)
		}
	}()
	eventually(t, "registered", func() bool { return s.status(http.MethodGet, "/api/v1/nodes/h1", nil) == http.StatusOK })
	began := time.Now()
	for time.Since(began) < 3*life {
		if pair, err = s.renew(pair, id); err != nil {
			t.Fatal(err)
		}
		if got := s.node("h1").CertificateEnds; got.Before(pair.Leaf.NotAfter.Add(-time.Second)) {
			t.Errorf("shown to end at %s, and ends at %s", got, pair.Leaf.NotAfter)
		}
		select {
		case err := <-ended:
			t.Fatalf("the stream ended after %s: %v", time.Since(began), err)
		case <-time.After(life / 4):
		}
	}
	select {
	case err := <-ended:
		if status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "was not renewed") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(3 * life):
		t.Fatal("a stream whose certificate ended stays")
	}
	if err := s.hello(t.Context(), pair, southbound.Hello{Node: "h1", Machine: "m1"}); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "it can be renewed") {
		t.Errorf("a stream by what has ended: %v", err)
	}
	late, err := s.renew(pair, id) // within the grace
	if err != nil {
		t.Fatal(err)
	}
	if err := s.hello(t.Context(), late, southbound.Hello{Node: "h1", Machine: "m1"}); err != nil {
		t.Errorf("a stream by what was renewed late: %v", err)
	}
	eventually(t, "the grace is over", func() bool {
		_, err := s.renew(late, id)
		return status.Code(err) == codes.Unauthenticated && strings.Contains(err.Error(), "weft node token --node h1")
	})
}

func TestRenewalIsForOneself(t *testing.T) {
	s := start(t, t.TempDir())
	h1 := &node{name: "h1", machine: "m1"}
	s.joinAs(h1, 1)
	eventually(t, "joined", func() bool { return h1.epochNow() != "" })
	own := nodeid.ID{Node: "h1", Machine: "m1"}
	pair := s.certificate(own, time.Hour)
	if _, err := s.renew(pair, own); err != nil {
		t.Error(err)
	}
	for _, id := range []nodeid.ID{{Node: "h2", Machine: "m1"}, {Node: "h1", Machine: "m2"}} {
		if _, err := s.renew(pair, id); refusal(err) == nil || refusal(err).Code != v1.CodeInvalid {
			t.Errorf("renewed as %s: %v", id, err)
		}
	}
	never := nodeid.ID{Node: "h9", Machine: "m9"}
	if _, err := s.renew(s.certificate(never, time.Hour), never); refusal(err) == nil || refusal(err).Code != v1.CodePrecondition {
		t.Errorf("renewed before its first hello: %v", err)
	}
	other := start(t, t.TempDir()) // another system: its certificates are worth nothing here
	if _, err := s.renew(other.certificate(own, time.Hour), own); status.Code(err) != codes.Unauthenticated {
		t.Errorf("renewed by another system's certificate: %v", err)
	}
}

// TestRemovedNodeIsOutAtOnce: the certificate of a removed node opens nothing, renews nothing, and its open stream ends, while those of
// others go on.
func TestRemovedNodeIsOutAtOnce(t *testing.T) {
	s := start(t, t.TempDir())
	s.apply(network("red", 1))
	gone, stays := &node{name: "h1", machine: "m1"}, &node{name: "h2", machine: "m2"}
	s.joinAs(gone, 1)
	s.joinAs(stays, 2)
	eventually(t, "both joined", func() bool { return gone.epochNow() != "" && stays.epochNow() != "" })
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	pair := s.certificate(id, time.Hour)
	conn := s.calls(pair) // open before
	if _, err := pb.NewSouthboundClient(conn).Release(t.Context(), &pb.ReleaseRequest{Node: "h1", Tenant: "red", Port: "web-0"}); err != nil {
		t.Fatal(err)
	}
	s.call(http.MethodDelete, "/api/v1/nodes/h1", nil, nil)
	removed := time.Now()
	for what, err := range map[string]error{
		"claim": call(func() error {
			_, err := pb.NewSouthboundClient(conn).Claim(t.Context(), &pb.ClaimRequest{Node: "h1", Tenant: "red", Port: "web-0"})
			return err
		}),
		"renewal": call(func() error { _, err := s.renew(pair, id); return err }),
		"stream":  s.hello(t.Context(), pair, southbound.Hello{Node: "h1", Machine: "m1"}),
		"enrolment": call(func() error {
			key, request := asking(t, id)
			if _, e := s.enrol(id, s.token("node"), key, request); e != nil {
				return southbound.ToStatus(southbound.Refused(e))
			}
			return nil
		}),
	} {
		if e := refusal(err); e == nil || e.Code != v1.CodeNodeRemoved {
			t.Errorf("%s of a removed node: %v", what, err)
		}
	}
	eventually(t, "the open stream ended", func() bool { return gone.removed() != "" })
	t.Logf("told %s after its removal", time.Since(removed).Round(time.Millisecond))
	if stays.connections() != 1 || stays.removed() != "" {
		t.Error("another node was concerned")
	}
}

func call(f func() error) error { return f() }

// TestStolenCertificateIsOneNodes: by the certificate of h1, nothing of h2 is to be had: no stream, no claim, no release, and no rows of VPCs
// that h1 does not host.
func TestStolenCertificateIsOneNodes(t *testing.T) {
	s := start(t, t.TempDir())
	s.apply(network("red", 1))
	s.apply(network("blue", 1))
	h1, h2 := &node{name: "h1", machine: "m1"}, &node{name: "h2", machine: "m2"}
	s.joinAs(h1, 1)
	s.joinAs(h2, 2)
	h1.claim(t, "red", 0)
	h2.claim(t, "blue", 0)
	eventually(t, "rows are there", func() bool { a, _ := h1.count(); b, _ := h2.count(); return a > 0 && b > 0 })
	pair := s.certificate(nodeid.ID{Node: "h1", Machine: "m1"}, time.Hour)
	for _, h := range []southbound.Hello{{Node: "h2", Machine: "m2"}, {Node: "h2", Machine: "m1"}, {Node: "h1", Machine: "m2"}, {Node: "h9", Machine: "m1"}, {Node: "h1"}} {
		if err := s.hello(t.Context(), pair, h); status.Code(err) != codes.PermissionDenied {
			t.Errorf("hello as %+v: %v", h, err)
		}
	}
	api := pb.NewSouthboundClient(s.calls(pair))
	for _, name := range []string{"h2", "h9", "", "H1", "h1 "} {
		if _, err := api.Claim(t.Context(), &pb.ClaimRequest{Node: name, Tenant: "blue", Port: "web-0", Move: true}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("claim as %q: %v", name, err)
		}
		if _, err := api.Release(t.Context(), &pb.ReleaseRequest{Node: name, Tenant: "blue", Port: "web-0", Binding: s.port("blue", "web-0").Binding}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("release as %q: %v", name, err)
		}
	}
	if _, err := api.Release(t.Context(), &pb.ReleaseRequest{Node: "h1", Tenant: "blue", Port: "web-0", Binding: s.port("blue", "web-0").Binding}); err != nil && refusal(err) == nil {
		t.Errorf("release of another node's binding: %v", err)
	}
	if at := s.port("blue", "web-0").Node; at != "h2" {
		t.Errorf("blue/web-0 is at %q", at)
	}
	h1.stop()
	stolen := &node{name: "h1", machine: "m1"} // with the bindings that h1 had, and blue's
	stolen.bindings = append(h1.bindings, h2.bindings...)
	s.joinAs(stolen, 1)
	eventually(t, "connected", func() bool { rows, _ := stolen.count(); return rows > 0 })
	stolen.mu.Lock()
	defer stolen.mu.Unlock()
	for _, r := range stolen.rows {
		if v, ok := r.(southbound.VPC); ok && v.Tenant != "red" {
			t.Errorf("h1 was given %v", v)
		}
	}
	if at := s.port("blue", "web-0").Node; at != "h2" {
		t.Errorf("blue/web-0 is at %q after a hello that lists it", at)
	}
}

// TestRenewalNeedsNoStore: while etcd takes no writes, certificates are renewed; joining waits.
func TestRenewalNeedsNoStore(t *testing.T) {
	s := start(t, t.TempDir())
	h1 := &node{name: "h1", machine: "m1"}
	s.joinAs(h1, 1)
	eventually(t, "joined", func() bool { return h1.epochNow() != "" })
	before := s.store()
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	pair := s.certificate(id, time.Hour)
	for range 20 {
		var err error
		if pair, err = s.renew(pair, id); err != nil {
			t.Fatal(err)
		}
	}
	if after := s.store(); after != before {
		t.Errorf("20 renewals moved the store from revision %s to %s", before, after)
	}
}

// store is the store's revision.
func (s *site) store() string {
	var st v1.ClusterStatus
	s.call(http.MethodGet, "/api/v1/status", nil, &st)
	return fmt.Sprint(st.ResourceVersion)
}

// TestEndOfACertificateIsToldInTime: one that was not renewed though most of its life is over is a warning of the whole.
func TestEndOfACertificateIsToldInTime(t *testing.T) {
	s := startWith(t, Config{StateDir: t.TempDir(), NodeLife: 12 * time.Hour})
	fine, late := &node{name: "h1", machine: "m1"}, &node{name: "h2", machine: "m2"}
	late.life, fine.life = 119*time.Minute, 121*time.Minute // a sixth is two hours
	s.joinAs(fine, 1)
	s.joinAs(late, 2)
	eventually(t, "both joined", func() bool { return fine.epochNow() != "" && late.epochNow() != "" })
	var warnings []string
	eventually(t, "told", func() bool {
		var st v1.ClusterStatus
		s.call(http.MethodGet, "/api/v1/status", nil, &st)
		warnings = st.Warnings
		return len(warnings) > 0 && s.node("h1").Ready && s.node("h2").Ready
	})
	if len(warnings) != 1 || !strings.HasPrefix(warnings[0], "h2: its certificate ends in 1h5") {
		t.Errorf("warnings %q", warnings)
	}
}

// TestAuthorityIsReplacedUnderNodes goes the way of docs/operate/nodes.md: at each step the nodes of the step before connect and renew.
func TestAuthorityIsReplacedUnderNodes(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	start(t, next).stop()
	file := func(dir, name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	s := start(t, dir)
	key, request := asking(t, id)
	pair, e := s.enrol(id, s.token("node"), key, request)
	if e != nil {
		t.Fatal(e)
	}
	believed := s.roots
	oldCert, newCert := file(dir, "ca.pem"), file(next, "ca.pem")
	step := func(what string, ca []byte, want int) {
		t.Helper()
		s.stop()
		if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca, 0o600); err != nil {
			t.Fatal(err)
		}
		s = start(t, dir)
		s.roots = believed
		if err := s.hello(t.Context(), pair, southbound.Hello{Node: "h1", Machine: "m1"}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		conn := s.calls(pair)
		defer conn.Close()
		key, request := asking(t, id)
		got, err := pb.NewEnrolmentClient(conn).Renew(t.Context(), &pb.RenewRequest{Request: request})
		if err != nil || len(got.GetAuthorities()) != want {
			t.Fatalf("%s: %d authorities, %v", what, len(got.GetAuthorities()), err)
		}
		pair, _ = s.given(key, got, nil)
		believed = x509.NewCertPool()
		for _, der := range got.GetAuthorities() {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			believed.AddCert(c)
		}
	}
	step("the new one is told", slices.Concat(oldCert, newCert), 2)
	if err := os.WriteFile(filepath.Join(dir, "ca.key"), file(next, "ca.key"), 0o600); err != nil {
		t.Fatal(err)
	}
	step("the new one signs", slices.Concat(newCert, oldCert), 2)
	step("the old one is gone", newCert, 1)
}
