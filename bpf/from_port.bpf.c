// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * from_port: tcx ingress of a port's device in the node's namespace; packets that the workload sends.
 *
 * Lookups per packet: 2 (port_info, ovl_locations), the same for the first packet of a flow and for the others.
 * One more where the port's subnet has a route table (rt_routes), for a packet from an address that the port may use
 * beside its own (port_sources), for one that ends in an ICMP error or goes to the agent (rate_buckets). Ends in:
 * redirect to a port, to the tunnel, to the agent, or back to the port as an answer; or drop.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/arp.h"
#include "lib/drop.h"
#include "lib/icmp.h"
#include "lib/icmp_error.h"
#include "lib/icmp6.h"
#include "lib/icmp6_error.h"
#include "lib/mark.h"
#include "lib/nd.h"
#include "lib/offload.h"
#include "lib/overlay.h"
#include "lib/parse.h"
#include "lib/port.h"
#include "lib/receive.h"
#include "lib/routing.h"
#include "lib/service.h"

/* The last step of a packet that goes on. */
static __always_inline int from_port_forward(struct packet *pkt, const struct port_value *port,
					     const struct location_value *to)
{
	__u32 vni = port->vni;

	if (!port_lasts(port, pkt->skb->ifindex))
		return drop(pkt, DROP_PORT_UNKNOWN);
	if (to->kind == LOCATION_REMOTE)
		return overlay_to_tunnel(pkt, vni, to);
	return overlay_to_local(pkt, to, PASS_LOCAL);
}

/* DHCP of IPv4: a question to everybody or to the router goes to the agent. */
static __always_inline bool from_port_asks(struct packet *pkt, const struct port_value *port, const struct udp *udp)
{
	const struct location_value *to;

	if (!service_asks_ipv4(pkt, port, udp))
		return false;
	if (addr_to_ipv4(&pkt->dst) == 0xffffffff)
		return true;
	to = overlay_locate(pkt, port->vni, &pkt->dst);
	return to && to->kind == LOCATION_ROUTER && routing_to_router(pkt);
}

static __always_inline int from_port_ipv4(struct packet *pkt, const struct port_value *port)
{
	const struct location_value *to;
	struct udp udp = {};
	int reason;

	reason = parse_ipv4(pkt);
	if (!reason && pkt->ip_len > sizeof(struct ipv4))
		reason = parse_options(pkt->skb, pkt->ip_len);
	if (reason)
		return drop(pkt, reason);
	if (offload_before(pkt->skb, ETHERNET_LEN + pkt->ip_len))
		return drop(pkt, DROP_CHECKSUM);
	service_udp(pkt, &udp);
	if (service_answers(&udp, UDP_DHCP_SERVER, UDP_DHCP_CLIENT))
		return drop(pkt, DROP_DHCP_SERVER);
	if (from_port_asks(pkt, port, &udp))
		return service_deliver(pkt);
	reason = port_check_ipv4(pkt, port);
	if (reason)
		return icmp_refuse(pkt, port, reason);
	to = routing_find(pkt, port);
	reason = routing_refuse(pkt, to);
	if (reason || !to)
		return icmp_refuse(pkt, port, reason);
	if (to->kind == LOCATION_ROUTER)
		return icmp_answer(pkt);
	reason = routing_step(pkt, port, to);
	if (reason)
		return icmp_refuse(pkt, port, reason);
	return from_port_forward(pkt, port, to);
}

static __always_inline int from_port_ipv6(struct packet *pkt, const struct port_value *port)
{
	const struct location_value *to;
	struct udp udp = {};
	int reason;
	__u8 type;

	if (addr_zero(&port->addr6))
		return drop(pkt, DROP_IPV6_UNSUPPORTED);
	reason = parse_ipv6(pkt);
	if (!reason)
		reason = parse_extensions(pkt);
	if (reason)
		return drop(pkt, reason);
	if (offload_before(pkt->skb, ETHERNET_LEN + pkt->ip_len))
		return drop(pkt, DROP_CHECKSUM);
	if (nd_is(pkt, &type))
		return nd_answer(pkt, port, type);
	service_udp(pkt, &udp);
	if (service_answers(&udp, UDP_DHCP6_SERVER, UDP_DHCP6_CLIENT))
		return drop(pkt, DROP_DHCP_SERVER);
	if (service_asks_ipv6(pkt, &udp))
		return service_deliver(pkt);
	reason = port_check_ipv6(pkt, port);
	if (reason)
		return icmp6_refuse(pkt, port, reason);
	if (addr_is_router(&pkt->dst))
		return icmp6_answer(pkt);
	to = routing_find(pkt, port);
	if (to && to->kind == LOCATION_ROUTER)
		return icmp6_answer(pkt);
	if (addr_link_local(&pkt->src))
		return drop(pkt, DROP_LINK_LOCAL);
	reason = routing_refuse(pkt, to);
	if (reason || !to)
		return icmp6_refuse(pkt, port, reason);
	reason = routing_step(pkt, port, to);
	if (reason)
		return icmp6_refuse(pkt, port, reason);
	return from_port_forward(pkt, port, to);
}

SEC("tcx/ingress")
int from_port(struct __sk_buff *skb)
{
	struct packet pkt = {.skb = skb};
	const struct port_value *port;
	enum drop_reason reason;

	mark_clear(skb);
	receive(&pkt, RECEIVE_FROM_PORT);
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
