// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/client"
)

// cloud answers as a server with two hosts, whose workloads talk as they should except for what was broken on purpose.
type cloud struct {
	t *testing.T

	mu        sync.Mutex // guards below
	workloads map[string]request
	heard     map[string][]string // canaries by workload
	drops     map[string]uint64   // by tenant and node
	tenants   map[string]bool

	broken
}

// broken is what a cloud does wrong.
type broken struct {
	leaks     string // by this protocol, the other tenant's workload with the same address receives a copy
	crosses   bool   // the other tenant's workload receives, and answers
	wrongMAC  bool   // ARP is answered with somebody's MAC
	deaf      bool   // ears may have missed something, and say so
	mute      bool   // ears hear nothing, and do not say so
	passes    bool   // spoofed frames are counted and arrive all the same
	uncounted string // a reason that is not counted
	strays    bool   // the router's packets are seen by a workload
	refuses   bool   // no workload can be made
	stuck     bool   // workloads cannot be removed
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/api/v1/")
	switch {
	case path == "status":
		var st v1.ClusterStatus
		for _, name := range []string{"edge-1", "host-1", "host-2", "host-3"} {
			n := v1.Node{Metadata: v1.Metadata{Name: name}, Spec: v1.NodeSpec{Roles: []string{name[:4]}}}
			n.Status.Ready = true
			st.Nodes = append(st.Nodes, n)
		}
		c.answer(w, st)
	case path == "apply":
		c.apply(w, r)
	case path == "drops":
		c.answer(w, map[string]any{"items": c.counted(r.URL.Query().Get("tenant"))})
	case strings.HasSuffix(path, "/vpcs/main"):
		c.answer(w, v1.VPC{})
	case path == "tenants":
		list := v1.List{}
		for name := range c.tenants {
			list.Items = append(list.Items, json.RawMessage(`{"metadata":{"name":"`+name+`"}}`))
		}
		c.answer(w, list)
	case r.Method == http.MethodDelete:
		delete(c.tenants, strings.TrimPrefix(path, "tenants/"))
		c.answer(w, v1.Result{})
	default:
		c.probe(w, r)
	}
}

func (c *cloud) answer(w io.Writer, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		c.t.Error(err)
	}
}

func (c *cloud) apply(w http.ResponseWriter, r *http.Request) {
	var in struct{ Documents []json.RawMessage }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		c.t.Error(err)
	}
	res := v1.Result{}
	for _, raw := range in.Documents {
		o, err := v1.DecodeJSON(raw)
		if err != nil {
			c.t.Error(err)
			continue
		}
		if o.GetKind() == v1.KindTenant {
			c.tenants[o.Meta().Name] = true
		}
		res.Items = append(res.Items, v1.ResultItem{Kind: o.GetKind(), Name: o.Meta().Name})
	}
	c.answer(w, res)
}

// counted tells every reason alike: whatever was injected, one more.
func (c *cloud) counted(tenant string) []v1.Drop {
	reasons := []string{"too-big"}
	some := &actor{addr: "10.99.1.10"}
	for _, a := range attacks(some, some) {
		reasons = append(reasons, a.reason)
	}
	slices.Sort(reasons)
	var out []v1.Drop
	for _, reason := range slices.Compact(reasons) {
		if n := c.drops[tenant+" host-1"]; n > 0 && reason != c.uncounted {
			out = append(out, v1.Drop{Node: "host-1", Tenant: tenant, Reason: reason, Packets: n})
		}
	}
	return out
}

func (c *cloud) probe(w http.ResponseWriter, r *http.Request) {
	var q request
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	node := strings.Split(r.URL.Path, "/")[4]
	a := answer{OK: true, MTU: 1450}
	switch q.Do {
	case "create":
		if c.refuses {
			w.WriteHeader(http.StatusServiceUnavailable)
			c.answer(w, v1.Error{Code: v1.CodeNodeGone, Message: "node is gone"})
			return
		}
		c.workloads[q.Name] = q
	case "remove":
		if c.stuck {
			w.WriteHeader(http.StatusServiceUnavailable)
			c.answer(w, v1.Error{Code: v1.CodeNodeGone, Message: "node is gone"})
			return
		}
		delete(c.workloads, q.Name)
	case "seen":
		a.OK, a.Seen = !c.deaf, c.heard[q.Name]
	case "inject":
		c.drops[c.workloads[q.Name].Tenant+" "+node]++
		if i := bytes.Index(q.Frame, []byte("weft-canary-")); c.passes && i >= 0 {
			c.hear(strings.Replace(q.Name, "-p1", "-p2", 1), string(q.Frame[i:i+canaryLength]))
		}
	case "arp":
		a.Identity = c.macAt(q.To)
	case "ping", "tcp", "udp":
		a.Identity = c.deliver(q)
	}
	c.answer(w, a)
}

func (c *cloud) macAt(addr string) string {
	mac := v1.RouterMAC
	for i, l := range layout {
		if l.addr == addr {
			mac = v1.MAC{2, 0, 0, 0, 0x99, byte(i + 1)}
		}
	}
	if c.wrongMAC {
		mac[5]++
	}
	return mac.String()
}

// deliver returns who answers.
func (c *cloud) deliver(q request) string {
	addr, _, _ := strings.Cut(q.To, ":")
	begin := q.Name[:strings.LastIndex(q.Name, "-p")]
	other := map[byte]string{'a': "b", 'b': "a"}[begin[0]] + begin[1:]
	if q.Do == "ping" {
		c.hear(q.Name, q.Canary) // the reply brings it back
	}
	for _, l := range layout {
		if l.addr != addr {
			continue
		}
		if c.leaks == q.Do {
			c.hear(other+"-"+l.port, q.Canary)
		}
		if c.crosses {
			begin = other
		}
		c.hear(begin+"-"+l.port, q.Canary)
		return c.workloads[begin+"-"+l.port].Tenant + "/" + l.port
	}
	if c.strays {
		c.hear(begin+"-p3", q.Canary)
	}
	return ""
}

func (c *cloud) hear(name, canary string) {
	if !c.mute {
		c.heard[name] = append(c.heard[name], canary)
	}
}

// newCloud returns a cloud that is broken so, and a client of it.
func newCloud(t *testing.T, b broken) (*cloud, *client.Client) {
	t.Helper()
	c := &cloud{t: t, workloads: map[string]request{}, heard: map[string][]string{}, drops: map[string]uint64{}, tenants: map[string]bool{"red": true}, broken: b}
	srv := httptest.NewTLSServer(c)
	t.Cleanup(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	cl, err := client.New(client.Config{Server: srv.URL, Token: "token", CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	return c, cl
}

// try runs the cases that match only on a cloud that is broken so.
func try(t *testing.T, b broken, only string) (*Result, *cloud, string, error) {
	t.Helper()
	c, cl := newCloud(t, b)
	var progress bytes.Buffer
	res, err := Run(t.Context(), Config{
		Client: cl, Only: regexp.MustCompile(only), Progress: &progress, countWithin: 100 * time.Millisecond, earWithin: time.Millisecond,
	})
	return res, c, progress.String(), err
}

func TestAllPassesWhereNothingIsBroken(t *testing.T) {
	res, c, progress, err := try(t, broken{}, "")
	if err != nil || res.Failed > 0 || res.Passed != len(res.Cases) || res.Passed < 60 {
		t.Fatalf("%v\n%s", err, progress)
	}
	if len(c.workloads) > 0 || len(c.tenants) != 1 || !c.tenants["red"] {
		t.Errorf("left workloads %v, tenants %v", c.workloads, c.tenants)
	}
	if !slices.Equal(res.Nodes, []string{"host-1", "host-2"}) {
		t.Errorf("on %v", res.Nodes)
	}
	names := make(map[string]bool)
	for _, c := range res.Cases {
		if names[c.Name] {
			t.Errorf("two cases are named %q", c.Name)
		}
		names[c.Name] = true
	}
}

// TestWhatIsBrokenFails: a suite that cannot fail proves nothing.
func TestWhatIsBrokenFails(t *testing.T) {
	for name, c := range map[string]struct {
		broken broken
		only   string // cases to run, all of which must fail
		got    string // what each says
	}{
		"leak":                    {broken{leaks: "udp"}, "^isolation", "heard a packet"},
		"answer_of_other_tenant":  {broken{crosses: true}, "(tcp 1 MiB|udp)$", "one from weft-check-"},
		"echo_of_other_tenant":    {broken{crosses: true}, "host.*ping$", "went elsewhere"},
		"packets_to_other_tenant": {broken{crosses: true}, "^isolation", "heard a packet"},
		"wrong_mac":               {broken{wrongMAC: true}, "arp$", ":"},
		"deaf_ears":               {broken{deaf: true}, "^(isolation|must drop|router of .*ping|same host.*(ping|udp))", ""},
		"mute_ears":               {broken{mute: true}, "^(isolation|same host.*(ping|udp))", "did not hear"},
		"spoofed_frame_arrives":   {broken{passes: true}, "^must drop", "heard a packet"},
		"reason_is_not_counted":   {broken{uncounted: "src-mac-spoof"}, "^must drop, source MAC", "none counted"},
		"too_big_is_not_counted":  {broken{uncounted: "too-big"}, "larger than the MTU", "none counted"},
		"workload_hears_router":   {broken{strays: true}, "router.*ping", "heard a packet"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, _, progress, err := try(t, c.broken, c.only)
			if err != nil || len(res.Cases) == 0 || res.Passed > 0 {
				t.Fatalf("%v\n%s", err, progress)
			}
			for _, one := range res.Cases {
				if one.Path == "" || one.Want == "" || !strings.Contains(one.Got, c.got) {
					t.Errorf("%s: path %q, want %q, got %q", one.Name, one.Path, one.Want, one.Got)
				}
			}
			if !strings.Contains(progress, " FAIL ") || !strings.Contains(progress, "    want  ") {
				t.Errorf("does not tell:\n%s", progress)
			}
		})
	}
}

// TestLeakOfAnEarlierCase: isolation is told of everything that a tenant sent, not only of its own packets.
func TestLeakOfAnEarlierCase(t *testing.T) {
	res, _, progress, err := try(t, broken{leaks: "ping"}, "^(same host, same subnet, tenant a, ping$|isolation, a/)")
	if err != nil || len(res.Cases) != 6 || res.Failed != 5 || !strings.Contains(res.Cases[1].Got, `of case "same host, same subnet, tenant a, ping"`) {
		t.Errorf("%v\n%s", err, progress)
	}
}

func TestWhatCannotRunIsAnError(t *testing.T) {
	res, c, _, err := try(t, broken{refuses: true}, "")
	if err == nil || res != nil || !strings.Contains(err.Error(), "node is gone") {
		t.Errorf("%+v, %v", res, err)
	}
	if len(c.tenants) != 1 {
		t.Errorf("left %v", c.tenants)
	}
}

// TestACheckOfNothingDoesNotPass: a name that is spelt wrong must not look like success.
func TestACheckOfNothingDoesNotPass(t *testing.T) {
	res, c, _, err := try(t, broken{}, "isolatoin")
	if !errors.Is(err, ErrNoCase) || res != nil || len(c.workloads) > 0 || len(c.tenants) != 1 {
		t.Errorf("%+v, %v; left %v, %v", res, err, c.workloads, c.tenants)
	}
}

// TestACaseThatIsCutShortDidNotFail: what an interrupt leaves open is neither passed nor failed, and all is cleaned up.
func TestACaseThatIsCutShortDidNotFail(t *testing.T) {
	c, cl := newCloud(t, broken{mute: true}) // the first case would wait for an ear until the interrupt
	ctx, interrupt := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer interrupt()
	res, err := Run(ctx, Config{Client: cl, Only: regexp.MustCompile("ping$"), countWithin: time.Minute})
	if !errors.Is(err, context.DeadlineExceeded) || res == nil || len(res.Cases) != 0 || res.Failed != 0 || res.Seconds == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if len(c.workloads) > 0 || len(c.tenants) != 1 {
		t.Errorf("left %v, %v", c.workloads, c.tenants)
	}
}

func TestWhatCannotBeCleanedUpIsTold(t *testing.T) {
	res, _, _, err := try(t, broken{stuck: true}, "arp$")
	if err == nil || !strings.Contains(err.Error(), "weft check --cleanup") || res == nil || res.Failed > 0 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestCleanUpTakesOnlyItsOwn(t *testing.T) {
	c, cl := newCloud(t, broken{})
	c.tenants["weft-check-a-1"], c.tenants["weft-checks"] = true, true
	removed, err := CleanUp(t.Context(), cl)
	if err != nil || !slices.Equal(removed, []string{"weft-check-a-1"}) || len(c.tenants) != 2 {
		t.Errorf("removed %v, left %v, %v", removed, c.tenants, err)
	}
}
