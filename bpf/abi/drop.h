/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Why a packet was dropped. Append only: a retired reason keeps its number. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

enum drop_reason {
	DROP_NONE = 0,
	DROP_PORT_UNKNOWN = 1,	       /* no port is known at the device */
	DROP_SHORT = 2,		       /* a header is cut off */
	DROP_ETHERTYPE = 3,	       /* neither IP nor ARP, or ARP through the tunnel */
	DROP_VLAN = 4,		       /* an 802.1Q or 802.1ad tag */
	DROP_SRC_MAC_SPOOF = 5,	       /* source MAC is not the port's */
	DROP_SRC_IP_SPOOF = 6,	       /* source address is not the port's */
	DROP_ARP_SPOOF = 7,	       /* ARP sender is not the port */
	DROP_ARP_MALFORMED = 8,	       /* not Ethernet/IPv4 ARP, or an ARP reply nobody asked for */
	DROP_ARP_UNKNOWN = 9,	       /* ARP asks for an address that nobody has */
	DROP_BROADCAST = 10,	       /* to all stations of the segment */
	DROP_MULTICAST = 11,	       /* to a group */
	DROP_DST_MAC = 12,	       /* to a MAC that is neither the router's nor the addressee's */
	DROP_IP_MALFORMED = 13,	       /* IP header that cannot be: version or length */
	DROP_IPV6_UNSUPPORTED = 14,    /* IPv6 from a port that has no IPv6 address */
	DROP_TTL_EXPIRED = 15,	       /* TTL would fall to 0 at the router */
	DROP_TOO_BIG = 16,	       /* longer than the overlay's MTU */
	DROP_NO_LOCATION = 17,	       /* destination address lives nowhere in the VPC */
	DROP_NOT_LOCAL = 18,	       /* came through the tunnel for an address that is not at this node */
	DROP_TUNNEL_KEY = 19,	       /* came to the tunnel device without tunnel data */
	DROP_TUNNEL_PEER_UNKNOWN = 20, /* outer source is not a node that may send this VNI */
	DROP_HOST_TO_PORT = 21,	       /* from the host itself to a port */
	DROP_ROUTER_PROTO = 22,	       /* to the virtual router, other than ICMP echo */
	DROP_ENCAP = 23,	       /* tunnel data could not be set */
	DROP_TO_SELF = 24,	       /* to the port's own address, which its own stack should have kept */
	DROP_REWRITE = 25,	       /* headers could not be rewritten: no memory */
	DROP_CHECKSUM = 26,	       /* asks for a checksum to be written into a header that was checked */
	DROP_EXT_HEADER = 27,	       /* IPv6 extension headers: source routing, too many, or in the wrong place */
	DROP_ND_SPOOF = 28,	       /* Neighbor Discovery whose sender is not the port */
	DROP_ND_MALFORMED = 29,	       /* Neighbor Discovery that cannot be: hop limit, length, option or fragment */
	DROP_ND_UNKNOWN = 30,	       /* Neighbor Discovery asks for an address that nobody has */
	DROP_RA_GUARD = 31,	       /* router advertisement or redirect from a port */
	DROP_ROUTER_SOLICIT = 32,      /* asks somebody else than the router for an advertisement */
	DROP_LINK_LOCAL = 33,	       /* between a link-local address and another than the router */
	DROP_IP_OPTIONS = 34,	       /* IPv4 options that choose the way: source routes */
	DROP_PUNT_RATE = 35,	       /* more to the agent than a port may send it */
	DROP_DHCP_SERVER = 36,	       /* a port answers as if it were a DHCP server */
	DROP_BLACKHOLE = 37,	       /* a route of the VPC says so */
	DROP_REASON_MAX = 38,	       /* number of reasons; grows with the list */
};

/* Tenant 0 stands for packets that belong to no known tenant. */
struct drop_key {
	__u32 tenant;
	__u16 reason; /* enum drop_reason */
	__u16 _pad;
};

_Static_assert(sizeof(struct drop_key) == 8, "abi");

struct drop_value {
	__u64 packets; /* as on a real wire: segments of a super-packet count each */
	__u64 bytes;   /* layer 3, headers once per segment */
};

_Static_assert(sizeof(struct drop_value) == 16, "abi");

/* Written by bpf, read by agent; scratch. Per CPU: counting needs no atomic. Size: set by the agent before load. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct drop_key);
	__type(value, struct drop_value);
	__uint(max_entries, 1);
} drop_count SEC(".maps");
