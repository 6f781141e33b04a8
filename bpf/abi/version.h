/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The version of everything in this folder; pins live in .../v<ABI_VERSION>/. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define ABI_VERSION 3

struct abi_value {
	__u32 version; /* ABI_VERSION of the agent that made the maps */
};

_Static_assert(sizeof(struct abi_value) == 4, "abi");

/* Written by agent when it makes the maps, read by agent; rebuildable. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct abi_value);
	__uint(max_entries, 1);
} abi_info SEC(".maps");

/* Makes the number visible to Go. */
const volatile __u32 abi_version = ABI_VERSION;
