/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* How many ICMP errors a port may still cause. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "port.h"

/* A token bucket as one number (GCRA): it is full when the time has come, and each error puts it one interval on. */
struct icmp_bucket {
	__u64 full_at; /* nanoseconds of bpf_ktime_get_ns */
};

_Static_assert(sizeof(struct icmp_bucket) == 8, "abi");

/* Written by bpf alone, by compare and swap; scratch. By device, as port_info. Size: set by the agent before load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct port_key);
	__type(value, struct icmp_bucket);
	__uint(max_entries, 1);
} icmp_buckets SEC(".maps");
