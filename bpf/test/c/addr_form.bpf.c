// SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
/*
 * Measures what the form of an address in a key costs: lookups in two hashes of the same entries, one with 4-byte
 * and one with 16-byte addresses, at random, in turns, inside one run. For docs/adr/0004-address-form.md.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "../../abi/overlay.h"

#define ENTRIES (64 << 10)
#define ROUND	1024 /* lookups between two looks at the clock */
#define ROUNDS	16

struct short_key {
	__u32 vni;
	__u32 addr;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct short_key);
	__type(value, struct location_value);
	__uint(max_entries, ENTRIES);
} short_table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct location_key);
	__type(value, struct location_value);
	__uint(max_entries, ENTRIES);
} long_table SEC(".maps");

/* Nanoseconds of all rounds of the last run, and a sum that keeps the work from being left out. */
__u64 short_ns, long_ns, bare_ns, found;

const volatile __u32 lookups = ROUND * ROUNDS;

struct state {
	__u32 random;
	__u32 found;
};

static __always_inline __u32 next(struct state *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 17;
	s->random ^= s->random << 5;
	return 0x0000000a | (s->random & (ENTRIES - 1))
				    << 16; /* 10.0.x.y in network byte order, as the packet has it */
}

static long short_step(__u32 i, void *context)
{
	struct state *s = context;
	struct short_key key = {.vni = 4096, .addr = next(s)};
	struct location_value *value = bpf_map_lookup_elem(&short_table, &key);

	if (value)
		s->found += value->kind;
	return 0;
}

static long long_step(__u32 i, void *context)
{
	struct state *s = context;
	struct location_key key = {.vni = 4096, .addr.b[10] = 0xff, .addr.b[11] = 0xff};
	struct location_value *value;

	*(__u32 *)&key.addr.b[12] = next(s);
	value = bpf_map_lookup_elem(&long_table, &key);
	if (value)
		s->found += value->kind;
	return 0;
}

static long bare_step(__u32 i, void *context)
{
	struct state *s = context;

	s->found += next(s) & 1;
	return 0;
}

SEC("tc")
int addr_form(struct __sk_buff *skb)
{
	struct state s = {.random = bpf_get_prandom_u32() | 1};
	__u64 t0, t1, t2, t3;

	short_ns = long_ns = bare_ns = 0;
	for (int round = 0; round < ROUNDS; round++) {
		t0 = bpf_ktime_get_ns();
		bpf_loop(ROUND, short_step, &s, 0);
		t1 = bpf_ktime_get_ns();
		bpf_loop(ROUND, long_step, &s, 0);
		t2 = bpf_ktime_get_ns();
		bpf_loop(ROUND, bare_step, &s, 0);
		t3 = bpf_ktime_get_ns();
		short_ns += t1 - t0;
		long_ns += t2 - t1;
		bare_ns += t3 - t2;
	}
	found = s.found;
	return 0;
}

char _license[] SEC("license") = "GPL";
