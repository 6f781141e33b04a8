// SPDX-License-Identifier: Apache-2.0

// Command vuln looks whether weft calls anything that is known to be vulnerable. It exits with 3 if so, and with 4 if the
// database cannot be reached, which it never takes for "nothing known".
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Exit codes. What govulncheck finds is its own 3.
const (
	exitWrong  = 1
	exitFound  = 3
	exitAway   = 4
	patience   = 10 * time.Second
	indexMost  = 1 << 20
	indexFile  = "index/db.json"
	defaultDB  = "https://vuln.go.dev"
	dbVariable = "GOVULNDB"
)

// errAway is that nobody answers where the database should be. Anything else that is wrong with it is another error.
var errAway = errors.New("the database of vulnerabilities cannot be reached")

func main() {
	dir := flag.String("dir", "..", "folder of the module to look at")
	db := flag.String("db", "", "URL of the database, or the folder of a copy of it (default $"+dbVariable+", then Go's own)")
	mayBeAway := flag.Bool("may-be-away", false, "exit with 0 if the database cannot be reached, and say that nothing was checked")
	flag.Parse()
	err := look(*dir, cmp.Or(*db, os.Getenv(dbVariable), defaultDB), os.Stdout)
	var ended *exec.ExitError
	switch {
	case err == nil:
	case errors.Is(err, errAway):
		fmt.Printf("== NOT CHECKED for known vulnerabilities: %v\n== where it can be, run: make vuln; with a copy of the database: make vuln VULNDB=FOLDER\n", err)
		if !*mayBeAway {
			os.Exit(exitAway)
		}
	case errors.As(err, &ended) && ended.ExitCode() == exitFound:
		os.Exit(exitFound) // it has said what
	default:
		fmt.Fprintln(os.Stderr, "vuln:", err)
		os.Exit(exitWrong)
	}
}

// look runs govulncheck, as tools/go.mod pins it, on the module in dir.
func look(dir, db string, out io.Writer) error {
	db, err := address(db)
	if err != nil {
		return err
	}
	changed, err := newest(db)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "database of vulnerabilities: %s, changed %s\n", db, changed.Format(time.RFC3339))
	cmd := exec.Command("go", "tool", "govulncheck", "-C", dir, "-db", db, "./...")
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	return cmd.Run()
}

// address is the URL of a database; a folder is one too.
func address(db string) (string, error) {
	u, err := url.Parse(db)
	if err != nil {
		return "", fmt.Errorf("database %s: %w", db, err)
	}
	if u.Scheme != "" {
		return strings.TrimSuffix(db, "/"), nil
	}
	folder, err := filepath.Abs(db)
	return "file://" + folder, err
}

// newest tells when a database was last changed. A folder that is none is an error like any other: somebody has named it.
func newest(db string) (time.Time, error) {
	text, err := index(db)
	if err != nil {
		return time.Time{}, err
	}
	var of struct{ Modified time.Time }
	if err := json.Unmarshal(text, &of); err != nil || of.Modified.IsZero() {
		return time.Time{}, fmt.Errorf("%s/%s is not the index of a database of vulnerabilities: %v", db, indexFile, err)
	}
	return of.Modified, nil
}

func index(db string) ([]byte, error) {
	if folder, ok := strings.CutPrefix(db, "file://"); ok {
		return os.ReadFile(filepath.Join(folder, indexFile))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, db+"/"+indexFile, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errAway, err)
	}
	defer answer.Body.Close()
	switch code := answer.StatusCode; {
	case code == http.StatusForbidden, code == http.StatusProxyAuthRequired, code == http.StatusTooManyRequests, code >= 500:
		return nil, fmt.Errorf("%w: %s answers %s", errAway, db, answer.Status)
	case code != http.StatusOK:
		return nil, fmt.Errorf("%s/%s: %s", db, indexFile, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, indexMost))
}
