/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The virtual router tells a port why its IPv6 packet ended, in the place of the packet (RFC 4443, RFC 8201).
 * As in icmp_error.h, whose limits and quote these are. Map: rate_buckets, one lookup for each packet that ends so.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/port.h"
#include "addr.h"
#include "checksum.h"
#include "drop.h"
#include "icmp_error.h"
#include "parse.h"
#include "routing.h"
#include "wire.h"

struct icmp6_error_head {
	struct ipv6 ip;
	struct icmp icmp;
};

_Static_assert(sizeof(struct icmp6_error_head) == 48, "wire");

/* What is put in front of the quoted packet: type, code and rest; type 0: nothing is sent. */
static __always_inline struct icmp icmp6_error_for(const struct packet *pkt, const struct port_value *port,
						   enum drop_reason reason)
{
	struct icmp icmp = {};

	if (reason == DROP_TTL_EXPIRED)
		icmp.type = ICMP6_TIME_EXCEEDED;
	if (reason == DROP_TOO_BIG) {
		icmp.type = ICMP6_TOO_BIG;
		icmp.rest = bpf_htonl(port->mtu);
	}
	if ((reason == DROP_NO_LOCATION || reason == DROP_BLACKHOLE) && routing_to_router(pkt))
		icmp.type = ICMP6_UNREACHABLE; /* code 0: no route */
	return icmp;
}

/* No error follows an error or a redirect, nor a piece of a packet other than the first (RFC 4443 2.4 e). Packets to
 * groups and from others than the port have been dropped by now; what is link-local does not get so far. */
static __always_inline bool icmp6_error_allowed(struct __sk_buff *skb, const struct packet *pkt)
{
	__u8 type;

	if (pkt->later_fragment || addr_link_local(&pkt->src))
		return false;
	if (pkt->protocol != PROTO_ICMP6)
		return true;
	if (pkt->total_len <= pkt->ip_len || bpf_skb_load_bytes(skb, ETHERNET_LEN + pkt->ip_len, &type, 1))
		return false;
	return type >= ICMP6_MESSAGES && type != ND_REDIRECT;
}

/* Tells the port why its packet has ended, where the rules allow it. Returns whether it is told. A global function: the
 * verifier walks it once, by itself. */
__noinline int icmp6_tell(struct __sk_buff *skb, const struct packet *pkt, const struct port_value *port, __u32 reason)
{
	struct icmp6_error_head head = {};
	__u32 len;
	__s64 sum;

	if (!pkt || !port)
		return false;
	len = sizeof(head.icmp) + icmp_error_quoted(pkt);
	head.icmp = icmp6_error_for(pkt, port, reason);
	if (!head.icmp.type || addr_zero(&port->router6) || !icmp6_error_allowed(skb, pkt) || !icmp_may_send(skb))
		return false;
	sum = icmp_error_quote(skb, icmp_error_quoted(pkt), sizeof(head));
	if (sum < 0)
		return false;
	__builtin_memcpy(head.ip.src, &port->router6, sizeof(head.ip.src));
	__builtin_memcpy(head.ip.dst, &pkt->src, sizeof(head.ip.dst));
	sum = bpf_csum_diff(NULL, 0, (__be32 *)head.ip.src, sizeof(head.ip.src) + sizeof(head.ip.dst), sum);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&head.icmp, sizeof(head.icmp), sum);
	head.icmp.checksum = checksum_message(sum, len, PROTO_ICMP6);
	head.ip.version_class[0] = 0x60;
	head.ip.payload_len = bpf_htons(len);
	head.ip.next = PROTO_ICMP6;
	head.ip.hop_limit = ICMP_ERROR_TTL;
	return !routing_write_macs(skb, pkt->src_mac, config_router_mac) &&
	       !bpf_skb_store_bytes(skb, ETHERNET_LEN, &head, sizeof(head), 0);
}

/* Ends the packet for reason; the port is told, where the rules allow it. */
static __always_inline int icmp6_refuse(struct packet *pkt, const struct port_value *port, enum drop_reason reason)
{
	struct __sk_buff *skb = pkt->skb; /* what is given to a global function cannot be read any more */
	int verdict = drop(pkt, reason);

	return icmp6_tell(skb, pkt, port, reason) ? icmp_error_send(skb) : verdict;
}
