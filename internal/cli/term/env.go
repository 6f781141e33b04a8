// SPDX-License-Identifier: Apache-2.0

// Package term is how every command meets its user: where it reads and writes, how it fails, how tables look.
package term

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	v1 "weft/api/v1"
	"weft/client"
)

// Env is what a command reads and writes, and the flags that every command has.
type Env struct {
	Out, Err io.Writer // data; progress and errors
	In       io.Reader
	Version  string

	Context string // --context
	Tenant  string // --tenant
	Color   string // --color: auto, always, never
}

// Target returns the context that the command is for.
func (e *Env) Target() (client.Context, error) {
	contexts, err := client.LoadContexts()
	if err != nil {
		return client.Context{}, err
	}
	c, err := contexts.Get(e.Context)
	if err != nil {
		return c, err
	}
	if e.Tenant != "" {
		c.Tenant = e.Tenant
	}
	return c, nil
}

// Client returns a client of the context's server.
func (e *Env) Client() (*client.Client, client.Context, error) {
	t, err := e.Target()
	if err != nil {
		return nil, t, err
	}
	c, err := t.Client()
	return c, t, err
}

// IsTerminal reports whether people look at w.
func IsTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// CheckColor refuses a value of --color that means nothing.
func (e *Env) CheckColor() error {
	switch e.Color {
	case "", "auto", "always", "never":
		return nil
	}
	return Usagef("--color %s is not possible; use auto, always or never", e.Color)
}

// colors decides by flag, NO_COLOR and terminal.
func (e *Env) colors() bool {
	switch e.Color {
	case "always":
		return true
	case "never":
		return false
	}
	return os.Getenv("NO_COLOR") == "" && IsTerminal(e.Out)
}

// Exit codes of every command. With diff, 1 means that something differs.
const (
	ExitOK          = 0
	ExitFailure     = v1.ExitFailure
	ExitUsage       = v1.ExitUsage
	ExitNotFound    = v1.ExitNotFound
	ExitConflict    = v1.ExitConflict
	ExitDenied      = v1.ExitDenied
	ExitUnavailable = v1.ExitUnavailable
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

// Usage marks an error as a mistake in how a command was called.
func Usage(err error) error { return usageError{err} }

// Usagef is Usage of a new error.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Code ends a command with an exit code and without a message: it has said all.
type Code int

// Error returns nothing.
func (Code) Error() string { return "" }

// ExitCode returns the exit code that stands for err.
func ExitCode(err error) int {
	var usage usageError
	var code Code
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		return ExitUsage
	}
	list := APIErrors(err)
	if len(list) == 0 {
		return ExitFailure
	}
	if e, ok := v1.ErrorByCode(list[0].Code); ok {
		return e.Exit
	}
	return ExitFailure
}

// APIErrors lists the errors of the API in err.
func APIErrors(err error) v1.ErrorList {
	var list v1.ErrorList
	var one *v1.Error
	switch {
	case errors.As(err, &list):
		return list
	case errors.As(err, &one) && len(one.Errors) > 0:
		return one.Errors
	case errors.As(err, &one):
		return v1.ErrorList{one}
	}
	return nil
}

// PrintError writes what was wrong, why, and how to mend it.
func (e *Env) PrintError(err error) {
	if text := errorText(err); text != "" {
		_, _ = io.WriteString(e.Err, text) // nowhere to tell
	}
}

func errorText(err error) string {
	var code Code
	if errors.As(err, &code) {
		return ""
	}
	list := APIErrors(err)
	if len(list) == 0 {
		return "error: " + err.Error() + "\n"
	}
	var one *v1.Error
	request := ""
	if errors.As(err, &one) {
		request = one.RequestID
	}
	var b strings.Builder
	for _, e := range list {
		b.WriteString("error: " + e.Error() + "\n")
		if e.Fix != "" {
			b.WriteString("  fix:  " + e.Fix + "\n")
		}
		line := "  code: " + e.Code
		if id := request; id != "" {
			line += "   request: " + id
		}
		if _, known := v1.ErrorByCode(e.Code); known {
			line += "   more: weft explain error " + e.Code
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// OptionalTarget is Target for commands that work without any context.
func (e *Env) OptionalTarget() (client.Context, error) {
	t, err := e.Target()
	if err != nil && e.Context == "" {
		return client.Context{Tenant: e.Tenant}, nil
	}
	return t, err
}

// WithSignals ends with SIGINT and SIGTERM too.
func WithSignals(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
}

// WriteJSON writes v for programs.
func (e *Env) WriteJSON(v any) error {
	enc := json.NewEncoder(e.Out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// ParsePort reads TENANT/PORT, or PORT with a default tenant.
func ParsePort(arg, def string) (tenant, port string, err error) {
	tenant, port, ok := strings.Cut(arg, "/")
	if !ok {
		tenant, port = def, arg
	}
	if tenant == "" || port == "" {
		return "", "", Usagef("%q does not name a port: write TENANT/PORT, for example red/web-1", arg)
	}
	return tenant, port, nil
}
