// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"weft/lab"
)

const (
	bootWithin    = 60 * time.Second // in software; 4 to 8 s where nothing else runs
	commandWithin = 30 * time.Second
	overlayMTU    = 1450
)

// machine is a running virtual machine and its console.
type machine struct {
	t     *testing.T
	end   func() // kills it, and waits; may be repeated
	stdin io.Writer
	lines chan string // of the console, as many as fit; closed with it

	mu  sync.Mutex // guards all
	all strings.Builder
}

// boot starts QEMU on a node, with its network at a tap, and waits until the machine's shell listens. It ends with the test;
// if that has failed, the console is printed.
func boot(t *testing.T, l *lab.Lab, node string, img image, tap, mac string) *machine {
	t.Helper()
	cmd := exec.Command("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "192", "-nodefaults", "-no-reboot", "-display", "none",
		"-kernel", img.kernel, "-initrd", img.initramfs, "-append", "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off",
		"-serial", "stdio",
		"-netdev", fmt.Sprintf("tap,id=n0,ifname=%s,script=no,downscript=no", tap),
		"-device", fmt.Sprintf("virtio-net-pci,netdev=n0,mac=%s,host_mtu=%d,romfile=", mac, overlayMTU))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	m := &machine{t: t, stdin: stdin, lines: make(chan string, 1024)}
	if err := l.Start(cmd, node); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { defer close(read); m.read(out) }()
	m.end = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-read
		_ = cmd.Wait() // it was killed
	})
	t.Cleanup(func() {
		m.end()
		if t.Failed() {
			m.mu.Lock()
			defer m.mu.Unlock()
			t.Logf("console:\n%s", m.all.String())
		}
	})
	m.await("## up", bootWithin)
	return m
}

// read keeps the console's lines.
func (m *machine) read(console io.Reader) {
	defer close(m.lines)
	s := bufio.NewScanner(console)
	for s.Scan() {
		line := strings.TrimRight(s.Text(), "\r")
		m.mu.Lock()
		m.all.WriteString(line + "\n")
		m.mu.Unlock()
		select {
		case m.lines <- line:
		default: // nobody reads so much
		}
	}
}

// await returns the lines up to one that begins so, and that line.
func (m *machine) await(prefix string, within time.Duration) (before []string, line string) {
	m.t.Helper()
	deadline := time.After(within)
	for {
		select {
		case line, ok := <-m.lines:
			if !ok {
				m.t.Fatalf("the machine ended before %q", prefix)
			}
			if strings.HasPrefix(line, prefix) {
				return before, line
			}
			before = append(before, line)
		case <-deadline:
			m.t.Fatalf("no %q on the console within %s", prefix, within)
		}
	}
}

// begin types a command; end returns its output and fails the test if its exit code is not 0.
func (m *machine) begin(format string, args ...any) (end func() string) {
	m.t.Helper()
	command := fmt.Sprintf(format, args...)
	if _, err := fmt.Fprintln(m.stdin, command); err != nil {
		m.t.Fatalf("type %q: %v", command, err)
	}
	return func() string {
		m.t.Helper()
		lines, code := m.await("## ", commandWithin)
		text := strings.Join(lines, "\n")
		if code != "## 0" {
			m.t.Fatalf("in the machine, %q ended with %s:\n%s", command, code[3:], text)
		}
		return text
	}
}

// run does a command in the machine and returns its output.
func (m *machine) run(format string, args ...any) string {
	m.t.Helper()
	return m.begin(format, args...)()
}
