// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	v1 "weft/api/v1"
	"weft/internal/audit"
	"weft/internal/base/nodeid"
	"weft/internal/server/enrol"
	"weft/internal/southbound"
	"weft/internal/southbound/pb"
)

// calls is a connection to the stream with a certificate, or with none.
func (s *site) calls(pair *tls.Certificate) *grpc.ClientConn {
	s.t.Helper()
	conn, err := grpc.NewClient(s.southbound, s.showing(pair)...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// asking is a request for a certificate and its key.
func asking(t *testing.T, id nodeid.ID) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	return askingLike(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: id.Node}, URIs: []*url.URL{id.URI()}})
}

func askingLike(t *testing.T, r *x509.CertificateRequest) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, r, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

// enrol asks for a first certificate.
func (s *site) enrol(id nodeid.ID, token string, key *ecdsa.PrivateKey, request []byte) (*tls.Certificate, *v1.Error) {
	s.t.Helper()
	conn := s.calls(nil)
	defer conn.Close()
	got, err := pb.NewEnrolmentClient(conn).Enrol(s.t.Context(), &pb.EnrolRequest{Token: token, Node: id.Node, Machine: id.Machine, Request: request})
	return s.given(key, got, err)
}

// given reads the answer to a request for a certificate.
func (s *site) given(key *ecdsa.PrivateKey, got *pb.NodeCertificate, err error) (*tls.Certificate, *v1.Error) {
	s.t.Helper()
	if err != nil {
		e := refusal(err)
		if e == nil {
			s.t.Fatal(err)
		}
		return nil, e
	}
	leaf, err := x509.ParseCertificate(got.GetCertificate())
	if err != nil {
		s.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// refusal is the API's error in an error of gRPC; nil: there is none.
func refusal(err error) *v1.Error {
	var refused *southbound.RefusedError
	var e v1.Error
	if !errors.As(southbound.FromStatus(err), &refused) || json.Unmarshal(refused.JSON, &e) != nil {
		return nil
	}
	return &e
}

func (s *site) newToken(r v1.JoinRequest) *v1.Join {
	s.t.Helper()
	var j v1.Join
	s.call(http.MethodPost, "/api/v1/join", r, &j)
	return &j
}

func (s *site) tokens() map[string]v1.JoinToken {
	s.t.Helper()
	var all v1.JoinTokens
	s.call(http.MethodGet, "/api/v1/join/tokens", nil, &all)
	out := make(map[string]v1.JoinToken)
	for _, t := range all.Items {
		out[t.ID] = t
	}
	return out
}

// hello opens a stream and returns what comes back first.
func (s *site) hello(ctx context.Context, pair *tls.Certificate, h southbound.Hello) error {
	s.t.Helper()
	stream, err := pb.NewSouthboundClient(s.calls(pair)).Sync(ctx)
	if err == nil {
		_ = stream.Send(&pb.NodeMessage{Message: &pb.NodeMessage_Hello{Hello: &pb.Hello{ // what is wrong with it, Recv tells
			Node: h.Node, Address: netip.MustParseAddr("198.19.0.9").AsSlice(), Roles: []string{"host"}, Machine: h.Machine,
		}}})
		_, err = stream.Recv()
	}
	return err
}

// TestTokenIsForEnrolmentAlone: a join token gives a certificate and nothing else; the certificate gives all that the node may do.
func TestTokenIsForEnrolmentAlone(t *testing.T) {
	s := start(t, t.TempDir())
	s.apply(network("red", 1))
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	asToken := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s.token("node")) // as agents did before there were certificates
	if err := s.hello(asToken, nil, southbound.Hello{Node: "h1", Machine: "m1"}); status.Code(err) != codes.Unauthenticated || !strings.Contains(err.Error(), "weft node token") {
		t.Errorf("a stream by the token: %v", err)
	}
	if _, err := pb.NewSouthboundClient(s.calls(nil)).Claim(asToken, &pb.ClaimRequest{Node: "h1", Tenant: "red", Port: "web-0"}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a claim by the token: %v", err)
	}
	if _, err := pb.NewEnrolmentClient(s.calls(nil)).Renew(asToken, &pb.RenewRequest{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a renewal by the token: %v", err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.api+"/api/v1/nodes", nil)
	req.Header.Set("Authorization", "Bearer "+s.token("node"))
	if resp, err := s.http().Do(req); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("the API by the token: %v, %v", resp, err)
	}

	key, request := asking(t, id)
	pair, e := s.enrol(id, s.token("node"), key, request)
	if e != nil {
		t.Fatal(e)
	}
	if life := time.Until(pair.Leaf.NotAfter); life < enrol.Life-time.Minute || life > enrol.Life {
		t.Errorf("the certificate is good for %s", life)
	}
	if err := s.hello(t.Context(), pair, southbound.Hello{Node: "h1", Machine: "m1"}); err != nil {
		t.Errorf("a stream by the certificate: %v", err)
	}
	if n := s.node("h1"); n.Machine != "m1" || !n.CertificateEnds.Equal(pair.Leaf.NotAfter) {
		t.Errorf("the node is %+v", n)
	}
	if _, err := pb.NewSouthboundClient(s.calls(pair)).Claim(t.Context(), &pb.ClaimRequest{Node: "h1", Tenant: "red", Port: "web-0"}); err != nil {
		t.Errorf("a claim by the certificate: %v", err)
	}
	kept, err := audit.Read(filepath.Join(s.dir, "audit"), audit.Filter{Operation: "enrol"})
	if err != nil || len(kept) != 1 || kept[0].Object != "node/h1" || kept[0].From != "127.0.0.1" || !strings.HasPrefix(kept[0].Principal, "join-token:") {
		t.Errorf("records of enrolments: %+v, %v", kept, err)
	}
	for _, call := range []string{"sync", "claim", "renew"} {
		if refused, err := audit.Read(filepath.Join(s.dir, "audit"), audit.Filter{Operation: call}); err != nil || len(refused) == 0 || !refused[0].Failed {
			t.Errorf("records of refused calls (%s): %+v, %v", call, refused, err)
		}
	}
}

// TestNodeThatIsWrittenDownBeforeItsMachineCame: labels and such may be there first; any token makes a machine that node.
func TestNodeThatIsWrittenDownBeforeItsMachineCame(t *testing.T) {
	s := start(t, t.TempDir())
	s.apply("apiVersion: weft/v1\nkind: Node\nmetadata: {name: h1, labels: {rack: r7}}\nspec: {address: 198.19.0.9, roles: [host]}\n")
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	key, request := asking(t, id)
	var pair *tls.Certificate
	for range 2 { // the first answer was lost
		var e *v1.Error
		if pair, e = s.enrol(id, s.token("node"), key, request); e != nil {
			t.Fatal(e)
		}
	}
	if err := s.hello(t.Context(), pair, southbound.Hello{Node: "h1", Machine: "m1"}); err != nil {
		t.Error(err)
	}
	if n := s.node("h1"); n.Machine != "m1" {
		t.Errorf("the node is %+v", n)
	}
}

// TestEveryCallHasARule: a call that somebody adds is refused until it has one.
func TestEveryCallHasARule(t *testing.T) {
	n := 0
	for _, d := range []grpc.ServiceDesc{pb.Southbound_ServiceDesc, pb.Enrolment_ServiceDesc} {
		var names []string
		for _, m := range d.Methods {
			names = append(names, m.MethodName)
		}
		for _, m := range d.Streams {
			names = append(names, m.StreamName)
		}
		for _, name := range names {
			n++
			if full := "/" + d.ServiceName + "/" + name; enrol.Rules[full] == 0 {
				t.Errorf("%s has no rule in enrol.Rules", full)
			}
		}
	}
	if n != len(enrol.Rules) {
		t.Errorf("%d calls, %d rules", n, len(enrol.Rules))
	}
}

func TestForgedRequestsAreRefused(t *testing.T) {
	s := start(t, t.TempDir())
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	other := nodeid.ID{Node: "h2", Machine: "m1"}
	plain := func() *x509.CertificateRequest {
		return &x509.CertificateRequest{Subject: pkix.Name{CommonName: "h1"}, URIs: []*url.URL{id.URI()}}
	}
	with := func(change func(*x509.CertificateRequest)) []byte {
		r := plain()
		change(r)
		_, der := askingLike(t, r)
		return der
	}
	ca, err := asn1.Marshal(struct{ CA bool }{true})
	if err != nil {
		t.Fatal(err)
	}
	extension := func(value []byte, id ...int) []byte {
		return with(func(r *x509.CertificateRequest) { r.ExtraExtensions = []pkix.Extension{{Id: id, Value: value}} })
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	byRSA, err := x509.CreateCertificateRequest(rand.Reader, plain(), rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	byP384, err := x509.CreateCertificateRequest(rand.Reader, plain(), p384)
	if err != nil {
		t.Fatal(err)
	}
	_, good := asking(t, id)
	stolen := append([]byte(nil), good...) // of a key that the sender does not have
	stolen[len(stolen)-1] ^= 1
	_, forOther := asking(t, other)
	for name, der := range map[string][]byte{
		"another_node": forOther,
		"another_machine": with(func(r *x509.CertificateRequest) {
			r.URIs = []*url.URL{{Scheme: "spiffe", Host: "weft", Path: "/node/h1/machine/m2"}}
		}),
		"two_names":         with(func(r *x509.CertificateRequest) { r.URIs = append(r.URIs, other.URI()) }),
		"dns_name":          with(func(r *x509.CertificateRequest) { r.DNSNames = []string{"weft.example"} }),
		"address":           with(func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)} }),
		"email":             with(func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@example"} }),
		"subject":           with(func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: "weft authority"} }),
		"more_of_a_subject": with(func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"system:masters"} }),
		"no_name":           with(func(r *x509.CertificateRequest) { r.URIs = nil }),
		"authority":         extension(ca, 2, 5, 29, 19),
		"server_usage":      extension([]byte{0x30, 0x0a, 0x06, 0x08, 0x2b, 0x06, 1, 5, 5, 7, 3, 1}, 2, 5, 29, 37),
		"unknown_extension": extension([]byte{5, 0}, 1, 2, 3, 4),
		"rsa":               byRSA,
		"p384":              byP384,
		"another's_key":     stolen,
		"cut_off":           good[:len(good)/2],
		"more_behind":       append(append([]byte(nil), good...), 0),
		"nothing":           nil,
		"large":             make([]byte, 1<<16),
	} {
		if pair, e := s.enrol(id, s.token("node"), nil, der); e == nil || e.Code != v1.CodeInvalid {
			t.Errorf("%s: %v, %v", name, pair, e)
		}
	}
	for _, id := range []nodeid.ID{{Node: "a/b", Machine: "m"}, {Node: "h1"}, {Machine: "m1"}, {Node: "..", Machine: "m"}, {Node: strings.Repeat("a", 65), Machine: "m"}} {
		if pair, e := s.enrol(id, s.token("node"), nil, good); e == nil || e.Code != v1.CodeInvalid {
			t.Errorf("%+v: %v, %v", id, pair, e)
		}
	}
	if n := s.tokens(); len(n) != 1 {
		t.Errorf("tokens: %v", n)
	} else {
		for _, k := range n {
			if k.Used != 0 {
				t.Errorf("a refused request was a use of the token: %+v", k)
			}
		}
	}
}

func TestTokensEnd(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	try := func(node, token string) *v1.Error {
		t.Helper()
		id := nodeid.ID{Node: node, Machine: "machine-of-" + node}
		key, request := asking(t, id)
		_, e := s.enrol(id, token, key, request)
		return e
	}
	refused := func(what string, e *v1.Error, code, word string) {
		t.Helper()
		if e == nil || e.Code != code || !strings.Contains(e.Message, word) {
			t.Errorf("%s: %+v", what, e)
		}
	}
	refused("a guess", try("h1", "guess"), v1.CodeUnauthorized, "not known")
	refused("none", try("h1", ""), v1.CodeUnauthorized, "not known")

	once := s.newToken(v1.JoinRequest{Uses: 1})
	id := nodeid.ID{Node: "h1", Machine: "m1"}
	key, request := asking(t, id)
	for range 3 { // an answer that was lost is asked for again
		if _, e := s.enrol(id, once.Token, key, request); e != nil {
			t.Fatal(e)
		}
	}
	if k := s.tokens()[once.ID]; k.Used != 1 || k.State != "UsedUp" {
		t.Errorf("used once: %+v", k)
	}
	refused("another machine", try("h2", once.Token), v1.CodeUnauthorized, "used 1 times")
	otherKey, otherRequest := asking(t, id)
	_, e := s.enrol(id, once.Token, otherKey, otherRequest)
	refused("a replay with another key", e, v1.CodeUnauthorized, "used 1 times")

	named := s.newToken(v1.JoinRequest{Node: "h3", For: "1h"})
	refused("the token of another node", try("h4", named.Token), v1.CodeForbidden, "node h3 only")
	if e := try("h3", named.Token); e != nil {
		t.Error(e)
	}

	revoked := s.newToken(v1.JoinRequest{})
	s.call(http.MethodDelete, "/api/v1/join/tokens/"+revoked.ID, nil, nil)
	s.call(http.MethodDelete, "/api/v1/join/tokens/"+revoked.ID, nil, nil)
	refused("revoked", try("h5", revoked.Token), v1.CodeUnauthorized, "revoked")
	if e := s.refused(http.MethodDelete, "/api/v1/join/tokens/none"); e.Code != v1.CodeNotFound {
		t.Errorf("revoke what is not there: %+v", e)
	}

	short := s.newToken(v1.JoinRequest{For: "1s"})
	eventually(t, "the token ends", func() bool { return s.tokens()[short.ID].State == "Ended" })
	refused("ended", try("h6", short.Token), v1.CodeUnauthorized, "ended at")

	if e := try("h7", s.token("node")); e != nil {
		t.Errorf("the first token: %v", e)
	}
	var first string
	for id, k := range s.tokens() {
		if k.Used == 1 && k.Uses == 0 && k.Node == "" {
			first = id
		}
	}
	s.call(http.MethodDelete, "/api/v1/join/tokens/"+first, nil, nil)
	before := s.tokens()
	s.stop()
	s = start(t, dir)
	if after := s.tokens(); len(after) != len(before) || after[first].State != "Revoked" {
		t.Errorf("after a restart: %v, and before: %v", after, before)
	}
	refused("the first token, revoked, after a restart", try("h8", s.token("node")), v1.CodeUnauthorized, "revoked")
	for _, r := range []v1.JoinRequest{{For: "0s"}, {For: "-1h"}, {For: "721h"}, {For: "soon"}, {Uses: -1}, {Uses: 1001}, {Node: "a/b"}} {
		if code := s.status(http.MethodPost, "/api/v1/join", r); code != http.StatusUnprocessableEntity {
			t.Errorf("%+v: %d", r, code)
		}
	}
}

// TestSecretsAreNotStored: neither etcd nor what it writes has a join token.
func TestSecretsAreNotStored(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	j := s.newToken(v1.JoinRequest{})
	s.stop()
	for _, secret := range []string{j.Token, s.token("node")} {
		if found := grep(t, dir+"/etcd", secret); found != "" {
			t.Errorf("a join token is in %s", found)
		}
	}
}

// TestNamesOfNodesAreNotTakenOver: a living node's name is nobody else's, and a dead one's needs a token made for it.
func TestNamesOfNodesAreNotTakenOver(t *testing.T) {
	s := start(t, t.TempDir())
	first := &node{name: "h1", machine: "m1"}
	s.joinAs(first, 1)
	eventually(t, "joined", func() bool { return first.epochNow() != "" })
	eventually(t, "ready", func() bool { return s.node("h1").Ready })
	general, own := s.newToken(v1.JoinRequest{}), s.newToken(v1.JoinRequest{Node: "h1"})
	try := func(machine, token string) (*tls.Certificate, *v1.Error) {
		id := nodeid.ID{Node: "h1", Machine: machine}
		key, request := asking(t, id)
		return s.enrol(id, token, key, request)
	}
	for _, machine := range []string{"m1", "m2"} { // the first is a copy of the living node's own identity
		for _, k := range []*v1.Join{general, own} {
			if pair, e := try(machine, k.Token); e == nil || e.Code != v1.CodeInUse {
				t.Errorf("machine %s under the name of a living node: %v, %v", machine, pair, e)
			}
		}
	}
	if err := s.hello(t.Context(), s.certificate(nodeid.ID{Node: "h1", Machine: "m2"}, time.Hour), southbound.Hello{Node: "h1", Machine: "m2"}); refusal(err) == nil {
		t.Errorf("a certificate of another machine: %v", err)
	}
	first.stop()
	eventually(t, "gone", func() bool { return s.node("h1").State == v1.NodeGone })
	for _, machine := range []string{"m1", "m2"} {
		if pair, e := try(machine, general.Token); e == nil || e.Code != v1.CodeInUse || !strings.Contains(e.Fix, "--node h1") {
			t.Errorf("machine %s under the name of a dead node: %v, %v", machine, pair, e)
		}
	}
	pair, e := try("m2", own.Token)
	if e != nil {
		t.Fatal(e)
	}
	if err := s.hello(t.Context(), pair, southbound.Hello{Node: "h1", Machine: "m2"}); err != nil {
		t.Errorf("the new machine: %v", err)
	}
	eventually(t, "gone again", func() bool { return s.node("h1").State == v1.NodeGone })
	s.connect(first) // whose certificate is good for an hour yet
	time.Sleep(500 * time.Millisecond)
	if first.connections() > 1 || s.node("h1").Machine != "m2" {
		t.Error("the machine before took its name back")
	}
	if _, err := pb.NewSouthboundClient(s.calls(s.certificate(nodeid.ID{Node: "h1", Machine: "m1"}, time.Hour))).Claim(t.Context(), &pb.ClaimRequest{Node: "h1", Tenant: "red", Port: "web-0"}); refusal(err) == nil || refusal(err).Code != v1.CodeInUse {
		t.Errorf("a claim of the machine before: %v", err)
	}
}
