// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	v1 "weft/api/v1"
	"weft/internal/base/nodeid"
	"weft/internal/server/authority"
	"weft/internal/southbound"
)

// site is a running server on loopback.
type site struct {
	t          *testing.T
	dir        string
	api        string // URL
	southbound string // host:port
	roots      *x509.CertPool
	stop       func()
}

func start(t *testing.T, dir string) *site {
	t.Helper()
	return startWith(t, Config{StateDir: dir})
}

// startWith starts a server that is configured in part.
func startWith(t *testing.T, cfg Config) *site {
	t.Helper()
	dir := cfg.StateDir
	listen := func() net.Listener {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	api, sb := listen(), listen()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		cfg.API, cfg.Southbound, cfg.Version, cfg.Log = api, sb, "test", slog.New(slog.DiscardHandler)
		ended <- Run(ctx, cfg)
	}()
	s := &site{t: t, dir: dir, api: "https://" + api.Addr().String(), southbound: sb.Addr().String(), roots: x509.NewCertPool()}
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("server ended with %v", err)
			}
		})
	}
	t.Cleanup(s.stop)
	eventually(t, "the server answers", func() bool {
		pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil || !s.roots.AppendCertsFromPEM(pem) {
			return false
		}
		resp, err := s.http().Get(s.api + "/healthz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return s
}

func (s *site) http() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots}, DisableKeepAlives: true}}
}

func (s *site) token(name string) string {
	data, err := os.ReadFile(filepath.Join(s.dir, name+".token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func (s *site) call(method, path string, in, out any) {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(s.t.Context(), method, s.api+path, bytes.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+s.token("admin"))
	resp, err := s.http().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, data, err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			s.t.Fatal(err)
		}
	}
}

// refused makes a request that has to fail.
func (s *site) refused(method, path string) *v1.Error {
	s.t.Helper()
	req, _ := http.NewRequestWithContext(s.t.Context(), method, s.api+path, nil)
	req.Header.Set("Authorization", "Bearer "+s.token("admin"))
	resp, err := s.http().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var e v1.Error
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode < 400 {
		s.t.Errorf("%s %s: %d, %v", method, path, resp.StatusCode, err)
	}
	return &e
}

// apply sends documents in YAML.
func (s *site) apply(text string) {
	s.t.Helper()
	docs, err := v1.DecodeYAML([]byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	s.call(http.MethodPost, "/api/v1/apply", map[string]any{"documents": docs}, nil)
}

// network is a tenant with a VPC and n ports.
func network(tenant string, n int) string {
	s := fmt.Sprintf(`apiVersion: weft/v1
kind: Tenant
metadata: {name: %[1]s}
---
apiVersion: weft/v1
kind: VPC
metadata: {tenant: %[1]s, name: main}
spec: {prefixes: [10.0.0.0/16]}
---
apiVersion: weft/v1
kind: Subnet
metadata: {tenant: %[1]s, name: web}
spec: {vpc: main, prefixes: [10.0.1.0/24]}
`, tenant)
	for i := range n {
		s += fmt.Sprintf("---\napiVersion: weft/v1\nkind: Port\nmetadata: {tenant: %s, name: web-%d}\nspec: {subnet: web}\n", tenant, i)
	}
	return s
}

// node is a simulated agent: real client, no kernel.
type node struct {
	name    string
	machine string
	life    time.Duration // of its certificate; 0: an hour
	addr    netip.Addr
	c       *southbound.Client
	stop    func()

	mu       sync.Mutex // guards below
	rows     map[southbound.Key]southbound.Row
	epoch    string
	revision uint64
	heard    int // rows and deletes
	bindings []southbound.Binding
	stall    chan struct{} // not nil: steps wait here
	ups      int           // streams that came up
	gone     string        // why the node was removed
}

func (s *site) join(name string, last byte) *node {
	s.t.Helper()
	n := &node{name: name}
	s.joinAs(n, last)
	return n
}

// joinAs connects a node that has its name already.
func (s *site) joinAs(n *node, last byte) {
	s.t.Helper()
	n.addr, n.rows = netip.AddrFrom4([4]byte{198, 19, 0, last}), map[southbound.Key]southbound.Row{}
	s.connect(n)
}

// certificate makes a node's certificate as the server would.
func (s *site) certificate(id nodeid.ID, life time.Duration) *tls.Certificate {
	s.t.Helper()
	a, err := authority.Load(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	pair, err := a.NodePair(id, life)
	if err != nil {
		s.t.Fatal(err)
	}
	return pair
}

// showing is how to reach the stream with a certificate; nil: with none.
func (s *site) showing(pair *tls.Certificate) []grpc.DialOption {
	c := &tls.Config{RootCAs: s.roots, ServerName: "127.0.0.1"}
	if pair != nil {
		c.Certificates = []tls.Certificate{*pair}
	}
	return []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(c))}
}

// connect runs the node's client against this server.
func (s *site) connect(n *node) {
	s.t.Helper()
	n.machine = cmp.Or(n.machine, "machine-of-"+n.name)
	pair := s.certificate(nodeid.ID{Node: n.name, Machine: n.machine}, cmp.Or(n.life, time.Hour))
	c, err := southbound.NewClient(southbound.ClientConfig{
		Server: s.southbound, Node: n, Name: n.name, Log: slog.New(slog.DiscardHandler),
		Removed: func(err error) { n.mu.Lock(); n.gone = err.Error(); n.mu.Unlock() },
		Dial:    func() []grpc.DialOption { return s.showing(pair) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { c.Run(ctx); close(ended) }()
	var once sync.Once
	n.c, n.stop = c, func() { once.Do(func() { cancel(); <-ended }) }
	s.t.Cleanup(n.stop)
}

func (n *node) Hello() (southbound.Hello, string, uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return southbound.Hello{Node: n.name, Address: n.addr, Roles: []string{"host"}, Bindings: n.bindings, Machine: n.machine}, n.epoch, n.revision
}

func (n *node) Rows(ctx context.Context, step southbound.Step) []southbound.Failure {
	n.mu.Lock()
	stall := n.stall
	n.mu.Unlock()
	if stall != nil {
		select {
		case <-stall:
		case <-ctx.Done():
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if step.Snapshot {
		clear(n.rows)
	}
	for _, k := range step.Deletes {
		delete(n.rows, k)
	}
	for _, r := range step.Upserts {
		n.rows[r.Key()] = r
	}
	n.heard += len(step.Upserts) + len(step.Deletes)
	n.epoch, n.revision = step.Epoch, step.Revision
	return nil
}

func (n *node) Ask(_ context.Context, what string, _ json.RawMessage) (json.RawMessage, error) {
	if what == "drops" {
		return json.RawMessage(`[{"tenant":1,"reason":"src-ip-spoof","packets":3,"bytes":84,"meaning":"m"},{"tenant":99,"reason":"vlan","packets":1,"bytes":1}]`), nil
	}
	return json.RawMessage(`{}`), nil
}

func (n *node) Connected(up bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if up {
		n.ups++
	}
}

func (n *node) connections() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ups
}

func (n *node) removed() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gone
}

func (n *node) epochNow() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.epoch
}

func (n *node) count() (rows, heard int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.rows), n.heard
}

// claim binds ports web-0 to web-(n-1) of a tenant to the node.
func (n *node) claim(t *testing.T, tenant string, ports ...int) {
	t.Helper()
	for _, i := range ports {
		name := fmt.Sprint("web-", i)
		id, err := n.c.Claim(t.Context(), tenant, name, false)
		if err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		n.bindings = append(n.bindings, southbound.Binding{Tenant: tenant, Port: name, ID: id})
		n.mu.Unlock()
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *site) port(tenant, name string) v1.PortStatus {
	s.t.Helper()
	var p v1.Port
	s.call(http.MethodGet, "/api/v1/tenants/"+tenant+"/ports/"+name, nil, &p)
	return p.Status
}

func TestChangeInOneVPCSendsNothingToOthersNodes(t *testing.T) {
	s := start(t, t.TempDir())
	h1, h2 := s.join("h1", 1), s.join("h2", 2)
	s.apply(network("red", 3))
	s.apply(network("blue", 1))
	h1.claim(t, "red", 0, 1)
	h2.claim(t, "blue", 0)
	eventually(t, "both nodes have their rows", func() bool {
		a, _ := h1.count()
		b, _ := h2.count()
		return a == 7 && b == 5 // VPC, subnet, peer, and for each port its row and its location
	})
	_, before := h2.count()
	for range 30 {
		h1.claim(t, "red", 2)
		p := s.port("red", "web-2")
		if err := h1.c.Release(t.Context(), "red", "web-2", p.Binding); err != nil {
			t.Fatal(err)
		}
		h1.mu.Lock()
		h1.bindings = h1.bindings[:2]
		h1.mu.Unlock()
	}
	s.apply("apiVersion: weft/v1\nkind: Subnet\nmetadata: {tenant: red, name: more}\nspec: {vpc: main, prefixes: [10.0.9.0/24]}\n")
	eventually(t, "the change is in effect", func() bool {
		var o v1.Subnet
		s.call(http.MethodGet, "/api/v1/tenants/red/subnets/more", nil, &o)
		a := o.Status.Applied
		return a.Nodes == 1 && a.Applied == 1 && len(a.Waiting) == 0
	})
	if _, after := h2.count(); after != before {
		t.Errorf("a node that hosts only blue heard %d rows of red's changes", after-before)
	}
}

func TestStatusNamesWhoIsMissing(t *testing.T) {
	s := start(t, t.TempDir())
	h1, h2 := s.join("h1", 1), s.join("h2", 2)
	s.apply(network("red", 2))
	h1.claim(t, "red", 0)
	eventually(t, "in effect", func() bool { return s.port("red", "web-0").State == "Attached" })
	h1.mu.Lock()
	h1.stall = make(chan struct{})
	h1.mu.Unlock()
	h2.claim(t, "red", 1)
	eventually(t, "waiting for the stalled node", func() bool {
		a := s.port("red", "web-1").Applied
		return a.Nodes == 2 && a.Applied == 1 && slices.Equal(a.Waiting, []string{"h1"})
	})
	if st := s.port("red", "web-1").State; st != "Attached" {
		t.Errorf("the port on the brisk node is %s", st)
	}
	close(h1.stall)
	eventually(t, "in effect everywhere", func() bool { a := s.port("red", "web-1").Applied; return a.Applied == 2 && len(a.Waiting) == 0 })
}

// What is wrong with a node itself is shown there, and holds no row up unless it concerns them.
func TestDegradedNodeIsShownWithItsReason(t *testing.T) {
	s := start(t, t.TempDir())
	h1 := s.join("h1", 1)
	s.apply(network("red", 1))
	h1.claim(t, "red", 0)
	eventually(t, "ready", func() bool { return s.node("h1").State == "Ready" && s.port("red", "web-0").Applied.Applied == 1 })
	ack := func(failures ...southbound.Failure) {
		h1.mu.Lock()
		defer h1.mu.Unlock()
		h1.c.Ack(h1.epoch, h1.revision, failures)
	}
	for _, c := range []struct {
		key     string
		applied int
	}{{southbound.NodeFailure, 1}, {"path", 0}} {
		ack(southbound.Failure{Key: c.key, Message: "no room"})
		eventually(t, "degraded by "+c.key, func() bool {
			n := s.node("h1")
			return n.State == "Degraded" && n.Reason == "no room" && !n.Ready && s.port("red", "web-0").Applied.Applied == c.applied
		})
	}
	ack()
	eventually(t, "ready again", func() bool { return s.node("h1").State == "Ready" })
}

func TestSilentNodeIsShownGone(t *testing.T) {
	s := start(t, t.TempDir())
	h1 := s.join("h1", 1)
	s.apply(network("red", 1))
	h1.claim(t, "red", 0)
	eventually(t, "ready", func() bool { return s.node("h1").State == "Ready" })
	h1.stop()
	stopped := time.Now()
	eventually(t, "gone", func() bool { return s.node("h1").State == "Gone" && s.port("red", "web-0").State == "NodeGone" })
	if took := time.Since(stopped); took > 3*time.Second {
		t.Errorf("shown after %s", took)
	}
	var st v1.ClusterStatus
	s.call(http.MethodGet, "/api/v1/status", nil, &st)
	if len(st.Warnings) != 1 || !strings.HasPrefix(st.Warnings[0], "h1: ") {
		t.Errorf("warnings %v", st.Warnings)
	}
}

func (s *site) node(name string) v1.NodeStatus {
	s.t.Helper()
	var n v1.Node
	s.call(http.MethodGet, "/api/v1/nodes/"+name, nil, &n)
	return n.Status
}

func TestRestartOfTheServerKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	h1 := s.join("h1", 1)
	s.apply(network("red", 2))
	h1.claim(t, "red", 0, 1)
	eventually(t, "rows", func() bool { n, _ := h1.count(); return n == 7 })
	before, tokens := maps.Clone(h1.rows), s.token("admin")+s.token("node")
	h1.stop()
	s.stop()

	s = start(t, dir)
	if s.token("admin")+s.token("node") != tokens {
		t.Error("tokens changed")
	}
	s.connect(h1)
	eventually(t, "in effect again", func() bool {
		a := s.port("red", "web-0").Applied
		return a.Nodes == 1 && a.Applied == 1 && len(a.Waiting) == 0
	})
	h1.mu.Lock()
	defer h1.mu.Unlock()
	if !maps.EqualFunc(before, h1.rows, southbound.Row.Equal) {
		t.Errorf("rows after the restart: %v, before %v", h1.rows, before)
	}
}

func TestNodeWithoutItsPortLosesIt(t *testing.T) {
	s := start(t, t.TempDir())
	h1 := s.join("h1", 1)
	s.apply(network("red", 2))
	h1.claim(t, "red", 0, 1)
	h1.stop()
	h1.bindings = h1.bindings[:1] // it comes back without the disk that knew of the other
	s.connect(h1)
	eventually(t, "released", func() bool { return s.port("red", "web-1").Node == "" })
	if s.port("red", "web-0").Node != "h1" {
		t.Error("a port that the node has was released")
	}
}

func TestNodeWithAnothersAddressIsRefused(t *testing.T) {
	s := start(t, t.TempDir())
	s.join("h1", 1)
	eventually(t, "joined", func() bool {
		var l v1.List
		s.call(http.MethodGet, "/api/v1/nodes", nil, &l)
		return len(l.Items) == 1
	})
	thief := s.join("h2", 1)
	time.Sleep(300 * time.Millisecond) // several tries
	if _, heard := thief.count(); heard != 0 || thief.epoch != "" {
		t.Error("a node joined with the tunnel address of another")
	}
}

func TestDropsNameTenants(t *testing.T) {
	s := start(t, t.TempDir())
	s.apply(network("red", 0))
	s.join("h1", 1)
	var out struct{ Items []v1.Drop }
	eventually(t, "counters", func() bool { s.call(http.MethodGet, "/api/v1/drops", nil, &out); return len(out.Items) == 2 })
	if out.Items[0].Tenant != "(deleted tenant 99)" || out.Items[1].Tenant != "red" || out.Items[1].Packets != 3 {
		t.Errorf("%+v", out.Items)
	}
	s.call(http.MethodGet, "/api/v1/drops?tenant=red", nil, &out)
	if len(out.Items) != 1 {
		t.Errorf("%+v", out.Items)
	}
}

func TestSecretsAreForTheOwnerOnly(t *testing.T) {
	s := start(t, t.TempDir())
	for _, name := range []string{"ca.key", "admin.token", "node.token"} {
		info, err := os.Stat(filepath.Join(s.dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if s.token("admin") == s.token("node") {
		t.Error("nodes hold the admin's token")
	}
}

// TestBurstOfChangesEndsRight makes many changes at once and compares the node with what the store says.
func TestBurstOfChangesEndsRight(t *testing.T) {
	s := start(t, t.TempDir())
	nodes := []*node{s.join("h1", 1), s.join("h2", 2)}
	const tenants, ports = 6, 8
	var wg sync.WaitGroup
	for i := range tenants {
		tenant := fmt.Sprint("t", i)
		s.apply(network(tenant, ports))
		wg.Go(func() {
			for p := range ports {
				nodes[p%2].claim(t, tenant, p)
			}
		})
	}
	wg.Wait()
	for _, n := range nodes {
		want := tenants * (1 + 1 + 2 + ports + ports/2) // VPC, subnet, two peers, all locations, own ports
		eventually(t, n.name+" has its rows", func() bool { rows, _ := n.count(); return rows == want })
	}
}

// TestWatchTellsWhatBecomesOfIt wants a watch to go on after the write, until the port is in effect and when its node goes.
func TestWatchTellsWhatBecomesOfIt(t *testing.T) {
	s := start(t, t.TempDir())
	h1 := s.join("h1", 1)
	s.apply(network("red", 1))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.api+"/api/v1/ports?watch=true", nil)
	req.Header.Set("Authorization", "Bearer "+s.token("admin"))
	resp, err := s.http().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	states := make(chan string, 100)
	go func() {
		defer close(states)
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e struct{ Object v1.Port }
				if json.Unmarshal([]byte(data), &e) == nil && e.Object.Status.State != "" {
					states <- e.Object.Status.State
				}
			}
		}
	}()
	wait := func(want string) {
		t.Helper()
		for got := range states {
			if got == want {
				return
			}
		}
		t.Fatalf("the watch ended before %s", want)
	}
	h1.claim(t, "red", 0)
	wait("Attached")
	h1.stop()
	wait("NodeGone")
}

// status makes a request and returns what it came to.
func (s *site) status(method, path string, in any) int {
	s.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		s.t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(s.t.Context(), method, s.api+path, bytes.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+s.token("admin"))
	resp, err := s.http().Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// grep returns a file below dir that has the text; "": none has.
func grep(t *testing.T, dir, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			found = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
