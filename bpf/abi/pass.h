/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What became of packets that were not dropped, for the whole node. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* Index of pass_count. Append only. */
enum pass_kind {
	PASS_LOCAL = 0,	       /* from a port to a port of the same node */
	PASS_TO_TUNNEL = 1,    /* from a port to another node */
	PASS_FROM_TUNNEL = 2,  /* from another node to a port */
	PASS_ANSWERED = 3,     /* turned into its own answer: ARP, echo to the router */
	PASS_CONSUMED = 4,     /* well-formed and done with, without an answer: ARP about the port's own address */
	PASS_UNCOUNTED = 5,    /* dropped, but drop_count was full */
	PASS_TO_SERVICE = 6,   /* from a port to the agent */
	PASS_FROM_SERVICE = 7, /* from the agent to a port */
	PASS_KIND_MAX = 8,
};

struct pass_value {
	__u64 packets; /* as on a real wire: segments of a super-packet count each */
	__u64 bytes;   /* layer 3, headers once per segment */
};

_Static_assert(sizeof(struct pass_value) == 16, "abi");

/* Written by bpf, read by agent; scratch. No tenant: it describes the node, and only operators read it. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct pass_value);
	__uint(max_entries, PASS_KIND_MAX);
} pass_count SEC(".maps");
