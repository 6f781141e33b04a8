// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/* All programs of a node in one object: they share maps and configuration. */
#include "abi/version.h"
#include "from_port.bpf.c"
#include "from_service.bpf.c"
#include "from_uplink.bpf.c"
#include "to_port.bpf.c"

/* The kernel knows no name for this licence pair; it asks whether GPL-only helpers may be used. */
char _license[] SEC("license") = "GPL";
