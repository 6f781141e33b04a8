/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The one form of an IP address in keys and values: 16 bytes, IPv4 mapped into ::ffff:0:0/96
 * (docs/adr/0004-address-form.md). */
#pragma once

#include <linux/types.h>

struct addr {
	__u8 b[16];	       /* network byte order */
} __attribute__((aligned(4))); /* so that it is compared and hashed by words */

_Static_assert(sizeof(struct addr) == 16, "abi");
