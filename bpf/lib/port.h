/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Local ports, and what they may send. Maps: port_info, one lookup per packet from a port; port_sources, one for a
 * packet whose source is not the port's own address, where the port may have others.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/port.h"
#include "../abi/routing.h"
#include "addr.h"
#include "parse.h"

static __always_inline const struct port_value *port_lookup(__u32 ifindex)
{
	struct port_key key = {.ifindex = ifindex};

	return bpf_map_lookup_elem(&port_info, &key);
}

/* Is it still the device's? The kernel may have given its room to another port's value, see abi/port.h. After this,
 * nothing of it may be read. */
static __always_inline bool port_lasts(const struct port_value *port, __u32 ifindex)
{
	const volatile struct port_value *now = port;

	barrier();
	return now->ifindex == ifindex && now->ifindex_again == ifindex;
}

/* May the port send from the address, which is not its own? Addresses that are nobody's on a wire never count. A global
 * function: the verifier walks it once, by itself. */
__noinline int port_may_send_from(struct __sk_buff *skb, const struct port_value *port, const struct addr *addr)
{
	struct source_key key = {.bits = SOURCE_BITS_ALL, .ifindex = skb->ifindex};

	if (!port || !addr || !(port->flags & PORT_SOURCES) || addr_special(addr))
		return false;
	key.family = addr_family(addr);
	key.addr = *addr;
	return bpf_map_lookup_elem(&port_sources, &key) != NULL;
}

/* May the port send this IPv4 packet? */
static __always_inline enum drop_reason port_check_ipv4(struct packet *pkt, const struct port_value *port)
{
	if (mac_broadcast(pkt->dst_mac))
		return DROP_BROADCAST;
	if (pkt->dst_mac[0] & 1)
		return DROP_MULTICAST;
	if (!addr_equal(&pkt->src, &port->addr4) && !port_may_send_from(pkt->skb, port, &pkt->src))
		return DROP_SRC_IP_SPOOF;
	if (pkt->dst.b[12] >= 224 && pkt->dst.b[12] < 240)
		return DROP_MULTICAST;
	if (addr_to_ipv4(&pkt->dst) == 0xffffffff)
		return DROP_BROADCAST;
	if (addr_equal(&pkt->dst, &port->addr4))
		return DROP_TO_SELF;
	if (packet_segment_len(pkt) > port->mtu)
		return DROP_TOO_BIG;
	return DROP_NONE;
}

/*
 * Is the address one that the port may speak IPv6 from: its own, or any link-local one but the router's? Those never
 * leave the link, on which there are only the port and the router; stacks make them up as they like (RFC 7217).
 */
static __always_inline bool port_has_ipv6(const struct port_value *port, const struct addr *addr)
{
	return addr_equal(addr, &port->addr6) || (addr_link_local(addr) && !addr_is_router(addr));
}

/* May the port send this IPv6 packet? Link-local addresses speak with the router only: they have no location. */
static __always_inline enum drop_reason port_check_ipv6(struct packet *pkt, const struct port_value *port)
{
	if (pkt->dst_mac[0] & 1)
		return DROP_MULTICAST;
	if (!port_has_ipv6(port, &pkt->src) && !port_may_send_from(pkt->skb, port, &pkt->src))
		return DROP_SRC_IP_SPOOF;
	if (pkt->dst.b[0] == 0xff)
		return DROP_MULTICAST;
	if (addr_equal(&pkt->dst, &port->addr6))
		return DROP_TO_SELF;
	if (addr_link_local(&pkt->dst) && !addr_is_router(&pkt->dst))
		return DROP_LINK_LOCAL;
	if (packet_segment_len(pkt) > port->mtu)
		return DROP_TOO_BIG;
	return DROP_NONE;
}
