/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Routes of a VPC's route tables, and what a port may send from beside its own addresses. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "addr.h"
#include "overlay.h"

/* Begins with the number of bits that count, as the kernel's tries have it. */
struct route_key {
	__u32 bits; /* 96 + bits of the prefix in the 16-byte form; host byte order */
	__u32 vni;
	__u32 table;  /* number inside the VPC */
	__u32 family; /* 4 or 6: ::/0 is not for IPv4 */
	struct addr addr;
};

_Static_assert(sizeof(struct route_key) == 32, "abi");

#define ROUTE_BITS_ALL 224 /* of an address */

/* Written by agent, read by bpf; rebuildable. Values are locations: the next hop, LOCATION_BLACKHOLE, or
 * LOCATION_CONNECTED for the subnets of the VPC. Size: set by the agent before load. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route_key);
	__type(value, struct location_value);
	__uint(max_entries, 1);
} rt_routes SEC(".maps");

struct source_key {
	__u32 bits; /* 64 + bits of the prefix in the 16-byte form; host byte order */
	__u32 ifindex;
	__u32 family; /* 4 or 6 */
	struct addr addr;
};

_Static_assert(sizeof(struct source_key) == 28, "abi");

#define SOURCE_BITS_ALL 192 /* of an address */

struct source_value {
	__u32 allowed; /* 1 */
};

_Static_assert(sizeof(struct source_value) == 4, "abi");

/* Written by agent, read by bpf; rebuildable. Key: a port by its device, as in port_info. Size: set by the agent before
 * load. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct source_key);
	__type(value, struct source_value);
	__uint(max_entries, 1);
} port_sources SEC(".maps");
