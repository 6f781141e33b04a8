// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pair of which the second end is a terminal.
func terminal(t *testing.T) (*os.File, *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// TestCompletionInShells types into real shells, and presses the tabulator.
func TestCompletionInShells(t *testing.T) {
	s := newSystem(t)
	s.must("apply", "-f", s.file("network.yaml", network))
	for shell, c := range map[string]struct{ args, begin string }{
		"bash": {"--norc --noprofile -i", "PS1='READY> '; bind 'set enable-bracketed-paste off'; source <(weft completion bash)\n"},
		"zsh":  {"-f -i", "PS1='READY> '; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -D; source <(weft completion zsh)\n"},
		"fish": {"--no-config -i", "function fish_prompt; echo 'READY> '; end; weft completion fish | source\n"},
	} {
		t.Run(shell, func(t *testing.T) {
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Logf("there is no %s here", shell)
				return
			}
			master, slave := terminal(t)
			cmd := exec.CommandContext(t.Context(), path, strings.Fields(c.args)...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
			cmd.Env = append(os.Environ(), "TERM=dumb", "HOME="+s.dir, "INPUTRC=/dev/null", "HISTFILE=")
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			slave.Close()
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }) // it may have ended
			screen := &screen{t: t, from: master, new: make(chan string, 64)}
			go screen.read()
			screen.enter(master, c.begin)
			screen.await("READY>")
			for typed, want := range map[string]string{
				"weft get port red/\t":         "red/web-1 ",
				"weft describe sub\t":          "describe subnet ",
				"weft get port -t r\t":         "-t red ",
				"weft explain port.spec.sub\t": "port.spec.subnet",
				"weft edi\t":                   "weft edit ",
			} {
				// Where the machine is so busy that the server does not answer in time, the key is pressed again.
				for try := 0; ; try++ {
					screen.enter(master, typed)
					come := screen.comes(want, 3*time.Second)
					screen.enter(master, "\x15\n") // throws the line away
					screen.await("READY>")
					if come {
						break
					}
					if try == 5 {
						t.Fatalf("%q does not become %q", typed, want)
					}
					if err := os.RemoveAll(filepath.Join(s.dir, "cache")); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// TestScriptsOfCompletionAreShell reads those of shells that are not here, too.
func TestScriptsOfCompletionAreShell(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		out, _, err := run("completion", shell)
		if err != nil || !strings.Contains(out, "__complete") {
			t.Errorf("%s: %v", shell, err)
		}
	}
	out, _, _ := run("completion", "bash")
	path := filepath.Join(t.TempDir(), "weft")
	if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("bash", "-n", path).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// screen is what a shell has written since the last look.
type screen struct {
	t    *testing.T
	from *os.File
	new  chan string
	text string
}

func (s *screen) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := s.from.Read(buffer)
		if err != nil {
			return
		}
		s.new <- string(buffer[:n])
	}
}

func (s *screen) enter(to *os.File, text string) {
	s.t.Helper()
	if _, err := to.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// await waits until a text is on the screen, and forgets what is there up to it.
func (s *screen) await(want string) {
	s.t.Helper()
	if !s.comes(want, 20*time.Second) {
		s.t.Fatalf("%q does not come; the screen is %q", want, s.text)
	}
}

// comes is await with a limit.
func (s *screen) comes(want string, within time.Duration) bool {
	deadline := time.After(within)
	for {
		if i := strings.Index(s.text, want); i >= 0 {
			s.text = s.text[i+len(want):]
			return true
		}
		select {
		case more := <-s.new:
			s.text += more
		case <-deadline:
			return false
		}
	}
}
