// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

// canned answers every request with the same status and bytes.
type canned struct {
	status int
	body   []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Status: http.StatusText(c.status), Body: io.NopCloser(bytes.NewReader(c.body)), Request: r, Header: http.Header{}}, nil
}

// FuzzAnswer: whatever a server (or what listens in its place) answers, a call ends with a value or an error of the API.
func FuzzAnswer(f *testing.F) {
	f.Add(true, []byte(`{"apiVersion":"weft/v1","kind":"RouteTable","metadata":{"tenant":"red","name":"rt"},"spec":{"vpc":"main","routes":[{"to":"::/0","via":"port/fw"}]}}`))
	f.Add(true, []byte(`{"resourceVersion":"3","items":[{"metadata":{"name":"a"}},null,7]}`))
	f.Add(true, []byte("id: 3\nevent: ADDED\ndata: {\"type\":\"ADDED\",\"resourceVersion\":\"3\",\ndata: \"object\":{\"metadata\":{\"name\":\"a\",\"resourceVersion\":\"3\"}}}\n\ndata: {\"type\":\"BOOKMARK\"}\n\n"))
	f.Add(true, []byte("data:{\"object\":{}}\n\n"))
	f.Add(false, []byte(`{"code":"IN_USE","message":"m","errors":[null,{"code":"X"}]}`))
	f.Add(false, []byte("<html>"))
	f.Fuzz(func(t *testing.T, good bool, body []byte) {
		c, err := New(Config{Server: "https://127.0.0.1:7443", Token: "x"})
		if err != nil {
			t.Fatal(err)
		}
		status := http.StatusOK
		if !good {
			status = http.StatusConflict
		}
		c.http = &http.Client{Transport: canned{status, body}}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		check := func(what string, err error) {
			var e *v1.Error
			if err != nil && (!errors.As(err, &e) || e.Code == "") {
				t.Errorf("%s: %v has no code", what, err)
			}
			if err == nil && !good {
				t.Errorf("%s: a refusal is no error", what)
			}
		}
		_, err = c.Get(ctx, v1.KindRouteTable, "red", "rt")
		check("get", err)
		_, _, err = c.List(ctx, v1.KindPort, "")
		check("list", err)
		_, err = c.Apply(ctx, []v1.Object{tenant("red")}, ApplyOptions{})
		check("apply", err)
		_, err = c.Delete(ctx, v1.KindTenant, "", "red", DeleteOptions{})
		check("delete", err)
		w := &watch{client: c, kind: v1.KindPort, yield: func(e WatchEvent, _ error) bool { return true }}
		check("watch", w.connect(ctx, "/api/v1/ports"))
	})
}

// FuzzContexts: a file of contexts is refused with a remedy, or means the same after it was written again; what it says of
// a server makes a client or an error that a user can mend.
func FuzzContexts(f *testing.F) {
	f.Add([]byte("current: dc1\ncontexts:\n- name: dc1\n  server: https://127.0.0.1:7443\n  token: \"t: #1\"\n  ca: |\n    -----BEGIN CERTIFICATE-----\n    AA==\n    -----END CERTIFICATE-----\n  tenant: red\n  lab: dc1\n"))
	f.Add([]byte("contexts: [{name: a, server: 'https://[::1]:7443', token: x}, {name: a}, {}]\n"))
	f.Add([]byte("contexts:\n- name: a\n  name: b\n"))
	f.Add([]byte(" \n"))
	dir := f.TempDir()
	file, again := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "again.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := readContexts(file)
		if err != nil {
			if code(err) != v1.CodeMalformed {
				t.Errorf("refused as %v", err)
			}
			return
		}
		if err := c.write(again); err != nil {
			t.Fatal(err)
		}
		if back, err := readContexts(again); err != nil || back.Current != c.Current || !slices.Equal(back.Contexts, c.Contexts) {
			t.Fatalf("%+v came back as %+v, error %v", c, back, err)
		}
		for _, x := range c.Contexts {
			if got, err := c.Get(x.Name); x.Name != "" && (err != nil || got.Name != x.Name) {
				t.Errorf("context %q is %+v, error %v", x.Name, got, err)
			}
			x.TokenFile, x.CAFile = "", "" // files of this machine are not the document's to name here
			if client, err := x.Client(); (client == nil) != (err != nil) || err != nil && code(err) == "" {
				t.Errorf("context %+v makes %v, error %v", x, client, err)
			}
		}
	})
}

// FuzzResume: a stream that breaks anywhere and is sent again from the last version tells each write once, whatever the
// events are, and the version to go on from is one that the stream named.
func FuzzResume(f *testing.F) {
	f.Add("3 a,3 b,4 a,4 -,5 c", uint8(2))
	f.Add("9 a,9 a,9 b", uint8(1))
	f.Fuzz(func(t *testing.T, script string, cut uint8) {
		w := &watch{kind: v1.KindTenant, done: "1"}
		var events []WatchEvent
		versions := map[string]bool{"1": true}
		last := 1
		for _, step := range strings.Split(script, ",") {
			version, name, _ := strings.Cut(step, " ")
			n, err := strconv.Atoi(version)
			if err != nil || strconv.Itoa(n) != version || n < last || len(events) > 64 {
				return // a server counts upwards
			}
			if i := len(events) - 1; i >= 0 && events[i].Object == nil && name != "-" && n == last {
				return // a bookmark follows all of its version
			}
			last = n
			e := WatchEvent{Type: v1.EventBookmark, ResourceVersion: version}
			if name != "-" {
				o := tenant(name)
				o.ResourceVersion = version
				e.Type, e.Object = v1.EventModified, o
			}
			if name != "-" && slices.ContainsFunc(events, func(x WatchEvent) bool {
				return x.Object != nil && x.ResourceVersion == version && x.Object.Meta().Name == name
			}) {
				return // a transaction writes a resource once
			}
			versions[version] = true
			events = append(events, e)
		}
		told := map[string]int{}
		connect := func(events []WatchEvent) {
			w.skip = maps.Clone(w.seen)
			for _, e := range events {
				if w.fresh(e) && e.Object != nil {
					told[e.ResourceVersion+" "+e.Object.Meta().Name]++
				}
			}
		}
		connect(events[:min(int(cut), len(events))])
		if !versions[w.done] {
			t.Fatalf("goes on from %q", w.done)
		}
		from, err := strconv.Atoi(w.done)
		if err != nil {
			t.Fatal(err)
		}
		connect(slices.DeleteFunc(slices.Clone(events), func(e WatchEvent) bool {
			n, err := strconv.Atoi(e.ResourceVersion)
			return err != nil || n <= from
		}))
		for _, e := range events {
			if e.Object != nil && e.ResourceVersion != "1" && told[e.ResourceVersion+" "+e.Object.Meta().Name] != 1 {
				t.Fatalf("%s at %s was told %d times, cut after %d of %q", e.Object.Meta().Name, e.ResourceVersion, told[e.ResourceVersion+" "+e.Object.Meta().Name], cut, script)
			}
		}
	})
}
