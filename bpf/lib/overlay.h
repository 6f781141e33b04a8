/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * Where an address lives, who may send through the tunnel, and the last step of every forwarded packet.
 * Maps: ovl_locations, one lookup per packet; ovl_senders, one lookup per packet from the tunnel.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "../abi/config.h"
#include "../abi/overlay.h"
#include "addr.h"
#include "drop.h"
#include "mark.h"
#include "parse.h"
#include "pass.h"

#define OVERLAY_TTL 64

/*
 * Copies a location of the VPC, and sees afterwards that it was not another VPC's meanwhile (see abi/overlay.h).
 * Whoever writes a value begins at one of its ends: if any of it is new in the copy, so is one of the two numbers by
 * then. The sooner of the two reads is for a value that came and went.
 */
static __always_inline bool overlay_copy(struct location_value *copy, const struct location_value *from, __u32 vni)
{
	const volatile struct location_value *again = from;

	if (!from)
		return false;
	__builtin_memcpy(copy, from, sizeof(*copy));
	barrier();
	return copy->vni == vni && copy->vni_again == vni && again->vni == vni && again->vni_again == vni;
}

/* Where the address lives, copied to pkt; NULL: nowhere. */
static __always_inline const struct location_value *overlay_locate(struct packet *pkt, __u32 vni,
								   const struct addr *addr)
{
	struct location_key key = {.vni = vni, .addr = *addr};

	return overlay_copy(&pkt->to, bpf_map_lookup_elem(&ovl_locations, &key), vni) ? &pkt->to : NULL;
}

static __always_inline const struct sender_value *overlay_sender(__u32 vni, const struct addr *addr)
{
	struct sender_key key = {.vni = vni, .addr = *addr};

	return bpf_map_lookup_elem(&ovl_senders, &key);
}

/* Reads VNI and outer source of a packet from the tunnel. One of the other IP version than the node's own tunnel end is
 * refused by the helper. */
static __always_inline enum drop_reason overlay_from_tunnel(struct packet *pkt, __u32 *vni, struct addr *from)
{
	struct bpf_tunnel_key tunnel = {};
	__be32 remote;

	if (bpf_skb_get_tunnel_key(pkt->skb, &tunnel, sizeof(tunnel), config_tunnel_ipv6 ? BPF_F_TUNINFO_IPV6 : 0))
		return DROP_TUNNEL_KEY;
	*vni = tunnel.tunnel_id;
	if (config_tunnel_ipv6) {
		__builtin_memcpy(from, tunnel.remote_ipv6, sizeof(*from));
		return DROP_NONE;
	}
	remote = bpf_htonl(tunnel.remote_ipv4);
	*from = addr_from_ipv4(&remote);
	return DROP_NONE;
}

/* Hands the packet to a port of this node. The receiver's stack takes only what is addressed to it: the kernel judged
 * that by the device that the packet came in through, so it is told anew. */
static __always_inline int overlay_to_local(struct packet *pkt, const struct location_value *to, enum pass_kind kind)
{
	struct __sk_buff *skb = pkt->skb;

	if (to->kind == LOCATION_PEER) {
		if (skb->pkt_type && bpf_skb_change_type(skb, 0 /* PACKET_HOST */))
			return drop(pkt, DROP_REWRITE);
		pass(pkt, kind);
		return bpf_redirect_peer(to->ifindex, 0);
	}
	pass(pkt, kind);
	mark_deliver(skb);
	return bpf_redirect(to->ifindex, 0);
}

/* Hands the packet to another node. The outer header forbids fragments: the fabric carries the overlay's MTU. */
static __always_inline int overlay_to_tunnel(struct packet *pkt, __u32 vni, const struct location_value *to)
{
	struct bpf_tunnel_key tunnel = {.tunnel_id = vni, .tunnel_ttl = OVERLAY_TTL};
	__u64 flags = BPF_F_DONT_FRAGMENT;

	if (config_tunnel_ipv6) {
		flags |= BPF_F_TUNINFO_IPV6;
		__builtin_memcpy(tunnel.remote_ipv6, &to->tunnel, sizeof(to->tunnel));
		for (int i = 0; i < 4; i++) /* volatile: by words */
			tunnel.local_ipv6[i] = ((const volatile __u32 *)&config_tunnel)[i];
	} else {
		tunnel.remote_ipv4 = bpf_ntohl(addr_to_ipv4(&to->tunnel));
		tunnel.local_ipv4 = bpf_ntohl(addr_to_ipv4(&config_tunnel));
	}
	if (bpf_skb_set_tunnel_key(pkt->skb, &tunnel, sizeof(tunnel), flags))
		return drop(pkt, DROP_ENCAP);
	pass(pkt, PASS_TO_TUNNEL);
	return bpf_redirect(config_uplink, 0);
}
