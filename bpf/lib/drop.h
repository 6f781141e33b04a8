/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The only way to lose a packet. Map: drop_count (a counter, not a lookup); when it is full, pass_count says so. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "../abi/drop.h"
#include "parse.h"
#include "pass.h"
#include "verdict.h"

static __always_inline struct drop_value *drop_entry(const struct drop_key *key)
{
	struct drop_value *value = bpf_map_lookup_elem(&drop_count, key), zero = {};

	if (value)
		return value;
	/* Lost against another CPU: the entry is there, too. */
	bpf_map_update_elem(&drop_count, key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(&drop_count, key);
}

/*
 * Ends the packet: counts it for tenant under reason, or under none where the packet has only done its duty. A global
 * function: the verifier walks it once, by itself.
 */
__noinline int drop_and_count(struct __sk_buff *skb, __u32 tenant, enum drop_reason reason)
{
	struct drop_key key = {.tenant = tenant, .reason = reason};
	struct wire_size size = wire_size(skb);
	struct drop_value *value = NULL;

	if (reason != DROP_NONE)
		value = drop_entry(&key);
	if (value) {
		value->packets += size.packets;
		value->bytes += size.bytes;
	} else {
		pass_add(reason == DROP_NONE ? PASS_CONSUMED : PASS_UNCOUNTED, &size);
	}
	return TC_ACT_SHOT;
}

static __always_inline int drop(const struct packet *pkt, enum drop_reason reason)
{
	drop_and_count(pkt->skb, pkt->tenant, reason);
	return TC_ACT_SHOT;
}

/* Ends a packet that was well-formed and needs no answer. */
static __always_inline int consume(struct packet *pkt)
{
	return drop(pkt, DROP_NONE);
}
