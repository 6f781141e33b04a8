// SPDX-License-Identifier: Apache-2.0

package linear

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	v1 "weft/api/v1"
	"weft/client"
)

// Shape of the work.
const (
	workers       = 8
	tenants       = 4
	resources     = 24   // VPCs of one generation, and as many addresses by four
	generation    = 2000 // operations on the same keys; then others, so that a key's history stays short
	operationMost = 20 * time.Second
)

// workload is clients that write, and what they were told.
type workload struct {
	t          *testing.T
	clients    []*client.Client
	replicas   []*replica
	operations int64
	began      time.Time

	next    atomic.Int64 // operations begun
	counts  [unknown + 1]atomic.Int64
	answers sync.Map     // code: *atomic.Int64, of errors
	last    atomic.Int64 // nanoseconds since began of the last acknowledged write
	longest atomic.Int64 // between two of those

	mu         sync.Mutex // guards below
	histories  map[int64]*history
	violations []string
	checks     sync.WaitGroup
	checked    int
}

// history is one generation's.
type history struct {
	mu   sync.Mutex // guards below
	left int
	ops  map[string][]porcupine.Operation
}

// version is one that a write of the key was acknowledged with; 0: there is none.
func (h *history) version(key string) (version int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.ops[key] {
		version = max(version, o.Output.(answer).version)
	}
	return version
}

func newWorkload(t *testing.T, s *site, operations int64) *workload {
	w := &workload{t: t, operations: operations, began: time.Now(), histories: make(map[int64]*history)}
	for i := range s.servers {
		w.clients = append(w.clients, s.answers(i))
		w.replicas = append(w.replicas, newReplica())
	}
	var docs []v1.Object
	for i := range tenants {
		name := tenantOf(i)
		docs = append(docs,
			&v1.Tenant{TypeMeta: typed(v1.KindTenant), Metadata: v1.Metadata{Name: name}, Spec: v1.TenantSpec{Quota: v1.Quota{VPCs: 100_000}}},
			&v1.VPC{TypeMeta: typed(v1.KindVPC), Metadata: v1.Metadata{Tenant: name, Name: "claims"}, Spec: v1.VPCSpec{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
			&v1.Subnet{TypeMeta: typed(v1.KindSubnet), Metadata: v1.Metadata{Tenant: name, Name: "claims"}, Spec: v1.SubnetSpec{VPC: "claims", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}})
	}
	if _, err := w.clients[0].Apply(t.Context(), docs, client.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	return w
}

func typed(k v1.Kind) v1.TypeMeta { return v1.TypeMeta{APIVersion: v1.APIVersion, Kind: k} }
func tenantOf(i int) string       { return "t" + strconv.Itoa(i%tenants) }

// run works until all operations are done, and then until all is checked.
func (w *workload) run(ctx context.Context, seed uint64) {
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() { w.work(ctx, i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	wg.Wait()
	w.checks.Wait()
}

func (w *workload) work(ctx context.Context, id int, rng *rand.Rand) {
	for ctx.Err() == nil {
		n := w.next.Add(1) - 1
		if n >= w.operations {
			return
		}
		g := n / generation
		h := w.history(g)
		c := &caller{w: w, h: h, id: id, server: rng.IntN(len(w.clients))}
		c.client = w.clients[c.server]
		k := rng.IntN(resources)
		switch p := rng.IntN(100); {
		case p < 25:
			c.get(ctx, g, k)
		case p < 50:
			c.put(ctx, g, k, strconv.Itoa(rng.IntN(3)), 0)
		case p < 65:
			version := c.get(ctx, g, k)
			if len(w.clients) > 1 { // what is read is not checked: only what was acknowledged is a version for sure
				version = h.version(vpcID(g, k))
			}
			if version > 0 {
				c.put(ctx, g, k, strconv.Itoa(rng.IntN(3)), version)
			}
		case p < 77:
			c.drop(ctx, g, k)
		case p < 80:
			c.list(ctx, g, k)
		case p < 92:
			c.claim(ctx, g, k%(resources/4), rng.IntN(3))
		default:
			c.release(ctx, g, k%(resources/4), rng.IntN(3))
		}
		w.finished(ctx, g, h, c)
	}
}

// history returns that of a generation.
func (w *workload) history(g int64) *history {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.histories[g]
	if h == nil {
		h = &history{left: int(min(generation, w.operations-g*generation)), ops: make(map[string][]porcupine.Operation)}
		w.histories[g] = h
	}
	return h
}

// finished ends one operation of a generation. Whoever ends the last one looks at what there is at the end, removes it, and has it checked.
func (w *workload) finished(ctx context.Context, g int64, h *history, c *caller) {
	h.mu.Lock()
	h.left--
	last := h.left == 0
	h.mu.Unlock()
	if !last {
		return
	}
	for k := range resources {
		for ctx.Err() == nil && c.get(ctx, g, k) != 0 && c.drop(ctx, g, k) == unknown {
			pause(ctx, 100*time.Millisecond)
		}
	}
	for k := range resources / 4 {
		for who := range 3 {
			for ctx.Err() == nil && c.release(ctx, g, k, who) == unknown {
				pause(ctx, 100*time.Millisecond)
			}
		}
	}
	w.mu.Lock()
	delete(w.histories, g)
	w.mu.Unlock()
	w.checks.Go(func() {
		for key, ops := range h.ops {
			text := violation(key, ops)
			w.mu.Lock()
			w.checked += len(ops)
			if text != "" && len(w.violations) < 5 {
				w.violations = append(w.violations, text)
			}
			w.mu.Unlock()
		}
	})
}

// caller is one client during one operation.
type caller struct {
	w      *workload
	h      *history
	id     int
	server int
	client *client.Client
}

// record notes an operation. One without an answer is open to the end, and one that only reads never was.
func (c *caller) record(q question, from time.Time, a answer) {
	c.w.counts[a.result].Add(1)
	if q.verb == get && len(c.w.clients) > 1 {
		return // it shows what this server has heard
	}
	end := int64(time.Since(c.w.began))
	if a.result == unknown {
		if q.verb == get {
			return
		}
		end = never
	}
	if q.verb != get && (a.result == done || a.result == made) {
		last := c.w.last.Swap(end)
		if gap := end - last; gap > c.w.longest.Load() {
			c.w.longest.Store(gap)
		}
	}
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.h.ops[q.key] = append(c.h.ops[q.key], porcupine.Operation{
		ClientId: c.id, Input: q, Call: int64(from.Sub(c.w.began)), Output: a, Return: end,
	})
}

// failed says how an operation ended that has an error. After one without an answer the client waits a little, as clients do.
func (c *caller) failed(ctx context.Context, err error) answer {
	n, _ := c.w.answers.LoadOrStore(code(err), new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	switch code(err) {
	case v1.CodeNotFound:
		return answer{result: absent}
	case v1.CodeConflict, v1.CodeInUse:
		return answer{result: refused}
	case v1.CodeUnavailable, "": // "": it took longer than operationMost
		pause(ctx, 100*time.Millisecond)
		return answer{result: unknown}
	}
	c.w.t.Errorf("unexpected: %v", err)
	return answer{result: unknown}
}

func vpcName(g int64, k int) string { return fmt.Sprintf("g%d-%d", g, k) }
func vpcID(g int64, k int) string   { return tenantOf(k) + "/vpc/" + vpcName(g, k) }

// get reads a VPC; the version is 0 where it is not there, and -1 where there was no answer.
func (c *caller) get(ctx context.Context, g int64, k int) (version int64) {
	ctx, cancel := context.WithTimeout(ctx, operationMost)
	defer cancel()
	q, from := question{verb: get, key: vpcID(g, k)}, time.Now()
	o, err := c.client.Get(ctx, v1.KindVPC, tenantOf(k), vpcName(g, k))
	if err != nil {
		a := c.failed(ctx, err)
		c.record(q, from, a)
		if a.result == absent {
			return 0
		}
		return -1
	}
	c.record(q, from, answer{value: o.Meta().Labels["v"], version: versionOf(o)})
	return versionOf(o)
}

// list reads all VPCs of a tenant: for each key, that is a get.
func (c *caller) list(ctx context.Context, g int64, k int) {
	ctx, cancel := context.WithTimeout(ctx, operationMost)
	defer cancel()
	from := time.Now()
	list, _, err := c.client.List(ctx, v1.KindVPC, tenantOf(k))
	if err != nil {
		c.failed(ctx, err)
		return
	}
	there := make(map[string]v1.Object, len(list))
	for _, o := range list {
		there[v1.ID(o)] = o
	}
	for i := k % tenants; i < resources; i += tenants {
		a := answer{result: absent}
		if o := there[vpcID(g, i)]; o != nil {
			a = answer{value: o.Meta().Labels["v"], version: versionOf(o)}
		}
		c.record(question{verb: get, key: vpcID(g, i)}, from, a)
	}
}

// put writes a VPC, with a version only onto that one.
func (c *caller) put(ctx context.Context, g int64, k int, value string, version int64) {
	doc := &v1.VPC{
		TypeMeta: typed(v1.KindVPC), Metadata: v1.Metadata{Tenant: tenantOf(k), Name: vpcName(g, k), Labels: map[string]string{"v": value}},
		Spec: v1.VPCSpec{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}},
	}
	q := question{verb: put, key: vpcID(g, k), value: value}
	if version > 0 {
		doc.ResourceVersion = strconv.FormatInt(version, 10)
		q.verb, q.when = putIf, version
	}
	c.apply(ctx, q, doc)
}

// apply writes a document.
func (c *caller) apply(ctx context.Context, q question, doc v1.Object) {
	ctx, cancel := context.WithTimeout(ctx, operationMost)
	defer cancel()
	from := time.Now()
	res, err := c.client.Apply(ctx, []v1.Object{doc}, client.ApplyOptions{})
	if err != nil {
		c.record(q, from, c.failed(ctx, err))
		return
	}
	revision, _ := strconv.ParseInt(res.ResourceVersion, 10, 64)
	a := answer{version: revision}
	switch res.Items[0].Action {
	case v1.ActionCreated:
		a.result = made
	case v1.ActionUnchanged:
		a = answer{result: unchanged}
	}
	c.record(q, from, a)
	if q.verb != claim && a.result != unchanged {
		c.acknowledged(q.key, revision)
	}
}

func (c *caller) acknowledged(id string, revision int64) {
	for _, r := range c.w.replicas {
		r.acknowledged(id, revision)
	}
}

// delete deletes a resource.
func (c *caller) delete(ctx context.Context, q question, kind v1.Kind, tenant, name string) result {
	ctx, cancel := context.WithTimeout(ctx, operationMost)
	defer cancel()
	from := time.Now()
	res, err := c.client.Delete(ctx, kind, tenant, name, client.DeleteOptions{})
	if err != nil {
		a := c.failed(ctx, err)
		c.record(q, from, a)
		return a.result
	}
	c.record(q, from, answer{})
	if q.verb == drop {
		revision, _ := strconv.ParseInt(res.ResourceVersion, 10, 64)
		c.acknowledged(q.key, revision)
	}
	return done
}

func (c *caller) drop(ctx context.Context, g int64, k int) result {
	return c.delete(ctx, question{verb: drop, key: vpcID(g, k)}, v1.KindVPC, tenantOf(k), vpcName(g, k))
}

// addressOf is the address number k of a generation. None is used twice, so that what one leaves behind harms no other.
func addressOf(g int64, k int) netip.Addr {
	n := uint32(10<<24) + 16 + uint32(g)*resources/4 + uint32(k) //nolint:gosec // a test does not run for 16 million addresses
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func portName(g int64, k, who int) string { return fmt.Sprintf("p%d-%d-%d", g, k, who) }

// claim creates one of three ports that all want the same address.
func (c *caller) claim(ctx context.Context, g int64, k, who int) {
	name := portName(g, k, who)
	c.apply(ctx, question{verb: claim, key: fmt.Sprint("address ", g, " ", k), value: name}, &v1.Port{
		TypeMeta: typed(v1.KindPort), Metadata: v1.Metadata{Tenant: tenantOf(k), Name: name},
		Spec: v1.PortSpec{Subnet: "claims", Addresses: []netip.Addr{addressOf(g, k)}},
	})
}

func (c *caller) release(ctx context.Context, g int64, k, who int) result {
	name := portName(g, k, who)
	return c.delete(ctx, question{verb: release, key: fmt.Sprint("address ", g, " ", k), value: name}, v1.KindPort, tenantOf(k), name)
}

// summary is what happened, in one line.
func (w *workload) summary() string {
	errs := make(map[string]int64)
	w.answers.Range(func(k, v any) bool { errs[k.(string)] = v.(*atomic.Int64).Load(); return true })
	text, _ := json.Marshal(errs)
	took := time.Since(w.began)
	n := min(w.next.Load(), w.operations)
	return fmt.Sprintf("%d operations (%d checked) in %s, %.0f/s: %d acknowledged, %d unchanged, %d made, %d absent, %d refused, %d open; longest without an acknowledged write %s; errors %s",
		n, w.checked, took.Round(time.Millisecond), float64(n)/took.Seconds(), w.counts[done].Load(), w.counts[unchanged].Load(), w.counts[made].Load(),
		w.counts[absent].Load(), w.counts[refused].Load(), w.counts[unknown].Load(), time.Duration(w.longest.Load()).Round(time.Millisecond), text)
}
