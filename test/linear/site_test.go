// SPDX-License-Identifier: Apache-2.0

package linear

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"weft/client"
	"weft/internal/server"
	"weft/internal/store"
	"weft/internal/store/cluster"
)

// serverEnv tells a process that it is a server, and which.
const serverEnv = "WEFT_TEST_SERVER"

func TestMain(m *testing.M) {
	cluster.Main()
	if text := os.Getenv(serverEnv); text != "" {
		serve(text)
	}
	os.Exit(m.Run())
}

// serverConfig is what a server's process is told.
type serverConfig struct {
	Dir, API, Southbound string
	Endpoints            []string
	Access               store.Access
}

// serve is the whole life of a server's process.
func serve(text string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with who started it
		os.Exit(0)
	}()
	var c serverConfig
	err := json.Unmarshal([]byte(text), &c)
	var api, southbound net.Listener
	if err == nil {
		api, err = net.Listen("tcp", c.API)
	}
	if err == nil {
		southbound, err = net.Listen("tcp", c.Southbound)
	}
	if err == nil {
		err = server.Run(context.Background(), server.Config{
			StateDir: c.Dir, API: api, Southbound: southbound, EtcdEndpoints: c.Endpoints, Etcd: c.Access, Version: "test",
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		})
	}
	fmt.Fprintln(os.Stderr, "server:", err)
	os.Exit(1)
}

// site is servers on an etcd of three members.
type site struct {
	t       *testing.T
	etcd    *cluster.Cluster
	servers []*process
}

// process is one server, over all its lives.
type process struct {
	cfg serverConfig
	log *os.File

	mu    sync.Mutex // guards below
	cmd   *exec.Cmd
	stdin io.Closer
	ended chan struct{} // closed when the process has; nil: it was never started
}

// newSite starts everything. Servers after the first one have the first one's authority and token.
func newSite(t *testing.T, servers int) *site {
	t.Helper()
	dir := t.TempDir()
	etcd, err := cluster.Start(t.Context(), filepath.Join(dir, "etcd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	s := &site{t: t, etcd: etcd}
	for i := range servers {
		endpoints, err := etcd.Endpoints(i)
		if err != nil {
			t.Fatal(err)
		}
		p := &process{cfg: serverConfig{
			Dir: filepath.Join(dir, fmt.Sprintf("server%d", i)), API: s.address(), Southbound: s.address(), Endpoints: endpoints,
			Access: store.Access{CAFile: etcd.File("ca.pem"), CertFile: etcd.File("client.pem"), KeyFile: etcd.File("client.key")},
		}}
		if err := os.MkdirAll(p.cfg.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if p.log, err = os.Create(filepath.Join(dir, fmt.Sprintf("server%d.log", i))); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			p.kill()
			_ = p.log.Close()
			if t.Failed() {
				t.Logf("the end of the log of server %d:\n%s", i, tail(p.log.Name()))
			}
		})
		if i > 0 {
			s.share(p.cfg.Dir)
		}
		s.servers = append(s.servers, p)
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
		s.answers(i)
	}
	return s
}

func (s *site) address() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// share gives a further server what the first one has.
func (s *site) share(dir string) {
	for _, name := range []string{"ca.pem", "ca.key", "admin.token"} {
		data, err := os.ReadFile(filepath.Join(s.servers[0].cfg.Dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// answers waits until a server does, and returns a client of it.
func (s *site) answers(i int) *client.Client {
	s.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; pause(s.t.Context(), 20*time.Millisecond) {
		c, err := s.client(i)
		if err == nil {
			ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
			_, err = c.Whoami(ctx)
			cancel()
		}
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("server %d does not answer: %v", i, err)
		}
	}
}

func (s *site) client(i int) (*client.Client, error) {
	p := s.servers[i]
	ca, err := os.ReadFile(filepath.Join(p.cfg.Dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(filepath.Join(p.cfg.Dir, "admin.token"))
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Server: "https://" + p.cfg.API, Token: strings.TrimSpace(string(token)), CA: ca})
}

func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, err := json.Marshal(p.cfg)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serverEnv+"="+string(text))
	cmd.Stderr = p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed, as a rule
		close(ended)
	}()
	p.cmd, p.stdin, p.ended = cmd, stdin, ended
	return nil
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended != nil {
		_ = p.cmd.Process.Kill() // it may be dead already
		<-p.ended
		_ = p.stdin.Close()
	}
}

// revive starts a server that is dead, by its own doing, too: one that finds no majority of etcd when it starts ends.
func (p *process) revive() error {
	select {
	case <-p.ended:
		return p.start()
	default:
		return nil
	}
}

// tail is the last of a file.
func tail(name string) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-8000):])
}
