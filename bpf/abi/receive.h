/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What the programs were given, for the whole node: the other side of the account of pass.h and drop.h. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* Index of receive_count. Append only. */
enum receive_kind {
	RECEIVE_FROM_PORT = 0,	  /* from a port's device */
	RECEIVE_FROM_UPLINK = 1,  /* from the tunnel device */
	RECEIVE_FROM_SERVICE = 2, /* from the agent */
	RECEIVE_FROM_HOST = 3,	  /* to a port's device, neither from a program nor from the agent */
	RECEIVE_KIND_MAX = 4,
};

struct receive_value {
	__u64 packets; /* as on a real wire: segments of a super-packet count each */
	__u64 bytes;   /* layer 3, headers once per segment */
	__u64 frames;  /* as the kernel counts: a super-packet is one */
};

_Static_assert(sizeof(struct receive_value) == 24, "abi");

/* Written by bpf, read by agent; scratch. No tenant: it describes the node, and only operators read it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct receive_value);
	__uint(max_entries, RECEIVE_KIND_MAX);
} receive_count SEC(".maps");
