// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "weft/api/v1"
)

// Sizes of what is sent, in bytes.
const (
	smallSize   = 56
	bulkSize    = 1 << 20
	icmpHeaders = 28 // IPv4 and ICMP, beside the payload of a ping
	udpHeaders  = 28 // IPv4 and UDP
)

// mustPass lists what has to arrive, in both tenants: a wrong answer of the other one is a failure, too.
func (r *run) mustPass() []test {
	var tests []test
	for _, to := range r.sides[0][1:] {
		for side := range 2 {
			from := r.sides[side][0]
			peer := to
			if side == 1 {
				peer = to.sibling
			}
			name := func(what string) string {
				return fmt.Sprintf("%s, tenant %c, %s", r.relation(from, peer), 'a'+side, what)
			}
			if from.subnet == peer.subnet {
				tests = append(tests, r.resolves(from, peer.addr, peer.mac, name("arp")))
			}
			tests = append(tests,
				r.talks(from, peer, name("ping"), request{Do: "ping", To: peer.addr, Size: smallSize}),
				r.talks(from, peer, name("ping of MTU size"), request{Do: "ping", To: peer.addr, Size: r.mtu - icmpHeaders}),
				r.talks(from, peer, name("tcp 1 MiB"), request{Do: "tcp", To: target(peer), Size: bulkSize}),
				r.talks(from, peer, name("udp"), request{Do: "udp", To: target(peer), Size: smallSize}),
				r.talks(from, peer, name("udp of MTU size"), request{Do: "udp", To: target(peer), Size: r.mtu - udpHeaders}),
			)
		}
	}
	first := r.sides[0][0]
	return append(tests,
		r.resolves(first, "10.99.1.1", v1.RouterMAC, "router of the own subnet, arp"),
		r.talks(first, nil, "router of the own subnet, ping", request{Do: "ping", To: "10.99.1.1", Size: smallSize}),
		r.talks(first, nil, "router of another subnet, ping", request{Do: "ping", To: "10.99.2.1", Size: smallSize}))
}

func target(a *actor) string { return fmt.Sprintf("%s:%d", a.addr, talkPort) }

func (r *run) relation(from, to *actor) string {
	host, subnet := "same host", "same subnet"
	if from.node != to.node {
		host = "other host"
	}
	if from.subnet != to.subnet {
		subnet = "other subnet"
	}
	return host + ", " + subnet
}

// talks is a case in which from asks and exactly to must hear it and answer; to is nil for the router, whose
// answer only from may hear.
func (r *run) talks(from, to *actor, name string, q request) test {
	return test{name: name, path: fmt.Sprintf("%s -> %s", from, q.To), try: func(ctx context.Context) (string, error) {
		q.Canary = r.canary(from)
		a, err := r.ask(ctx, from, q)
		if err != nil {
			return "", err
		}
		if to == nil {
			return "", errors.Join(a.failed(), r.heard(ctx, from, q.Canary), r.unheard(ctx, []string{q.Canary}, except(from)))
		}
		who := to.tenant + "/" + to.port
		if a.OK && q.Do != "ping" && a.Identity != who {
			return "", failure{"an answer from " + who, "one from " + a.Identity}
		}
		return "", errors.Join(a.failed(), r.heard(ctx, to, q.Canary))
	}}
}

// resolves is a case in which from asks who has an address, and must hear one MAC.
func (r *run) resolves(from *actor, addr string, want v1.MAC, name string) test {
	return test{name: name, path: fmt.Sprintf("%s -> %s", from, addr), try: func(ctx context.Context) (string, error) {
		a, err := r.ask(ctx, from, request{Do: "arp", To: addr})
		switch {
		case err != nil:
			return "", err
		case !a.OK:
			return "", failure{want.String(), a.Detail}
		case a.Identity != want.String():
			return "", failure{want.String(), a.Identity}
		}
		return want.String(), nil
	}}
}

// failed is what a probe that did not work says of itself.
func (a answer) failed() error {
	if a.OK {
		return nil
	}
	return failure{"an answer", a.Detail}
}

// heard wants a workload to have overheard a canary. It is also what makes the silence of the others mean something: an
// ear that is deaf fails here.
func (r *run) heard(ctx context.Context, at *actor, canary string) error {
	for deadline := time.Now().Add(r.cfg.countWithin); ; {
		seen, err := r.seen(ctx, at)
		if err != nil {
			return err
		}
		if slices.Contains(seen, canary) {
			return nil
		}
		if time.Now().After(deadline) {
			return failure{at.String() + " to receive it", "it went elsewhere: that workload did not hear " + canary}
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// seen lists what a workload overheard, if nothing can be missing.
func (r *run) seen(ctx context.Context, at *actor) ([]string, error) {
	a, err := r.ask(ctx, at, request{Do: "seen"})
	if err == nil && !a.OK {
		err = failure{"to know all that " + at.String() + " received", a.Detail}
	}
	return a.Seen, err
}

// pause waits, or ends with the context.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
