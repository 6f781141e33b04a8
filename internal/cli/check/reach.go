// SPDX-License-Identifier: Apache-2.0

package check

import (
	"fmt"
	"net/netip"
	"strings"

	v1 "weft/api/v1"
	"weft/internal/cli/check/attack"
)

// Sizes of what is sent, in bytes.
const (
	smallSize  = 56
	bulkSize   = 1 << 20
	largeSize  = 4000 // more than one packet holds
	pieceSize  = 1000 // of a fragment; a multiple of 8
	udpHeader  = 8
	icmpHeader = 8
)

// headers is the length of an IP header without options.
func headers(v int) int { return map[int]int{4: 20, 6: 40}[v] }

var versions = []int{4, 6}

// way is one way of talking between two workloads.
type way struct {
	name string
	ask  func(r *run, from, to *actor, v int) request
}

func target(a *actor, v int) string { return netip.AddrPortFrom(a.Addr(v), talkPort).String() }

// ways is how workloads talk.
var ways = []way{
	{"ping", func(_ *run, _, to *actor, v int) request {
		return request{Do: "ping", To: to.Addr(v).String(), Size: smallSize}
	}},
	{"ping of MTU size", func(r *run, _, to *actor, v int) request {
		return request{Do: "ping", To: to.Addr(v).String(), Size: r.mtu - headers(v) - icmpHeader}
	}},
	{"ping larger than the MTU", func(_ *run, _, to *actor, v int) request {
		return request{Do: "ping", To: to.Addr(v).String(), Size: largeSize}
	}},
	{"tcp 1 MiB", func(_ *run, _, to *actor, v int) request {
		return request{Do: "tcp", To: target(to, v), Size: bulkSize}
	}},
	{"udp", func(_ *run, _, to *actor, v int) request {
		return request{Do: "udp", To: target(to, v), Size: smallSize}
	}},
	{"udp of MTU size", func(r *run, _, to *actor, v int) request {
		return request{Do: "udp", To: target(to, v), Size: r.mtu - headers(v) - udpHeader}
	}},
	{"udp larger than the MTU", func(_ *run, _, to *actor, v int) request {
		return request{Do: "udp", To: target(to, v), Size: largeSize}
	}},
	{"udp in fragments, in order", func(_ *run, from, to *actor, v int) request { return inPieces(from, to, v, false) }},
	{"udp in fragments, last first", func(_ *run, from, to *actor, v int) request { return inPieces(from, to, v, true) }},
}

// piecesPort is where the prober sends datagrams in pieces from.
const piecesPort = 7008

// inPieces is a datagram that the check divides itself.
func inPieces(from, to *actor, v int, backwards bool) request {
	return request{Do: "pieces", To: target(to, v), Size: largeSize, pieces: func(canary string) [][]byte {
		text := []byte(strings.Repeat(canary+" ", largeSize/(len(canary)+1)+1)[:largeSize]) // as the prober says it
		frames := attack.Datagram(&from.Workload, &to.Workload, v, piecesPort, talkPort, text, pieceSize)
		if backwards {
			for i, j := 0, len(frames)-1; i < j; i, j = i+1, j-1 {
				frames[i], frames[j] = frames[j], frames[i]
			}
		}
		return frames
	}}
}

func relation(from, to *actor) string {
	host, subnet := "same host", "same subnet"
	if from.node != to.node {
		host = "other host"
	}
	if from.Subnet != to.Subnet {
		subnet = "other subnet"
	}
	return host + ", " + subnet
}

// relations lists pairs of a tenant by how they lie to each other, in the order of the layout: from the first workload,
// or, where all is checked, from each to each.
func (r *run) relations() (names []string, pairs map[string][][2]*actor) {
	pairs = make(map[string][][2]*actor)
	for _, side := range r.sides {
		for i, from := range side {
			for _, to := range side {
				if to == from || (i > 0 && !r.cfg.All) {
					continue
				}
				name := relation(from, to)
				if pairs[name] == nil {
					names = append(names, name)
				}
				pairs[name] = append(pairs[name], [2]*actor{from, to})
			}
		}
	}
	return names, pairs
}

// reach lists what has to arrive, in both tenants: a wrong answer of the other one is a failure, too.
func (r *run) reach() []*test {
	var tests []*test
	names, pairs := r.relations()
	for _, name := range names {
		for _, v := range versions {
			if strings.HasSuffix(name, "same subnet") {
				tests = append(tests, r.resolves(fmt.Sprintf("%s, IPv%d, %s", name, v, map[int]string{4: "ARP", 6: "ND"}[v]), v, pairs[name]))
			}
			for _, w := range ways {
				tests = append(tests, r.talks(fmt.Sprintf("%s, IPv%d, %s", name, v, w.name), w, v, pairs[name]))
			}
		}
	}
	return tests
}

// talks is a case in which each first one asks, and the second must hear it and answer.
func (r *run) talks(name string, w way, v int, pairs [][2]*actor) *test {
	t := &test{Case: Case{Name: name}}
	t.make = func() (_ []shot, out []probe) {
		for _, pair := range pairs {
			p := probe{from: pair[0], to: pair[1], q: w.ask(r, pair[0], pair[1], v)}
			if p.q.Do != "ping" {
				p.identity = p.to.tenant + "/" + p.to.port
			}
			out = append(out, p)
		}
		return nil, out
	}
	return t
}

// resolves is a case in which each first one asks who has the second one's address.
func (r *run) resolves(name string, v int, pairs [][2]*actor) *test {
	t := &test{Case: Case{Name: name}}
	t.make = func() (_ []shot, out []probe) {
		for _, pair := range pairs {
			out = append(out, probe{from: pair[0], q: request{Do: "arp", To: pair[1].Addr(v).String()}, identity: pair[1].MAC.String()})
		}
		return nil, out
	}
	return t
}

// asks is a case in which the first workload of each tenant, or where all is checked each, asks for itself.
func (r *run) asks(name string, v int, ask func(a *actor, v int) []probe) *test {
	t := &test{Case: Case{Name: name}}
	t.make = func() (_ []shot, out []probe) {
		for _, side := range r.sides {
			for i, a := range side {
				if i == 0 || r.cfg.All {
					out = append(out, ask(a, v)...)
				}
			}
		}
		return nil, out
	}
	return t
}

// service lists what the agent tells every port about itself, whatever addresses others have.
func (r *run) service() []*test {
	lease := func(a *actor, v int) []probe {
		said := a.Addr6.String()
		if v == 4 {
			said = fmt.Sprintf("%s/24 by [%s], MTU %d", a.Addr4, attack.Gateway(&a.Workload, 4), r.mtu)
		}
		return []probe{{from: a, q: request{Do: "dhcp", To: a.Addr(v).String()}, identity: said}}
	}
	advert := func(a *actor, _ int) []probe {
		prefix := netip.PrefixFrom(a.Addr6, 64).Masked()
		return []probe{{from: a, q: request{Do: "ra"}, identity: fmt.Sprintf("fe80::1, flags c0, lifetime 9000 s, MTU %d, %s flags 80", r.mtu, prefix)}}
	}
	return []*test{
		r.asks("DHCP: the port's address, router and MTU, IPv4", 4, lease), r.asks("DHCP: the port's address, IPv6", 6, lease),
		r.asks("router advertisement: managed, MTU and prefix", 6, advert),
	}
}

// router lists what the virtual router must answer, whoever asks.
func (r *run) router() []*test {
	var tests []*test
	add := func(name string, ask func(a *actor, v int) []probe, v int) {
		tests = append(tests, r.asks(fmt.Sprintf("%s, IPv%d", name, v), v, ask))
	}
	resolve := func(a *actor, v int) []probe {
		return []probe{{from: a, q: request{Do: "arp", To: attack.Gateway(&a.Workload, v).String()}, identity: v1.RouterMAC.String()}}
	}
	ping := func(subnets ...int) func(a *actor, v int) []probe {
		return func(a *actor, v int) (out []probe) {
			for _, n := range subnets {
				out = append(out, probe{from: a, q: request{Do: "ping", To: attack.Place(v, n, 1).String(), Size: smallSize}})
			}
			return out
		}
	}
	trace := func(a *actor, v int) []probe {
		var out []probe
		for _, to := range r.sides[a.side] {
			if to.Subnet != a.Subnet {
				out = append(out, probe{from: a, q: request{Do: "trace", To: to.Addr(v).String()}, hops: []string{attack.Gateway(&a.Workload, v).String(), to.Addr(v).String()}})
			}
		}
		return out
	}
	for _, v := range versions {
		add("who has its address", resolve, v)
		add("ping its addresses in both subnets", ping(1, 2), v)
		add("traceroute to the other subnet", trace, v)
	}
	return tests
}

// apart lists isolation: every workload speaks to every address of both tenants; those of its own tenant hear and
// answer, the other tenant hears nothing.
func (r *run) apart() []*test {
	var tests []*test
	for _, side := range r.sides {
		for _, from := range side {
			t := &test{Case: Case{Name: fmt.Sprintf("%c/%s to every address", 'a'+from.side, from.port), Note: "the other tenant heard nothing"}}
			t.make = func() (_ []shot, out []probe) {
				for _, to := range side {
					for _, v := range versions {
						if to != from {
							out = append(out, probe{from: from, to: to, q: request{Do: "udp", To: target(to, v), Size: smallSize}, identity: to.tenant + "/" + to.port})
						}
					}
				}
				return nil, out
			}
			tests = append(tests, t)
		}
	}
	return tests
}
