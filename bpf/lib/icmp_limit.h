/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* How often the router tells a port of an error. Map: icmp_buckets, one lookup for each packet that ends in an error.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/icmp.h"

#define ICMP_INTERVAL 10000000ULL /* nanoseconds: 100 errors per second and port */
#define ICMP_BURST    20	  /* errors in one go after a pause */

/* Takes a token. Two CPUs that take the same one at a time: one of them gets none. */
static __always_inline bool icmp_may_send(__u32 ifindex)
{
	struct port_key key = {.ifindex = ifindex};
	struct icmp_bucket first = {}, *bucket = bpf_map_lookup_elem(&icmp_buckets, &key);
	__u64 now = bpf_ktime_get_ns(), was, base;

	if (!bucket) {
		first.full_at = now + ICMP_INTERVAL;
		return !bpf_map_update_elem(&icmp_buckets, &key, &first, BPF_NOEXIST);
	}
	was = bucket->full_at;
	base = was > now ? was : now;
	if (base - now > (ICMP_BURST - 1) * ICMP_INTERVAL)
		return false;
	return __sync_val_compare_and_swap(&bucket->full_at, was, base + ICMP_INTERVAL) == was;
}
