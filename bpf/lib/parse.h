/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* A frame becomes a struct packet; everything after works on that. No maps. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "../abi/drop.h"
#include "../abi/overlay.h"
#include "addr.h"
#include "wire.h"

#define ETHERNET_LEN sizeof(struct ethernet)

/* Bytes that are made readable when the front of the frame lies elsewhere: Ethernet and the longest IPv4 header. */
#define PARSE_BYTES 74

/* Extension headers of an IPv6 packet that are walked; more are dropped. */
#define PARSE_EXTENSIONS 6

struct packet {
	struct __sk_buff *skb;
	__u32 tenant; /* for counters; 0: not known */
	struct addr src;
	struct addr dst;
	__u8 dst_mac[6] __attribute__((aligned(2)));
	__u8 src_mac[6] __attribute__((aligned(2)));
	__u16 ethertype; /* host byte order */
	__u16 ip_len;	 /* IP header with options */
	__u16 total_len; /* from the IP header to the end of its payload, as the header says */
	__u16 checksum;	 /* of the IP header, as in the packet */
	__u8 protocol;
	__u8 ttl;
	bool fragment;
	bool later_fragment; /* not the first */
	bool dont_fragment;
	struct location_value to; /* where it goes, copied: see overlay_locate */
};

/* Length from layer 3 on. */
static __always_inline __u32 packet_len(const struct packet *pkt)
{
	return pkt->skb->len - ETHERNET_LEN;
}

static __always_inline void parse_pull(struct __sk_buff *skb)
{
	__u32 linear = skb->data_end - skb->data;

	if (linear < PARSE_BYTES && linear < skb->len)
		bpf_skb_pull_data(skb, skb->len < PARSE_BYTES ? skb->len : PARSE_BYTES);
}

static __always_inline enum drop_reason parse_ethernet(struct packet *pkt)
{
	const struct ethernet *eth;
	void *end;

	parse_pull(pkt->skb);
	eth = (void *)(long)pkt->skb->data;
	end = (void *)(long)pkt->skb->data_end;
	if ((void *)(eth + 1) > end)
		return DROP_SHORT;
	mac_copy(pkt->dst_mac, eth->dst);
	mac_copy(pkt->src_mac, eth->src);
	pkt->ethertype = bpf_ntohs(eth->type);
	if (pkt->skb->vlan_present || pkt->ethertype == ETHERTYPE_VLAN || pkt->ethertype == ETHERTYPE_QINQ)
		return DROP_VLAN;
	return DROP_NONE;
}

/* After parse_ethernet. The header checksum is not verified: whoever receives the packet does, and what is changed
 * here is changed in the checksum too, so that a wrong one stays wrong. */
static __always_inline enum drop_reason parse_ipv4(struct packet *pkt)
{
	const struct ipv4 *ip = (void *)(long)pkt->skb->data + ETHERNET_LEN;
	void *end = (void *)(long)pkt->skb->data_end;
	__u32 total;

	if (pkt->ethertype != ETHERTYPE_IPV4)
		return DROP_ETHERTYPE;
	if ((void *)(ip + 1) > end)
		return DROP_SHORT;
	total = bpf_ntohs(ip->total_len);
	pkt->ip_len = (ip->version_ihl & 0xf) * 4;
	if (ip->version_ihl >> 4 != 4 || pkt->ip_len < sizeof(*ip) || total < pkt->ip_len || total > packet_len(pkt))
		return DROP_IP_MALFORMED;
	pkt->src = addr_from_ipv4(&ip->src);
	pkt->dst = addr_from_ipv4(&ip->dst);
	pkt->checksum = ip->checksum;
	pkt->protocol = ip->protocol;
	pkt->ttl = ip->ttl;
	pkt->total_len = total;
	pkt->later_fragment = ip->fragment & bpf_htons(IPV4_OFFSET);
	pkt->dont_fragment = ip->fragment & bpf_htons(IPV4_DONT_FRAGMENT);
	pkt->fragment = ip->fragment & bpf_htons(IPV4_FRAGMENT);
	return DROP_NONE;
}

/*
 * Options of an IPv4 header of len bytes pass, but for those that choose the way (RFC 7126 4.3, 4.4: source routes); a
 * list that cannot be is refused, so that nobody behind us reads beyond it. A global function: the verifier walks it
 * once, by itself; volatile lets it forget the way it came.
 */
__noinline int parse_options(struct __sk_buff *skb, __u32 len)
{
	volatile __u8 next = sizeof(struct ipv4);
	__u8 option[2];
	__u32 at;

	for (int i = 0; i < IPV4_OPTIONS; i++) {
		at = next;
		if (at >= len)
			return DROP_NONE;
		if (bpf_skb_load_bytes(skb, ETHERNET_LEN + at, option, 1))
			return DROP_SHORT;
		if (option[0] == IPV4_OPTION_END)
			return DROP_NONE;
		if (option[0] == IPV4_OPTION_LOOSE || option[0] == IPV4_OPTION_STRICT)
			return DROP_IP_OPTIONS;
		if (option[0] == IPV4_OPTION_NOP) {
			next = at + 1;
			continue;
		}
		if (at + 2 > len)
			return DROP_IP_MALFORMED;
		if (bpf_skb_load_bytes(skb, ETHERNET_LEN + at, option, 2))
			return DROP_SHORT;
		if (option[1] < 2 || at + option[1] > len)
			return DROP_IP_MALFORMED;
		next = at + option[1];
	}
	return DROP_NONE;
}

/* After parse_ethernet: the fixed header. An IPv4 address in the 16-byte form is none of a packet's (RFC 4291 2.5.5.2):
 * it would be looked up as IPv4. */
static __always_inline enum drop_reason parse_ipv6(struct packet *pkt)
{
	const struct ipv6 *ip = (void *)(long)pkt->skb->data + ETHERNET_LEN;
	void *end = (void *)(long)pkt->skb->data_end;
	__u32 total;

	if ((void *)(ip + 1) > end)
		return DROP_SHORT;
	total = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version_class[0] >> 4 != 6 || total > packet_len(pkt) || total > 0xffff)
		return DROP_IP_MALFORMED;
	__builtin_memcpy(&pkt->src, ip->src, sizeof(pkt->src));
	__builtin_memcpy(&pkt->dst, ip->dst, sizeof(pkt->dst));
	pkt->ip_len = sizeof(*ip);
	pkt->total_len = total;
	pkt->protocol = ip->next;
	pkt->ttl = ip->hop_limit;
	return addr_is_ipv4(&pkt->src) || addr_is_ipv4(&pkt->dst) ? DROP_IP_MALFORMED : DROP_NONE;
}

/* What the walk over extension headers found, in one number. */
union walk {
	struct {
		__u8 next;     /* protocol of the upper layer */
		__u8 fragment; /* there is a fragment header */
		__u8 later;    /* it is that of a fragment which is not the first */
		__u8 reason;   /* enum drop_reason */
		__u32 len;     /* of all headers before the upper layer */
	};
	__u64 all;
};

static __always_inline bool parse_is_extension(__u8 next)
{
	return next == PROTO_HOP_BY_HOP || next == PROTO_ROUTING || next == PROTO_FRAGMENT || next == PROTO_DESTINATION;
}

/* One extension header of a packet of total bytes. */
static __always_inline enum drop_reason parse_extension(struct __sk_buff *skb, volatile union walk *walk, __u32 total,
							bool first)
{
	struct ipv6_extension ext;
	__u8 type = walk->next;
	__u32 step, at = walk->len;

	if (at + 8 > total)
		return DROP_IP_MALFORMED;
	if (bpf_skb_load_bytes(skb, ETHERNET_LEN + at, &ext, sizeof(ext)))
		return DROP_SHORT;
	if ((type == PROTO_HOP_BY_HOP && !first) || (type == PROTO_ROUTING && !(bpf_ntohs(ext.rest) >> 8)))
		return DROP_EXT_HEADER;
	step = type == PROTO_FRAGMENT ? 8 : (ext.len + 1) * 8;
	if (at + step > total)
		return DROP_IP_MALFORMED;
	if (type == PROTO_FRAGMENT) {
		walk->fragment = 1;
		walk->later = ext.rest & bpf_htons(IPV6_OFFSET) ? 1 : 0;
	}
	walk->next = ext.next;
	walk->len = (__u16)(at + step);
	return DROP_NONE;
}

/*
 * Walks the extension headers of a packet of total bytes, from the next header of the fixed one on, to the upper layer.
 * Hop-by-hop options only in front, routing headers of type 0 never (RFC 5095), a fragment that is not the first has no
 * upper layer. A global function: the verifier walks it once, by itself; volatile lets it forget the way it came.
 */
__noinline __u64 parse_walk(struct __sk_buff *skb, __u32 next, __u32 total)
{
	volatile union walk walk = {.next = next, .len = sizeof(struct ipv6)};

	for (int i = 0; i < PARSE_EXTENSIONS; i++) {
		if (walk.later || !parse_is_extension(walk.next))
			return walk.all;
		walk.reason = parse_extension(skb, &walk, total, i == 0);
		if (walk.reason)
			return walk.all;
	}
	if (!walk.later && parse_is_extension(walk.next))
		walk.reason = DROP_EXT_HEADER;
	return walk.all;
}

/* After parse_ipv6: from the fixed header to the upper layer. A first fragment has its beginning, too (RFC 7112 5):
 * what is looked at there must not come in a later one, where it is not seen. */
static __always_inline enum drop_reason parse_extensions(struct packet *pkt)
{
	union walk walk = {.all = parse_walk(pkt->skb, pkt->protocol, pkt->total_len)};

	pkt->protocol = walk.next;
	pkt->ip_len = walk.len;
	pkt->fragment = walk.fragment;
	pkt->later_fragment = walk.later;
	if (!walk.reason && walk.fragment && !walk.later && walk.len >= pkt->total_len)
		return DROP_EXT_HEADER;
	return walk.reason;
}

/*
 * Length of the headers that each segment of a super-packet repeats: IP, and TCP or UDP. Inside a workload's own tunnel
 * the inner headers are not seen, so such a segment is taken for shorter than it is. A global
 * function: the verifier walks it once, by itself.
 */
__noinline __u32 packet_headers(struct __sk_buff *skb)
{
	__u8 ip[40] = {}, tcp = 0; /* tcp: length of its header in words, in the upper 4 bits */
	__u32 len;

	if (bpf_skb_load_bytes(skb, ETHERNET_LEN, ip, sizeof(ip)))
		return 0;
	len = ip[0] >> 4 == 6 ? 40 : (ip[0] & 0xf) * 4;
	if ((ip[0] >> 4 == 6 ? ip[6] : ip[9]) == PROTO_TCP) {
		bpf_skb_load_bytes(skb, ETHERNET_LEN + len + 12, &tcp, 1);
		return len + (tcp >> 4) * 4;
	}
	return len + 8;
}

/* Layer 3 length of the packet on a wire, or of each of its segments. */
static __always_inline __u32 packet_segment_len(const struct packet *pkt)
{
	__u32 gso_size = pkt->skb->gso_size;

	return gso_size ? packet_headers(pkt->skb) + gso_size : packet_len(pkt);
}

struct wire_size {
	__u64 packets;
	__u64 bytes;
};

/* What the packet is on a real wire: as many packets as it has segments, headers once for each. */
static __always_inline struct wire_size wire_size(struct __sk_buff *skb)
{
	struct wire_size size = {.packets = 1, .bytes = skb->len - ETHERNET_LEN};
	__u32 gso_size = skb->gso_size, headers;

	if (!gso_size)
		return size;
	headers = packet_headers(skb);
	if (size.bytes <= headers)
		return size;
	size.packets = skb->gso_segs;
	if (!size.packets) /* a tap leaves the count to the kernel */
		size.packets = ((__u32)size.bytes - headers + gso_size - 1) / gso_size;
	size.bytes += (size.packets - 1) * headers;
	return size;
}
