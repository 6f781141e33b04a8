/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Every value that the packet path puts into fields of the skb which others can see, with its owner. */
#pragma once

/*
 * skb->mark, all 32 bits, between from_port or from_uplink and to_port of the same node: the packet may enter the port.
 * Owner: lib/mark.h. Cleared by to_port; every packet from a port loses the mark it came with.
 */
#define MARK_DELIVER 0x77656674

/* skb->cb, skb->tc_index, skb->priority, skb->queue_mapping: not used. */
