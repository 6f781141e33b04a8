/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* Headers as they are on the wire; none has room between its fields. No maps. */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_endian.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP  0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_IPV6 0x86dd

#define PROTO_ICMP 1
#define PROTO_TCP  6
#define PROTO_UDP  17

/* Next headers of IPv6 beside protocols; AH, ESP and "no next header" end the walk like protocols. */
#define PROTO_HOP_BY_HOP  0
#define PROTO_ROUTING	  43
#define PROTO_FRAGMENT	  44
#define PROTO_ICMP6	  58
#define PROTO_DESTINATION 60

struct ethernet {
	__u8 dst[6];
	__u8 src[6];
	__be16 type;
};

_Static_assert(sizeof(struct ethernet) == 14, "wire");

#define ARP_ETHERNET 1
#define ARP_REQUEST  1
#define ARP_REPLY    2

struct arp {
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_len;
	__u8 protocol_len;
	__be16 op;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};

_Static_assert(sizeof(struct arp) == 28, "wire");

#define IPV4_FRAGMENT	   0x3fff /* more fragments, or not the first */
#define IPV4_OFFSET	   0x1fff
#define IPV4_DONT_FRAGMENT 0x4000

struct ipv4 {
	__u8 version_ihl; /* version 4 bits, header length in words 4 bits */
	__u8 tos;
	__be16 total_len;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__be32 src;
	__be32 dst;
};

_Static_assert(sizeof(struct ipv4) == 20, "wire");

#define IPV4_OPTIONS	   40 /* bytes at most */
#define IPV4_OPTION_END	   0
#define IPV4_OPTION_NOP	   1
#define IPV4_OPTION_LOOSE  131
#define IPV4_OPTION_STRICT 137

#define ICMP_ECHO_REPLY	   0
#define ICMP_UNREACHABLE   3
#define ICMP_QUENCH	   4
#define ICMP_REDIRECT	   5
#define ICMP_ECHO_REQUEST  8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER	   12

/* Codes of ICMP_UNREACHABLE. */
#define ICMP_HOST	 1
#define ICMP_FRAG_NEEDED 4

struct icmp {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 rest;
};

_Static_assert(sizeof(struct icmp) == 8, "wire");

struct ipv6 {
	__u8 version_class[4]; /* version 4 bits, traffic class 8, flow label 20 */
	__be16 payload_len;
	__u8 next;
	__u8 hop_limit;
	__u8 src[16];
	__u8 dst[16];
};

_Static_assert(sizeof(struct ipv6) == 40, "wire");

/* The beginning of any extension header; of a fragment header, len is reserved. */
struct ipv6_extension {
	__u8 next;
	__u8 len;    /* in 8 bytes, beyond the first 8 */
	__be16 rest; /* fragment: offset 13 bits, reserved 2, more 1; routing: type 8 bits, segments left 8 */
};

_Static_assert(sizeof(struct ipv6_extension) == 4, "wire");

#define IPV6_OFFSET 0xfff8

#define UDP_DHCP_SERVER	 67
#define UDP_DHCP_CLIENT	 68
#define UDP_DHCP6_CLIENT 546
#define UDP_DHCP6_SERVER 547

struct udp {
	__be16 from;
	__be16 to;
	__be16 len;
	__u16 checksum;
};

_Static_assert(sizeof(struct udp) == 8, "wire");

/* Types of ICMPv6 errors; from 128 on they are messages (RFC 4443). */
#define ICMP6_UNREACHABLE   1
#define ICMP6_TOO_BIG	    2
#define ICMP6_TIME_EXCEEDED 3
#define ICMP6_MESSAGES	    128

#define ICMP6_MLD_QUERY	    130
#define ICMP6_MLD_REPORT    131
#define ICMP6_MLD_DONE	    132
#define ICMP6_MLD2_REPORT   143
#define ICMP6_ECHO_REQUEST  128
#define ICMP6_ECHO_REPLY    129
#define ND_ROUTER_SOLICIT   133
#define ND_ROUTER_ADVERT    134
#define ND_NEIGHBOR_SOLICIT 135
#define ND_NEIGHBOR_ADVERT  136
#define ND_REDIRECT	    137
#define ND_HOP_LIMIT	    255
#define ND_ROUTER	    0x80000000
#define ND_SOLICITED	    0x40000000
#define ND_OVERRIDE	    0x20000000
#define ND_SOURCE_MAC	    1
#define ND_TARGET_MAC	    2

struct nd_option {
	__u8 type;
	__u8 len; /* in 8 bytes */
	__u8 mac[6];
};

_Static_assert(sizeof(struct nd_option) == 8, "wire");

struct nd {
	struct icmp icmp;
	__u8 target[16];
};

_Static_assert(sizeof(struct nd) == 24, "wire");
