// SPDX-License-Identifier: Apache-2.0

// Package enrol gives nodes their certificates, and lets nobody speak to the server as a node without one.
package enrol

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	v1 "weft/api/v1"
	"weft/internal/apiserver"
	"weft/internal/audit"
	"weft/internal/base/clock"
	"weft/internal/base/nodeid"
	"weft/internal/server/authority"
	"weft/internal/southbound"
	"weft/internal/southbound/pb"
	"weft/internal/store"
)

// Usual times.
const (
	Life  = 24 * time.Hour     // of a node's certificate
	Grace = 7 * 24 * time.Hour // for so long after its end a certificate still renews itself
)

// Config is what a Service needs. Life and Grace are Life and Grace where they are 0; all else is required.
type Config struct {
	Store     *store.Store
	Authority *authority.Authority
	Life      time.Duration
	Grace     time.Duration
	Alive     func(node string) bool   // the node's agent is connected
	Renewed   func(southbound.Caller)  // told of each renewal
	Audit     func(audit.Record) error // keeps who was enrolled and who was refused
	Log       *slog.Logger
}

// Service is the authority as nodes see it.
//
//	join token ------------> Enrol --+--> certificate: one node, one machine, a day
//	certificate -----------> Renew --+
//	   up to a week after its end
type Service struct {
	pb.UnimplementedEnrolmentServer
	cfg Config

	mu   sync.Mutex           // guards below
	told map[string]time.Time // when a refusal was last logged, by address and call
}

// New returns a service that Register adds to a gRPC server with the Guard's interceptors.
func New(cfg Config) *Service {
	if cfg.Life == 0 {
		cfg.Life = Life
	}
	if cfg.Grace == 0 {
		cfg.Grace = Grace
	}
	return &Service{cfg: cfg, told: make(map[string]time.Time)}
}

// Register adds the service to g.
func (s *Service) Register(g *grpc.Server) { pb.RegisterEnrolmentServer(g, s) }

// Enrol gives a machine its first certificate. A token that names no node lets it be a node that is not there yet, and no other:
// who holds the token cannot take over a node whose agent is away.
func (s *Service) Enrol(ctx context.Context, r *pb.EnrolRequest) (*pb.NodeCertificate, error) {
	id := nodeid.ID{Node: r.GetNode(), Machine: r.GetMachine()}
	if err := id.Check(); err != nil { // it becomes a part of keys, and of the log
		s.complain(ctx, pb.Enrolment_Enrol_FullMethodName, "", "no name of a node")
		return nil, refuse(wrongRequest(err))
	}
	cert, err := s.enrol(ctx, id, r)
	if err != nil {
		s.complain(ctx, pb.Enrolment_Enrol_FullMethodName, id.Node, err.Error())
		return nil, refuse(err)
	}
	s.cfg.Log.Info("node enrolled", "host", id.Node, "machine", id.Machine)
	_, token := hashOf(r.GetToken())
	err = s.cfg.Audit(audit.Record{
		Principal: "join-token:" + token, From: addressOf(ctx), Operation: "enrol", Object: "node/" + id.Node, Outcome: "done",
		Detail: map[string]any{"machine": id.Machine},
	})
	if err != nil { // nobody is let in of whom there is no record; the machine asks again
		return nil, refuse(err)
	}
	return cert, nil
}

func (s *Service) enrol(ctx context.Context, id nodeid.ID, r *pb.EnrolRequest) (*pb.NodeCertificate, error) {
	now := clock.Now()
	if err := known(s.cfg.Store.View(), r.GetToken()); err != nil { // strangers have nothing of theirs parsed, and write nothing
		return nil, err
	}
	key, err := checkRequest(r.GetRequest(), id)
	if err != nil {
		return nil, err
	}
	by := enrolled{Node: id.Node, Machine: id.Machine, Key: keyHash(key)}
	_, err = s.cfg.Store.Update(ctx, []string{"", store.NodeScope(id.Node), tokenScope}, func(tx *store.Tx) error {
		k, err := use(tx, r.GetToken(), by, now)
		if err != nil {
			return err
		}
		return s.admit(tx, id, k)
	})
	if err != nil {
		return nil, err
	}
	return s.issue(id, key, now)
}

// admit decides whether a machine may be a node, as far as it depends on the node.
func (s *Service) admit(tx *store.Tx, id nodeid.ID, k *token) error {
	if tx.Counter(apiserver.RemovedCounter(id.Machine)) > 0 {
		return apiserver.RemovedError(id.Node)
	}
	found, ok := tx.Get(v1.KindNode, "", id.Node)
	if !ok {
		return nil
	}
	n := found.(*v1.Node)
	if n.Status.Machine == "" { // somebody wrote it down before its machine came
		return nil
	}
	taken := &v1.Error{Status: http.StatusConflict, Code: v1.CodeInUse, Object: "node/" + id.Node}
	switch {
	case s.cfg.Alive(id.Node):
		taken.Message, taken.Fix = "a machine is this node, and alive", "give each machine a name of its own (weft node join --name)"
		return taken
	case k.Node != id.Node:
		taken.Message = "the node is there already, and this join token is for new ones"
		taken.Fix = "if this machine is to take its place: weft node token --node " + id.Node + "; or remove the node first: weft node remove " + id.Node
		return taken
	case n.Status.Machine != id.Machine:
		n = v1.Clone(n)
		n.Status.Machine = id.Machine
		tx.Put(n)
	}
	return nil
}

// Renew gives a node another certificate for the one that it showed, which the guard has read.
func (s *Service) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.NodeCertificate, error) {
	caller, err := CallerOf(ctx)
	if err != nil {
		return nil, err
	}
	id := nodeid.ID{Node: caller.Node, Machine: caller.Machine}
	cert, err := s.renew(id, r.GetRequest())
	if err != nil {
		s.complain(ctx, pb.Enrolment_Renew_FullMethodName, id.Node, err.Error())
		return nil, refuse(err)
	}
	s.cfg.Log.Debug("certificate renewed", "host", id.Node, "machine", id.Machine)
	return cert, nil
}

// renew needs no write, so it goes on while the store takes none.
func (s *Service) renew(id nodeid.ID, request []byte) (*pb.NodeCertificate, error) {
	key, err := checkRequest(request, id)
	if err != nil {
		return nil, err
	}
	if _, ok := s.cfg.Store.View().Get(v1.KindNode, "", id.Node); !ok {
		return nil, &v1.Error{
			Status: http.StatusConflict, Code: v1.CodePrecondition, Object: "node/" + id.Node, Message: "the node has not said hello yet: there is nothing to renew for",
			Fix: "wait until it is connected",
		}
	}
	cert, err := s.issue(id, key, clock.Now())
	if err != nil {
		return nil, err
	}
	s.cfg.Renewed(southbound.Caller{Node: id.Node, Machine: id.Machine, Until: clock.Now().Add(s.cfg.Life)})
	return cert, nil
}

func (s *Service) issue(id nodeid.ID, key *ecdsa.PublicKey, now time.Time) (*pb.NodeCertificate, error) {
	c, err := s.cfg.Authority.Node(id, key, now, s.cfg.Life)
	if err != nil {
		return nil, err
	}
	return &pb.NodeCertificate{Certificate: c.Raw, Life: int64(s.cfg.Life), Authorities: s.cfg.Authority.Believed()}, nil
}

// subjectAlternativeName is the one extension that a request may ask for.
var subjectAlternativeName = asn1.ObjectIdentifier{2, 5, 29, 17}

// requestMost bounds a request for a certificate, bytes.
const requestMost = 4 << 10

// checkRequest reads the key that a request is for. Nothing else is taken from it; what asks for anything else is refused, rather than
// passed over, as it was made by somebody who is up to something.
func checkRequest(der []byte, id nodeid.ID) (*ecdsa.PublicKey, error) {
	if len(der) > requestMost {
		return nil, wrongRequest(fmt.Errorf("it has %d bytes, and may have %d", len(der), requestMost))
	}
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, wrongRequest(err)
	}
	if err := r.CheckSignature(); err != nil {
		return nil, wrongRequest(fmt.Errorf("its sender does not have the key: %w", err))
	}
	key, ok := r.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, wrongRequest(errors.New("its key is not ECDSA P-256"))
	}
	for _, e := range r.Extensions {
		if !e.Id.Equal(subjectAlternativeName) {
			return nil, wrongRequest(fmt.Errorf("it asks for extension %s", e.Id))
		}
	}
	asked, err := nodeid.OfRequest(r)
	if err != nil {
		return nil, wrongRequest(err)
	}
	if asked != id || r.Subject.String() != "CN="+id.Node {
		return nil, wrongRequest(fmt.Errorf("it is for %s (%s), and not for %s", asked, r.Subject, id))
	}
	return key, nil
}

func wrongRequest(err error) error {
	return &v1.Error{
		Status: http.StatusUnprocessableEntity, Code: v1.CodeInvalid, Field: "request", Message: "the request for a certificate is not one of a node: " + err.Error(),
		Fix: "send what 'weft agent' does",
	}
}

// keyHash names a key.
func keyHash(key *ecdsa.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// refuse carries the API's own error to the node.
func refuse(err error) error {
	var e *v1.Error
	if errors.As(err, &e) {
		return southbound.ToStatus(southbound.Refused(e))
	}
	return southbound.ToStatus(err)
}
