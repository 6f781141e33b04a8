// SPDX-License-Identifier: Apache-2.0

// Package vm boots a real virtual machine on a tap of a lab's host and talks with it: what a guest's kernel and QEMU's
// virtio do is nobody's imitation.
package vm
