/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The mark that opens a port for a packet of weft's own making or forwarding. No maps. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include "../abi/mark.h"

static __always_inline void mark_clear(struct __sk_buff *skb)
{
	skb->mark = 0;
}

static __always_inline void mark_deliver(struct __sk_buff *skb)
{
	skb->mark = MARK_DELIVER;
}

static __always_inline bool mark_delivers(const struct __sk_buff *skb)
{
	return skb->mark == MARK_DELIVER;
}
