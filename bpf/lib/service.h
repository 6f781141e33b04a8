/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Packets to and from the agent, through its tap: DHCP, and advertisements of the router. The MAC that means nothing
 * there names the port: the destination of what goes to the agent, the source of what comes from it.
 * Map: rate_buckets, one lookup for each packet to the agent.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/config.h"
#include "../abi/port.h"
#include "addr.h"
#include "drop.h"
#include "parse.h"
#include "pass.h"
#include "rate.h"
#include "wire.h"

#define SERVICE_INTERVAL 50000000ULL /* nanoseconds: 20 packets per second and port */
#define SERVICE_BURST	 20

/* A MAC that names a device: 02:00 and its index, most significant byte first. */
struct service_mac {
	__u8 local;
	__u8 zero;
	__be32 ifindex;
} __attribute__((packed, aligned(2)));

_Static_assert(sizeof(struct service_mac) == 6, "wire");

/* Hands the packet to the agent, as long as the port does not ask too often. A super-packet would be as many questions
 * as it has segments, for one token: nobody's question needs one. */
static __noinline int service_deliver(struct packet *pkt)
{
	struct service_mac mac = {.local = 2, .ifindex = bpf_htonl(pkt->skb->ifindex)};

	if (pkt->skb->gso_size || !rate_take(pkt->skb->ifindex, RATE_SERVICE, SERVICE_INTERVAL, SERVICE_BURST))
		return drop(pkt, DROP_PUNT_RATE);
	if (bpf_skb_store_bytes(pkt->skb, 0, &mac, sizeof(mac), 0))
		return drop(pkt, DROP_REWRITE);
	pass(pkt, PASS_TO_SERVICE);
	return bpf_redirect(config_service, 0);
}

/* Reads the UDP ports of a packet that has them; others stay 0. */
static __always_inline void service_udp(struct packet *pkt, struct udp *udp)
{
	if (pkt->protocol == PROTO_UDP && !pkt->later_fragment)
		bpf_skb_load_bytes(pkt->skb, ETHERNET_LEN + pkt->ip_len, udp, 4);
}

/* Ports that a DHCP server would answer from and to (RFC 2131 4.1, RFC 8415 7.2). */
static __always_inline bool service_answers(const struct udp *udp, __u16 server, __u16 client)
{
	return udp->from == bpf_htons(server) && udp->to == bpf_htons(client);
}

/* Is it a question for the agent: a client's, whole, in a header without options? */
static __always_inline bool service_asks(const struct packet *pkt, const struct udp *udp, __u16 server, __u16 client)
{
	return udp->from == bpf_htons(client) && udp->to == bpf_htons(server) && !pkt->fragment;
}

/* Does the port ask for its IPv4 address, of everybody or of the router? */
static __always_inline bool service_asks_ipv4(const struct packet *pkt, const struct port_value *port,
					      const struct udp *udp)
{
	struct addr none = {.b = {[10] = 0xff, 0xff}};

	return service_asks(pkt, udp, UDP_DHCP_SERVER, UDP_DHCP_CLIENT) && !addr_zero(&port->addr4) &&
	       (addr_equal(&pkt->src, &port->addr4) || addr_equal(&pkt->src, &none));
}

/* ff02::1:2, all servers and relay agents (RFC 8415 7.1). */
static __always_inline bool service_asks_ipv6(const struct packet *pkt, const struct udp *udp)
{
	const __u32 *dst = (const __u32 *)&pkt->dst;

	return service_asks(pkt, udp, UDP_DHCP6_SERVER, UDP_DHCP6_CLIENT) && pkt->ip_len == sizeof(struct ipv6) &&
	       addr_link_local(&pkt->src) && dst[0] == bpf_htonl(0xff020000) && !dst[1] && !dst[2] &&
	       dst[3] == bpf_htonl(0x10002);
}
