// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/survey"
)

// kernelPackage is Debian's kernel; that of Debian 12 itself is too old.
const kernelPackage = "linux-image-amd64 (on Debian 12 from bookworm-backports)"

// needsRoot is what a check says that cannot look.
func needsRoot(what string) []Finding {
	return warn(what+" was not tried: that needs root", "run 'weft doctor' as root", "")
}

func checkKernel(context.Context, *machine) []Finding {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fail("the kernel does not say its version: "+err.Error(), "", "")
	}
	return judgeKernel(unix.ByteSliceToString(u.Release[:]))
}

// judgeKernel reads a release such as 6.6.30-amd64.
func judgeKernel(release string) []Finding {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return warn(fmt.Sprintf("the release %q cannot be read; 6.6 or newer is needed", release), "", "")
	}
	if major < 6 || major == 6 && minor < 6 {
		return fail(fmt.Sprintf("Linux %s is too old: programs are attached by tcx, which came with 6.6", release), "boot Linux 6.6 or newer", kernelPackage)
	}
	return ok(fmt.Sprintf("Linux %s; 6.6 or newer is needed", release))
}

func checkBTF(_ context.Context, m *machine) []Finding {
	const file = "/sys/kernel/btf/vmlinux"
	if _, err := os.Stat(m.path(file)); err != nil {
		return fail("the kernel does not describe its types ("+file+"), so programs cannot be fitted to it", "boot a kernel that was built with CONFIG_DEBUG_INFO_BTF, as Debian's are", kernelPackage)
	}
	return ok("the kernel describes its types (BTF)")
}

func checkTCX(_ context.Context, m *machine) []Finding {
	if text, err := os.ReadFile(m.path("/sys/kernel/security/lockdown")); err == nil && strings.Contains(string(text), "[confidentiality]") {
		return fail("the kernel is locked down to confidentiality, in which programs may not read packets' memory", "boot with lockdown=integrity, or without it", "")
	}
	if !m.root {
		return needsRoot("attaching a program")
	}
	if err := survey.TryTCX(); err != nil {
		return fail("a program cannot be attached and replaced (tried in a namespace of its own): "+err.Error(), "boot Linux 6.6 or newer, with CONFIG_BPF_SYSCALL and CONFIG_NET_XGRESS", kernelPackage)
	}
	return ok("a program was attached by tcx and replaced, in a namespace of its own")
}

func checkBPFFS(_ context.Context, m *machine) []Finding {
	return judgeBPFFS(m.path("/sys/fs/bpf"))
}

func judgeBPFFS(root string) []Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return fail(fmt.Sprintf("%s: %v", root, err), "boot a kernel with CONFIG_BPF_SYSCALL", kernelPackage)
	}
	if uint32(st.Type) != unix.BPF_FS_MAGIC { //nolint:gosec // the field's width differs between architectures; the number has 32 bits
		return fail("no BPF file system is mounted at "+root+": programs and tables would end with the agent", "mount -t bpf bpf "+root+", and for every boot a line in /etc/fstab; systemd does it by itself", "systemd")
	}
	return ok("programs and tables outlive the agent at " + root)
}

func checkJIT(_ context.Context, m *machine) []Finding {
	text, err := os.ReadFile(m.path("/proc/sys/net/core/bpf_jit_enable"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // always on, or another namespace
	}
	if err == nil && strings.TrimSpace(string(text)) == "0" {
		return warn("programs are interpreted, which costs several times the processor time", "sysctl -w net.core.bpf_jit_enable=1", "procps")
	}
	return ok("programs are compiled")
}

func checkDevices(_ context.Context, m *machine) []Finding {
	if !m.root {
		return needsRoot("making devices")
	}
	if err := survey.TryDevices(); err != nil {
		return fail("the agent could not make what it needs (tried in a namespace of its own): "+err.Error(), "load the kernel's modules: modprobe -a vxlan tun veth", "kmod")
	}
	return ok("VXLAN, tap and veth can be made")
}
