// SPDX-License-Identifier: Apache-2.0

// Package probe makes throw-away workloads on a node for weft check, and sends, answers and overhears packets in them.
// Everything it does is bounded in time, and what it made goes away by itself when nobody asks for it any more.
package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"weft/internal/netns"
)

// Config is what a Prober needs. Every field is required.
type Config struct {
	Prefix string // begins the names of all namespaces that the prober makes, and of no others
	Attach func(ctx context.Context, tenant, port, netns string) error
	Detach func(ctx context.Context, tenant, port string) error
	// Drops counts by reason what the node dropped so far, of a tenant's packets; of no known tenant's where none is named.
	Drops func(tenant string) (map[string]uint64, error)
	// Tunnel is the node's tunnel end, in whose name no probe speaks to another node.
	Tunnel netip.Addr
	Log    *slog.Logger
}

// Request is one thing to do, or many.
type Request struct {
	Do     string    `json:"do"`               // create, remove, cleanup, many, seen, volley, drops, tunnel, or a probe: arp, ping, tcp, udp, pieces, trace, dhcp, ra
	Name   string    `json:"name,omitempty"`   // of the workload
	Tenant string    `json:"tenant,omitempty"` // create: whose port it has; drops: whose, none: nobody's
	Port   string    `json:"port,omitempty"`
	To     string    `json:"to,omitempty"`     // arp, ping, trace, tunnel: address; tcp, udp, pieces: address:port; dhcp: any address of the IP version
	Size   int       `json:"size,omitempty"`   // ping, udp, pieces: bytes of payload; tcp: bytes to send
	Canary string    `json:"canary,omitempty"` // ping, tcp, udp, pieces: text to send
	Frames [][]byte  `json:"frames,omitempty"` // pieces: those of one datagram, in the order to send; from the destination MAC on
	Steps  []Step    `json:"steps,omitempty"`  // volley
	After  int       `json:"after,omitempty"`  // seen: how many are known already
	VNI    uint32    `json:"vni,omitempty"`    // tunnel: what the outer header says
	Many   []Request `json:"many,omitempty"`   // many: probes, one after the other
}

// Answer is what came of it.
type Answer struct {
	OK       bool              `json:"ok"`
	Detail   string            `json:"detail,omitempty"`   // why not
	Identity string            `json:"identity,omitempty"` // tcp, udp, pieces: who answered; arp: its MAC; dhcp, ra: what was offered
	Seen     []string          `json:"seen,omitempty"`     // seen: canaries that came in, in their order
	Hops     []string          `json:"hops,omitempty"`     // trace: who answered, by distance
	MTU      int               `json:"mtu,omitempty"`      // create: of the workload's device
	Outcomes []Outcome         `json:"outcomes,omitempty"` // volley: of each step
	Drops    map[string]uint64 `json:"drops,omitempty"`    // drops: packets by reason
	Answers  []Answer          `json:"answers,omitempty"`  // many: of each
	Millis   float64           `json:"millis,omitempty"`
}

// Bounds of what a prober does.
const (
	workloadsMost = 64
	lifetime      = 2 * time.Minute // of a workload that nobody asks for
	within        = 3 * time.Second // of one probe
	longest       = time.Minute     // of a volley, or of many probes
	sizeMost      = 16 << 20        // bytes of one probe
	canaryMost    = 64
)

// device is the name of the interface in a workload.
const device = "eth0"

// Prober runs on one node.
type Prober struct {
	cfg Config

	mu        sync.Mutex // guards below
	workloads map[string]*workload
	closed    bool
}

// workload is a namespace with a port, and what listens in it.
type workload struct {
	name, ns     string
	tenant, port string
	expire       *time.Timer
	ready        atomic.Bool // set when ear is there

	mu    sync.Mutex // held while it is made or taken away; guards close
	close []func()
	ear   *ear
}

// New returns a prober after removing what an earlier one left.
func New(cfg Config) *Prober {
	p := &Prober{cfg: cfg, workloads: make(map[string]*workload)}
	p.sweep()
	return p
}

// sweep removes namespaces of ours that no workload has.
func (p *Prober) sweep() {
	names, err := netns.List()
	if err != nil {
		p.cfg.Log.Error("list namespaces", "err", err)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range names {
		name, ours := strings.CutPrefix(n, p.cfg.Prefix)
		if _, used := p.workloads[name]; ours && !used {
			if err := netns.Delete(n); err != nil {
				p.cfg.Log.Error("remove namespace of an earlier check", "netns", n, "err", err)
			}
		}
	}
}

// Handle does one request.
func (p *Prober) Handle(ctx context.Context, request json.RawMessage) (json.RawMessage, error) {
	var r Request
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("read request: %w", err)
	}
	a, err := p.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func (p *Prober) do(ctx context.Context, r Request) (Answer, error) {
	switch r.Do {
	case "create":
		mtu, err := p.create(ctx, r)
		return Answer{OK: true, MTU: mtu}, err
	case "remove":
		return Answer{OK: true}, p.remove(ctx, r.Name)
	case "cleanup":
		err := p.removeAll()
		p.sweep()
		return Answer{OK: true}, err
	}
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	switch r.Do {
	case "drops":
		drops, err := p.cfg.Drops(r.Tenant)
		return Answer{OK: true, Drops: drops}, err
	case "tunnel":
		return outcome(Answer{}, p.tunnel(r)), nil
	case "many":
		a := Answer{OK: true}
		for _, one := range r.Many {
			got, err := p.probe(ctx, one)
			if err != nil {
				return Answer{}, err
			}
			a.Answers = append(a.Answers, got)
		}
		return a, nil
	}
	return p.probe(ctx, r)
}

// probe does what belongs to one workload.
func (p *Prober) probe(ctx context.Context, r Request) (Answer, error) {
	if r.Size < 0 || r.Size > sizeMost || len(r.Canary) > canaryMost {
		return Answer{}, fmt.Errorf("size %d or canary of %d bytes is out of bounds", r.Size, len(r.Canary))
	}
	w, err := p.find(r.Name)
	if err != nil {
		return Answer{}, err
	}
	a, start := Answer{}, time.Now()
	switch r.Do {
	case "seen":
		a.Seen, err = w.ear.heard(r.After)
	case "volley":
		a.Outcomes, err = p.volley(ctx, w, r.Steps)
	default:
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		a, err = talk(ctx, w.ns, r)
		if errors.Is(err, errUnknown) {
			return Answer{}, err
		}
	}
	a.Millis = float64(time.Since(start).Microseconds()) / 1000
	return outcome(a, err), nil
}

var errUnknown = errors.New("unknown probe")

// talk sends something and waits for its answer.
func talk(ctx context.Context, ns string, r Request) (a Answer, err error) {
	switch r.Do {
	case "arp":
		a.Identity, err = resolve(ctx, ns, r)
	case "ping":
		err = ping(ctx, ns, r)
	case "tcp":
		a.Identity, err = talkTCP(ctx, ns, r)
	case "udp":
		a.Identity, err = talkUDP(ctx, ns, r)
	case "pieces":
		a.Identity, err = talkPieces(ctx, ns, r)
	case "trace":
		a.Hops, err = trace(ctx, ns, r)
	case "dhcp":
		a.Identity, err = lease(ctx, ns, r)
	case "ra":
		a.Identity, err = advert(ctx, ns)
	default:
		err = fmt.Errorf("%w %q", errUnknown, r.Do)
	}
	return a, err
}

// outcome completes the answer of a probe that came to an end.
func outcome(a Answer, err error) Answer {
	a.OK = err == nil
	if err != nil {
		a.Detail = err.Error()
	}
	return a
}

var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,40}$`)

// create makes a namespace, attaches the port and begins to listen in it. It returns the MTU of the device.
func (p *Prober) create(ctx context.Context, r Request) (mtu int, err error) {
	if !namePattern.MatchString(r.Name) {
		return 0, fmt.Errorf("%q cannot be the name of a probe workload", r.Name)
	}
	w := &workload{name: r.Name, ns: p.cfg.Prefix + r.Name, tenant: r.Tenant, port: r.Port}
	w.expire = time.AfterFunc(lifetime, func() {
		if err := p.remove(context.Background(), r.Name); err != nil {
			p.cfg.Log.Error("remove probe workload", "netns", w.ns, "err", err)
		}
	})
	w.mu.Lock()
	err = p.reserve(w)
	if err != nil {
		w.expire.Stop()
		w.mu.Unlock()
		return 0, err
	}
	if err = p.bringUp(ctx, w); err == nil {
		mtu, err = mtuOf(w.ns)
	}
	w.ready.Store(err == nil)
	w.mu.Unlock()
	if err != nil {
		return 0, errors.Join(err, p.remove(context.WithoutCancel(ctx), r.Name))
	}
	return mtu, nil
}

// reserve takes the name of a workload.
func (p *Prober) reserve(w *workload) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errors.New("the agent is about to stop")
	case p.workloads[w.name] != nil:
		return fmt.Errorf("probe workload %s exists already", w.name)
	case len(p.workloads) >= workloadsMost:
		return fmt.Errorf("there are %d probe workloads already", workloadsMost)
	}
	p.workloads[w.name] = w
	return nil
}

// bringUp needs the workload's lock held.
func (p *Prober) bringUp(ctx context.Context, w *workload) error {
	if err := netns.Create(w.ns); err != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	if err := p.cfg.Attach(ctx, w.tenant, w.port, netns.Path(w.ns)); err != nil {
		return fmt.Errorf("attach %s/%s: %w", w.tenant, w.port, err)
	}
	e, err := listen(w.ns)
	if err != nil {
		return err
	}
	w.ear = e
	w.close = append(w.close, e.close)
	stop, err := respond(w.ns, w.tenant+"/"+w.port)
	w.close = append(w.close, stop)
	if err != nil {
		return err
	}
	stop, err = holdPorts(w.ns)
	w.close = append(w.close, stop)
	return err
}

func (p *Prober) find(name string) (*workload, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.workloads[name]
	if !ok || !w.ready.Load() {
		return nil, fmt.Errorf("there is no probe workload %q; they go away %s after the last probe", name, lifetime)
	}
	w.expire.Reset(lifetime)
	return w, nil
}

// remove takes a workload away; absent is fine.
func (p *Prober) remove(ctx context.Context, name string) error {
	p.mu.Lock()
	w, ok := p.workloads[name]
	delete(p.workloads, name)
	p.mu.Unlock()
	if !ok {
		return nil
	}
	w.expire.Stop()
	w.mu.Lock() // waits for whoever makes it
	defer w.mu.Unlock()
	for _, f := range w.close {
		f()
	}
	err := p.cfg.Detach(ctx, w.tenant, w.port)
	return errors.Join(err, netns.Delete(w.ns))
}

// Close removes every workload and makes no more.
func (p *Prober) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return p.removeAll()
}

func (p *Prober) removeAll() error {
	p.mu.Lock()
	names := slices.Collect(maps.Keys(p.workloads))
	p.mu.Unlock()
	var errs []error
	for _, n := range names {
		errs = append(errs, p.remove(context.Background(), n))
	}
	return errors.Join(errs...)
}
