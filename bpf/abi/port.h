/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What the packet path knows of a local port, by the index of its device. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "addr.h"

/* Key: interface index in the node's namespace. No tenant: a device belongs to one port, and only the agent writes it.
 */
struct port_key {
	__u32 ifindex;
};

_Static_assert(sizeof(struct port_key) == 4, "abi");

#define PORT_SOURCES 1 /* the port may send from what port_sources has, too */

/* As in overlay.h, the value says first and last whose it is. */
struct port_value {
	__u32 ifindex; /* the key */
	__u32 vni;     /* 24 bits */
	__u32 tenant;
	__u32 subnet;	     /* number inside the VPC */
	__u32 mtu;	     /* layer 3, bytes */
	__u32 table;	     /* number of the subnet's route table inside the VPC; 0: none */
	__u32 flags;	     /* PORT_SOURCES */
	struct addr addr4;   /* all zero: the port has no IPv4 address */
	struct addr addr6;   /* all zero: the port has no IPv6 address */
	struct addr router4; /* of the port's subnet, source of ICMP errors; all zero: none are sent */
	struct addr router6; /* the same for IPv6 */
	__u8 mac[6];
	__u8 _pad[2];
	__u32 ifindex_again;
};

_Static_assert(sizeof(struct port_value) == 104, "abi");
_Static_assert(__builtin_offsetof(struct port_value, mac) == 92, "abi");

/* Written by agent, read by bpf; rebuildable. Size: set by the agent before load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port_key);
	__type(value, struct port_value);
	__uint(max_entries, 1);
} port_info SEC(".maps");
