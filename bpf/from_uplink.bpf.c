// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * from_uplink: tcx ingress of the VXLAN device; packets that other nodes send, after decapsulation.
 *
 * Lookups per packet: 2 (ovl_senders, ovl_locations), the same for the first packet of a flow and for the others. One
 * more for a packet that is routed through a port here: that is found by its MAC. Ends in: redirect to a port of this
 * node, never back into the tunnel; or drop.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/addr.h"
#include "lib/drop.h"
#include "lib/mark.h"
#include "lib/overlay.h"
#include "lib/parse.h"
#include "lib/receive.h"

/* Is the frame for the port at that place, here? */
static __always_inline enum drop_reason from_uplink_check(const struct packet *pkt, const struct location_value *to)
{
	if (!to || (to->kind != LOCATION_PEER && to->kind != LOCATION_DEVICE))
		return DROP_NOT_LOCAL;
	return mac_equal(pkt->dst_mac, to->mac) ? DROP_NONE : DROP_DST_MAC;
}

/* A port that others' packets are routed through is found by the link-local address of its MAC. */
static __always_inline int from_uplink_ip(struct packet *pkt, __u32 vni)
{
	const struct location_value *to;
	enum drop_reason reason;
	struct addr next_hop;

	reason = pkt->ethertype == ETHERTYPE_IPV6 ? parse_ipv6(pkt) : parse_ipv4(pkt);
	if (reason)
		return drop(pkt, reason);
	to = overlay_locate(pkt, vni, &pkt->dst);
	reason = from_uplink_check(pkt, to);
	if (reason) {
		next_hop = addr_of_mac(pkt->dst_mac);
		to = overlay_locate(pkt, vni, &next_hop);
		if (from_uplink_check(pkt, to))
			return drop(pkt, reason);
	}
	if (!to)
		return drop(pkt, DROP_NOT_LOCAL);
	return overlay_to_local(pkt, to, PASS_FROM_TUNNEL);
}

SEC("tcx/ingress")
int from_uplink(struct __sk_buff *skb)
{
	struct packet pkt = {.skb = skb};
	const struct sender_value *sender;
	enum drop_reason reason;
	struct addr from;
	__u32 vni;

	mark_clear(skb);
	receive(&pkt, RECEIVE_FROM_UPLINK);
	reason = overlay_from_tunnel(&pkt, &vni, &from);
	if (reason)
		return drop(&pkt, reason);
	sender = overlay_sender(vni, &from);
	if (!sender)
		return drop(&pkt, DROP_TUNNEL_PEER_UNKNOWN);
	pkt.tenant = sender->tenant;
	reason = parse_ethernet(&pkt);
	if (reason)
		return drop(&pkt, reason);
	return from_uplink_ip(&pkt, vni);
}
