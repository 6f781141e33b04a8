// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"weft/internal/cli/term"
)

// TestVerbs runs the commands that need a real server, all at one.
func TestVerbs(t *testing.T) {
	s := newSystem(t)
	s.must("apply", "-f", s.file("network.yaml", network))
	t.Run("edit", func(t *testing.T) { testEdit(t, s) })
	t.Run("diff", func(t *testing.T) { testDiff(t, s) })
	t.Run("exit_codes", func(t *testing.T) { testExitCodes(t, s) })
	t.Run("wait", func(t *testing.T) { testWait(t, s) })
}

var kept = regexp.MustCompile(`your text is kept: (\S+)`)

func testEdit(t *testing.T, s *system) {
	for _, c := range []struct {
		name, editor string
		args         []string
		code         int
		want         string // on standard error or output
		app          string // label of the port afterwards
		keeps        bool   // the text
	}{
		{"changed", "sed -i 's/app: web/app: shop/'", []string{"port", "red/web-1"}, 0, "red/port/web-1 configured", "shop", false},
		{"unchanged", "true", []string{"port/red/web-1"}, 0, "nothing was changed", "shop", false},
		{"only_written_otherwise", "sed -i 's/subnet: web/subnet:   web  # as before/'", []string{"port", "web-1", "-t", "red"}, 0, "nothing was changed", "shop", false},
		{"emptied", "truncate -s 0", []string{"port", "red/web-1"}, 0, "nothing was changed", "shop", false},
		{"removed", "rm", []string{"port", "red/web-1"}, 0, "nothing was changed", "shop", false},
		{"dry_run", "sed -i s/shop/none/", []string{"port", "red/web-1", "--dry-run"}, 0, "configured (dry run)", "shop", false},
		// The first time it makes a mistake, then it finds the complaint in the file and mends it.
		{"mended", s.file("mend", "#!/bin/sh\nif grep -q 'did you mean spec.subnet' \"$1\"; then sed -i s/sbnet/subnet/ \"$1\"; else sed -i 's/subnet: /sbnet: /; s/shop/again/' \"$1\"; fi\n"), []string{"port", "red/web-1"}, 0, "configured", "again", false},
		{"refused_by_the_server", s.file("far", "#!/bin/sh\nif grep -q OUTSIDE \"$1\"; then sed -i /addresses/d \"$1\"; else echo '  addresses: [10.9.9.9]' >>\"$1\"; sed -i s/again/back/ \"$1\"; fi\n"), []string{"port", "red/web-1"}, 0, "configured", "back", false},
		{"given_up", "sed -i s/subnet:/sbnet:/", []string{"port", "red/web-1"}, 1, "UNKNOWN_FIELD", "back", true},
		{"never_learns", "sed -i 's/^spec:/spec:\\n  nope: 1/'", []string{"port", "red/web-1"}, 1, "your text is kept", "back", true},
		{"another_resource", "sed -i s/web-1/web-2/", []string{"port", "red/web-1"}, 1, "not this resource any more", "back", true},
		{"editor_fails", "false", []string{"port", "red/web-1"}, 1, "ended with an error", "back", false},
		{"conflict", s.file("race", "#!/bin/sh\nweft get port red/web-1 -o yaml | sed s/back/theirs/ | weft apply -f - >/dev/null\nsed -i s/back/mine/ \"$1\"\n"), []string{"port", "red/web-1"}, term.ExitConflict, "somebody changed it meanwhile", "theirs", true},
		{"absent", "true", []string{"port", "red/nope"}, term.ExitNotFound, "NOT_FOUND", "theirs", false},
		{"two", "true", []string{"port/red/web-1", "port/red/web-2"}, term.ExitUsage, "name one resource", "theirs", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tmp := t.TempDir()
			out, errs, code := s.weft([]string{"WEFT_EDITOR=" + c.editor, "TMPDIR=" + tmp}, "", append([]string{"edit"}, c.args...)...)
			if code != c.code || !strings.Contains(out+errs, c.want) {
				t.Errorf("exit %d, want %d and %q\n%s%s", code, c.code, c.want, out, errs)
			}
			if got := strings.TrimSpace(s.must("get", "port", "red/web-1", "-o", "jsonpath={.metadata.labels.app}")); got != c.app {
				t.Errorf("the label is %q, want %q", got, c.app)
			}
			left, err := os.ReadDir(tmp)
			if err != nil || len(left) > 1 || (len(left) == 1) != c.keeps {
				t.Errorf("%d files are left, error %v", len(left), err)
			}
			if m := kept.FindStringSubmatch(errs); c.keeps && (m == nil || filepath.Dir(m[1]) != tmp) {
				t.Errorf("the file that is kept is not named:\n%s", errs)
			}
		})
	}
}

func testDiff(t *testing.T, s *system) {
	same := s.must("get", "subnet", "red/web", "-o", "yaml")
	for _, c := range []struct {
		name, text string
		code       int
		want       string
	}{
		{"same", same, 0, ""},
		{"what_the_server_fills_in_is_no_difference", strings.Split(network, "---\n")[2], 0, ""},
		{"differs", strings.Replace(same, "10.0.0.0/20", "10.0.0.0/19", 1), 1, "+  - 10.0.0.0/19"},
		{"new", "apiVersion: weft/v1\nkind: Tenant\nmetadata: {name: blue}\n", 1, "+  name: blue"},
		{"wrong", strings.Replace(same, "10.0.0.0/20", "10.9.0.0/20", 1), 2, "OUTSIDE"},
		{"unreadable", "kind: [", 2, "MALFORMED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, errs, code := s.weft(nil, c.text, "diff", "-f", "-")
			if code != c.code || !strings.Contains(out+errs, c.want) || c.code == 0 && out != "" {
				t.Errorf("exit %d, want %d and %q\n%s%s", code, c.code, c.want, out, errs)
			}
		})
	}
	if out := s.must("get", "tenant", "-o", "name"); out != "tenant/red\n" {
		t.Errorf("diff has written: %s", out)
	}
}

// testExitCodes has each class of docs/operate/cli.md, and that data goes to standard output and everything else to standard error.
func testExitCodes(t *testing.T, s *system) {
	token := s.file("wrong.token", "wrong")
	s.must("context", "add", "denied", "--server", "https://"+s.api, "--ca-file", filepath.Join(s.dir, "state", "ca.pem"), "--token-file", token)
	s.must("context", "add", "away", "--server", "https://127.0.0.1:1", "--ca-file", filepath.Join(s.dir, "state", "ca.pem"), "--token-file", token)
	s.must("context", "use", "test")
	for _, c := range []struct {
		args string
		code int
		want string // on standard error; "": nothing there, and something on standard output
	}{
		{"get port -A", term.ExitOK, ""},
		{"explain port", term.ExitOK, ""},
		{"version", term.ExitOK, ""},
		{"create port red/x --subnet nope", term.ExitFailure, "NO_REFERENCE"},
		{"apply -f /nowhere/at.yaml", term.ExitFailure, "/nowhere/at.yaml"},
		{"get prot", term.ExitUsage, "did you mean port?"},
		{"get port --otuput json", term.ExitUsage, "did you mean --output?"},
		{"gte port", term.ExitUsage, "did you mean get?"},
		{"get port -o jsonpath={.a", term.ExitUsage, "has no closing"},
		{"wait port/red/web-1", term.ExitUsage, "say what to wait for"},
		{"wait port/red/web-1 --for=ready", term.ExitUsage, "--for ready is not possible"},
		{"delete port red/web-1", term.ExitUsage, "add --yes"},
		{"agent --config /nowhere.yaml", term.ExitUsage, "/nowhere.yaml"},
		{"get port red/nope", term.ExitNotFound, "NOT_FOUND"},
		{"describe vpc red/nope", term.ExitNotFound, "NOT_FOUND"},
		{"get port --context nope", term.ExitNotFound, "NOT_FOUND"},
		{"delete subnet red/web --yes", term.ExitConflict, "IN_USE"},
		{"create port red/web-1 --subnet web", term.ExitConflict, "IN_USE"},
		{"get port -A --context denied", term.ExitDenied, "UNAUTHORIZED"},
		{"get port -A --context away", term.ExitUnavailable, "UNAVAILABLE"},
		{"attach red/web-1 --netns none --socket /nowhere.sock", term.ExitUnavailable, "UNAVAILABLE"},
		{"wait port/red/web-1 --for=condition=Ready --timeout 50ms", term.ExitUnavailable, "TIMEOUT"},
	} {
		out, errs, code := s.weft(nil, "", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(errs, c.want) || (c.want == "") != (errs == "") || (c.want == "") != (out != "") {
			t.Errorf("weft %s: exit %d, want %d and %q\nout: %s\nerr: %s", c.args, code, c.code, c.want, out, errs)
		}
	}
}

// notice is told when something is written.
type notice chan struct{}

func (n notice) Write(p []byte) (int, error) {
	select {
	case n <- struct{}{}:
	case <-time.After(time.Second): // nobody waits for it any more
	}
	return len(p), nil
}

func testWait(t *testing.T, s *system) {
	type result struct {
		out, errs string
		code      int
	}
	// begin starts a wait and returns once it waits.
	begin := func(t *testing.T, args ...string) chan result {
		t.Helper()
		done := make(chan result, 1)
		waits := make(notice)
		go func() {
			var out, errs strings.Builder
			code := s.run(nil, "", &out, io.MultiWriter(&errs, waits), append([]string{"wait", "--timeout", "20s"}, args...)...)
			done <- result{out.String(), errs.String(), code}
		}()
		select {
		case <-waits:
		case r := <-done:
			t.Fatalf("it does not wait: exit %d\n%s%s", r.code, r.out, r.errs)
		}
		return done
	}
	end := func(t *testing.T, done chan result, code int, want string) {
		t.Helper()
		if r := <-done; r.code != code || !strings.Contains(r.out+r.errs, want) {
			t.Errorf("exit %d, want %d and %q\n%s%s", r.code, code, want, r.out, r.errs)
		}
	}
	set := func(label string) {
		s.must("apply", "-f", s.file("port.yaml", "apiVersion: weft/v1\nkind: Port\nmetadata: {name: web-1, tenant: red, labels: {app: "+label+"}}\nspec: {subnet: web}\n"))
	}
	t.Run("what_is_true_already", func(t *testing.T) {
		out := s.must("wait", "vpc,subnet", "-t", "red", "--for", "condition=Ready", "--timeout", "5s")
		if out != "red/vpc/main condition met\nred/subnet/web condition met\n" {
			t.Error(out)
		}
		s.must("wait", "port/red/nope", "--for=delete")
		s.must(append([]string{"wait", "--for=create"}, strings.Fields(s.must("get", "vpc,port", "-A", "-o", "name"))...)...)
		s.must("wait", "port", "red/web-1", "--for", "field=spec.subnet=web")
		s.must("wait", "port", "red/web-1", "--for", "jsonpath={.status.addresses[0]}=10.0.0.4")
	})
	t.Run("field", func(t *testing.T) {
		done := begin(t, "port/red/web-1", "--for=field=metadata.labels.app=new")
		set("other")
		set("new")
		end(t, done, 0, "red/port/web-1 condition met")
	})
	t.Run("create_and_delete", func(t *testing.T) {
		done := begin(t, "tenant/green", "--for=create")
		s.must("create", "tenant", "green")
		end(t, done, 0, "tenant/green created")
		done = begin(t, "tenant/green", "--for=delete")
		s.must("delete", "tenant", "green", "--yes")
		end(t, done, 0, "tenant/green deleted")
	})
	t.Run("deleted_meanwhile", func(t *testing.T) {
		s.must("create", "port", "red/short", "--subnet", "web")
		done := begin(t, "port/red/short", "--for=condition=Ready")
		s.must("delete", "port", "red/short", "--yes")
		end(t, done, term.ExitNotFound, "deleted meanwhile")
	})
	t.Run("absent", func(t *testing.T) {
		if out, errs, code := s.weft(nil, "", "wait", "port/red/nope", "--for=condition=Ready"); code != term.ExitNotFound {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
		if out, errs, code := s.weft(nil, "", "wait", "node", "--for=condition=Ready"); code != term.ExitNotFound {
			t.Errorf("exit %d\n%s%s", code, out, errs)
		}
	})
	t.Run("outlives_a_restart_of_the_server", func(t *testing.T) {
		done := begin(t, "port/red/web-1", "--for=field=metadata.labels.app=after")
		s.stop()
		s.start()
		set("after")
		end(t, done, 0, "red/port/web-1 condition met")
	})
}
