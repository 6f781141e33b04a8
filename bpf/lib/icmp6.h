/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The virtual router answers ICMPv6 echo requests in place. No maps. */
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

#define ICMP6_REPLY_HOPS 64

/* The IPv6 header from the hop limit on. */
struct icmp6_ip_part {
	__u8 hop_limit;
	struct addr src;
	struct addr dst;
} __attribute__((packed));

/* Addresses change places, which no sum notices; the type changes by difference. */
static __always_inline int icmp6_reply(struct packet *pkt, struct icmp *icmp)
{
	struct icmp6_ip_part ip = {.hop_limit = ICMP6_REPLY_HOPS, .src = pkt->dst, .dst = pkt->src};

	icmp->type = ICMP6_ECHO_REPLY;
	icmp->checksum =
		checksum_replace(icmp->checksum, bpf_htons(ICMP6_ECHO_REQUEST << 8), bpf_htons(ICMP6_ECHO_REPLY << 8));
	if (routing_write_macs(pkt->skb, pkt->src_mac, config_router_mac) ||
	    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN + __builtin_offsetof(struct ipv6, hop_limit), &ip, sizeof(ip),
				0) ||
	    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN + sizeof(struct ipv6), icmp, sizeof(*icmp), 0))
		return drop(pkt, DROP_REWRITE);
	pass(pkt, PASS_ANSWERED);
	mark_deliver(pkt->skb);
	return bpf_redirect(pkt->skb->ifindex, 0);
}

/* A packet to an address of the router. Requests in fragments or with extension headers are not answered. */
static __always_inline int icmp6_answer(struct packet *pkt)
{
	struct icmp icmp;

	if (!routing_to_router(pkt))
		return drop(pkt, DROP_DST_MAC);
	if (pkt->protocol != PROTO_ICMP6 || pkt->fragment || pkt->ip_len != sizeof(struct ipv6))
		return drop(pkt, DROP_ROUTER_PROTO);
	if (pkt->total_len < sizeof(struct ipv6) + sizeof(icmp) ||
	    bpf_skb_load_bytes(pkt->skb, ETHERNET_LEN + sizeof(struct ipv6), &icmp, sizeof(icmp)))
		return drop(pkt, DROP_SHORT);
	if (icmp.type != ICMP6_ECHO_REQUEST || icmp.code)
		return drop(pkt, DROP_ROUTER_PROTO);
	return icmp6_reply(pkt, &icmp);
}
