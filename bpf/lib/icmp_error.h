/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The virtual router tells a port why its packet ended, in the place of the packet (RFC 792, RFC 1191, RFC 1812 4.3).
 * The packet is counted as the drop that it is. Map: rate_buckets, one lookup for each packet that ends so.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/config.h"
#include "../abi/port.h"
#include "addr.h"
#include "checksum.h"
#include "drop.h"
#include "mark.h"
#include "parse.h"
#include "rate.h"
#include "routing.h"
#include "wire.h"

#define ICMP_INTERVAL  10000000ULL /* nanoseconds: 100 errors per second and port */
#define ICMP_BURST     20	   /* errors in one go after a pause */
#define ICMP_ERROR_TTL 64
#define ICMP_ERROR_TOS 0xc0 /* internetwork control, as RFC 1812 4.3.2.5 has it */
#define ICMP_QUOTE     128 /* bytes of the packet; more than any IPv4 header with a checksum that a NIC has to finish */

struct icmp_error_head {
	struct ipv4 ip;
	struct icmp icmp;
};

_Static_assert(sizeof(struct icmp_error_head) == 28, "wire");

/* What is put in front of the quoted packet: type, code and rest; type 0: nothing is sent. */
static __always_inline struct icmp icmp_error_for(const struct packet *pkt, const struct port_value *port,
						  enum drop_reason reason)
{
	struct icmp icmp = {};

	if (reason == DROP_TTL_EXPIRED)
		icmp.type = ICMP_TIME_EXCEEDED;
	if (reason == DROP_TOO_BIG && pkt->dont_fragment) {
		icmp.type = ICMP_UNREACHABLE;
		icmp.code = ICMP_FRAG_NEEDED;
		icmp.rest = bpf_htonl(port->mtu);
	}
	if ((reason == DROP_NO_LOCATION || reason == DROP_BLACKHOLE) && routing_to_router(pkt)) {
		icmp.type = ICMP_UNREACHABLE;
		icmp.code = ICMP_HOST;
	}
	return icmp;
}

/* An error is never answered by an error, nor is a piece of a packet other than the first (RFC 1812 4.3.2.7). Packets
 * to groups and from others than the port itself have been dropped by now. */
static __always_inline bool icmp_error_allowed(struct __sk_buff *skb, const struct packet *pkt)
{
	__u8 type;

	if (pkt->later_fragment)
		return false;
	if (pkt->protocol != PROTO_ICMP)
		return true;
	if (pkt->total_len <= pkt->ip_len || bpf_skb_load_bytes(skb, ETHERNET_LEN + pkt->ip_len, &type, 1))
		return false;
	return type != ICMP_UNREACHABLE && type != ICMP_QUENCH && type != ICMP_REDIRECT && type != ICMP_TIME_EXCEEDED &&
	       type != ICMP_PARAMETER;
}

static __always_inline bool icmp_may_send(struct __sk_buff *skb)
{
	return rate_take(skb->ifindex, RATE_ICMP, ICMP_INTERVAL, ICMP_BURST);
}

/* How much of the packet is quoted. */
static __always_inline __u32 icmp_error_quoted(const struct packet *pkt)
{
	return pkt->total_len < ICMP_QUOTE ? pkt->total_len : ICMP_QUOTE;
}

/* Cuts the packet down to the len bytes that are quoted, and makes room of size bytes in front of them. Returns the sum
 * of the quote, or an error. A global function: the verifier walks it once, by itself. */
__noinline __s64 icmp_error_quote(struct __sk_buff *skb, __u32 len, __u32 size)
{
	__u32 words[ICMP_QUOTE / 4] = {};

	if (len < sizeof(struct ipv4) || len > sizeof(words))
		return -1;
	if (bpf_skb_load_bytes(skb, ETHERNET_LEN, words, len) || bpf_skb_change_tail(skb, ETHERNET_LEN + len, 0) ||
	    bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, 0))
		return -1;
	return bpf_csum_diff(NULL, 0, words, sizeof(words), 0);
}

/* Sends what the packet has become back to its port. */
static __always_inline int icmp_error_send(struct __sk_buff *skb)
{
	mark_deliver(skb);
	return bpf_redirect(skb->ifindex, 0);
}

/* Tells the port why its packet has ended, where the rules allow it. Returns whether it is told. A global function: the
 * verifier walks it once, by itself. */
__noinline int icmp_tell(struct __sk_buff *skb, const struct packet *pkt, const struct port_value *port, __u32 reason)
{
	struct icmp_error_head head = {};
	__s64 sum;

	if (!pkt || !port)
		return false;
	head.icmp = icmp_error_for(pkt, port, reason);
	if (!head.icmp.type || !addr_to_ipv4(&port->router4) || !icmp_error_allowed(skb, pkt) || !icmp_may_send(skb))
		return false;
	sum = icmp_error_quote(skb, icmp_error_quoted(pkt), sizeof(head));
	if (sum < 0)
		return false;
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&head.icmp, sizeof(head.icmp), sum);
	head.icmp.checksum = checksum_fold(sum);
	head.ip.version_ihl = 0x45;
	head.ip.tos = ICMP_ERROR_TOS;
	head.ip.total_len = bpf_htons(sizeof(head) + icmp_error_quoted(pkt));
	head.ip.fragment = bpf_htons(IPV4_DONT_FRAGMENT);
	head.ip.ttl = ICMP_ERROR_TTL;
	head.ip.protocol = PROTO_ICMP;
	head.ip.src = addr_to_ipv4(&port->router4);
	head.ip.dst = addr_to_ipv4(&pkt->src);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&head.ip, sizeof(head.ip), 0);
	head.ip.checksum = checksum_fold(sum);
	return !routing_write_macs(skb, pkt->src_mac, config_router_mac) &&
	       !bpf_skb_store_bytes(skb, ETHERNET_LEN, &head, sizeof(head), 0);
}

/* Ends the packet for reason; the port is told, where the rules allow it. */
static __always_inline int icmp_refuse(struct packet *pkt, const struct port_value *port, enum drop_reason reason)
{
	struct __sk_buff *skb = pkt->skb; /* what is given to a global function cannot be read any more */
	int verdict = drop(pkt, reason);

	return icmp_tell(skb, pkt, port, reason) ? icmp_error_send(skb) : verdict;
}
