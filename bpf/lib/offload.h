/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* What a sender left to be finished behind us. No maps; reads the kernel's own struct sk_buff by BTF. */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define CHECKSUM_PARTIAL 3 /* include/linux/skbuff.h */

/* The kernel's struct, as far as it is read here; offsets are the running kernel's. */
struct sk_buff {
	unsigned char *head;
	unsigned char *data;
	__u16 csum_start; /* from head */
	__u8 ip_summed : 2;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym;

/*
 * Has the sender asked for a checksum that begins before offset bytes of the frame? Whoever fills it in, a NIC or the
 * kernel, would write it into a header that was checked here: a sender could so forge an address behind our back.
 */
static __always_inline bool offload_before(struct __sk_buff *ctx, __u32 offset)
{
	const struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);

	if (BPF_CORE_READ_BITFIELD(skb, ip_summed) != CHECKSUM_PARTIAL)
		return false;
	return (long)skb->csum_start < (long)(skb->data - skb->head) + (long)offset;
}
