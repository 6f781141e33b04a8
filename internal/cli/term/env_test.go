// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	v1 "weft/api/v1"
)

func TestColoursAreForTerminalsAndMayBeSwitchedOff(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	for _, c := range []struct {
		name, color, noColor string
		screen, want         bool
	}{
		{"terminal", "auto", "", true, true},
		{"terminal_unsaid", "", "", true, true},
		{"pipe", "auto", "", false, false},
		{"no_color", "auto", "1", true, false},
		{"flag_before_no_color", "always", "1", false, true},
		{"never", "never", "", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("NO_COLOR", c.noColor)
			env := &Env{Out: new(bytes.Buffer), Color: c.color}
			if c.screen {
				env.Out = screen
			}
			if got := env.colors(); got != c.want {
				t.Errorf("colours: %t", got)
			}
		})
	}
}

// TestEveryCodeEndsAsTheCatalogueSays: alone, in a list, and wrapped.
func TestEveryCodeEndsAsTheCatalogueSays(t *testing.T) {
	for _, e := range v1.ErrorCodes() {
		one := &v1.Error{Code: e.Code, Message: "no", RequestID: "R1"}
		for _, err := range []error{one, v1.ErrorList{one}, fmt.Errorf("do it: %w", one)} {
			if got := ExitCode(err); got != e.Exit {
				t.Errorf("%s: exit %d, want %d", e.Code, got, e.Exit)
			}
			if text := errorText(err); !strings.Contains(text, "code: "+e.Code) || !strings.Contains(text, "more: weft explain error "+e.Code) {
				t.Errorf("%s: %s", e.Code, text)
			}
		}
	}
	for err, want := range map[error]int{nil: ExitOK, errors.New("x"): ExitFailure, Usagef("x"): ExitUsage, Code(4): 4, &v1.Error{Code: "OF_A_NEWER_SERVER"}: ExitFailure} {
		if got := ExitCode(err); got != want {
			t.Errorf("%v: exit %d, want %d", err, got, want)
		}
	}
}
