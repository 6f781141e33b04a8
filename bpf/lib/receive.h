/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Counts packets when they come to a program. Map: receive_count (array, not a lookup). */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "../abi/receive.h"
#include "parse.h"

static __always_inline void receive(struct packet *pkt, enum receive_kind kind)
{
	struct wire_size size = wire_size(pkt->skb);
	__u32 key = kind;
	struct receive_value *value = bpf_map_lookup_elem(&receive_count, &key);

	if (!value)
		return;
	value->packets += size.packets;
	value->bytes += size.bytes;
	value->frames++;
}
