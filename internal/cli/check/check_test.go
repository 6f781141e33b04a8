// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/client"
	"weft/internal/cli/check/attack"
)

// cloud answers as a server with three hosts, whose workloads talk as they should except for what was broken on purpose.
type cloud struct {
	t *testing.T

	mu        sync.Mutex // guards below
	run       *run
	workloads map[string]request
	heard     map[string][]string // canaries by workload
	shots     map[string][]shot   // what a workload is about to send
	forged    uint64
	tenants   map[string]bool

	broken
}

// broken is what a cloud does wrong.
type broken struct {
	leaks      string // by this probe, the other tenant's workload with the same address receives a copy
	crosses    bool   // the other tenant's workload receives, and answers
	wrongMAC   bool   // ARP and ND are answered with somebody's MAC
	deaf       bool   // ears may have missed something, and say so
	mute       bool   // ears hear nothing, and do not say so
	passes     bool   // what is counted as dropped arrives all the same, at the other tenant's
	uncounted  string // a reason that is not counted
	twice      string // a reason that is counted once too often
	overcounts bool   // what must arrive does, and is counted as a drop, too
	strays     bool   // the router's packets are seen by a workload
	far        bool   // there is one hop too many
	believes   bool   // forged tunnel packets are counted by nobody, and arrive
	refuses    bool   // no workload can be made
	stuck      bool   // workloads cannot be removed
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
			n.Spec.Address = netip.MustParseAddr("198.19.0." + name[len(name)-1:])
			st.Nodes = append(st.Nodes, n)
		}
		c.answer(w, st)
	case path == "apply":
		c.apply(w, r)
	case strings.HasSuffix(path, "/vpcs/main"):
		c.answer(w, v1.VPC{})
	case strings.HasSuffix(path, "/ports"):
		list := v1.List{}
		for _, q := range c.workloads {
			if tenant := strings.Split(path, "/")[1]; q.Tenant == tenant {
				list.Items = append(list.Items, json.RawMessage(`{"metadata":{"tenant":"`+tenant+`","name":"`+q.Port+`"},"status":{"node":"host-1","applied":{"nodes":1,"applied":1}}}`))
			}
		}
		c.answer(w, list)
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

func (c *cloud) probe(w http.ResponseWriter, r *http.Request) {
	var q request
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	if (c.refuses && q.Do == "create") || (c.stuck && q.Do == "remove") {
		w.WriteHeader(http.StatusServiceUnavailable)
		c.answer(w, v1.Error{Code: v1.CodeNodeGone, Message: "node is gone"})
		return
	}
	c.answer(w, c.do(q))
}

func (c *cloud) do(q request) answer {
	a := answer{OK: true, MTU: 1450}
	switch q.Do {
	case "create":
		c.workloads[q.Name] = q
	case "cleanup":
	case "remove":
		delete(c.workloads, q.Name)
	case "seen":
		a.OK, a.Seen = !c.deaf, c.heard[q.Name][q.After:]
	case "volley":
		a.Outcomes = c.volley(c.shots[q.Name])
	case "drops":
		a.Drops = map[string]uint64{"tunnel-peer-unknown": c.forged}
	case "tunnel":
		if !c.believes {
			c.forged += uint64(len(q.Frames))
			break
		}
		c.hear("a-"+c.run.id+"-p1", canaryIn(q.Frames[0]))
	case "many":
		for _, one := range q.Many {
			a.Answers = append(a.Answers, c.do(one))
		}
	case "arp":
		a.Identity = c.macAt(q)
	case "dhcp", "ra":
		a.Identity = c.told(q)
	default:
		a.Identity = c.deliver(q)
		if q.Do == "trace" {
			a.Hops = c.hops(q)
		}
	}
	return a
}

// volley counts each shot as the check wants it, and lets it be heard.
func (c *cloud) volley(shots []shot) []outcome {
	var out []outcome
	for _, s := range shots {
		o := outcome{map[string]uint64{}}
		if n := uint64(max(len(s.packets), s.want.least)); s.want.reason != "" && s.want.reason != c.uncounted {
			o.Drops[s.want.reason] = n
		}
		if s.want.reason != "" && s.want.reason == c.twice {
			o.Drops[s.want.reason]++
		}
		if s.want.reason != "" && c.passes {
			c.hear(c.run.workload(s.from.sibling), s.canary)
		}
		if s.want.to != nil {
			c.hear(c.run.workload(s.want.to), s.canary)
			if c.overcounts {
				o.Drops["no-location"] = 1
			}
		}
		out = append(out, o)
	}
	return out
}

// canaryIn finds the canary in a frame.
func canaryIn(frame []byte) string {
	i := bytes.Index(frame, []byte("weft-canary-"))
	return string(frame[i : i+attack.CanaryLength])
}

// at finds the workload at an address, as the tenant of the one that asks sees it.
func (c *cloud) at(q request) (from, to *actor) {
	host, _, err := net.SplitHostPort(q.To)
	if err != nil {
		host = q.To
	}
	for _, side := range c.run.sides {
		for _, a := range side {
			if c.run.workload(a) == q.Name {
				from = a
			}
		}
	}
	for _, a := range c.run.sides[from.side] {
		if a.Addr4.String() == host || a.Addr6.String() == host {
			to = a
		}
	}
	return from, to
}

func (c *cloud) macAt(q request) string {
	mac := v1.RouterMAC
	if _, to := c.at(q); to != nil {
		mac = to.MAC
	}
	if c.wrongMAC {
		mac[5]++
	}
	return mac.String()
}

// told is what the agent says of a port: the sibling's, where it is broken so.
func (c *cloud) told(q request) string {
	from, _ := c.at(q)
	if c.crosses {
		from = c.run.sides[from.side][1]
	}
	switch {
	case q.Do == "ra":
		return fmt.Sprintf("fe80::1, flags c0, lifetime 9000 s, MTU 1450, %s flags 80", netip.PrefixFrom(from.Addr6, 64).Masked())
	case strings.Contains(q.To, ":"):
		return from.Addr6.String()
	}
	return fmt.Sprintf("%s/24 by [%s], MTU 1450", from.Addr4, attack.Gateway(&from.Workload, 4))
}

func (c *cloud) hops(q request) []string {
	from, to := c.at(q)
	v := 6
	if to.Addr4.String() == q.To {
		v = 4
	}
	hops := []string{attack.Gateway(&from.Workload, v).String(), q.To}
	if c.far {
		hops = append([]string{hops[0]}, hops...)
	}
	return hops
}

// deliver returns who answers.
func (c *cloud) deliver(q request) string {
	from, to := c.at(q)
	if q.Do == "ping" {
		c.hear(q.Name, q.Canary) // the reply brings it back
	}
	if to == nil {
		if c.strays {
			c.hear(c.run.workload(c.run.sides[from.side][2]), q.Canary)
		}
		return ""
	}
	if c.leaks == q.Do {
		c.hear(c.run.workload(to.sibling), q.Canary)
	}
	if c.crosses {
		to = to.sibling
	}
	if q.Do != "trace" {
		c.hear(c.run.workload(to), q.Canary)
	}
	return to.tenant + "/" + to.port
}

func (c *cloud) hear(name, canary string) {
	if !c.mute {
		c.heard[name] = append(c.heard[name], canary)
	}
}

// newCloud returns a cloud that is broken so, and a client of it.
func newCloud(t *testing.T, b broken) (*cloud, *client.Client) {
	t.Helper()
	c := &cloud{t: t, workloads: map[string]request{}, heard: map[string][]string{}, shots: map[string][]shot{}, tenants: map[string]bool{"red": true}, broken: b}
	srv := httptest.NewTLSServer(c)
	t.Cleanup(srv.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	cl, err := client.New(client.Config{Server: srv.URL, Token: "token", CA: ca})
	if err != nil {
		t.Fatal(err)
	}
	return c, cl
}

// config is a check of the cases that match only, with what the cloud needs to know.
func (c *cloud) config(cl *client.Client, only string) Config {
	return Config{
		Client: cl, Only: regexp.MustCompile(only), countWithin: 50 * time.Millisecond, earWithin: time.Millisecond,
		began: func(r *run) { c.mu.Lock(); c.run = r; c.mu.Unlock() },
		fires: func(w string, row []shot) { c.mu.Lock(); c.shots[w] = row; c.mu.Unlock() },
	}
}

// try runs the cases that match only on a cloud that is broken so.
func try(t *testing.T, b broken, only string) (*Result, *cloud, string, error) {
	t.Helper()
	c, cl := newCloud(t, b)
	var progress bytes.Buffer
	cfg := c.config(cl, only)
	cfg.Progress = &progress
	res, err := Run(t.Context(), cfg)
	return res, c, progress.String(), err
}

func TestAllPassesWhereNothingIsBroken(t *testing.T) {
	res, c, progress, err := try(t, broken{}, "")
	if err != nil || res.Failed > 0 || res.Passed != len(res.Cases) || res.Passed < 400 {
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
		if name := c.Group + ": " + c.Name; names[name] {
			t.Errorf("two cases are named %q", name)
		}
		names[c.Group+": "+c.Name] = true
		if c.Packets == 0 && !strings.Contains(c.Name, "tunnel end, IPv6") { // the nodes have IPv4 only
			t.Errorf("%s: %s sends nothing", c.Group, c.Name)
		}
	}
	var listed []string
	for _, g := range res.Groups {
		listed = append(listed, g.Name)
	}
	if !slices.Equal(listed, GroupNames()) || res.Through != 0 {
		t.Errorf("groups %v, %d through", listed, res.Through)
	}
}

// TestAllMeansEveryPair: with All, every case that depends on its target runs from every workload at each of the other
// tenant, on three hosts.
func TestAllMeansEveryPair(t *testing.T) {
	c, cl := newCloud(t, broken{})
	cfg := c.config(cl, "^l2: source MAC of nobody, IPv4|^isolation")
	cfg.All = true
	res, err := Run(t.Context(), cfg)
	if err != nil || res.Failed > 0 || len(res.Nodes) != 3 || len(res.Cases) != 1+2*len(layout) {
		t.Fatalf("%+v, %v", res, err)
	}
	if want := 2 * len(layout) * len(layout); res.Cases[0].Packets != want {
		t.Errorf("%d packets, want one for each of %d pairs", res.Cases[0].Packets, want)
	}
}

// TestListTellsWhatRuns: the list is that of a run, and no group is unknown to it.
func TestListTellsWhatRuns(t *testing.T) {
	res, _, _, err := try(t, broken{}, "")
	if err != nil {
		t.Fatal(err)
	}
	var ran, listed []string
	for _, c := range res.Cases {
		ran = append(ran, c.Group+": "+c.Name)
	}
	for _, c := range List(Config{}) {
		listed = append(listed, c.Group+": "+c.Name)
	}
	if !slices.Equal(ran, listed) {
		t.Errorf("ran %d, listed %d", len(ran), len(listed))
	}
	for _, g := range GroupNames() {
		if some := List(Config{Groups: []string{g}}); len(some) == 0 || some[0].Group != g {
			t.Errorf("group %s lists %v", g, some)
		}
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
		"answer_of_other_tenant":  {broken{crosses: true}, "IPv[46], (tcp 1 MiB|udp)$", "weft-check-"},
		"echo_of_other_tenant":    {broken{crosses: true}, "host.*ping$", "heard a packet"},
		"packets_to_other_tenant": {broken{crosses: true}, "^isolation", "weft-check-"},
		"lease_of_another":        {broken{crosses: true}, "^service: DHCP", ""},
		"wrong_mac":               {broken{wrongMAC: true}, "^reach: .*(ARP|ND)$|^router: who has", ":"},
		"deaf_ears":               {broken{deaf: true}, "", ""},
		"mute_ears":               {broken{mute: true}, "^isolation|hears what is for it|udp$", "the ear is deaf"},
		"spoofed_frame_arrives":   {broken{passes: true}, "source (MAC|the router)", "heard a packet"},
		"reason_is_not_counted":   {broken{uncounted: "src-mac-spoof"}, "source MAC", "no drop"},
		"reason_counts_too_often": {broken{twice: "src-mac-spoof"}, "source MAC", "for src-mac-spoof"},
		"too_big_is_not_counted":  {broken{uncounted: "too-big"}, "larger than the MTU, IPv|jumbo", "no drop"},
		"delivered_and_dropped":   {broken{overcounts: true}, "hears what is for it|tiny first", "no-location"},
		"workload_hears_router":   {broken{strays: true}, "router.*ping", "heard a packet"},
		"a_hop_too_many":          {broken{far: true}, "traceroute", ", "},
		"forgery_is_believed":     {broken{believes: true}, "forged", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, _, progress, err := try(t, c.broken, c.only)
			if err != nil || len(res.Cases) == 0 || res.Passed > 0 {
				t.Fatalf("%v\n%s", err, progress)
			}
			for _, one := range res.Cases {
				if len(one.Failed) == 0 {
					t.Fatalf("%s failed for nothing", one.Name)
				}
				if !slices.ContainsFunc(one.Failed, func(f Failure) bool { return f.Path != "" && f.Want != "" && strings.Contains(f.Got, c.got) }) {
					t.Errorf("%s: %+v", one.Name, one.Failed)
				}
			}
			if !strings.Contains(progress, " FAIL ") || !strings.Contains(progress, "    want  ") {
				t.Errorf("does not tell:\n%s", progress)
			}
		})
	}
}

// TestThroughCounts: what one tenant sent and the other heard is a figure of its own.
func TestThroughCounts(t *testing.T) {
	res, _, _, err := try(t, broken{leaks: "ping"}, "same host, same subnet, IPv4, ping$")
	if err != nil || res.Failed != 1 || res.Through != res.Packets || res.Through == 0 {
		t.Errorf("%+v, %v", res, err)
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
	cfg := c.config(cl, "ping$")
	cfg.countWithin = time.Minute
	res, err := Run(ctx, cfg)
	if !errors.Is(err, context.DeadlineExceeded) || res == nil || len(res.Cases) != 0 || res.Failed != 0 || res.Seconds == 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if len(c.workloads) > 0 || len(c.tenants) != 1 {
		t.Errorf("left %v, %v", c.workloads, c.tenants)
	}
}

func TestWhatCannotBeCleanedUpIsTold(t *testing.T) {
	res, _, _, err := try(t, broken{stuck: true}, "ARP$")
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
