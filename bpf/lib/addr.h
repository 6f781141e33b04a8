/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* MAC and IP addresses: compare, copy, make. No maps. */
#pragma once

#include <linux/types.h>
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

/* The last 4 bytes, in network byte order. */
static __always_inline __be32 addr_to_ipv4(const volatile struct addr *addr)
{
	return *(const volatile __be32 *)&addr->b[12];
}
