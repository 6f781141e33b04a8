// SPDX-License-Identifier: Apache-2.0

// Package guard keeps what runs on a node without being root's from speaking as the node itself: whoever sends a UDP packet
// from here to the tunnel port of another node, or to that of its BFD, is believed to be this node there.
package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// version of the program; a pin bears it.
const version = 1

// ErrNoCgroup is returned where no version 2 of the control groups is mounted.
var ErrNoCgroup = errors.New("no cgroup2 file system is mounted")

// hooks are where a process says to whom it sends. What needs no address (a connected socket) was asked for it before.
var hooks = map[string]ebpf.AttachType{
	"connect4": ebpf.AttachCGroupInet4Connect, "connect6": ebpf.AttachCGroupInet6Connect,
	"sendmsg4": ebpf.AttachCGroupUDP4Sendmsg, "sendmsg6": ebpf.AttachCGroupUDP6Sendmsg,
}

// Keep refuses UDP to ports (EPERM) to processes of the present network namespace that are not root's. It is pinned in the
// folder dir, and holds for as long as that is there. Nothing is written where it is so.
func Keep(dir string, ports ...uint16) error {
	cookie, err := namespace()
	if err != nil {
		return fmt.Errorf("guard the ports of nodes: %w", err)
	}
	wanted := map[string]bool{}
	for name, hook := range hooks {
		pin := fmt.Sprintf("%s-v%d-%s-%x", name, version, strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", "-"), "[]"), cookie)
		wanted[pin] = true
		if err := keep(filepath.Join(dir, pin), hook, ports, cookie); err != nil {
			return fmt.Errorf("guard the ports of nodes at %s: %w", name, err)
		}
	}
	return removeOthers(dir, wanted)
}

func keep(pin string, hook ebpf.AttachType, ports []uint16, cookie uint64) error {
	if _, err := os.Stat(pin); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	root, err := cgroupRoot()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(pin), 0o700); err != nil {
		return err
	}
	device.Wrote()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "weft_guard", Type: ebpf.CGroupSockAddr, AttachType: hook, License: "Apache-2.0", Instructions: refuse(ports, cookie),
	})
	if err != nil {
		return err
	}
	defer program.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: hook, Program: program})
	if err != nil {
		return err
	}
	defer l.Close()
	return l.Pin(pin)
}

// refuse is the program: 1 lets the call pass.
func refuse(ports []uint16, cookie uint64) asm.Instructions {
	// Offsets in the kernel's struct bpf_sock_addr; the port's bytes are in the order of the network.
	const userPort, protocol = 24, 36
	program := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, protocol, asm.Word),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_UDP, "pass"),
		asm.LoadMem(asm.R1, asm.R6, userPort, asm.Word),
	}
	for _, port := range ports {
		program = append(program, asm.JEq.Imm(asm.R1, int32(port<<8|port>>8), "guarded"))
	}
	return append(program,
		asm.Ja.Label("pass"),
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("guarded"),
		asm.FnGetNetnsCookie.Call(),
		asm.LoadImm(asm.R1, int64(cookie), asm.DWord),
		asm.JNE.Reg(asm.R0, asm.R1, "pass"),
		asm.FnGetCurrentUidGid.Call(),
		asm.Mov.Reg32(asm.R0, asm.R0), // the user; the upper half is the group
		asm.JEq.Imm(asm.R0, 0, "pass"),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
		asm.Mov.Imm(asm.R0, 1).WithSymbol("pass"),
		asm.Return(),
	)
}

// removeOthers forgets what another version, or another namespace of the node's, has left.
func removeOthers(dir string, wanted map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list pins of the guard: %w", err)
	}
	for _, e := range entries {
		if wanted[e.Name()] {
			continue
		}
		device.Wrote()
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove pin of the guard: %w", err)
		}
	}
	return nil
}

// namespace is the number that the kernel has for the present network namespace; it is never given again.
func namespace() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the network namespace: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("ask for the network namespace: %w", err)
	}
	return cookie, nil
}

// cgroupRoot is where the control groups are mounted.
func cgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 && fields[3] == "/" {
			return fields[4], nil
		}
	}
	return "", ErrNoCgroup
}
