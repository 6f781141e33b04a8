// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// memberEnv tells a process that it is a member, and which.
const memberEnv = "WEFT_TEST_ETCD_MEMBER"

// Times of the members, in milliseconds: shorter than etcd's own, so that a test sees many elections.
const (
	heartbeatMS = 50
	electionMS  = 500
)

// memberConfig is what a member's process is told.
type memberConfig struct {
	Name, Dir    string
	Host         string // by which other members call it: a name, so that they go by their proxy
	Peer, Client int    // ports
	Initial      string
	Certificates string // folder
}

func peerHost(i int) string { return fmt.Sprintf("m%d.weft.invalid", i) }

// runMember is the whole life of a member's process.
func runMember(text string) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with who started it
		os.Exit(0)
	}()
	err := serveMember(text)
	fmt.Fprintln(os.Stderr, "etcd member:", err)
	os.Exit(1)
}

func serveMember(text string) error {
	var m memberConfig
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return err
	}
	at := func(host string, port int) []url.URL {
		return []url.URL{{Scheme: "https", Host: fmt.Sprintf("%s:%d", host, port)}}
	}
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = m.Name, m.Dir, m.Initial
	c.ListenPeerUrls, c.AdvertisePeerUrls = at("127.0.0.1", m.Peer), at(m.Host, m.Peer)
	c.ListenClientUrls, c.AdvertiseClientUrls = at("127.0.0.1", m.Client), at("127.0.0.1", m.Client)
	show := func(who string) transport.TLSInfo {
		return transport.TLSInfo{
			CertFile: filepath.Join(m.Certificates, who+".pem"), KeyFile: filepath.Join(m.Certificates, who+".key"),
			TrustedCAFile: filepath.Join(m.Certificates, "ca.pem"), ClientCertAuth: true,
		}
	}
	c.PeerTLSInfo, c.ClientTLSInfo = show("member"), show("member")
	c.TickMs, c.ElectionMs = heartbeatMS, electionMS
	c.MaxTxnOps = 512
	c.EnableGRPCGateway = false
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	if file := os.Getenv(memberEnv + "_LOG"); file != "" {
		logger := zap.NewProductionConfig()
		logger.OutputPaths = []string{filepath.Join(file, m.Name+".log")}
		l, err := logger.Build()
		if err != nil {
			return err
		}
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(l)
	}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return err
	}
	return <-e.Err()
}

// member is one process, over all its lives.
type member struct {
	dir string
	cfg memberConfig

	mu     sync.Mutex // guards below
	cmd    *exec.Cmd  // nil: it does not run
	stdin  io.Closer
	paused bool
}

// start starts the process. What it says on its standard error is ours, too.
func (m *member) start(proxy string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil {
		return fmt.Errorf("start member %s: it runs", m.cfg.Name)
	}
	text, err := json.Marshal(m.cfg)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(withoutProxies(os.Environ()), memberEnv+"="+string(text), "HTTPS_PROXY="+proxy)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a paused one would not see its input end
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start member %s: %w", m.cfg.Name, err)
	}
	m.cmd, m.stdin, m.paused = cmd, stdin, false
	return nil
}

func withoutProxies(env []string) []string {
	var out []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			out = append(out, e)
		}
	}
	return out
}

func (m *member) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Kill() // it may be dead already
	_ = m.cmd.Wait()
	_ = m.stdin.Close()
	m.cmd = nil
}

func (m *member) running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cmd != nil
}

func (m *member) pause()  { m.signal(syscall.SIGSTOP, true) }
func (m *member) resume() { m.signal(syscall.SIGCONT, false) }

func (m *member) signal(s syscall.Signal, paused bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cmd != nil && m.paused != paused {
		_ = m.cmd.Process.Signal(s) // it may be dead already
		m.paused = paused
	}
}
