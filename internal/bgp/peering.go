// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

// connectRetry is how long a session waits before it connects again, in seconds: the least that the library does.
const connectRetry = 2

// families of routes.
var families = []struct {
	family packet.Family
	afi    *api.Family
	v4     bool
}{
	{packet.RF_IPv4_UC, &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}, true},
	{packet.RF_IPv6_UC, &api.Family{Afi: api.Family_AFI_IP6, Safi: api.Family_SAFI_UNICAST}, false},
}

// peering is the BGP library's side: sessions, and the routes that they bring.
type peering struct {
	server *server.BgpServer
	cfg    *Config
	again  bool                // this speaker was here before, and its routes still are
	away   map[netip.Addr]bool // peers whose link is down: the library does not know them

	drained bool // nothing is told to anybody
}

// startPeering opens the BGP port. Nothing is told to anybody until apply.
func startPeering(ctx context.Context, cfg *Config, again bool, log *slog.Logger) (*peering, error) {
	level := &slog.LevelVar{}
	level.Set(slog.LevelWarn)
	p := &peering{server: server.NewBgpServer(server.LoggerOption(log, level)), cfg: &Config{AS: cfg.AS, RouterID: cfg.RouterID}, again: again, away: make(map[netip.Addr]bool)}
	go p.server.Serve()
	err := p.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: cfg.AS, RouterId: cfg.RouterID.String(), ListenPort: 179, UseMultiplePaths: true,
	}})
	if err != nil {
		return nil, fmt.Errorf("open the BGP port: %w", err)
	}
	return p, nil
}

// apply brings sessions and announcements from the present configuration to cfg, and touches nothing else.
func (p *peering) apply(ctx context.Context, cfg *Config) error {
	old := p.cfg
	timers := old.Hold != cfg.Hold || old.Restart != cfg.Restart || old.StartWait != cfg.StartWait
	for _, peer := range old.Peers {
		if timers || !slices.ContainsFunc(cfg.Peers, peer.sameSession) {
			if p.away[peer.Address] {
				delete(p.away, peer.Address)
				continue
			}
			if err := p.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: peer.Address.String()}); err != nil {
				return fmt.Errorf("end the session with %s: %w", peer.Address, err)
			}
		}
	}
	for _, prefix := range old.Announce {
		if !slices.Contains(cfg.Announce, prefix) {
			if err := p.announce(prefix, false); err != nil {
				return err
			}
		}
	}
	for _, prefix := range cfg.Announce {
		if !slices.Contains(old.Announce, prefix) {
			if err := p.announce(prefix, true); err != nil {
				return err
			}
		}
	}
	p.cfg = cfg
	if err := p.setPolicies(ctx); err != nil {
		return err
	}
	for _, peer := range cfg.Peers {
		if timers || !slices.ContainsFunc(old.Peers, peer.sameSession) {
			if err := p.server.AddPeer(ctx, &api.AddPeerRequest{Peer: p.peerOf(peer)}); err != nil {
				return fmt.Errorf("open a session with %s: %w", peer.Address, err)
			}
		}
	}
	return nil
}

// peerOf is a peer in the library's words: graceful restart on both sides (RFC 4724), and of a speaker that was here before,
// the word that its routes still stand.
func (p *peering) peerOf(peer Peer) *api.Peer {
	out := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: peer.Address.String(), PeerAsn: peer.AS, AuthPassword: peer.Password, Description: peer.Name},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: seconds(p.cfg.Hold), KeepaliveInterval: seconds(p.cfg.Hold) / 3, ConnectRetry: connectRetry, IdleHoldTimeAfterReset: 1}},
		Transport: &api.Transport{PassiveMode: peer.Relation == Customer}, // two connections that meet may leave the library stuck
		GracefulRestart: &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(seconds(p.cfg.Restart)), DeferralTime: uint32(seconds(p.cfg.StartWait)), LocalRestarting: p.again,
		},
	}
	for _, f := range families {
		if f.v4 == peer.Address.Is4() {
			out.AfiSafis = append(out.AfiSafis, &api.AfiSafi{
				Config:            &api.AfiSafiConfig{Family: f.afi, Enabled: true},
				MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
			})
		}
	}
	return out
}

func seconds(d time.Duration) uint64 { return uint64(d / time.Second) }

// announce tells all peers of a prefix that is here, or no longer.
func (p *peering) announce(prefix netip.Prefix, here bool) error {
	nlri, err := packet.NewIPAddrPrefix(prefix)
	if err != nil {
		return fmt.Errorf("announce %s: %w", prefix, err)
	}
	attrs := []packet.PathAttributeInterface{packet.NewPathAttributeOrigin(packet.BGP_ORIGIN_ATTR_TYPE_IGP)}
	family := packet.RF_IPv4_UC
	if prefix.Addr().Is4() {
		hop, err := packet.NewPathAttributeNextHop(netip.IPv4Unspecified())
		if err != nil {
			return fmt.Errorf("announce %s: %w", prefix, err)
		}
		attrs = append(attrs, hop)
	} else {
		family = packet.RF_IPv6_UC
		reach, err := packet.NewPathAttributeMpReachNLRI(family, []packet.PathNLRI{{NLRI: nlri}}, netip.IPv6Unspecified())
		if err != nil {
			return fmt.Errorf("announce %s: %w", prefix, err)
		}
		attrs = append(attrs, reach)
	}
	path := &apiutil.Path{Family: family, Nlri: nlri, Attrs: attrs}
	if !here {
		if err := p.server.DeletePath(apiutil.DeletePathRequest{Paths: []*apiutil.Path{path}}); err != nil {
			return fmt.Errorf("withdraw %s: %w", prefix, err)
		}
		return nil
	}
	if _, err := p.server.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{path}}); err != nil {
		return fmt.Errorf("announce %s: %w", prefix, err)
	}
	return nil
}

// Names of the library's sets of neighbours, of the mark and of the policies.
const (
	setProviders, setCustomers, setMark = "providers", "customers", "from-provider"
	policyIn, policyOut                 = "in", "out"
)

// mark is the large community (RFC 8092) of a path that a provider told, as long as it is inside this speaker.
func (p *peering) mark() string { return fmt.Sprintf("%d:0:1", p.cfg.AS) }

// setPolicies lets no route that a provider told go to a provider (RFC 9234); drained, nothing goes to anybody.
func (p *peering) setPolicies(ctx context.Context) error {
	neighbors := func(name string) *api.MatchSet { return &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: name} }
	marked := &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: setMark}
	in := &api.Policy{Name: policyIn, Statements: []*api.Statement{{
		Name: "mark", Conditions: &api.Conditions{NeighborSet: neighbors(setProviders)},
		Actions: &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_TYPE_ADD, Communities: []string{p.mark()}}},
	}}}
	out := &api.Policy{Name: policyOut, Statements: []*api.Statement{
		{
			Name: "valley", Conditions: &api.Conditions{NeighborSet: neighbors(setProviders), LargeCommunitySet: marked},
			Actions: &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_REJECT},
		},
		{
			Name: "unmark", Conditions: &api.Conditions{NeighborSet: neighbors(setCustomers), LargeCommunitySet: marked},
			Actions: &api.Actions{LargeCommunity: &api.CommunityAction{Type: api.CommunityAction_TYPE_REMOVE, Communities: []string{p.mark()}}},
		},
	}}
	outAssigned, outElse := []*api.Policy{{Name: policyOut}}, api.RouteAction_ROUTE_ACTION_ACCEPT
	if p.drained {
		outAssigned, outElse = nil, api.RouteAction_ROUTE_ACTION_REJECT
	}
	err := p.server.SetPolicies(ctx, &api.SetPoliciesRequest{
		DefinedSets: append(p.relations(), &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_LARGE_COMMUNITY, Name: setMark, List: []string{"^" + p.mark() + "$"}}),
		Policies:    []*api.Policy{in, out},
	})
	for _, a := range []*api.PolicyAssignment{
		{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT, Policies: []*api.Policy{{Name: policyIn}}, DefaultAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
		{Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_EXPORT, Policies: outAssigned, DefaultAction: outElse},
	} {
		if err == nil {
			err = p.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: a})
		}
	}
	if err != nil {
		return fmt.Errorf("set policies: %w", err)
	}
	return nil
}

// relations are the sets of neighbours. A set without one would match all: nobody has the address 0.0.0.0. The library's
// policies hold on to the sets with which they were made, so both are set together.
func (p *peering) relations() []*api.DefinedSet {
	sets := []*api.DefinedSet{
		{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: setProviders, List: []string{"0.0.0.0/32"}},
		{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: setCustomers, List: []string{"0.0.0.0/32"}},
	}
	for _, peer := range p.cfg.Peers {
		i := 0
		if peer.Relation == Customer {
			i = 1
		}
		sets[i].List = append(sets[i].List, netip.PrefixFrom(peer.Address, peer.Address.BitLen()).String())
	}
	return sets
}

// drain withdraws everything from everybody, or tells it again.
func (p *peering) drain(ctx context.Context, drained bool) error {
	p.drained = drained
	if err := p.setPolicies(ctx); err != nil {
		return err
	}
	for _, peer := range p.cfg.Peers {
		if err := p.tell(ctx, peer.Address); err != nil {
			return err
		}
	}
	return nil
}

// tell tells a neighbour all that it is to know, again.
func (p *peering) tell(ctx context.Context, peer netip.Addr) error {
	if p.away[peer] {
		return nil
	}
	err := p.server.ResetPeer(ctx, &api.ResetPeerRequest{Address: peer.String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT})
	if err != nil {
		return fmt.Errorf("tell %s: %w", peer, err)
	}
	return nil
}

// link ends or begins the session with a peer whose link went or came, or that BFD found gone or there: what it told is forgotten at
// once, as nothing can be sent to it.
func (p *peering) link(ctx context.Context, peer Peer, up bool) error {
	if !up {
		if p.away[peer.Address] {
			return nil
		}
		p.away[peer.Address] = true
		return p.server.DeletePeer(ctx, &api.DeletePeerRequest{Address: peer.Address.String()})
	}
	if !p.away[peer.Address] {
		return nil
	}
	delete(p.away, peer.Address)
	again := p.peerOf(peer) // anew: a session that is only disabled waits longer
	again.GracefulRestart.LocalRestarting = false
	return p.server.AddPeer(ctx, &api.AddPeerRequest{Peer: again})
}

// way is one way to a prefix.
type way struct {
	prefix  netip.Prefix
	gateway netip.Addr
}

// ways are the best ways to every prefix that others told: all that are as good as the best one (RFC 4271, 9.1.2.2, up to the
// neighbours' identity).
func (p *peering) ways() ([]way, error) {
	var found []way
	for _, f := range families {
		err := p.server.ListPath(apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: f.family}, func(nlri packet.NLRI, paths []*apiutil.Path) {
			prefix, err := netip.ParsePrefix(nlri.String())
			best := slices.IndexFunc(paths, func(path *apiutil.Path) bool { return path.Best })
			if err != nil || best < 0 || !paths[best].PeerAddress.IsValid() || paths[best].PeerAddress.IsUnspecified() {
				return // nobody's, or the own
			}
			rank := rankOf(paths[best])
			for _, path := range paths {
				if !path.IsNexthopInvalid && !path.Filtered && rankOf(path) == rank {
					if hop := hopOf(path); hop.IsValid() {
						found = append(found, way{prefix, hop})
					}
				}
			}
		})
		if err != nil {
			return nil, fmt.Errorf("read routes: %w", err)
		}
	}
	return found, nil
}

// rank is what decides between two paths, before it comes to who told them.
type rank struct {
	preference, med uint32
	length          int
	origin          uint8
}

func rankOf(path *apiutil.Path) rank {
	r := rank{preference: 100}
	for _, attr := range path.Attrs {
		switch a := attr.(type) {
		case *packet.PathAttributeLocalPref:
			r.preference = a.Value
		case *packet.PathAttributeMultiExitDisc:
			r.med = a.Value
		case *packet.PathAttributeOrigin:
			r.origin = a.Value
		case *packet.PathAttributeAsPath:
			for _, part := range a.Value {
				r.length += part.ASLen()
			}
		}
	}
	return r
}

// hopOf is the next hop of a path.
func hopOf(path *apiutil.Path) netip.Addr {
	for _, attr := range path.Attrs {
		switch a := attr.(type) {
		case *packet.PathAttributeNextHop:
			return a.Value
		case *packet.PathAttributeMpReachNLRI:
			return a.Nexthop
		}
	}
	return netip.Addr{}
}
