/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What differs from node to node, set by the agent before load. */
#pragma once

#include <linux/types.h>
#include "addr.h"

/* Tunnel end of this node: source of the outer header. */
const volatile struct addr config_tunnel;

/* 1: the tunnel's outer header is IPv6. */
const volatile __u8 config_tunnel_ipv6;

/* Interface index of the VXLAN device. */
const volatile __u32 config_uplink;

/* Interface index of the tap to the agent. */
const volatile __u32 config_service;

/* MAC of the virtual router, the same on every node. */
const volatile __u8 config_router_mac[6] __attribute__((aligned(2)));
