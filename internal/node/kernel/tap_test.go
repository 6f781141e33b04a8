// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weft/internal/node/kernel/device"
)

// openAs opens a tap as a user of the machine who has no privileges, and where everybody may open TunDevice: udev makes it so
// (mode 0666), as the kernel asks for itself who may have a device.
func openAs(t *testing.T, user int, name string) error {
	t.Helper()
	node := filepath.Join(t.TempDir(), "tun")
	if err := unix.Mknod(node, unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil {
		return err
	}
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	// Of this thread alone: it is root again when the call has been made.
	setuid := func(id int) error {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(id), ^uintptr(0)); errno != 0 {
			return errno
		}
		return nil
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := setuid(user); err != nil {
		return err
	}
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	if back := setuid(0); back != nil {
		t.Fatal(back) // the thread is of no more use to others
	}
	return err
}

// A tap without an owner is anybody's for the kernel: who opened it would be the workload, as soon as nobody else has it open.
func TestTapIsItsOwnersOnly(t *testing.T) {
	const nobody = 65534
	owner := uint32(1234)
	for _, c := range []struct {
		name  string
		owner *uint32
		user  int
		want  error
	}{
		{"root's, by another user", nil, nobody, unix.EPERM},
		{"root's, by root", nil, 0, nil},
		{"a user's, by another", &owner, nobody, unix.EPERM},
		{"a user's, by that one", &owner, int(owner), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := newNS(t)
			tap := testTap
			tap.Owner = c.owner
			ns.do(t, func() error {
				if _, err := device.CreateTap(tap); err != nil {
					return err
				}
				if err := openAs(t, c.user, tap.Name); !errors.Is(err, c.want) {
					return fmt.Errorf("opened by user %d: %v, want %v", c.user, err, c.want)
				}
				return nil
			})
		})
	}
	t.Run("the tap to the agent", func(t *testing.T) {
		ns := newNS(t)
		ns.do(t, func() error {
			if _, err := ensureService(); err != nil {
				return err
			}
			if err := openAs(t, nobody, serviceName); !errors.Is(err, unix.EPERM) {
				return fmt.Errorf("opened: %v, want %v", err, unix.EPERM)
			}
			return nil
		})
	})
}

// openTap opens a tap as a virtual machine monitor does, and makes it if it is not there; frames carry no virtio header
// unless flags say so.
func openTap(name string, flags uint16) (*os.File, error) {
	fd, err := unix.Open(device.TunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

var testTap = device.Tap{Name: "tap0", MTU: 1450, Alias: "weft red/vm-1"}

func TestTapOutlivesItsMaker(t *testing.T) {
	ns := newNS(t)
	owner := uint32(1234)
	tap := testTap
	tap.Owner = &owner
	ns.do(t, func() error {
		index, err := device.CreateTap(tap)
		if err != nil {
			return err
		}
		l, found, err := device.FindLink("tap0")
		if err != nil || !found || !l.Tap || l.Up || l.Index != index || l.MTU != 1450 || l.Alias != tap.Alias || l.Elsewhere {
			return fmt.Errorf("made %+v, found %v, %v", l, found, err)
		}
		made, err := netlink.LinkByName("tap0")
		if err != nil || made.(*netlink.Tuntap).Owner != owner || made.(*netlink.Tuntap).NonPersist {
			return fmt.Errorf("made %+v, %v", made, err)
		}
		if _, err := device.CreateTap(tap); err == nil {
			return errors.New("made one that is there")
		}
		return device.DeleteLink("tap0")
	})
}

// Whoever opens the tap says whether its frames have virtio headers; several queues are said when it is made.
func TestTapIsOpenedAsItsUserWants(t *testing.T) {
	ns := newNS(t)
	for name, c := range map[string]struct {
		multi bool
		flags uint16
		works bool
	}{
		"plain":                    {false, 0, true},
		"virtio headers":           {false, unix.IFF_VNET_HDR, true},
		"one queue of several":     {true, unix.IFF_VNET_HDR | unix.IFF_MULTI_QUEUE, true},
		"several of one":           {false, unix.IFF_MULTI_QUEUE, false},
		"one, where several exist": {true, 0, false},
	} {
		ns.do(t, func() error {
			tap := testTap
			tap.MultiQueue = c.multi
			if _, err := device.CreateTap(tap); err != nil {
				return err
			}
			f, err := openTap("tap0", c.flags)
			if (err == nil) != c.works {
				return fmt.Errorf("%s: opened with %v", name, err)
			}
			if err == nil {
				err = f.Close()
			} else {
				err = nil
			}
			return errors.Join(err, device.DeleteLink("tap0"))
		})
	}
}

func TestDeviceIsTakenAndReturnedAsItWas(t *testing.T) {
	n := newNode(t, "a", "198.19.0.1")
	var tap *os.File
	var before device.Before
	n.do(t, func() (err error) {
		if tap, err = openTap("tap0", 0); err != nil {
			return err
		}
		found, err := netlink.LinkByName("tap0")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(found); err != nil {
			return err
		}
		if before, err = device.Inspect("tap0"); err != nil || !before.IPv6 || before.MTU != 1500 {
			return fmt.Errorf("before %+v, %v", before, err)
		}
		return n.dp.TakeDevice("tap0", 1450)
	})
	defer tap.Close()
	look := func(mtu int, up, ipv6 bool) {
		t.Helper()
		n.do(t, func() error {
			l, _, err := device.FindLink("tap0")
			if err != nil || l.MTU != mtu || l.Up != up || device.IsQuiet("tap0") == ipv6 {
				return fmt.Errorf("%+v, quiet %v, %v; want MTU %d, up %v, IPv6 %v", l, device.IsQuiet("tap0"), err, mtu, up, ipv6)
			}
			return nil
		})
	}
	look(1450, false, false)
	n.do(t, func() error { return n.dp.AttachPort(before.Index, "tap0") })
	if w := n.changes(t, func() error { return n.dp.TakeDevice("tap0", 1450) }); w != 0 {
		t.Errorf("%d writes for a device that has the programs", w)
	}
	look(1450, true, false)
	n.do(t, func() error { return errors.Join(n.dp.DetachPort("tap0"), device.Return("tap0", before)) })
	look(1500, false, true)
	n.do(t, func() error {
		other := before
		other.Index++
		other.MTU = 1300
		return errors.Join(device.Return("tap0", other), device.Return("nowhere0", before)) // made anew; gone
	})
	look(1500, false, true)
}

// The kernel takes a program off only some time after its last pin went; a device that stays must not meet that.
func TestDeviceThatStaysIsAttachedAgainAtOnce(t *testing.T) {
	n := newNode(t, "a", "198.19.0.1")
	n.do(t, func() error {
		index, err := device.CreateTap(testTap)
		for i := 0; err == nil && i < 20; i++ {
			err = errors.Join(n.dp.AttachPort(index, testTap.Name), n.dp.DetachPort(testTap.Name))
		}
		return errors.Join(err, device.DeleteLink(testTap.Name))
	})
}

func TestVethInTheNodesNamespaceMayBeTakenAnywhere(t *testing.T) {
	host, elsewhere := newNS(t), newNS(t)
	v := testVeth
	v.PeerName = "box0"
	create := func() error { _, err := device.CreateVeth(v); return err }
	host.do(t, create)
	host.do(t, func() error {
		near, _, err := device.FindLink(v.HostName)
		far, found, err2 := device.FindLink("box0")
		if err := errors.Join(err, err2); err != nil || near.Elsewhere || !found || far.Up || far.MTU != v.MTU {
			return fmt.Errorf("near %+v, far %+v, %v", near, far, err)
		}
		box, err := netlink.LinkByName("box0")
		if err != nil || string(box.Attrs().HardwareAddr) != string(v.MAC[:]) {
			return fmt.Errorf("far end %+v, %v", box, err)
		}
		ns, err := device.OpenNetNS(elsewhere.path)
		if err != nil {
			return err
		}
		defer ns.Close()
		return netlink.LinkSetNsFd(box, int(ns))
	})
	if n := host.changes(t, create); n != 0 {
		t.Errorf("%d writes after the other end was taken away", n)
	}
	host.do(t, func() error {
		near, _, err := device.FindLink(v.HostName)
		if err != nil || !near.Elsewhere {
			return fmt.Errorf("near %+v, %v", near, err)
		}
		return nil
	})
}
