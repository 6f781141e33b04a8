// SPDX-License-Identifier: Apache-2.0

package operate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a clean Debian machine: a root of its own above that of the machine that tests, namespaces for all else, and a systemd
// that runs as its first process.
type machine struct {
	name   string
	pid    int // of its first process, as this machine counts
	dir    string
	cgroup string
}

// bootScript becomes the first process of a machine. It is given name, folder and cgroup.
const bootScript = `
set -eu
name=$1 dir=$2
mount --make-rprivate /
mount -t tmpfs tmpfs "$dir"
mkdir "$dir/up" "$dir/work" "$dir/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/up,workdir=$dir/work" "$dir/root"
cd "$dir/root"
rm -rf etc/weft var/lib/weft root/.config/weft etc/systemd/system/weft-* etc/systemd/system/*.wants/weft-*
: > etc/machine-id
echo 'APT::Install-Recommends "false";' > etc/apt/apt.conf.d/99offline # there is no network to fetch them by
rm -f etc/apt/apt.conf.d/20packagekit var/lib/man-db/auto-update
echo force-unsafe-io > etc/dpkg/dpkg.cfg.d/fast
for t in run tmp root dev var/log/journal; do mkdir -p $t; mount -t tmpfs -o mode=755 tmpfs $t; done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o mode=0700 bpf sys/fs/bpf
mkdir dev/net dev/pts dev/shm
for d in null zero full random urandom tty net/tun; do : > dev/$d; mount --bind /dev/$d dev/$d; done
ln -s /proc/self/fd dev/fd
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mkdir -p mnt && mount --bind "$3" mnt
hostname "$name"
echo "$name" > etc/hostname
mkdir old
pivot_root . old
cd /
umount -l old
rmdir old
mount --make-rshared / # as a first process would, were it not in a container
exec env -i container=weft-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target --log-target=journal
`

// boot starts a machine whose /mnt is the folder shared, and joins it to the switch with an address.
func boot(t *testing.T, name, shared, sw, address string) *machine {
	t.Helper()
	m := &machine{name: name, dir: filepath.Join(t.TempDir(), name), cgroup: filepath.Join(cgroups(t), fmt.Sprintf("weft-test-%d-%s", os.Getpid(), name))}
	if err := errors.Join(os.Mkdir(m.dir, 0o700), os.Mkdir(m.cgroup, 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.removeCgroup)
	// The namespace of cgroups begins where its maker is.
	cmd := exec.Command("sh", "-c", `echo $$ > "$4/cgroup.procs" && exec unshare --cgroup -- sh -c "$5" boot "$1" "$2" "$3"`, "boot", name, m.dir, shared, m.cgroup, bootScript)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Setsid:     true, Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // all others of its namespace end with it
		_ = cmd.Wait()
		if t.Failed() && said.Len() > 0 {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
	host(t, "ip", "-n", sw, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(m.pid))
	host(t, "ip", "-n", sw, "link", "set", name, "master", "br0", "up")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, _, err := m.try("systemctl is-active basic.target")
		if err == nil && strings.TrimSpace(out) == "active" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not boot: %s, %v", name, out, err)
		}
	}
	m.run(t, "ip link set lo up; ip addr add "+address+"/24 dev eth0; ip link set eth0 up")
	return m
}

// cgroups is where the second version of cgroups is mounted.
func cgroups(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[2] == "cgroup2" {
			return f[1]
		}
	}
	dir := t.TempDir()
	host(t, "mount", "-t", "cgroup2", "cgroup2", dir)
	t.Cleanup(func() { host(t, "umount", dir) })
	return dir
}

// removeCgroup removes what systemd has made, from the leaves up.
func (m *machine) removeCgroup() {
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var dirs []string
		_ = filepath.WalkDir(m.cgroup, func(path string, d fs.DirEntry, err error) error { // it goes while it is walked
			if err == nil && d.IsDir() {
				dirs = append([]string{path}, dirs...)
			}
			return nil
		})
		for _, d := range dirs {
			_ = os.Remove(d) // processes may be ending in it
		}
		if _, err := os.Stat(m.cgroup); err != nil {
			return
		}
	}
}

// command runs a script on the machine, as root would in a shell.
func (m *machine) command(ctx context.Context, script string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(m.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--root", "--wdns=/root",
		"/usr/bin/env", "-i", "HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8",
		"/bin/bash", "-euo", "pipefail", "-c", script)
}

// scriptMost is how long a script may take.
const scriptMost = 60 * time.Second

// try runs a script.
func (m *machine) try(script string) (out, errors string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptMost)
	defer cancel()
	cmd := m.command(ctx, script)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// run runs a script that must succeed.
func (m *machine) run(t *testing.T, script string) string {
	t.Helper()
	out, errs, err := m.try(script)
	if err != nil {
		journal, _, _ := m.try("journalctl --no-pager -n 40 -o cat")
		t.Fatalf("on %s: %v\n%s\nprinted: %s\nand: %s\njournal:\n%s", m.name, err, script, out, errs, journal)
	}
	return out
}

// host runs a command on the machine that tests.
func host(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}
