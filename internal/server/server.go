// SPDX-License-Identifier: Apache-2.0

// Package server is the server process: it watches the store, computes rows, feeds the nodes' streams and answers the
// API. It holds nothing that the store does not, so that it can be stopped at any time.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	v1 "weft/api/v1"
	"weft/internal/apiserver"
	"weft/internal/apiserver/limit"
	"weft/internal/audit"
	"weft/internal/base/notify"
	"weft/internal/control/graph"
	"weft/internal/identity"
	"weft/internal/server/enrol"
	"weft/internal/southbound"
	"weft/internal/store"
)

// Config is what a server needs.
type Config struct {
	StateDir        string
	API             net.Listener  // TLS is added here
	Southbound      net.Listener  // TLS is added here
	Names           []string      // host names and addresses that the server's certificate is for
	EtcdEndpoints   []string      // empty: embedded
	Etcd            store.Access  // of EtcdEndpoints
	CertificateLife time.Duration // of the server's certificate, which is made anew after two thirds of it; 0: a year
	NodeLife        time.Duration // of nodes' certificates, which nodes renew after two thirds of it; 0: a day
	NodeGrace       time.Duration // for so long after its end a node's certificate still renews itself; 0: a week
	TenantRequests  float64       // requests a second that each tenant may make, twice as many at once; 0: limit.Default
	OIDC            identity.OIDC // people of an identity provider; no issuer: there are none
	Version         string
	Log             *slog.Logger
	Manager         notify.Manager

	rows func(graph.Resources) graph.Rows // the controller's, but for tests
}

// Run is the life of the server: it returns when ctx ends and all is closed.
func Run(ctx context.Context, cfg Config) (err error) {
	creds, err := loadCredentials(cfg)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	etcdTLS, err := cfg.Etcd.TLS()
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	st, err := store.Open(ctx, store.Config{
		Dir: filepath.Join(cfg.StateDir, "etcd"), Endpoints: cfg.EtcdEndpoints, TLS: etcdTLS, Log: cfg.Log,
	})
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	joins := enrol.NewTokens(st, streamAddress(cfg.Southbound.Addr()), creds.caHash())
	if err := joins.First(ctx, creds.nodeToken); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	l := &live{store: st, hub: southbound.NewHub(), version: cfg.Version, started: time.Now(), nodeLife: cmp.Or(cfg.NodeLife, enrol.Life)}
	gate, err := newGate(st, creds.adminToken, cfg)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	records, err := audit.Open(filepath.Join(cfg.StateDir, "audit"), cfg.Log)
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	if err := records.Append(audit.Record{Principal: "server", Operation: audit.OpStart, Outcome: "done", Revision: st.View().Revision(), Detail: map[string]any{"version": cfg.Version}}); err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	api, err := apiserver.New(apiserver.Config{Store: st, Live: l, Gate: gate, Audit: records, Limits: limits(cfg), Joins: joins, Log: cfg.Log, Version: cfg.Version})
	if err != nil {
		return fmt.Errorf("start server: %w", err)
	}
	l.controller = newController(st, l.hub, cfg.Log)
	if cfg.rows != nil {
		l.controller.rows = cfg.rows
	}
	l.nodes = southbound.NewServer(southbound.ServerConfig{
		Hub: l.hub, Handler: &nodes{api: api, store: st, ready: l.controller.ready, log: cfg.Log}, Identify: enrol.CallerOf, Log: cfg.Log,
	})
	l.enrol = enrol.New(enrol.Config{
		Store: st, Authority: creds.authority, Life: cfg.NodeLife, Grace: cfg.NodeGrace, Log: cfg.Log,
		Alive: l.alive, Renewed: l.nodes.Renewed, Audit: func(r audit.Record) error { return records.Append(r) },
	})
	l.controller.removed = func(n *v1.Node) {
		l.nodes.Drop(n.Name, refuse(api.Member(n.Name)))
		l.hub.Forget(n.Status.Number)
	}
	return serve(ctx, cfg, creds, api, l)
}

// limits are the API's, with what the configuration says otherwise.
func limits(cfg Config) limit.Config {
	l := limit.Default()
	if cfg.TenantRequests > 0 {
		l.TenantRate, l.TenantBurst = cfg.TenantRequests, int(2*cfg.TenantRequests)+1
	}
	return l
}

// newGate makes what tells whose a request is.
func newGate(st *store.Store, adminToken string, cfg Config) (*identity.Gate, error) {
	var people identity.People
	if o := cfg.OIDC; o.Issuer != "" {
		o.Log = cfg.Log
		var err error
		if people, err = identity.NewPeople(o); err != nil {
			return nil, err
		}
	}
	return identity.NewGate(st, adminToken, people)
}

// serve runs controllers and listeners until ctx ends or one of them fails.
func serve(ctx context.Context, cfg Config, creds *credential, api *apiserver.Server, l *live) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { l.controller.run(ctx) })

	tlsConfig := &tls.Config{GetCertificate: creds.server.get, MinVersion: tls.VersionTLS13}
	forNodes := tlsConfig.Clone()
	forNodes.ClientAuth = tls.RequestClientCert // and enrol's guard looks at it, as what joins has none yet
	g := grpc.NewServer(append(l.enrol.Options(), grpc.Creds(enrol.Credentials(credentials.NewTLS(forNodes))),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.ConnectionTimeout(10*time.Second))...)
	l.nodes.Register(g)
	l.enrol.Register(g)
	h := &http.Server{
		Handler: api.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
		TLSConfig:   tlsConfig,
	}
	failed := make(chan error, 2)
	wg.Go(func() { failed <- g.Serve(cfg.Southbound) })
	wg.Go(func() { failed <- h.ServeTLS(cfg.API, "", "") })
	// Alive is who can be asked: neither etcd nor the nodes have to answer for it.
	wg.Go(func() {
		cfg.Manager.Watch(ctx, func(context.Context) error { l.store.View(); l.Version(); return nil })
	})
	if err := cfg.Manager.Ready("API " + cfg.API.Addr().String() + ", nodes " + cfg.Southbound.Addr().String()); err != nil {
		cfg.Log.Warn("not told", "err", err)
	}
	cfg.Log.Info("server runs", "api", cfg.API.Addr().String(), "southbound", cfg.Southbound.Addr().String())
	var err error
	select {
	case <-ctx.Done():
		_ = cfg.Manager.Stopping() // it asked for it
	case err = <-failed:
	}
	cancel()
	g.Stop()
	stop, release := context.WithTimeout(context.Background(), 2*time.Second)
	defer release()
	if h.Shutdown(stop) != nil {
		h.Close() // watches that do not end
	}
	return err
}

// nodes is what the API does for agents (southbound.Handler).
type nodes struct {
	api   *apiserver.Server
	store *store.Store
	ready <-chan struct{} // closed once all rows are there
	log   *slog.Logger
}

// Join registers the node and takes from it the ports that it says it does not have. After a start it waits until all rows are there:
// a node takes down what it is not told of.
func (n *nodes) Join(ctx context.Context, h southbound.Hello) (uint16, error) {
	select {
	case <-n.ready:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	node, err := n.api.RegisterNode(ctx, v1.Node{
		TypeMeta: v1.TypeMeta{APIVersion: v1.APIVersion, Kind: v1.KindNode},
		Metadata: v1.Metadata{Name: h.Node},
		Spec:     v1.NodeSpec{Address: h.Address, Roles: h.Roles, Site: h.Site},
		Status:   v1.NodeStatus{Machine: h.Machine},
	})
	if err != nil {
		return 0, refuse(err)
	}
	has := make(map[southbound.Binding]bool)
	for _, b := range h.Bindings {
		has[southbound.Binding{Tenant: b.Tenant, Port: b.Port}] = true
	}
	for _, o := range n.store.View().List(v1.KindPort, "") {
		p := o.(*v1.Port)
		if p.Status.Node != h.Node || has[southbound.Binding{Tenant: p.Tenant, Port: p.Name}] {
			continue
		}
		n.log.Info("release port that its node does not have", "host", h.Node, "tenant", p.Tenant, "port", p.Name)
		if err := n.api.Release(ctx, h.Node, p.Tenant, p.Name, p.Status.Binding); err != nil {
			return 0, refuse(err)
		}
	}
	return node.Status.Number, nil
}

// Member reports with an error that the node was removed.
func (n *nodes) Member(node string) error { return refuse(n.api.Member(node)) }

// Claim binds a port.
func (n *nodes) Claim(ctx context.Context, node, tenant, port string, move bool) (string, error) {
	binding, err := n.api.Claim(ctx, node, tenant, port, move)
	return binding, refuse(err)
}

// Release gives a port up.
func (n *nodes) Release(ctx context.Context, node, tenant, port, binding string) error {
	return refuse(n.api.Release(ctx, node, tenant, port, binding))
}

// refuse carries the API's own error to the node.
func refuse(err error) error {
	var e *v1.Error
	if !errors.As(err, &e) {
		return err
	}
	return southbound.Refused(e)
}

// compareDrops orders counters by node, tenant and reason.
func compareDrops(a, b v1.Drop) int {
	return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Tenant, b.Tenant), strings.Compare(a.Reason, b.Reason))
}
