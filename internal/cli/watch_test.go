// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/cli/term"
)

// event writes one step of a watch.
func (d *desk) event(w http.ResponseWriter, kind v1.EventType, version string, o v1.Object) {
	e := v1.Event{Type: kind, ResourceVersion: version}
	if o != nil {
		body, err := json.Marshal(o)
		if err != nil {
			d.t.Error(err)
		}
		e.Object = body
	}
	body, err := json.Marshal(e)
	if err != nil {
		d.t.Error(err)
	}
	fmt.Fprintf(w, "data: %s\n\n", body)
}

// TestWatch lists, follows, and lists again where the server no longer knows what came in between.
func TestWatch(t *testing.T) {
	d := newDesk(t)
	moved := v1.Clone(d.objects["/api/v1/tenants/red/ports/web-1"]).(*v1.Port)
	moved.Status.Node, moved.ResourceVersion = "host-2", "11"
	d.stream = []func(http.ResponseWriter){
		func(w http.ResponseWriter) {
			d.event(w, v1.EventBookmark, "9", nil)
			d.event(w, v1.EventModified, "11", moved)
		},
		func(w http.ResponseWriter) {
			d.fail(w, &v1.Error{Status: 410, Code: v1.CodeExpired, Message: "too old"})
		},
		func(w http.ResponseWriter) {
			d.fail(w, &v1.Error{Status: 403, Code: v1.CodeForbidden, Message: "no more"})
		},
	}
	out, errs, code := weft("", "get", "port", "-t", "red", "-l", "app=web", "--watch")
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(out), "\n") {
		f := strings.Fields(line)
		got = append(got, strings.Join([]string{f[0], f[1], f[5]}, " "))
	}
	want := []string{"EVENT NAME NODE", "ADDED web-1 host-1", "MODIFIED web-1 host-2", "ADDED web-1 host-1"}
	if !slices.Equal(got, want) || code != term.ExitDenied || !strings.Contains(errs, "once more") || !strings.Contains(errs, "no more") {
		t.Errorf("exit %d, %q\n%s%s", code, got, out, errs)
	}
}

// TestCompletion asks as a shell does.
func TestCompletion(t *testing.T) {
	newDesk(t)
	for line, want := range map[string]string{
		"get ":                              "drops tenant node vpc subnet port routetable",
		"delete ":                           "tenant node vpc subnet port routetable",
		"get port ":                         "red/web-1 red/web-2",
		"describe node ":                    "host-1 host-2",
		"get port/":                         "port/red/web-1 port/red/web-2",
		"get port/red/web-2 port/red/web-1": "port/red/web-1",
		"get port -t red ":                  "web-1 web-2",
		"get port -t blue red/":             "red/web-1 red/web-2",
		"explain error NO":                  "NO_REFERENCE NOT_FOUND NODE_GONE NODE_DRAINED NODE_REMOVED NODE_ALIVE",
		"explain drop src-":                 "src-mac-spoof src-ip-spoof",
		"wait node --for ":                  "condition=Ready condition=Applied create delete field=",
		"get port -o ":                      "table wide name json yaml csv jsonpath=",
		"get port -o jsonp":                 "jsonpath=",
		"status -o ":                        "table json yaml",
		"completion ":                       "bash zsh fish powershell",
		"attach ":                           "red/web-1 red/web-2",
		"detach red/web-2":                  "red/web-2",
		"dump --node ":                      "host-1 host-2",
		"get port -t ":                      "red",
		"context use ":                      "test",
		"explain port.spec.a":               "port.spec.addresses port.spec.allowedSources",
		"--color ":                          "auto always never",
	} {
		args := strings.Split(line, " ")
		out, _, code := weft("", append([]string{"__complete"}, args...)...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if got := strings.Join(lines[:len(lines)-1], " "); code != 0 || got != want {
			t.Errorf("%q completes to %q, want %q", line, got, want)
		}
	}
}

// TestCompletionDoesNotHang: a shell waits for it at every key, and the next key is answered at once.
func TestCompletionDoesNotHang(t *testing.T) {
	d := newDesk(t)
	d.stall = time.Second
	for _, most := range []time.Duration{700 * time.Millisecond, 100 * time.Millisecond} {
		start := time.Now()
		if out, _, code := weft("", "__complete", "get", "port", ""); code != 0 || strings.Contains(out, "web-1") || time.Since(start) > most {
			t.Errorf("after %s, of %s, exit %d:\n%s", time.Since(start), most, code, out)
		}
	}
}

// TestCompletionRemembersNames for some seconds, of each tenant and kind by itself.
func TestCompletionRemembersNames(t *testing.T) {
	d := newDesk(t)
	for range 3 {
		for _, kind := range []string{"port", "node"} {
			if out, _, _ := weft("", "__complete", "get", kind, ""); !strings.Contains(out, "-1") {
				t.Errorf("completes to %s", out)
			}
		}
	}
	if len(d.calls) != 2 {
		t.Errorf("the server was asked %q", d.calls)
	}
	weft("", "__complete", "get", "port", "-t", "blue", "")
	if len(d.calls) != 3 {
		t.Errorf("names of one tenant were taken for another's: %q", d.calls)
	}
	cache, err := os.ReadDir(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "weft"))
	if err != nil || len(cache) != 3 {
		t.Errorf("%d files in the cache, error %v", len(cache), err)
	}
	for _, f := range cache {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, error %v", f.Name(), info.Mode(), err)
		}
		past := time.Now().Add(-time.Minute)
		if err := os.Chtimes(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "weft", f.Name()), past, past); err != nil {
			t.Fatal(err)
		}
	}
	if weft("", "__complete", "get", "node", ""); len(d.calls) != 4 {
		t.Errorf("old names are still good: %q", d.calls)
	}
}
