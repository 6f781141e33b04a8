/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The virtual router answers echo requests in place. No maps. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "../abi/config.h"
#include "addr.h"
#include "checksum.h"
#include "drop.h"
#include "mark.h"
#include "parse.h"
#include "pass.h"
#include "routing.h"
#include "wire.h"

#define ICMP_REPLY_TTL 64

/* The IPv4 header from TTL on, without options. */
struct icmp_ip_part {
	struct routing_ttl ttl;
	__be32 src;
	__be32 dst;
};

/* Turns the request around. Sums are changed by difference: one that was wrong stays wrong. */
static __always_inline int icmp_reply(struct packet *pkt, struct icmp *icmp)
{
	struct icmp_ip_part ip = {
		.ttl = routing_new_ttl(pkt, ICMP_REPLY_TTL),
		.src = addr_to_ipv4(&pkt->dst),
		.dst = addr_to_ipv4(&pkt->src),
	};

	icmp->type = ICMP_ECHO_REPLY;
	icmp->checksum = checksum_replace(icmp->checksum, bpf_htons(ICMP_ECHO_REQUEST << 8), 0);
	if (routing_write_macs(pkt->skb, pkt->src_mac, config_router_mac) ||
	    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN + __builtin_offsetof(struct ipv4, ttl), &ip, sizeof(ip), 0) ||
	    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN + sizeof(struct ipv4), icmp, sizeof(*icmp), 0))
		return drop(pkt, DROP_REWRITE);
	pass(pkt, PASS_ANSWERED);
	mark_deliver(pkt->skb);
	return bpf_redirect(pkt->skb->ifindex, 0);
}

/* A packet to an address of the router. Requests in fragments or with IP options are not answered. */
static __always_inline int icmp_answer(struct packet *pkt)
{
	struct icmp icmp;

	if (!routing_to_router(pkt))
		return drop(pkt, DROP_DST_MAC);
	if (pkt->protocol != PROTO_ICMP || pkt->fragment || pkt->ip_len != sizeof(struct ipv4))
		return drop(pkt, DROP_ROUTER_PROTO);
	if (bpf_skb_load_bytes(pkt->skb, ETHERNET_LEN + sizeof(struct ipv4), &icmp, sizeof(icmp)))
		return drop(pkt, DROP_SHORT);
	if (icmp.type != ICMP_ECHO_REQUEST || icmp.code)
		return drop(pkt, DROP_ROUTER_PROTO);
	return icmp_reply(pkt, &icmp);
}
