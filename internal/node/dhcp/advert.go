// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"encoding/binary"
	"math"
	"net/netip"

	"weft/internal/southbound"
)

// routerLifetime is how long the router stays the default one unless it is heard again, seconds; the most that there is
// (RFC 4861 6.2.1).
const routerLifetime = 9000

// advertisement returns a router advertisement (RFC 4861 4.2), its checksum still zero:
//
//	type 134 | code 0 | checksum | hop limit 64 | M O | router lifetime | reachable time 0 | retransmission 0
//	options: source link-layer address, MTU, prefix (on the link, no addresses of one's own making), RDNSS (RFC 8106)
//
// Addresses come by DHCPv6 (M), as does all else (O).
func (r Router) advertisement(port southbound.Port, own southbound.Interface) []byte {
	b := []byte{icmpRouterAdvert, 0, 0, 0, 64, 0xc0}
	b = binary.BigEndian.AppendUint16(b, routerLifetime)
	b = append(b, make([]byte, 8)...)
	b = append(b, 1, 1)
	b = append(b, r.MAC[:]...)
	b = append(b, 5, 1, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(r.MTU))
	prefix := netip.PrefixFrom(own.Address, own.Bits).Masked()
	b = append(b, 3, 4, byte(prefix.Bits()), 0x80)
	b = binary.BigEndian.AppendUint32(b, math.MaxUint32) // valid for ever
	b = binary.BigEndian.AppendUint32(b, math.MaxUint32) // preferred for ever
	b = append(b, 0, 0, 0, 0)
	b = append(b, prefix.Addr().AsSlice()...)
	if dns := resolvers(port, netip.Addr.Is6); len(dns) > 0 {
		b = append(b, 25, byte(1+2*len(dns)), 0, 0)
		b = binary.BigEndian.AppendUint32(b, routerLifetime)
		for _, a := range dns {
			b = append(b, a...)
		}
	}
	return b
}
