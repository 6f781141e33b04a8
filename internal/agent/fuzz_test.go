// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	v1 "weft/api/v1"
	"weft/internal/node/port"
	"weft/internal/southbound"
)

// FuzzAttachRequest: whatever is written to the agent's socket is answered by JSON: an attachment that names one port and
// one way, with a name that a device can have, or an error with a code.
func FuzzAttachRequest(f *testing.F) {
	f.Add([]byte(`{"tenant":"red","port":"web-1","netns":"web-1"}`))
	f.Add([]byte(`{"tenant":"red","port":"web-1","netns":"/proc/self/ns/net","device":"eth0","static":true}`))
	f.Add([]byte(`{"tenant":"red","port":"web-1","tap":"tap0","multiQueue":true,"owner":7,"force":true,"move":true}`))
	f.Add([]byte(`{"tenant":"red","port":"web-1","device":"..","veth":"a/b"}`))
	f.Add([]byte(`{"tenant":"red","speed":10}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var asked v1.AttachRequest
		var got port.Attachment
		h := handle(func(_ context.Context, r v1.AttachRequest) (struct{}, error) {
			var err error
			asked = r
			got, err = toWanted(r)
			return struct{}{}, err
		})
		w := httptest.NewRecorder()
		h(w, httptest.NewRequest(http.MethodPost, "/v1/attach", bytes.NewReader(body)))
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("answered by %q", w.Body)
		}
		if w.Code != http.StatusOK {
			var e v1.Error
			if json.Unmarshal(w.Body.Bytes(), &e) != nil || e.Code == "" || e.Message == "" || e.Status != w.Code {
				t.Errorf("refused by %s", w.Body)
			}
			return
		}
		if got.ID.Tenant == "" || got.ID.Port == "" || got.ID.Tenant != asked.Tenant || got.ID.Port != asked.Port {
			t.Errorf("%+v became %s", asked, got.ID)
		}
		if n := got.Device; n == "" || len(n) > 15 || strings.ContainsAny(n, "/% \t\n") || n == "." || n == ".." {
			t.Errorf("%+v is of device %q", asked, n)
		}
		switch inside := got.Way == port.WayNetNS; {
		case inside != (got.NetNS != ""), !inside && got.Static, got.Way != port.WayTap && (got.MultiQueue || got.Owner != nil),
			got.Force && got.Way != port.WayTap && got.Way != port.WayDevice:
			t.Errorf("%+v became %+v", asked, got)
		}
	})
}

// FuzzRefusal: whatever error a server gives to a claim, whoever attaches gets an answer that HTTP can carry.
func FuzzRefusal(f *testing.F) {
	f.Add([]byte(`{"status":409,"code":"BINDING_TAKEN","object":"red/port/web-1","message":"m","fix":"f"}`))
	f.Add([]byte(`{"status":7,"code":""}`))
	f.Add([]byte(`{"errors":[null]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := httptest.NewRecorder()
		reply(w, nil, &southbound.RefusedError{JSON: body, Text: "refused by the server: " + string(body)})
		var e v1.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code < 400 || e.Status != w.Code || e.Code == "" || e.Message == "" {
			t.Errorf("%q is told as %d %s", body, w.Code, w.Body)
		}
	})
}
