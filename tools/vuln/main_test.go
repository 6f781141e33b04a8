// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// plant writes files below a new folder.
func plant(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// database says that strings.Title of the standard library is vulnerable, and will always be.
func database(t *testing.T) string {
	return plant(t, map[string]string{
		"index/db.json":      `{"modified":"2026-01-01T00:00:00Z"}`,
		"index/modules.json": `[{"path":"stdlib","vulns":[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]}]`,
		"index/vulns.json":   `[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]`,
		"ID/GO-2026-0001.json": `{"schema_version":"1.3.1","id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z",
			"summary":"planted","details":"planted","affected":[{"package":{"name":"stdlib","ecosystem":"Go"},
			"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],"ecosystem_specific":{"imports":[{"path":"strings","symbols":["Title"]}]}}],
			"database_specific":{"url":"https://pkg.go.dev/vuln/GO-2026-0001","review_status":"REVIEWED"}}`,
	})
}

func TestWhatIsVulnerableIsFound(t *testing.T) {
	db := database(t)
	for _, test := range []struct {
		name, call string
		exit       int
		says       string
	}{
		{"calls_it", `strings.Title("a")`, exitFound, "GO-2026-0001"},
		{"does_not", `strings.ToUpper("a")`, 0, "No vulnerabilities found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := plant(t, map[string]string{
				"go.mod":  "module planted\n\ngo 1.26\n",
				"main.go": "package main\n\nimport \"strings\"\n\nfunc main() { _ = " + test.call + " }\n",
			})
			var said bytes.Buffer
			err := look(dir, db, &said)
			code := 0
			if ended := (&exec.ExitError{}); errors.As(err, &ended) {
				code = ended.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if code != test.exit || !strings.Contains(said.String(), test.says) || !strings.Contains(said.String(), "changed 2026-01-01") {
				t.Errorf("exit %d, want %d with %q:\n%s", code, test.exit, test.says, said.String())
			}
		})
	}
}

// Only a database that does not answer may be away; one that is wrong is an error in any case.
func TestOnlyADatabaseThatDoesNotAnswerIsAway(t *testing.T) {
	answer := func(code int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for _, test := range []struct {
		name, db string
		away     bool
	}{
		{"nobody_listens", gone.URL, true},
		{"no_such_name", "https://vuln.invalid", true},
		{"proxy_refuses", answer(http.StatusForbidden, ""), true},
		{"busy", answer(http.StatusServiceUnavailable, ""), true},
		{"not_a_database", answer(http.StatusNotFound, ""), false},
		{"another_page", answer(http.StatusOK, "<html>"), false},
		{"no_such_folder", filepath.Join(t.TempDir(), "none"), false},
		{"empty_folder", t.TempDir(), false},
		{"not_a_url", "https://[", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := look(t.TempDir(), test.db, &bytes.Buffer{})
			if err == nil || errors.Is(err, errAway) != test.away {
				t.Errorf("%v; away: want %v", err, test.away)
			}
		})
	}
}
