// SPDX-License-Identifier: Apache-2.0

package device

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"

	"github.com/vishvananda/netlink"
)

// Errors that callers can tell apart.
var (
	// ErrNoDevice says that a network device does not exist.
	ErrNoDevice = errors.New("no such device")
	// ErrWrongDevice says that a device of the name exists, but is not weft's to change.
	ErrWrongDevice = errors.New("device is of another kind")
)

// MaxMTU is the longest that a device can have, in bytes of layer 3.
const MaxMTU = 65535

// writes counts the changes this process has made in the kernel.
var writes atomic.Uint64

// Wrote counts a change that is being made in the kernel.
func Wrote() { writes.Add(1) }

// Writes returns how many changes this process has made in the kernel.
func Writes() uint64 { return writes.Load() }

// Before is how a device was before a port took it: what giving it back restores.
type Before struct {
	Index int  `json:"index"`
	MTU   int  `json:"mtu"`
	IPv6  bool `json:"ipv6"` // the node's stack spoke IPv6 there
}

// Own reports whether the name is one of the packet path's own devices.
func Own(name string) bool { return strings.HasPrefix(name, "weft-") }

// Inspect says how a device is that a port is about to take.
func Inspect(name string) (Before, error) {
	found, err := ByName(name)
	if err != nil {
		return Before{}, err
	}
	return Before{Index: found.Attrs().Index, MTU: found.Attrs().MTU, IPv6: !IsQuiet(name)}, nil
}

// Return gives a device back as it was, but down: whoever brings it up decides what may pass then. One that is gone,
// or was made anew, is left alone.
func Return(name string, b Before) error {
	found, err := ByName(name)
	if errors.Is(err, ErrNoDevice) {
		return nil
	}
	if err != nil || found.Attrs().Index != b.Index {
		return err
	}
	if b.IPv6 {
		if err := EnsureSysctl(ipv6Switch(name), "0"); err != nil {
			return err
		}
	}
	return SetMTU(found, b.MTU)
}

// SetMTU sets a device's MTU where it differs.
func SetMTU(l netlink.Link, mtu int) error {
	if l.Attrs().MTU == mtu {
		return nil
	}
	Wrote()
	if err := netlink.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("set MTU of %s to %d: %w", l.Attrs().Name, mtu, err)
	}
	return nil
}

// IsQuiet reports whether the node's own stack does not speak IPv6 on a device.
func IsQuiet(device string) bool {
	now, err := os.ReadFile("/proc/sys/" + ipv6Switch(device))
	return err != nil || strings.TrimSpace(string(now)) == "1" // without IPv6 in the kernel all are
}

// EnsureSysctl writes a setting of the caller's namespace where it differs. One that this kernel lacks is fine.
func EnsureSysctl(name, value string) error {
	path := "/proc/sys/" + name
	now, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read setting: %w", err)
	}
	if strings.TrimSpace(string(now)) == value {
		return nil
	}
	Wrote()
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return fmt.Errorf("write setting: %w", err)
	}
	return nil
}

// Quiet keeps the node's own stack from speaking IPv6 on a device that carries tenants' packets.
func Quiet(device string) error {
	return EnsureSysctl(ipv6Switch(device), "1")
}

func ipv6Switch(device string) string { return "net/ipv6/conf/" + device + "/disable_ipv6" }
