// SPDX-License-Identifier: Apache-2.0

// Package test runs the packet path's programs in the kernel, one packet at a time: packet in, verdict, packet out,
// counters, lookups. It also holds the measurements that decisions about layouts rest on.
package test
