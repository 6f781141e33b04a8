// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
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
