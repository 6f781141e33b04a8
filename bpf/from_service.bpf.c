// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * from_service: tcx ingress of the tap to the agent; packets that the agent sends to a port.
 *
 * Lookups per packet: 1 (port_info).
 * Ends in: redirect to the port that the source MAC names; or drop.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "lib/addr.h"
#include "lib/drop.h"
#include "lib/mark.h"
#include "lib/parse.h"
#include "lib/pass.h"
#include "lib/port.h"
#include "lib/receive.h"
#include "lib/routing.h"
#include "lib/service.h"

SEC("tcx/ingress")
int from_service(struct __sk_buff *skb)
{
	struct packet pkt = {.skb = skb};
	const struct port_value *port;
	struct service_mac named;
	enum drop_reason reason;
	__u32 ifindex;

	receive(&pkt, RECEIVE_FROM_SERVICE);
	reason = parse_ethernet(&pkt);
	if (reason)
		return drop(&pkt, reason);
	__builtin_memcpy(&named, pkt.src_mac, sizeof(named));
	ifindex = bpf_ntohl(named.ifindex);
	port = named.local == 2 && !named.zero ? port_lookup(ifindex) : NULL;
	if (!port)
		return drop(&pkt, DROP_PORT_UNKNOWN);
	pkt.tenant = port->tenant;
	if (!(pkt.dst_mac[0] & 1) && !mac_equal(pkt.dst_mac, port->mac))
		return drop(&pkt, DROP_DST_MAC);
	if (routing_write_macs(skb, pkt.dst_mac, config_router_mac))
		return drop(&pkt, DROP_REWRITE);
	pass(&pkt, PASS_FROM_SERVICE);
	mark_deliver(skb);
	return bpf_redirect(ifindex, 0);
}
