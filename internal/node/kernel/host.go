// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

const (
	bpffsRoot = "/sys/fs/bpf"

	// The oldest kernel with tcx links that can be replaced atomically.
	minKernelMajor, minKernelMinor = 6, 6
)

func requireKernel() error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return fmt.Errorf("ask for the kernel's version: %w", err)
	}
	return checkRelease(unix.ByteSliceToString(name.Release[:]))
}

func checkRelease(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("kernel version %q: %w", release, err)
	}
	if major > minKernelMajor || major == minKernelMajor && minor >= minKernelMinor {
		return nil
	}
	return fmt.Errorf("%w: this is Linux %s, and weft needs %d.%d or newer (tcx); on Debian 12, install a kernel from bookworm-backports",
		ErrKernelTooOld, release, minKernelMajor, minKernelMinor)
}

// ensureBPFFS mounts the BPF file system where it is expected, unless it is there.
func ensureBPFFS() error {
	var stat unix.Statfs_t
	if err := unix.Statfs(bpffsRoot, &stat); err != nil {
		return fmt.Errorf("look at %s: %w", bpffsRoot, err)
	}
	if uint32(stat.Type) == unix.BPF_FS_MAGIC {
		return nil
	}
	device.Wrote()
	if err := unix.Mount("bpf", bpffsRoot, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount the BPF file system at %s: %w", bpffsRoot, err)
	}
	return nil
}

// ensureMultipathHash lets the underlay's routes spread flows by ports, so that the tunnel's source port, which comes
// from the inner flow, chooses the path.
func ensureMultipathHash() error {
	return errors.Join(device.EnsureSysctl("net/ipv4/fib_multipath_hash_policy", "1"), device.EnsureSysctl("net/ipv6/fib_multipath_hash_policy", "1"))
}
