// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// serviceName is the tap between the packet path and the agent.
const serviceName = "weft-svc"

// ServiceFrame is enough for every frame on the tap to the agent, bytes.
const ServiceFrame = 64 << 10

// ensureService makes the tap as it should be and returns its index. It stays when the agent ends.
func ensureService() (int, error) {
	found, err := device.ByName(serviceName)
	if errors.Is(err, device.ErrNoDevice) {
		tap := &netlink.Tuntap{
			LinkAttrs: netlink.LinkAttrs{Name: serviceName}, Mode: netlink.TUNTAP_MODE_TAP,
			Flags: netlink.TUNTAP_NO_PI,
		}
		device.Wrote()
		if err := netlink.LinkAdd(tap); err != nil {
			return 0, fmt.Errorf("create %s: %w", serviceName, err)
		}
		found, err = device.ByName(serviceName)
	}
	if err != nil {
		return 0, err
	}
	if tap, ok := found.(*netlink.Tuntap); !ok || tap.Mode != netlink.TUNTAP_MODE_TAP {
		return 0, fmt.Errorf("%s is a %s: %w", serviceName, found.Type(), device.ErrWrongDevice)
	}
	if err := device.Quiet(serviceName); err != nil {
		return 0, err
	}
	return found.Attrs().Index, device.SetUp(found.Attrs().Index)
}

// OpenService opens the tap to the packet path: a frame for each Read and Write, without more. What is read are questions
// of ports: the destination MAC is 02:00 and the index of the port's device, most significant byte first. What is
// written goes to the port that the source MAC names in the same way; its destination MAC must be the port's or a
// group's. One process at a time can have it open.
func OpenService() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", serviceName, err)
	}
	request, err := unix.NewIfreq(serviceName)
	if err == nil {
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", serviceName, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), serviceName), nil
}
