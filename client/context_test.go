// SPDX-License-Identifier: Apache-2.0

package client

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "weft/api/v1"
)

func TestContextsAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "config.yaml")
	t.Setenv("WEFT_CONFIG", path)
	none, err := LoadContexts()
	if err != nil || len(none.Contexts) != 0 {
		t.Fatalf("an absent file gave %v, error %v", none, err)
	}
	if _, err := none.Get(""); code(err) != v1.CodePrecondition {
		t.Errorf("no context: error %v", err)
	}
	ca := "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"
	lab := Context{Name: "dc1", Server: "https://127.0.0.1:7443", Token: "t: #1", CA: ca, Tenant: "red", Lab: "dc1"}
	err = UpdateContexts(func(c *Contexts) error {
		c.Add(Context{Name: "prod", Server: "https://weft.example:7443", TokenFile: "/t", CAFile: "/c"})
		c.Add(Context{Name: "dc1"})
		c.Add(lab)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600: tokens are in the file", info.Mode(), err)
	}
	c, err := LoadContexts()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Get(""); err != nil || got != lab {
		t.Errorf("current context is %+v, error %v", got, err)
	}
	if _, err := c.Get("dc2"); code(err) != v1.CodeNotFound {
		t.Errorf("absent context: error %v", err)
	}
	c.Remove("dc1")
	c.Remove("dc1")
	if c.Current != "prod" || c.Use("dc1") == nil || c.Use("prod") != nil {
		t.Errorf("after remove: %+v", c)
	}
}

func TestContextsAtOnceLoseNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("WEFT_CONFIG", filepath.Join(dir, "config.yaml"))
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if err := UpdateContexts(func(c *Contexts) error { c.Add(Context{Name: fmt.Sprint("c", i)}); return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, err := LoadContexts()
	if err != nil || len(c.Contexts) != 10 {
		t.Errorf("%d contexts, error %v; want 10", len(c.Contexts), err)
	}
	refused := errors.New("no")
	if err := UpdateContexts(func(c *Contexts) error { c.Contexts = nil; return refused }); !errors.Is(err, refused) {
		t.Errorf("error %v", err)
	}
	if again, _ := LoadContexts(); len(again.Contexts) != 10 {
		t.Error("a change that failed was written")
	}
	files, _ := os.ReadDir(dir)
	if len(files) != 2 {
		t.Errorf("%v remain, want the file and its lock", files)
	}
}

func TestBrokenContextsAreNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	t.Setenv("WEFT_CONFIG", path)
	if err := os.WriteFile(path, []byte("contexts:\n- nam: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadContexts(); code(err) != v1.CodeMalformed || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	if _, err := (Context{Name: "x", Server: "https://h:1", TokenFile: path + ".no"}).Client(); code(err) != v1.CodePrecondition {
		t.Errorf("error %v", err)
	}
	if _, err := (Context{Name: "x", Server: "https://h:1", TokenFile: path}).Client(); err != nil {
		t.Error(err)
	}
}
