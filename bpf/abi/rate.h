/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* How much a port may still cause that costs more than forwarding. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* What is limited, each by itself. Append only. */
enum rate_class {
	RATE_ICMP = 0,	  /* ICMP errors to the port */
	RATE_SERVICE = 1, /* packets to the agent */
};

/* Key: a port by its device, as in port_info. */
struct rate_key {
	__u32 ifindex;
	__u32 class; /* enum rate_class */
};

_Static_assert(sizeof(struct rate_key) == 8, "abi");

/* A token bucket as one number (GCRA): it is full when the time has come, and each packet puts it one interval on. */
struct rate_value {
	__u64 full_at; /* nanoseconds of bpf_ktime_get_ns */
};

_Static_assert(sizeof(struct rate_value) == 8, "abi");

/* Written by bpf alone, by compare and swap; scratch. Size: set by the agent before load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct rate_key);
	__type(value, struct rate_value);
	__uint(max_entries, 1);
} rate_buckets SEC(".maps");
