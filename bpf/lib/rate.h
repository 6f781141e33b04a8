/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* How often a port may cause what costs more than forwarding. Map: rate_buckets, one lookup for each such packet. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/rate.h"

/* Takes a token: burst of them in one go after a pause, then one each interval (nanoseconds). Two CPUs that take the
 * same one at a time: one of them gets none. */
static __always_inline bool rate_take(__u32 ifindex, enum rate_class class, __u64 interval, __u32 burst)
{
	struct rate_key key = {.ifindex = ifindex, .class = class};
	struct rate_value first = {}, *bucket = bpf_map_lookup_elem(&rate_buckets, &key);
	__u64 now = bpf_ktime_get_ns(), was, base;

	if (!bucket) {
		first.full_at = now + interval;
		return !bpf_map_update_elem(&rate_buckets, &key, &first, BPF_NOEXIST);
	}
	was = bucket->full_at;
	base = was > now ? was : now;
	if (base - now > (burst - 1) * interval)
		return false;
	return __sync_val_compare_and_swap(&bucket->full_at, was, base + interval) == was;
}
