// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "weft/api/v1"
	"weft/internal/audit"
	"weft/internal/identity"
)

// auditOf reads the log as somebody.
func (m *matrix) auditOf(who, query string) []audit.Record {
	m.t.Helper()
	status, data := m.do(http.MethodGet, "/api/v1/audit"+query, "", strings.TrimPrefix(m.known[who], "Bearer "))
	var out struct{ Items []audit.Record }
	if err := json.Unmarshal(data, &out); err != nil || status != http.StatusOK {
		m.t.Fatalf("%d %s", status, data)
	}
	return out.Items
}

func TestWhatIsDoneIsRecorded(t *testing.T) {
	m := newMatrix(t)
	head := m.api.cfg.Audit.Last().Sequence
	editor, viewer := strings.TrimPrefix(m.known["own admin"], "Bearer "), strings.TrimPrefix(m.known["own viewer"], "Bearer ")
	port := func(tenant, name, subnet string) string {
		return fmt.Sprintf(`{"apiVersion":"weft/v1","kind":"Port","metadata":{"name":%q,"tenant":%q},"spec":{"subnet":%q}}`, name, tenant, subnet)
	}
	steps := []struct {
		who, method, url, body string
		operation, object      string
		outcome                string // "": there is no record
	}{
		{editor, "PUT", "/api/v1/tenants/red/ports/p", port("red", "p", "web"), "apply", "red/port/p", "created"},
		{editor, "PUT", "/api/v1/tenants/red/ports/p", port("red", "p", "web"), "", "", ""},
		{editor, "PUT", "/api/v1/tenants/red/ports/p?dryRun=true", port("red", "p", "nowhere"), "", "", ""},
		{editor, "PUT", "/api/v1/tenants/red/ports/q", port("red", "q", "nowhere"), "apply", "red/port/q", "NO_REFERENCE"},
		{viewer, "PUT", "/api/v1/tenants/red/ports/p", port("red", "p", "web"), "put-port", "/api/v1/tenants/red/ports/p", "FORBIDDEN"},
		{editor, "POST", "/api/v1/apply", `{"documents":[` + port("blue", "p", "web") + `]}`, "apply", "blue/port/p", "NOT_FOUND"},
		{editor, "DELETE", "/api/v1/tenants/red/ports/p", "", "delete", "red/port/p", "deleted"},
		{editor, "DELETE", "/api/v1/tenants/red/ports/p", "", "delete", "red/port/p", "NOT_FOUND"},
		{token, "PUT", "/api/v1/tenants/red", `{"apiVersion":"weft/v1","kind":"Tenant","metadata":{"name":"red"},"spec":{"quota":{"ports":5}}}`, "apply", "tenant/red", "configured"},
		{token, "POST", "/api/v1/nodes/host-1/ask/dump", "null", "ask", "node/host-1", "dump"},
		{token, "POST", "/api/v1/nodes/host-1/ask/dump", "null", "", "", ""}, // once a minute
		{"a-wrong-token", "GET", "/api/v1/ports", "", "authenticate", "", "UNAUTHORIZED"},
		{"another-wrong-token", "GET", "/api/v1/ports", "", "", "", ""},
		{token, "GET", "/api/v1/ports", "", "", "", ""},
		{editor, "POST", "/api/v1/tokens", `{"role":"tenant-viewer","tenant":"red"}`, "make-token", "token/", "created"},
	}
	for _, step := range steps {
		before := m.api.cfg.Audit.Last().Sequence
		m.do(step.method, step.url, step.body, step.who)
		records := m.auditOf("operator", fmt.Sprint("?after=", before))
		if step.outcome == "" {
			if len(records) != 0 {
				t.Errorf("%s %s is recorded: %+v", step.method, step.url, records)
			}
			continue
		}
		if len(records) != 1 {
			t.Fatalf("%s %s: %d records", step.method, step.url, len(records))
		}
		r := records[0]
		if r.Operation != step.operation || !strings.HasPrefix(r.Object, step.object) || r.Outcome != step.outcome || r.Failed != (r.Outcome == strings.ToUpper(r.Outcome)) || r.Request == "" || r.From == "" || time.Since(r.Time) > time.Minute {
			t.Errorf("%s %s: %+v", step.method, step.url, r)
		}
	}
	for _, r := range m.auditOf("own admin", fmt.Sprint("?after=", head)) {
		if r.Tenant != "red" || r.Hash != "" || r.Previous != "" || r.Revision != 0 {
			t.Errorf("red sees %+v", r)
		}
	}
	for _, r := range m.auditOf("other admin", "") {
		if r.Tenant != "blue" || strings.Contains(fmt.Sprint(r), "red") {
			t.Errorf("blue sees %+v", r)
		}
	}
	if n := len(m.auditOf("operator", "?failed=true&tenant=red")); n < 3 {
		t.Errorf("%d refusals in red", n)
	}
	if status, _ := m.do(http.MethodGet, "/api/v1/audit?since=yesterday", "", token); status != http.StatusUnprocessableEntity {
		t.Errorf("since yesterday: %d", status)
	}
	if records, err := m.api.cfg.Audit.Read(audit.Filter{}); err != nil || records[len(records)-1].Sequence != m.api.cfg.Audit.Last().Sequence {
		t.Errorf("%d records, %v", len(records), err)
	}
}

// No secret is in the log, whatever it was used for.
func TestNoSecretIsRecorded(t *testing.T) {
	m := newMatrix(t)
	secrets := []string{token}
	for i := range 50 {
		secret := fmt.Sprintf("s3cr3t-%02d-abcdefghijklmnopqrstuvwxyz", i)
		secrets = append(secrets, secret)
		switch i % 4 {
		case 0:
			m.do(http.MethodGet, "/api/v1/ports", "", secret)
		case 1:
			m.do(http.MethodPost, "/api/v1/apply", `{"documents":[{"apiVersion":"weft/v1","kind":"Port","metadata":{"name":"p","tenant":"red"},"spec":{"password":"`+secret+`"}}]}`, token)
		case 2:
			m.do(http.MethodPost, "/api/v1/nodes/host-1/ask/probe", `{"key":"`+secret+`"}`, token)
		case 3:
			m.do(http.MethodDelete, "/api/v1/tenants/red/ports/p?x="+secret, "", token)
		}
	}
	for _, authorization := range m.known {
		if s := strings.TrimPrefix(authorization, "Bearer "); len(s) > 20 {
			secrets = append(secrets, s)
		}
	}
	_, made, err := m.gate.Create(t.Context(), identity.Principal{Role: identity.Admin}, identity.Admin, "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, made)
	m.do(http.MethodDelete, "/api/v1/tenants/red/ports/web-1", "", made)
	records, err := m.api.cfg.Audit.Read(audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		if strings.Contains(string(text), s) {
			t.Errorf("the log has %s", s)
		}
	}
}

// What cannot be recorded is not done.
func TestNoWriteWithoutItsRecord(t *testing.T) {
	m := newMatrix(t)
	if err := m.api.cfg.Audit.Close(); err != nil { // its file takes nothing any more
		t.Fatal(err)
	}
	write := func(name string) (int, v1.Error) {
		status, data := m.do(http.MethodPut, "/api/v1/tenants/red/ports/"+name, fmt.Sprintf(`{"apiVersion":"weft/v1","kind":"Port","metadata":{"name":%q,"tenant":"red"},"spec":{"subnet":"web"}}`, name), token)
		var e v1.Error
		_ = json.Unmarshal(data, &e)
		return status, e
	}
	write("first") // it is found out with this one, which is done
	if status, e := write("second"); status != http.StatusInsufficientStorage || e.Code != v1.CodeUnavailable || !strings.Contains(e.Message, "audit log") {
		t.Errorf("%d %+v", status, e)
	}
	if status, _ := m.do(http.MethodGet, "/api/v1/tenants/red/ports/second", "", token); status != http.StatusNotFound {
		t.Errorf("it was done: %d", status)
	}
	if status, _ := m.do(http.MethodGet, "/api/v1/ports", "", token); status != http.StatusOK {
		t.Errorf("reading: %d", status)
	}
}
