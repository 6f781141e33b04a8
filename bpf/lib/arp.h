/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* ARP is answered at the first hop, from what is known. Map: ovl_locations, one lookup. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/config.h"
#include "../abi/port.h"
#include "addr.h"
#include "drop.h"
#include "mark.h"
#include "overlay.h"
#include "parse.h"
#include "pass.h"
#include "port.h"
#include "wire.h"

static __always_inline enum drop_reason arp_check(const struct arp *arp)
{
	if (arp->hardware != bpf_htons(ARP_ETHERNET) || arp->protocol != bpf_htons(ETHERTYPE_IPV4) ||
	    arp->hardware_len != 6 || arp->protocol_len != 4 || arp->op != bpf_htons(ARP_REQUEST))
		return DROP_ARP_MALFORMED;
	return DROP_NONE;
}

/* The sender is the port. Address 0 is a probe (RFC 5227): the port asks whether anybody else has the target. */
static __always_inline bool arp_from_port(struct packet *pkt, const struct arp *arp, const struct port_value *port)
{
	struct addr sender = addr_from_ipv4(arp->sender);

	if (!mac_equal(arp->sender_mac, port->mac))
		return false;
	return !addr_to_ipv4(&sender) || addr_equal(&sender, &port->addr4) ||
	       port_may_send_from(pkt->skb, port, &sender);
}

/* Turns the request into the answer "target is at mac" and sends it back to the port. */
static __always_inline int arp_reply(struct packet *pkt, const struct arp *arp, const volatile void *mac)
{
	struct {
		struct ethernet eth;
		struct arp arp;
	} reply = {.eth.type = bpf_htons(ETHERTYPE_ARP), .arp = *arp};

	mac_copy(reply.eth.dst, pkt->src_mac);
	mac_copy(reply.eth.src, mac);
	reply.arp.op = bpf_htons(ARP_REPLY);
	mac_copy(reply.arp.sender_mac, mac);
	__builtin_memcpy(reply.arp.sender, arp->target, 4);
	mac_copy(reply.arp.target_mac, arp->sender_mac);
	__builtin_memcpy(reply.arp.target, arp->sender, 4);
	if (bpf_skb_store_bytes(pkt->skb, 0, &reply, sizeof(reply), 0))
		return drop(pkt, DROP_REWRITE);
	pass(pkt, PASS_ANSWERED);
	mark_deliver(pkt->skb);
	return bpf_redirect(pkt->skb->ifindex, 0);
}

/*
 * Answers for the router, and for an address of the port's own subnet with the MAC of its port. What the port says or
 * asks about its own address (announcement, probe) is heard and not answered.
 */
static __always_inline int arp_answer(struct packet *pkt, const struct port_value *port)
{
	const struct location_value *location;
	enum drop_reason reason;
	struct addr target;
	struct arp arp;

	if (bpf_skb_load_bytes(pkt->skb, ETHERNET_LEN, &arp, sizeof(arp)))
		return drop(pkt, DROP_SHORT);
	reason = arp_check(&arp);
	if (reason)
		return drop(pkt, reason);
	if (!arp_from_port(pkt, &arp, port))
		return drop(pkt, DROP_ARP_SPOOF);
	target = addr_from_ipv4(arp.target);
	if (addr_equal(&target, &port->addr4) || !__builtin_memcmp(arp.target, arp.sender, 4))
		return consume(pkt);
	location = overlay_locate(pkt, port->vni, &target);
	if (!location)
		return drop(pkt, DROP_ARP_UNKNOWN);
	if (location->kind == LOCATION_ROUTER)
		return arp_reply(pkt, &arp, config_router_mac);
	if (location->kind == LOCATION_NONE || location->subnet != port->subnet)
		return drop(pkt, DROP_ARP_UNKNOWN);
	return arp_reply(pkt, &arp, location->mac);
}
