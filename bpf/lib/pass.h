/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Counts packets that were not dropped. Map: pass_count (array, not a lookup). */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "../abi/pass.h"
#include "parse.h"

static __always_inline void pass_add(enum pass_kind kind, const struct wire_size *size)
{
	__u32 key = kind;
	struct pass_value *value = bpf_map_lookup_elem(&pass_count, &key);

	if (!value)
		return;
	value->packets += size->packets;
	value->bytes += size->bytes;
}

static __always_inline void pass(struct packet *pkt, enum pass_kind kind)
{
	struct wire_size size = wire_size(pkt->skb);

	pass_add(kind, &size);
}
