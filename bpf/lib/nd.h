/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Neighbor Discovery is answered at the first hop, from what is known. Map: ovl_locations, at most one lookup. */
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
#include "overlay.h"
#include "parse.h"
#include "pass.h"
#include "port.h"
#include "service.h"
#include "wire.h"

#define ND_OPTIONS 4 /* that are looked at; a message with more is dropped */

/* Is it about the link rather than to somebody: Neighbor Discovery, or group membership? */
static __always_inline bool nd_is(const struct packet *pkt, __u8 *type)
{
	if (pkt->protocol != PROTO_ICMP6 || pkt->later_fragment || pkt->total_len <= pkt->ip_len ||
	    bpf_skb_load_bytes(pkt->skb, ETHERNET_LEN + pkt->ip_len, type, 1))
		return false;
	return (*type >= ICMP6_MLD_QUERY && *type <= ND_REDIRECT) || *type == ICMP6_MLD2_REPORT;
}

/* Every link-layer address in the options, which lie from layer 3's byte at to byte end, is the port's. A global
 * function: the verifier walks it once, by itself. */
__noinline int nd_check_options(struct __sk_buff *skb, const struct port_value *port, __u32 at, __u32 end)
{
	struct nd_option option;

	if (!port)
		return DROP_ND_SPOOF;

	for (int i = 0; i < ND_OPTIONS; i++) {
		if (at == end)
			return DROP_NONE;
		if (at + sizeof(option) > end)
			return DROP_ND_MALFORMED;
		if (bpf_skb_load_bytes(skb, ETHERNET_LEN + at, &option, sizeof(option)))
			return DROP_SHORT;
		if (!option.len)
			return DROP_ND_MALFORMED;
		if ((option.type == ND_SOURCE_MAC || option.type == ND_TARGET_MAC) &&
		    (option.len != 1 || !mac_equal(option.mac, port->mac)))
			return DROP_ND_SPOOF;
		at += option.len * 8;
	}
	return at == end ? DROP_NONE : DROP_ND_MALFORMED;
}

struct nd_answer_message {
	struct nd nd;
	struct nd_option option;
};

/* Turns the question into the answer "target is at mac". Who probes has no address yet: all nodes are told. */
static __noinline int nd_reply(struct packet *pkt, struct nd *nd, const volatile __u8 *mac, __u32 flags)
{
	struct nd_answer_message answer = {
		.nd.icmp.type = ND_NEIGHBOR_ADVERT, .option.type = ND_TARGET_MAC, .option.len = 1};
	__u8 macs[12] __attribute__((aligned(2))) = {0x33, 0x33, 0, 0, 0, 1};
	struct ipv6 ip = {
		.version_class[0] = 0x60,
		.payload_len = bpf_htons(sizeof(answer)),
		.next = PROTO_ICMP6,
		.hop_limit = ND_HOP_LIMIT,
	};
	struct wire_size size = wire_size(pkt->skb); /* of the question */
	__s64 sum;

	__builtin_memcpy(ip.src, nd->target, sizeof(ip.src));
	if (addr_zero(&pkt->src)) {
		ip.dst[0] = 0xff;
		ip.dst[1] = 0x02;
		ip.dst[15] = 1;
	} else {
		__builtin_memcpy(ip.dst, &pkt->src, sizeof(ip.dst));
		mac_copy(macs, pkt->src_mac);
		flags |= ND_SOLICITED;
	}
	mac_copy(macs + 6, mac);
	answer.nd.icmp.rest = bpf_htonl(flags);
	__builtin_memcpy(answer.nd.target, nd->target, sizeof(answer.nd.target));
	mac_copy(answer.option.mac, mac);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)ip.src, sizeof(ip.src) + sizeof(ip.dst), 0);
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&answer, sizeof(answer), sum);
	answer.nd.icmp.checksum = checksum_message(sum, sizeof(answer), PROTO_ICMP6);
	if (bpf_skb_change_tail(pkt->skb, ETHERNET_LEN + sizeof(ip) + sizeof(answer), 0) ||
	    bpf_skb_store_bytes(pkt->skb, 0, macs, sizeof(macs), 0) ||
	    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN, &ip, sizeof(ip), 0) ||
	    bpf_skb_store_bytes(pkt->skb, ETHERNET_LEN + sizeof(ip), &answer, sizeof(answer), 0))
		return drop(pkt, DROP_REWRITE);
	pass_add(PASS_ANSWERED, &size);
	mark_deliver(pkt->skb);
	return bpf_redirect(pkt->skb->ifindex, 0);
}

/* "Who has target?" A probe for the port's own address (RFC 4862 5.4) is heard and not answered, as in ARP. */
static __always_inline int nd_solicit(struct packet *pkt, const struct port_value *port, struct nd *nd)
{
	const struct location_value *location;
	struct addr target;

	__builtin_memcpy(&target, nd->target, sizeof(target));
	if (addr_equal(&target, &port->addr6) || (addr_zero(&pkt->src) && port_has_ipv6(port, &target)))
		return consume(pkt);
	if (addr_is_router(&target))
		return nd_reply(pkt, nd, config_router_mac, ND_ROUTER | ND_OVERRIDE);
	if (addr_link_local(&target)) /* next hops behind the tunnel have such locations; nobody is to speak to them */
		return drop(pkt, DROP_ND_UNKNOWN);
	location = overlay_locate(pkt, port->vni, &target);
	if (!location)
		return drop(pkt, DROP_ND_UNKNOWN);
	if (location->kind == LOCATION_ROUTER)
		return nd_reply(pkt, nd, config_router_mac, ND_ROUTER | ND_OVERRIDE);
	if (location->kind == LOCATION_NONE || location->subnet != port->subnet)
		return drop(pkt, DROP_ND_UNKNOWN);
	return nd_reply(pkt, nd, location->mac, ND_OVERRIDE);
}

/* Has the message a header of len bytes in front of its options, and come straight from its sender (RFC 4861 6.1, 7.1)?
 */
static __always_inline bool nd_whole(const struct packet *pkt, __u32 len)
{
	return pkt->ttl == ND_HOP_LIMIT && !pkt->fragment && pkt->ip_len == sizeof(struct ipv6) &&
	       pkt->total_len >= sizeof(struct ipv6) + len;
}

/* Questions and claims about neighbours. */
static __always_inline int nd_neighbor(struct packet *pkt, const struct port_value *port, __u8 type)
{
	struct addr target;
	int reason;
	struct nd nd;

	if (!nd_whole(pkt, sizeof(nd)))
		return drop(pkt, DROP_ND_MALFORMED);
	if (bpf_skb_load_bytes(pkt->skb, ETHERNET_LEN + sizeof(struct ipv6), &nd, sizeof(nd)))
		return drop(pkt, DROP_SHORT);
	__builtin_memcpy(&target, nd.target, sizeof(target));
	if (nd.icmp.code || target.b[0] == 0xff || addr_is_ipv4(&target))
		return drop(pkt, DROP_ND_MALFORMED);
	reason = nd_check_options(pkt->skb, port, sizeof(struct ipv6) + sizeof(nd), pkt->total_len);
	if (reason)
		return drop(pkt, reason);
	if (type == ND_NEIGHBOR_SOLICIT)
		return nd_solicit(pkt, port, &nd);
	if (addr_zero(&pkt->src) || (!port_has_ipv6(port, &target) && !port_may_send_from(pkt->skb, port, &target)))
		return drop(pkt, DROP_ND_SPOOF);
	return consume(pkt);
}

/* "Is there a router?" goes to the agent, where it is asked of all routers, or of this one. */
static __always_inline int nd_router_solicit(struct packet *pkt, const struct port_value *port)
{
	const __u32 *dst = (const __u32 *)&pkt->dst;
	int reason;

	if (!nd_whole(pkt, sizeof(struct icmp)))
		return drop(pkt, DROP_ND_MALFORMED);
	reason = nd_check_options(pkt->skb, port, sizeof(struct ipv6) + sizeof(struct icmp), pkt->total_len);
	if (reason)
		return drop(pkt, reason);
	if (!addr_is_router(&pkt->dst) &&
	    (dst[0] != bpf_htonl(0xff020000) || dst[1] || dst[2] || dst[3] != bpf_htonl(2)))
		return drop(pkt, DROP_ROUTER_SOLICIT);
	return service_deliver(pkt);
}

/* Ends a message about the link. */
static __always_inline int nd_answer(struct packet *pkt, const struct port_value *port, __u8 type)
{
	if (type == ND_ROUTER_ADVERT || type == ND_REDIRECT)
		return drop(pkt, DROP_RA_GUARD);
	if (!addr_zero(&pkt->src) && !port_has_ipv6(port, &pkt->src) && !port_may_send_from(pkt->skb, port, &pkt->src))
		return drop(pkt, DROP_ND_SPOOF);
	if (type == ND_ROUTER_SOLICIT)
		return nd_router_solicit(pkt, port);
	if (type == ICMP6_MLD_QUERY)
		return drop(pkt, DROP_MULTICAST);
	if (type == ND_NEIGHBOR_SOLICIT || type == ND_NEIGHBOR_ADVERT)
		return nd_neighbor(pkt, port, type);
	return consume(pkt); /* group memberships: there are no groups to join */
}
