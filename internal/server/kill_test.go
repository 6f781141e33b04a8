// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// startProcess runs a server in a process of its own, at the given addresses if there are any.
func startProcess(t *testing.T, dir, addresses string) (s *site, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillAmongWritesLosesNothingThatWasAnswered$")
	cmd.Env = append(os.Environ(), "SERVER_TEST_DIR="+dir, "SERVER_TEST_ADDRESSES="+addresses)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may be dead already
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	s = &site{t: t, dir: dir, roots: x509.NewCertPool()}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if at, ok := strings.CutPrefix(lines.Text(), "server at "); ok {
			api, southbound, _ := strings.Cut(at, " ")
			s.api, s.southbound = "https://"+api, southbound
			break
		}
	}
	eventually(t, "the server answers", func() bool {
		pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil || !s.roots.AppendCertsFromPEM(pem) {
			return false
		}
		resp, err := s.http().Get(s.api + "/healthz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return s, kill
}

func serveForever(t *testing.T, dir, addresses string) {
	first, second, _ := strings.Cut(addresses, " ")
	listen := func(at string) net.Listener {
		if at == "" {
			at = "127.0.0.1:0"
		}
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	api, southbound := listen(first), listen(second)
	fmt.Println("server at", api.Addr(), southbound.Addr())
	err := Run(context.Background(), Config{StateDir: dir, API: api, Southbound: southbound, Version: "test", Log: slog.New(slog.DiscardHandler)})
	t.Fatal(err)
}

// TestKillAmongWritesLosesNothingThatWasAnswered kills the server's process while four clients write, three times. Whatever got an
// answer is there afterwards, and the node, which nobody told, is back by itself.
func TestKillAmongWritesLosesNothingThatWasAnswered(t *testing.T) {
	if dir := os.Getenv("SERVER_TEST_DIR"); dir != "" {
		serveForever(t, dir, os.Getenv("SERVER_TEST_ADDRESSES"))
	}
	dir := t.TempDir()
	s, kill := startProcess(t, dir, "")
	addresses := strings.TrimPrefix(s.api, "https://") + " " + s.southbound
	h1 := s.join("h1", 1)
	eventually(t, "joined", func() bool { return h1.connections() == 1 })
	admin := s.token("admin")
	var mu sync.Mutex // guards answered
	var answered []string
	for round := range 3 {
		var wg sync.WaitGroup
		for writer := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("t%d-%d-%d", round, writer, i)
					body := fmt.Sprintf(`{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":%q},"spec":{}}`, name)
					req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, s.api+"/api/v1/tenants/"+name, bytes.NewReader([]byte(body)))
					req.Header.Set("Authorization", "Bearer "+admin)
					resp, err := s.http().Do(req)
					if err != nil {
						return // it was killed
					}
					resp.Body.Close()
					if resp.StatusCode == http.StatusOK {
						mu.Lock()
						answered = append(answered, name)
						mu.Unlock()
					}
				}
			})
		}
		eventually(t, "writes", func() bool { mu.Lock(); defer mu.Unlock(); return len(answered) > 60*(round+1) })
		kill()
		wg.Wait()
		killed := time.Now()
		s, kill = startProcess(t, dir, addresses)
		for _, name := range answered {
			s.call(http.MethodGet, "/api/v1/tenants/"+name, nil, nil)
		}
		eventually(t, "the node is back", func() bool { return s.node("h1").Ready })
		t.Logf("round %d: %d writes answered, the node is back after %s", round, len(answered), time.Since(killed).Round(time.Millisecond))
	}
	if n := h1.connections(); n != 4 {
		t.Errorf("the node connected %d times", n)
	}
}
