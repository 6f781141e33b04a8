// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * from_port: tcx ingress of a port's device in the node's namespace; packets that the workload sends.
 *
 * Lookups per packet: 2 (port_info, ovl_locations), the same for the first packet of a flow and for the others.
 * One more (icmp_buckets) for a packet that ends in an ICMP error.
 * Ends in: redirect to a port, to the tunnel, or back to the port as an answer; or drop.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/arp.h"
#include "lib/drop.h"
#include "lib/icmp.h"
#include "lib/icmp_error.h"
#include "lib/icmp6.h"
#include "lib/mark.h"
#include "lib/nd.h"
#include "lib/offload.h"
#include "lib/overlay.h"
#include "lib/parse.h"
#include "lib/port.h"
#include "lib/routing.h"

static __always_inline int from_port_ipv4(struct packet *pkt, const struct port_value *port)
{
	const struct location_value *to;
	enum drop_reason reason;

	reason = parse_ipv4(pkt);
	if (reason)
		return drop(pkt, reason);
	if (offload_before(pkt->skb, ETHERNET_LEN + pkt->ip_len))
		return drop(pkt, DROP_CHECKSUM);
	reason = port_check_ipv4(pkt, port);
	if (reason)
		return icmp_refuse(pkt, port, reason);
	to = overlay_locate(port->vni, &pkt->dst);
	if (!to || to->kind == LOCATION_NONE)
		return icmp_refuse(pkt, port, DROP_NO_LOCATION);
	if (to->kind == LOCATION_ROUTER)
		return icmp_answer(pkt);
	reason = routing_step(pkt, port, to);
	if (reason)
		return icmp_refuse(pkt, port, reason);
	if (to->kind == LOCATION_REMOTE)
		return overlay_to_tunnel(pkt, port->vni, to);
	return overlay_to_local(pkt, to, PASS_LOCAL);
}

static __always_inline int from_port_ipv6(struct packet *pkt, const struct port_value *port)
{
	const struct location_value *to;
	int reason;
	__u8 type;

	if (addr_zero(&port->addr6))
		return drop(pkt, DROP_IPV6_UNSUPPORTED);
	reason = parse_ipv6(pkt);
	if (reason)
		return drop(pkt, reason);
	reason = parse_extensions(pkt);
	if (reason)
		return drop(pkt, reason);
	if (offload_before(pkt->skb, ETHERNET_LEN + pkt->ip_len))
		return drop(pkt, DROP_CHECKSUM);
	if (nd_is(pkt, &type))
		return nd_answer(pkt, port, type);
	reason = port_check_ipv6(pkt, port);
	if (reason)
		return drop(pkt, reason);
	if (addr_is_router(&pkt->dst))
		return icmp6_answer(pkt);
	to = overlay_locate(port->vni, &pkt->dst);
	if (!to || to->kind == LOCATION_NONE)
		return drop(pkt, DROP_NO_LOCATION);
	if (to->kind == LOCATION_ROUTER)
		return icmp6_answer(pkt);
	if (addr_link_local(&pkt->src))
		return drop(pkt, DROP_LINK_LOCAL);
	reason = routing_step(pkt, port, to);
	if (reason)
		return drop(pkt, reason);
	if (to->kind == LOCATION_REMOTE)
		return overlay_to_tunnel(pkt, port->vni, to);
	return overlay_to_local(pkt, to, PASS_LOCAL);
}

SEC("tcx/ingress")
int from_port(struct __sk_buff *skb)
{
	struct packet pkt = {.skb = skb};
	const struct port_value *port;
	enum drop_reason reason;

	mark_clear(skb);
	port = port_lookup(skb->ifindex);
	if (!port)
		return drop(&pkt, DROP_PORT_UNKNOWN);
	pkt.tenant = port->tenant;
	reason = parse_ethernet(&pkt);
	if (reason)
		return drop(&pkt, reason);
	if (!mac_equal(pkt.src_mac, port->mac))
		return drop(&pkt, DROP_SRC_MAC_SPOOF);
	if (pkt.ethertype == ETHERTYPE_ARP)
		return arp_answer(&pkt, port);
	if (pkt.ethertype == ETHERTYPE_IPV6)
		return from_port_ipv6(&pkt, port);
	return from_port_ipv4(&pkt, port);
}
