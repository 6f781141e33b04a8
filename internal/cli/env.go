// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line: every command is a client of the API, of an agent's local socket, or of the lab.
package cli

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	v1 "weft/api/v1"
	"weft/client"
)

// Env is what a command reads and writes, and the flags that every command has.
type Env struct {
	Out, Err io.Writer // data; progress and errors
	In       io.Reader
	Version  string

	context string // --context
	tenant  string // --tenant
	color   string // --color: auto, always, never
}

// target returns the context that the command is for.
func (e *Env) target() (client.Context, error) {
	contexts, err := client.LoadContexts()
	if err != nil {
		return client.Context{}, err
	}
	c, err := contexts.Get(e.context)
	if err != nil {
		return c, err
	}
	if e.tenant != "" {
		c.Tenant = e.tenant
	}
	return c, nil
}

// client returns a client of the context's server.
func (e *Env) client() (*client.Client, client.Context, error) {
	t, err := e.target()
	if err != nil {
		return nil, t, err
	}
	c, err := t.Client()
	return c, t, err
}

// isTerminal reports whether people look at w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colors decides by flag, NO_COLOR and terminal.
func (e *Env) colors() bool {
	switch e.color {
	case "always":
		return true
	case "never":
		return false
	}
	return os.Getenv("NO_COLOR") == "" && isTerminal(e.Out)
}

// Exit codes of every command. With diff, 1 means that something differs.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitConflict    = 4
	exitDenied      = 5
	exitUnavailable = 6
)

// usageError is a mistake in how a command was called.
type usageError struct{ error }

// codeError ends a command with a code and without a message: it has said all.
type codeError int

func (codeError) Error() string { return "" }

// ExitCode returns the exit code that stands for err.
func ExitCode(err error) int {
	var usage usageError
	var code codeError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		return exitUsage
	}
	list := apiErrors(err)
	if len(list) == 0 {
		return exitFailure
	}
	switch list[0].Code {
	case v1.CodeNotFound:
		return exitNotFound
	case v1.CodeConflict, v1.CodeInUse, v1.CodePrecondition, v1.CodeBindingTaken, v1.CodeWrongNode, v1.CodeImmutable:
		return exitConflict
	case v1.CodeUnauthorized, v1.CodeForbidden, v1.CodeQuota:
		return exitDenied
	case v1.CodeUnavailable, v1.CodeTimeout, v1.CodeNodeGone:
		return exitUnavailable
	}
	return exitFailure
}

// apiErrors lists the errors of the API in err.
func apiErrors(err error) v1.ErrorList {
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
	var code codeError
	if errors.As(err, &code) {
		return ""
	}
	list := apiErrors(err)
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
		b.WriteString(line + "\n")
	}
	return b.String()
}
