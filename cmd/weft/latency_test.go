// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCommandsAreQuick measures what people wait for, from the start of the process to its end. The bar is for the best of several
// runs, because other tests run beside; -v tells the median and the worst.
func TestCommandsAreQuick(t *testing.T) {
	s := newSystem(t)
	docs := []string{network}
	for i := range 999 {
		docs = append(docs, fmt.Sprintf("apiVersion: weft/v1\nkind: Port\nmetadata: {name: p-%03d, tenant: red}\nspec: {subnet: web}\n", i))
	}
	s.must("apply", "-f", s.file("many.yaml", strings.Join(docs, "---\n")))
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, server := range map[string]string{"silent": silent.Addr().String(), "absent": "127.0.0.1:1", "nowhere": "192.0.2.1:7443"} {
		s.must("context", "add", name, "--server", "https://"+server, "--ca-file", filepath.Join(s.dir, "state", "ca.pem"), "--token-file", filepath.Join(s.dir, "state", "admin.token"))
	}
	s.must("context", "use", "test")
	for _, c := range []struct {
		name, args string
		bar        time.Duration
		lines      int
		cold       bool // without the names of the run before
	}{
		{"help", "--help", 50 * time.Millisecond, 30, false},
		{"help_of_a_command", "lab fault loss --help", 50 * time.Millisecond, 10, false},
		{"explain_a_field", "explain port.spec.addresses", 50 * time.Millisecond, 5, false},
		{"get_1000", "get port -t red", 300 * time.Millisecond, 1001, false},
		{"get_1000_as_json", "get port -t red -o json", 300 * time.Millisecond, 20000, false},
		{"get_1000_as_yaml", "get port -t red -o yaml", 600 * time.Millisecond, 15000, false}, // a promise of nobody; here to be seen
		{"complete_1000_names", "__complete get port red/", 300 * time.Millisecond, 1000, true},
		{"complete_1000_names_again", "__complete get port red/", 300 * time.Millisecond, 1000, false},
		{"complete_from_a_silent_server", "__complete --context silent get port red/", 300 * time.Millisecond, 0, true},
		{"complete_from_no_server", "__complete --context absent get port red/", 300 * time.Millisecond, 0, true},
		{"complete_from_a_server_out_of_reach", "__complete --context nowhere get port red/", 300 * time.Millisecond, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var took []time.Duration
			for range 7 {
				if c.cold {
					if err := os.RemoveAll(filepath.Join(s.dir, "cache")); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now()
				out, errs, code := s.weft(nil, "", strings.Fields(c.args)...)
				n := strings.Count(out, "\n")
				if code != 0 || n < c.lines && !strings.HasPrefix(c.args, "__complete") {
					t.Fatalf("exit %d, %d lines\n%.500s%s", code, n, out, errs)
				}
				if n >= c.lines { // completion gives up where the machine is too busy
					took = append(took, time.Since(start))
				}
			}
			if slices.Sort(took); len(took) == 0 {
				t.Fatal("it never had an answer in time")
			}
			t.Logf("best %s, median %s, worst %s of %d; bar %s", took[0].Round(time.Millisecond), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took), c.bar)
			if took[0] > c.bar {
				t.Errorf("the best of %v is above %s", took, c.bar)
			}
		})
	}
}
