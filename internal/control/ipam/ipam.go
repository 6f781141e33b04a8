// SPDX-License-Identifier: Apache-2.0

// Package ipam chooses what users left open: addresses and Ethernet addresses that nobody else in the VPC has.
package ipam

import (
	"fmt"
	"hash/fnv"
	"net/netip"
)

// MAC is a 48-bit Ethernet address in transmission order.
type MAC = [6]byte

// Pool knows what is taken in one VPC, and by whom.
type Pool struct {
	addrs map[netip.Addr]string
	macs  map[MAC]string
	next  map[netip.Prefix]netip.Addr // every address of the prefix below it is taken or reserved
}

// NewPool returns a pool in which nothing is taken.
func NewPool() *Pool {
	return &Pool{addrs: make(map[netip.Addr]string), macs: make(map[MAC]string), next: make(map[netip.Prefix]netip.Addr)}
}

// Take gives an address to holder. If another has it already, nothing changes and the other is returned.
func (p *Pool) Take(a netip.Addr, holder string) (other string, ok bool) {
	if h, taken := p.addrs[a]; taken && h != holder {
		return h, false
	}
	p.addrs[a] = holder
	return "", true
}

// TakeMAC gives an Ethernet address to holder, as Take does.
func (p *Pool) TakeMAC(m MAC, holder string) (other string, ok bool) {
	if h, taken := p.macs[m]; taken && h != holder {
		return h, false
	}
	p.macs[m] = holder
	return "", true
}

// Release takes everything from holder that Take and TakeMAC gave it.
func (p *Pool) Release(a netip.Addr, m MAC, holder string) {
	if p.addrs[a] == holder {
		delete(p.addrs, a)
		clear(p.next)
	}
	if p.macs[m] == holder {
		delete(p.macs, m)
	}
}

// Lowest gives the lowest free address of a range to holder; ok is false where none is left.
func (p *Pool) Lowest(in netip.Prefix, reserved func(netip.Addr) bool, holder string) (a netip.Addr, ok bool) {
	a, ok = p.next[in]
	if !ok {
		a = in.Masked().Addr()
	}
	for ; in.Contains(a); a = a.Next() {
		if _, taken := p.addrs[a]; taken || reserved(a) {
			continue
		}
		p.addrs[a] = holder
		p.next[in] = a.Next()
		return a, true
	}
	p.next[in] = a
	return netip.Addr{}, false
}

// ChooseMAC gives an Ethernet address to holder that is locally administered, unicast, and the same each time as long as
// nobody else has it. avoid is never chosen.
func (p *Pool) ChooseMAC(vni uint32, holder string, avoid MAC) MAC {
	for try := 0; ; try++ {
		h := fnv.New64a()
		fmt.Fprintf(h, "%d/%s/%d", vni, holder, try)
		s := h.Sum64()
		m := MAC{0x02, byte(s >> 32), byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
		if _, taken := p.macs[m]; !taken && m != avoid {
			p.macs[m] = holder
			return m
		}
	}
}
