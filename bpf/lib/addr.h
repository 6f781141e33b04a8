/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* MAC and IP addresses: compare, copy, make. No maps. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <stdbool.h>
#include "../abi/addr.h"

/* MACs lie at even addresses everywhere here; three 16-bit words each. */
static __always_inline bool mac_equal(const volatile void *a, const volatile void *b)
{
	const volatile __u16 *x = a, *y = b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline void mac_copy(void *to, const volatile void *from)
{
	const volatile __u16 *source = from;
	__u16 *target = to;

	target[0] = source[0];
	target[1] = source[1];
	target[2] = source[2];
}

static __always_inline bool mac_broadcast(const __u8 *mac)
{
	return (mac[0] & mac[1] & mac[2] & mac[3] & mac[4] & mac[5]) == 0xff;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

/* The 16-byte form of an IPv4 address in network byte order. */
static __always_inline struct addr addr_from_ipv4(const void *ipv4)
{
	struct addr addr = {};

	addr.b[10] = 0xff;
	addr.b[11] = 0xff;
	__builtin_memcpy(&addr.b[12], ipv4, 4);
	return addr;
}

static __always_inline bool addr_zero(const struct addr *a)
{
	const __u32 *x = (const __u32 *)a;

	return !(x[0] | x[1] | x[2] | x[3]);
}

/* An IPv4 address in the 16-byte form. */
static __always_inline bool addr_is_ipv4(const struct addr *a)
{
	const __u32 *x = (const __u32 *)a;

	return !x[0] && !x[1] && x[2] == bpf_htonl(0xffff);
}

static __always_inline __u32 addr_family(const struct addr *a)
{
	return addr_is_ipv4(a) ? 4 : 6;
}

/* fe80::/10 */
static __always_inline bool addr_link_local(const struct addr *a)
{
	return a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

/* No address of one station on a wire: this network, loopback, link-local, groups, and what is reserved (RFC 6890). */
static __always_inline bool addr_special(const struct addr *a)
{
	if (addr_is_ipv4(a))
		return !a->b[12] || a->b[12] == 127 || (a->b[12] == 169 && a->b[13] == 254) || a->b[12] >= 224;
	return !a->b[0] || a->b[0] == 0xff || addr_link_local(a);
}

/* The link-local address of a MAC: EUI-64 (RFC 4291, appendix A). */
static __always_inline struct addr addr_of_mac(const __u8 *mac)
{
	struct addr addr = {.b = {0xfe, 0x80, [8] = mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}};

	return addr;
}

/* fe80::1, the link-local address of the virtual router in every subnet. */
static __always_inline bool addr_is_router(const struct addr *a)
{
	const __u32 *x = (const __u32 *)a;

	return x[0] == bpf_htonl(0xfe800000) && !x[1] && !x[2] && x[3] == bpf_htonl(1);
}

/* The last 4 bytes, in network byte order. */
static __always_inline __be32 addr_to_ipv4(const volatile struct addr *addr)
{
	return *(const volatile __be32 *)&addr->b[12];
}
