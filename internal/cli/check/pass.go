// SPDX-License-Identifier: Apache-2.0

package check

import (
	"context"
	"errors"
	"fmt"
)

// Sizes of what is sent, in bytes.
const (
	smallSize   = 56
	bulkSize    = 1 << 20
	icmpHeaders = 28 // IPv4 and ICMP, beside the payload of a ping
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
			where := r.relation(from, peer)
			who := fmt.Sprintf("tenant %c", 'a'+side)
			tests = append(tests,
				r.talks(from, peer, fmt.Sprintf("%s, %s, ping", where, who), request{Do: "ping", To: peer.addr, Size: smallSize}),
				r.talks(from, peer, fmt.Sprintf("%s, %s, tcp 1 MiB", where, who), request{Do: "tcp", To: target(peer), Size: bulkSize}),
				r.talks(from, peer, fmt.Sprintf("%s, %s, udp", where, who), request{Do: "udp", To: target(peer), Size: smallSize}),
				r.talks(from, peer, fmt.Sprintf("%s, %s, ping of MTU size", where, who), request{Do: "ping", To: peer.addr, Size: r.mtu - icmpHeaders}),
			)
		}
	}
	first := r.sides[0][0]
	tests = append(tests,
		r.talks(first, first, "router of the own subnet, ping", request{Do: "ping", To: "10.99.1.1", Size: smallSize}),
		r.talks(first, first, "router of another subnet, ping", request{Do: "ping", To: "10.99.2.1", Size: smallSize}))
	return tests
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

// talks is a case in which from asks and exactly to must answer.
func (r *run) talks(from, to *actor, name string, q request) test {
	return test{name: name, path: fmt.Sprintf("%s -> %s", from, q.To), try: func(ctx context.Context) (string, error) {
		q.Canary = r.canary()
		a, err := r.ask(ctx, from, q)
		if err != nil {
			return "", err
		}
		if !a.OK {
			return "", errors.New(a.Detail)
		}
		if want := to.tenant + "/" + to.port; q.Do != "ping" && a.Identity != want {
			return "", failure{"an answer from " + want, "one from " + a.Identity}
		}
		return "", nil
	}}
}
