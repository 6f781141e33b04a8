// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// modules are what virtio-net needs, in the order in which they are loaded: the ring is the first of virtio.
var modules = []string{
	"net/core/failover", "drivers/net/net_failover", "drivers/virtio/virtio_ring", "drivers/virtio/virtio",
	"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci_modern_dev", "drivers/virtio/virtio_pci", "drivers/net/virtio_net",
}

// initScript makes an interface of the machine and then does what the console says: a command a line, its output, "##" and
// its exit code.
const initScript = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
stty -echo
for m in %s; do insmod /modules/$m.ko; done
ip link set lo up
ip link set eth0 up
echo
echo "## up"
while read -r line; do
	eval "$line"
	echo "## $?"
done
poweroff -f
`

// leaseScript is what udhcpc calls with what it got.
const leaseScript = `#!/bin/sh
case $1 in bound|renew) ;; *) exit 0;; esac
ip addr flush dev $interface scope global
ip addr add $ip/$mask dev $interface
[ -z "$mtu" ] || ip link set $interface mtu $mtu
for r in $router; do ip route replace default via $r dev $interface; done
echo "lease ip=$ip mask=$mask router=$router mtu=$mtu lease=$lease"
`

// image is what a machine boots.
type image struct{ kernel, initramfs string }

// buildImage makes an initramfs of the Debian packages that tools/vm-packages unpacked.
func buildImage(t *testing.T) image {
	t.Helper()
	packages := unpacked(t)
	kernels, err := filepath.Glob(filepath.Join(packages, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("kernels %v, %v; want one", kernels, err)
	}
	version := strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	var a archive
	for _, dir := range []string{"bin", "dev", "proc", "sys", "modules"} {
		a.add(dir, 0o040755, nil)
	}
	a.addFile(t, "bin/busybox", filepath.Join(packages, "bin/busybox"))
	var names []string
	for _, m := range modules {
		name := filepath.Base(m)
		names = append(names, name)
		a.addFile(t, "modules/"+name+".ko", filepath.Join(packages, "lib/modules", version, "kernel", m+".ko"))
	}
	a.add("init", 0o100755, fmt.Appendf(nil, initScript, strings.Join(names, " ")))
	a.add("bin/lease", 0o100755, []byte(leaseScript))
	out := filepath.Join(t.TempDir(), "initramfs.gz")
	if err := a.write(out); err != nil {
		t.Fatal(err)
	}
	return image{kernels[0], out}
}

// unpacked has the packages of a virtual machine unpacked, once, below bin, and returns their folder.
func unpacked(t *testing.T) string {
	t.Helper()
	const packages = "../../bin/vm"
	if out, err := exec.Command("../../tools/vm-packages", packages).CombinedOutput(); err != nil {
		t.Fatalf("unpack kernel and busybox: %v\n%s", err, out)
	}
	return packages
}

// archive is a cpio archive in the form "newc", the one that the kernel unpacks.
type archive struct {
	bytes.Buffer
	files int
}

func (a *archive) add(name string, mode uint32, data []byte) {
	a.files++
	fields := []any{a.files, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0}
	fmt.Fprintf(a, "070701"+strings.Repeat("%08x", len(fields)), fields...)
	a.WriteString(name + "\x00")
	a.pad()
	a.Write(data)
	a.pad()
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() { a.Write(make([]byte, -a.Len()&3)) }

func (a *archive) addFile(t *testing.T, name, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	a.add(name, 0o100755, data)
}

func (a *archive) write(file string) error {
	a.add("TRAILER!!!", 0, nil)
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return err
	}
	if _, err := z.Write(a.Bytes()); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return os.WriteFile(file, packed.Bytes(), 0o600)
}
