// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"weft/internal/identity"
	"weft/internal/server"
)

// asProgram makes the test's own program behave as weft, so that shells and editors can call it.
const asProgram = "WEFT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// system is a server without nodes, and a folder with a program weft that knows it.
type system struct {
	t               *testing.T
	dir             string
	api, southbound string // addresses
	oidc            identity.OIDC
	stop            func()
}

// newSystem starts a server and makes the context of it.
func newSystem(t *testing.T) *system {
	t.Helper()
	return newSystemWith(t, identity.OIDC{})
}

func newSystemWith(t *testing.T, people identity.OIDC) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir(), api: "127.0.0.1:0", southbound: "127.0.0.1:0", oidc: people}
	t.Setenv("WEFT_CONFIG", filepath.Join(s.dir, "config.yaml"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(s.dir, "cache"))
	for _, name := range []string{"WEFT_EDITOR", "VISUAL", "EDITOR"} {
		t.Setenv(name, "")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %s \"$@\"\n", asProgram, self)
	if err := os.Mkdir(filepath.Join(s.dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "bin", "weft"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(s.dir, "bin")+":"+os.Getenv("PATH"))
	s.start()
	s.must("context", "add", "test", "--server", "https://"+s.api, "--ca-file", filepath.Join(s.dir, "state", "ca.pem"), "--token-file", filepath.Join(s.dir, "state", "admin.token"))
	return s
}

// start starts the server, at the addresses of the one before, if there was one.
func (s *system) start() {
	s.t.Helper()
	cfg := server.Config{StateDir: filepath.Join(s.dir, "state"), Names: []string{"127.0.0.1"}, OIDC: s.oidc, Version: "test", Log: slog.New(slog.DiscardHandler)}
	var err error
	if cfg.API, err = net.Listen("tcp", s.api); err != nil {
		s.t.Fatal(err)
	}
	if cfg.Southbound, err = net.Listen("tcp", s.southbound); err != nil {
		s.t.Fatal(err)
	}
	s.api, s.southbound = cfg.API.Addr().String(), cfg.Southbound.Addr().String()
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, cfg) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("the server ended with %v", err)
		}
	})
	s.t.Cleanup(func() { s.stop() })
	s.eventually("the server answers", func() bool {
		c, err := net.DialTimeout("tcp", s.api, time.Second)
		if err != nil {
			return false
		}
		c.Close()
		_, err = os.Stat(filepath.Join(s.dir, "state", "admin.token"))
		return err == nil
	})
}

func (s *system) eventually(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not in 20 s: %s", what)
		}
	}
}

// must runs weft, which has to succeed, and returns what it printed.
func (s *system) must(args ...string) string {
	s.t.Helper()
	out, errs, code := s.weft(nil, "", args...)
	if code != 0 {
		s.t.Fatalf("weft %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// weft runs the program in a process of its own, as people do.
func (s *system) weft(env []string, in string, args ...string) (out, errs string, code int) {
	s.t.Helper()
	var o, e strings.Builder
	code = s.run(env, in, &o, &e, args...)
	return o.String(), e.String(), code
}

// run is weft with outputs of the caller's.
func (s *system) run(env []string, in string, out, errs io.Writer, args ...string) (code int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "bin", "weft"), args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), out, errs
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Error(err)
		return -1
	}
	return cmd.ProcessState.ExitCode()
}

// file writes a file and returns its path.
func (s *system) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		s.t.Fatal(err)
	}
	return path
}

const network = `apiVersion: weft/v1
kind: Tenant
metadata: {name: red}
---
apiVersion: weft/v1
kind: VPC
metadata: {name: main, tenant: red}
spec: {prefixes: [10.0.0.0/16]}
---
apiVersion: weft/v1
kind: Subnet
metadata: {name: web, tenant: red}
spec: {vpc: main, prefixes: [10.0.0.0/20]}
---
apiVersion: weft/v1
kind: Port
metadata: {name: web-1, tenant: red, labels: {app: web}}
spec: {subnet: web}
`
