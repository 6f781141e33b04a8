// SPDX-License-Identifier: Apache-2.0

// Package bgp is the speaker: a process of its own that keeps sessions with its neighbours and the kernel's routes as they say,
// by all ways that are equally good.
//
// Its end stops no packet: routes stay in the kernel, and neighbours keep theirs (graceful restart, RFC 4724). A speaker that
// starts takes over what it finds and writes differences only, once its neighbours have told all they know.
package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/osrg/gobgp/v4/pkg/apiutil"
	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"weft/internal/base/notify"
	"weft/internal/bgp/bfd"
	"weft/internal/node/kernel/fib"
)

// Options are what a speaker needs to run.
type Options struct {
	Config  *Config
	Socket  string // of the local API
	Version string
	Log     *slog.Logger
	Manager notify.Manager
}

// BFD's times.
const (
	bfdInterval   = 200 * time.Millisecond
	bfdMultiplier = 3
)

// againAfter is when a neighbour is told all once more.
const againAfter = 100 * time.Millisecond

// settleAfter is how long a further way waits before it is used beside one that is used already. A router tells a route before its own
// kernel has it: packets that came at once would find none.
const settleAfter = 300 * time.Millisecond

// lookEvery is how often a speaker looks at the kernel's routes, even if it heard of no change.
const lookEvery = 10 * time.Second

// speaker is a running one. All but run's own goroutine talk to it by do.
type speaker struct {
	Options
	cfg     *Config
	peering *peering
	table   *fib.Table

	device map[netip.Addr]string // by next hop
	down   map[string]bool       // devices
	falls  map[netip.Addr]int    // of sessions of BFD, as far as they are known here
	broken map[netip.Addr]bool   // peers that BFD has lost
	eor    map[netip.Addr]bool   // peers that have told all
	known  map[way]time.Time     // since when a way is wanted
	settle *time.Timer           // for a way that waits
	since  time.Time
	ready  bool // what is in the kernel and nobody tells is not waited for any more
	found  int  // routes at the start

	do     chan func()
	wake   chan struct{} // routes may have changed
	ended  chan netip.Addr
	bfd    *bfd.Server
	beat   chan struct{} // a session of BFD went up or down
	writes atomic.Uint64
}

// Run speaks until ctx ends, and leaves all routes, its own and the neighbours', as they are.
func Run(ctx context.Context, o Options) error {
	s := &speaker{
		Options: o, cfg: o.Config, since: time.Now(), device: make(map[netip.Addr]string), down: make(map[string]bool), eor: make(map[netip.Addr]bool), known: make(map[way]time.Time), broken: make(map[netip.Addr]bool),
		do: make(chan func()), wake: make(chan struct{}, 1), ended: make(chan netip.Addr, peersMost), beat: make(chan struct{}, 1), falls: make(map[netip.Addr]int),
	}
	local, err := listen(o.Socket)
	if err != nil {
		return err
	}
	defer local.Close()
	if s.table, err = fib.Open(); err != nil {
		return err
	}
	defer s.table.Close()
	routes, err := s.table.Routes()
	if err != nil {
		return err
	}
	s.found = len(routes)
	s.bfd, err = bfd.Serve(bfdInterval, bfdMultiplier, o.Log, func() {
		select {
		case s.beat <- struct{}{}:
		default:
		}
	})
	if err != nil {
		return err
	}
	defer s.bfd.Close()
	if s.peering, err = startPeering(ctx, s.cfg, s.found > 0, o.Log); err != nil {
		return err
	}
	// No farewell: a neighbour that is told of the end forgets the routes.
	if err := s.watch(ctx); err != nil {
		return err
	}
	if err := s.peering.apply(ctx, s.cfg); err != nil {
		return err
	}
	if err := s.setBFD(nil); err != nil {
		return err
	}
	go s.serve(ctx, local)
	go o.Manager.Watch(ctx, func(ctx context.Context) error { return s.call(ctx, func() error { return nil }) })
	if err := o.Manager.Ready(fmt.Sprintf("AS %d, %d peers", s.cfg.AS, len(s.cfg.Peers))); err != nil {
		o.Log.Warn("not told", "err", err)
	}
	o.Log.Info("speaks BGP", "as", s.cfg.AS, "peers", len(s.cfg.Peers), "routes found", s.found)
	return s.run(ctx)
}

// watch hears of paths, sessions and ends of tables.
func (s *speaker) watch(ctx context.Context) error {
	awake := func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return s.peering.server.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnBestPath: func([]*apiutil.Path, time.Time) { awake() },
		OnPathEor: func(p *apiutil.Path, _ time.Time) {
			select {
			case s.ended <- p.PeerAddress:
			case <-ctx.Done():
			}
		},
		OnPeerUpdate: func(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
			if e.Type == apiutil.PEER_EVENT_STATE {
				peer := e.Peer.State.NeighborAddress
				switch e.Peer.State.SessionState {
				case packet.BGP_FSM_ESTABLISHED:
					s.Log.Info("session is up", "peer", peer)
					s.tellAgain(ctx, peer)
				case packet.BGP_FSM_IDLE:
					s.Log.Info("session is down", "peer", peer)
				}
				awake()
			}
		},
	}, server.WatchBestPath(true), server.WatchEor(true), server.WatchPeer())
}

// tellAgain tells a neighbour all routes once more, a moment after its session came up: the library loses a path that it learns
// between its first telling and the session's being established.
func (s *speaker) tellAgain(ctx context.Context, peer netip.Addr) {
	time.AfterFunc(againAfter, func() {
		err := s.call(ctx, func() error {
			if !slices.ContainsFunc(s.cfg.Peers, func(p Peer) bool { return p.Address == peer }) {
				return nil
			}
			return s.peering.tell(ctx, peer)
		})
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("tell a neighbour again", "peer", peer, "err", err)
		}
	})
}

// run is the speaker's one goroutine.
func (s *speaker) run(ctx context.Context) error {
	links, lost, err := fib.Watch(ctx)
	if err != nil {
		return err
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	start := time.NewTimer(s.cfg.StartWait)
	defer start.Stop()
	s.settle = time.NewTimer(settleAfter)
	defer s.settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case do := <-s.do:
			do()
		case l, ok := <-links:
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return errors.New("the kernel tells nothing of links any more")
			}
			s.link(ctx, l)
		case <-s.beat:
			s.heard(ctx)
		case peer := <-s.ended:
			s.eor[peer] = true
		case <-s.wake:
		case <-lost:
		case <-start.C:
			s.ready = true
		case <-s.settle.C:
		case <-look.C:
		}
		if err := s.sync(); err != nil {
			s.Log.Error("routes are not as they should be", "err", err)
		}
	}
}

// link follows a device.
func (s *speaker) link(ctx context.Context, l fib.Link) {
	if s.down[l.Device] == !l.Up {
		return
	}
	s.down[l.Device] = !l.Up
	for _, p := range s.cfg.Peers {
		if s.deviceOf(p.Address) != l.Device {
			continue
		}
		s.Log.Info("link", "device", l.Device, "up", l.Up, "peer", p.Address)
		s.follow(ctx, p)
	}
}

// heard follows BFD: a loss ends the session with the peer, even if it is over already. That a session of BFD comes up for the first time
// changes nothing, as BGP does not wait for it, and neither does one that a neighbour ends on purpose.
func (s *speaker) heard(ctx context.Context) {
	for _, p := range s.cfg.Peers {
		if !p.BFD {
			continue
		}
		lost, falls := s.bfd.Lost(p.Address)
		if falls != s.falls[p.Address] {
			s.falls[p.Address], s.broken[p.Address] = falls, true
			s.follow(ctx, p)
		}
		if lost != s.broken[p.Address] {
			s.broken[p.Address] = lost
			s.follow(ctx, p)
		}
	}
}

// follow ends or begins the session with a peer as its link and BFD say.
func (s *speaker) follow(ctx context.Context, p Peer) {
	if err := s.peering.link(ctx, p, !s.down[s.deviceOf(p.Address)] && !s.broken[p.Address]); err != nil {
		s.Log.Error("follow a link", "peer", p.Address, "err", err)
	}
}

// setBFD begins and ends the sessions of BFD that the configuration has and old had not, and the other way round.
func (s *speaker) setBFD(old []Peer) error {
	for _, p := range old {
		if p.BFD && !slices.ContainsFunc(s.cfg.Peers, func(n Peer) bool { return n.Address == p.Address && n.BFD }) {
			s.bfd.Remove(p.Address)
			delete(s.broken, p.Address)
			delete(s.falls, p.Address)
		}
	}
	for _, p := range s.cfg.Peers {
		if p.BFD {
			if err := s.bfd.Add(p.Address); err != nil {
				return err
			}
		}
	}
	return nil
}

// deviceOf is the device by which a next hop is reached; "" if there is none.
func (s *speaker) deviceOf(hop netip.Addr) string {
	if d, ok := s.device[hop]; ok {
		return d
	}
	i := slices.IndexFunc(s.cfg.Peers, func(p Peer) bool { return p.Address == hop && p.Device != "" })
	if i >= 0 {
		s.device[hop] = s.cfg.Peers[i].Device
		return s.device[hop]
	}
	d, err := s.table.Device(hop)
	if err != nil {
		return "" // its address may come yet
	}
	s.device[hop] = d
	return d
}

// wanted are the routes that the neighbours' words make.
func (s *speaker) wanted() (map[netip.Prefix]fib.Route, error) {
	ways, err := s.peering.ways()
	if err != nil {
		return nil, err
	}
	wanted := make(map[netip.Prefix]fib.Route)
	for _, w := range ways {
		device := s.deviceOf(w.gateway)
		if device == "" || s.down[device] {
			continue
		}
		r := wanted[w.prefix]
		r.To, r.Source = w.prefix, s.cfg.source(w.prefix.Addr().Is4())
		if hop := (fib.NextHop{Gateway: w.gateway, Device: device}); !slices.Contains(r.By, hop) {
			r.By = append(r.By, hop)
		}
		wanted[w.prefix] = r
	}
	for _, r := range wanted {
		slices.SortFunc(r.By, fib.NextHop.Compare)
	}
	return wanted, nil
}

// fresh leaves out of wanted the ways that were heard of less than settleAfter ago, where another one of the route is in use and stays.
// It keeps in known since when ways are wanted, and returns how long the first of those left out has to wait still; 0: there is none.
func fresh(wanted, have map[netip.Prefix]fib.Route, known map[way]time.Time, now time.Time) time.Duration {
	var wait time.Duration
	seen := make(map[way]bool, len(known))
	for to, r := range wanted {
		old := have[to].By
		stays := slices.ContainsFunc(r.By, func(h fib.NextHop) bool { return slices.Contains(old, h) })
		r.By = slices.DeleteFunc(slices.Clone(r.By), func(h fib.NextHop) bool {
			w := way{to, h.Gateway}
			seen[w] = true
			if _, ok := known[w]; !ok {
				known[w] = now
			}
			left := known[w].Add(settleAfter).Sub(now)
			if !stays || left <= 0 || slices.Contains(old, h) {
				return false
			}
			if wait == 0 || left < wait {
				wait = left
			}
			return true
		})
		wanted[to] = r
	}
	maps.DeleteFunc(known, func(w way, _ time.Time) bool { return !seen[w] })
	return wait
}

// sync writes what differs. Until the speaker is ready, a route that it found is left alone.
func (s *speaker) sync() error {
	wanted, err := s.wanted()
	if err != nil {
		return err
	}
	have, err := s.table.Routes()
	if err != nil {
		return err
	}
	if wait := fresh(wanted, have, s.known, time.Now()); wait > 0 {
		s.settle.Reset(wait)
	}
	if !s.ready {
		s.ready = s.found == 0 || s.allEnded()
		if s.ready {
			s.Log.Info("the neighbours have told all", "after", time.Since(s.since).Round(time.Millisecond))
		}
	}
	var errs []error
	write := func(err error) {
		s.writes.Add(1)
		errs = append(errs, err)
	}
	for to, r := range wanted {
		if old, ok := have[to]; ok && (old.Equal(r) || !s.ready) {
			continue
		}
		write(s.table.Put(r))
	}
	for to := range have {
		if _, ok := wanted[to]; !ok && s.ready {
			write(s.table.Delete(to))
		}
	}
	return errors.Join(errs...)
}

// allEnded reports whether every neighbour whose link is up has told all.
func (s *speaker) allEnded() bool {
	for _, p := range s.cfg.Peers {
		if !s.eor[p.Address] && !s.down[s.deviceOf(p.Address)] {
			return false
		}
	}
	return true
}

// reconfigure changes the configuration of the running speaker: sessions and prefixes that stay are not touched.
func (s *speaker) reconfigure(ctx context.Context, cfg *Config) error {
	if cfg.AS != s.cfg.AS || cfg.RouterID != s.cfg.RouterID {
		return fmt.Errorf("as and routerID are those of all sessions: they stay %d and %s until the process is started again", s.cfg.AS, s.cfg.RouterID)
	}
	if err := s.peering.apply(ctx, cfg); err != nil {
		return err
	}
	old := s.cfg.Peers
	s.cfg = cfg
	clear(s.device)
	if err := s.setBFD(old); err != nil {
		return err
	}
	for _, p := range cfg.Peers { // those that are new have sessions now, whatever their link
		s.follow(ctx, p)
	}
	return nil
}
