/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The virtual router: the same address and MAC on every node.
 * Maps: rt_routes, one lookup for a packet to the router's MAC where the port's subnet has a route table;
 * ovl_locations.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/config.h"
#include "../abi/overlay.h"
#include "../abi/port.h"
#include "../abi/routing.h"
#include "addr.h"
#include "checksum.h"
#include "overlay.h"
#include "parse.h"

/* Is the frame addressed to the virtual router? */
static __always_inline bool routing_to_router(const struct packet *pkt)
{
	return mac_equal(pkt->dst_mac, config_router_mac);
}

/* Writes both MACs in one piece. */
static __always_inline int routing_write_macs(struct __sk_buff *skb, const volatile void *dst, const volatile void *src)
{
	__u8 macs[12] __attribute__((aligned(2)));

	mac_copy(macs, dst);
	mac_copy(macs + 6, src);
	return bpf_skb_store_bytes(skb, 0, macs, sizeof(macs), 0);
}

/*
 * Where the packet goes next: the longest prefix of the port's route table wins, the VPC's subnets among them; what is
 * in a subnet, or in no prefix, is found by its address. It is copied. NULL: nowhere.
 */
static __always_inline const struct location_value *routing_find(struct packet *pkt, const struct port_value *port)
{
	struct route_key key = {.bits = ROUTE_BITS_ALL, .vni = port->vni, .table = port->table};
	const struct location_value *to;

	if (port->table && routing_to_router(pkt)) {
		key.family = pkt->ethertype == ETHERTYPE_IPV6 ? 6 : 4;
		key.addr = pkt->dst;
		to = bpf_map_lookup_elem(&rt_routes, &key);
		if (to && !overlay_copy(&pkt->to, to, key.vni))
			return NULL;
		if (to && pkt->to.kind != LOCATION_CONNECTED)
			return &pkt->to;
	}
	return overlay_locate(pkt, key.vni, &pkt->dst);
}

/* Why the packet cannot go there, if it cannot. A next hop that is the sender itself would get it again and again. */
static __always_inline enum drop_reason routing_refuse(const struct packet *pkt, const struct location_value *to)
{
	if (!to || to->kind == LOCATION_NONE)
		return DROP_NO_LOCATION;
	if (to->kind == LOCATION_BLACKHOLE)
		return DROP_BLACKHOLE;
	if ((to->kind == LOCATION_PEER || to->kind == LOCATION_DEVICE) && to->ifindex == pkt->skb->ifindex)
		return DROP_TO_SELF;
	return DROP_NONE;
}

struct routing_ttl {
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
};

/* The part of the IPv4 header that a change of TTL changes. */
static __always_inline struct routing_ttl routing_new_ttl(const struct packet *pkt, __u8 ttl)
{
	struct routing_ttl part = {.ttl = ttl, .protocol = pkt->protocol};

	/* TTL and protocol are one 16-bit word of the header, TTL first. */
	part.checksum = checksum_replace(pkt->checksum, bpf_htons((pkt->ttl << 8) | pkt->protocol),
					 bpf_htons((ttl << 8) | pkt->protocol));
	return part;
}

/*
 * One step from port towards to: routed when the frame is for the router, bridged and left as it is when it is for the
 * addressee in the port's own subnet. What is written keeps the sums that a NIC may have left in the skb.
 */
static __always_inline enum drop_reason routing_step(struct packet *pkt, const struct port_value *port,
						     const struct location_value *to)
{
	struct routing_ttl part;
	__u8 hop_limit;

	if (!routing_to_router(pkt))
		return mac_equal(pkt->dst_mac, to->mac) && to->subnet == port->subnet ? DROP_NONE : DROP_DST_MAC;
	if (pkt->ttl <= 1)
		return DROP_TTL_EXPIRED;
	if (pkt->ethertype == ETHERTYPE_IPV6) {
		hop_limit = pkt->ttl - 1;
		if (routing_write_macs(pkt->skb, to->mac, config_router_mac) ||
		    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN + __builtin_offsetof(struct ipv6, hop_limit), &hop_limit,
					1, 0))
			return DROP_REWRITE;
		return DROP_NONE;
	}
	part = routing_new_ttl(pkt, pkt->ttl - 1);
	if (routing_write_macs(pkt->skb, to->mac, config_router_mac) ||
	    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN + __builtin_offsetof(struct ipv4, ttl), &part, sizeof(part), 0))
		return DROP_REWRITE;
	return DROP_NONE;
}
