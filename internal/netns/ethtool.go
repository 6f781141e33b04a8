// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of ethtool (linux/ethtool.h).
const (
	ethtoolGetTxChecksum = 0x16
	ethtoolSetTxChecksum = 0x17
	ethtoolSetTSO        = 0x1f
	ethtoolSetGSO        = 0x24
	ethtoolSetGRO        = 0x2c
)

// ethtoolValue is the kernel's struct ethtool_value.
type ethtoolValue struct{ command, data uint32 }

// ethtoolRequest is the kernel's struct ifreq with a pointer to data.
type ethtoolRequest struct {
	device [unix.IFNAMSIZ]byte
	data   *ethtoolValue
	_      [16]byte // its union is 24 bytes long
}

// SetTxChecksum says whether a device takes packets whose checksum is not computed yet, as veth does, or the stack computes
// it before. A network card finishes it; a veth leaves it open, and XDP at its other end would see a wrong one.
func (n *Namespace) SetTxChecksum(device string, offload bool) error {
	v := &ethtoolValue{command: ethtoolSetTxChecksum}
	if offload {
		v.data = 1
	}
	return n.ethtool(device, v)
}

// TxChecksum says whether a device takes packets whose checksum is not computed yet.
func (n *Namespace) TxChecksum(device string) (offload bool, err error) {
	v := &ethtoolValue{command: ethtoolGetTxChecksum}
	err = n.ethtool(device, v)
	return v.data != 0, err
}

func (n *Namespace) ethtool(device string, v *ethtoolValue) error {
	err := Do(n.name, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		defer unix.Close(fd)
		r := &ethtoolRequest{data: v}
		copy(r.device[:unix.IFNAMSIZ-1], device)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(r)))
		if errno != 0 {
			return os.NewSyscallError("ioctl", errno)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("offload of %s in %s: %w", device, n.name, err)
	}
	return nil
}
