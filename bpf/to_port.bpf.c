// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * to_port: tcx egress of a port's device in the node's namespace; packets that would enter the workload through the
 * device. What is redirected to the peer does not come by here.
 *
 * Lookups per packet: none; 1 (port_info) for one that is dropped, to know whose drop it is.
 * Ends in: pass, for what from_port or from_uplink marked; or drop.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "lib/drop.h"
#include "lib/mark.h"
#include "lib/parse.h"
#include "lib/port.h"
#include "lib/receive.h"
#include "lib/verdict.h"

SEC("tcx/egress")
int to_port(struct __sk_buff *skb)
{
	struct packet pkt = {.skb = skb};
	const struct port_value *port;

	if (mark_delivers(skb)) {
		mark_clear(skb);
		return TC_ACT_OK;
	}
	receive(&pkt, RECEIVE_FROM_HOST);
	port = port_lookup(skb->ifindex);
	if (port)
		pkt.tenant = port->tenant;
	return drop(&pkt, DROP_HOST_TO_PORT);
}
