/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Where the addresses of a VPC live, and which nodes may send its packets. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "addr.h"

struct location_key {
	__u32 vni;
	struct addr addr;
};

_Static_assert(sizeof(struct location_key) == 20, "abi");

enum location_kind {
	LOCATION_NONE = 0,
	LOCATION_PEER = 1,   /* at this node, behind a veth whose other end is in another namespace: redirect_peer */
	LOCATION_DEVICE = 2, /* at this node, behind a tap or another device: redirect */
	LOCATION_REMOTE = 3, /* at another node, by tunnel */
	LOCATION_ROUTER = 4, /* the virtual router itself, on every node */
	/* Of routes only. */
	LOCATION_BLACKHOLE = 5, /* what goes there is dropped */
	LOCATION_CONNECTED = 6, /* a subnet of the VPC: ovl_locations has its addresses */
};

/* The kernel gives the room of an entry that goes to another one at once, also under a program that looks at it. So a
 * value says first and last whose it is; lib/overlay.h reads it. */
struct location_value {
	__u32 vni;	    /* of the key */
	struct addr tunnel; /* LOCATION_REMOTE: tunnel end of the node */
	__u32 ifindex;	    /* LOCATION_PEER, LOCATION_DEVICE: the port's device in the node's namespace */
	__u32 subnet;	    /* number inside the VPC */
	__u16 node;	    /* number of the node */
	__u8 kind;	    /* enum location_kind */
	__u8 _pad;
	__u8 mac[6];
	__u8 _pad2[2];
	__u32 vni_again;
};

_Static_assert(sizeof(struct location_value) == 44, "abi");
_Static_assert(__builtin_offsetof(struct location_value, mac) == 32, "abi");

/* A node that may send packets of a VNI, by its tunnel end. */
struct sender_key {
	__u32 vni;
	struct addr addr;
};

_Static_assert(sizeof(struct sender_key) == 20, "abi");

struct sender_value {
	__u32 tenant; /* owner of the VNI, for counters */
	__u16 node;   /* number of the node */
	__u16 _pad;
};

_Static_assert(sizeof(struct sender_value) == 8, "abi");

/* Written by agent, read by bpf; rebuildable. Size: set by the agent before load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct location_key);
	__type(value, struct location_value);
	__uint(max_entries, 1);
} ovl_locations SEC(".maps");

/* Written by agent, read by bpf; rebuildable. Size: set by the agent before load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct sender_key);
	__type(value, struct sender_value);
	__uint(max_entries, 1);
} ovl_senders SEC(".maps");
