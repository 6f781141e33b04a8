/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The Internet checksum, made, and changed in place (RFC 1624, equation 3). No maps. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>

/* The checksum of words whose sum so far is sum. */
static __always_inline __u16 checksum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The checksum after one 16-bit word it covers has changed. All three in the byte order of the packet. */
static __always_inline __u16 checksum_replace(__u16 checksum, __u16 from, __u16 to)
{
	__u32 sum = (__u16)~checksum + (__u16)~from + to;

	return checksum_fold(sum);
}

/* The checksum of a message of len bytes over IPv6; sum is that of the message and of both addresses (RFC 8200 8.1). */
static __always_inline __u16 checksum_message(__u32 sum, __u16 len, __u8 protocol)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return checksum_fold(sum + bpf_htons(len) + bpf_htons(protocol));
}
