// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/goccy/go-yaml"

	v1 "weft/api/v1"
)

// Context names a server and how to reach it.
type Context struct {
	Name      string `yaml:"name"`
	Server    string `yaml:"server"`              // such as https://127.0.0.1:7443
	TokenFile string `yaml:"tokenFile,omitempty"` // wins over Token
	Token     string `yaml:"token,omitempty"`
	CAFile    string `yaml:"caFile,omitempty"` // wins over CA
	CA        string `yaml:"ca,omitempty"`     // PEM
	Tenant    string `yaml:"tenant,omitempty"` // where a command names none
	Lab       string `yaml:"lab,omitempty"`    // the lab that made the context and will remove it
}

// Contexts is the file of contexts.
type Contexts struct {
	Current  string    `yaml:"current,omitempty"`
	Contexts []Context `yaml:"contexts"`
}

// ContextsPath returns where the contexts are: WEFT_CONFIG, or weft/config.yaml in the user's folder of settings.
func ContextsPath() (string, error) {
	if path := os.Getenv("WEFT_CONFIG"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", &v1.Error{Code: v1.CodePrecondition, Message: fmt.Sprintf("there is no folder for contexts: %v", err), Fix: "set HOME, or WEFT_CONFIG to the path of a file"}
	}
	return filepath.Join(dir, "weft", "config.yaml"), nil
}

// LoadContexts reads the file of contexts. An absent one is empty.
func LoadContexts() (*Contexts, error) {
	path, err := ContextsPath()
	if err != nil {
		return nil, err
	}
	return readContexts(path)
}

func readContexts(path string) (*Contexts, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Contexts{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read contexts: %w", err)
	}
	var c Contexts
	if len(bytes.TrimSpace(data)) == 0 {
		return &c, nil
	}
	if err := yaml.UnmarshalWithOptions(data, &c, yaml.Strict()); err != nil {
		return nil, &v1.Error{
			Status: http.StatusBadRequest, Code: v1.CodeMalformed, Message: fmt.Sprintf("contexts in %s cannot be read: %s", path, yaml.FormatError(err, false, false)),
			Fix: "mend the file by hand, or remove it and add the contexts again",
		}
	}
	return &c, nil
}

// UpdateContexts reads the file of contexts, lets change work on it, and writes it, readable by its owner alone. Others
// wait meanwhile, and see the file as it was or as it is, never between. If change fails, nothing is written.
func UpdateContexts(change func(*Contexts) error) error {
	path, err := ContextsPath()
	if err != nil {
		return err
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link stays one
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make folder of contexts: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lock contexts: %w", err)
	}
	defer lock.Close() // unlocks
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	c, err := readContexts(path)
	if err != nil {
		return err
	}
	if err := change(c); err != nil {
		return err
	}
	return c.write(path)
}

// write replaces the file in one step.
func (c *Contexts) write(path string) (err error) {
	data, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode contexts: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".config-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write contexts: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
			err = fmt.Errorf("write contexts: %w", err)
		}
	}()
	_, werr := f.Write(data)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Get returns a context by name, the current one for "".
func (c *Contexts) Get(name string) (Context, error) {
	if name == "" {
		name = c.Current
	}
	if name == "" {
		return Context{}, &v1.Error{
			Status: http.StatusBadRequest, Code: v1.CodePrecondition, Message: "no context is chosen: it is not known which server is meant",
			Fix: "'weft lab up' makes one; or name a server: 'weft context add NAME --server URL --ca-file ca.pem --token-file admin.token'",
		}
	}
	if i := c.index(name); i >= 0 {
		return c.Contexts[i], nil
	}
	fix := "there is none yet; 'weft lab up' makes one"
	if len(c.Contexts) > 0 {
		var names []string
		for _, x := range c.Contexts {
			names = append(names, x.Name)
		}
		fix = "use one of " + strings.Join(names, ", ")
	}
	return Context{}, &v1.Error{Status: http.StatusNotFound, Code: v1.CodeNotFound, Message: fmt.Sprintf("there is no context %q", name), Fix: fix}
}

func (c *Contexts) index(name string) int {
	return slices.IndexFunc(c.Contexts, func(x Context) bool { return x.Name == name })
}

// Add adds a context, in place of one with that name, and makes it the current one.
func (c *Contexts) Add(x Context) {
	if i := c.index(x.Name); i >= 0 {
		c.Contexts[i] = x
	} else {
		c.Contexts = append(c.Contexts, x)
	}
	c.Current = x.Name
}

// Remove removes a context; an absent one is fine. If it was the current one, the last of the others becomes that.
func (c *Contexts) Remove(name string) {
	c.Contexts = slices.DeleteFunc(c.Contexts, func(x Context) bool { return x.Name == name })
	if c.Current != name {
		return
	}
	c.Current = ""
	if n := len(c.Contexts); n > 0 {
		c.Current = c.Contexts[n-1].Name
	}
}

// Use makes a context the current one.
func (c *Contexts) Use(name string) error {
	x, err := c.Get(name)
	if err == nil {
		c.Current = x.Name
	}
	return err
}

// Client returns a client of the context's server.
func (x Context) Client() (*Client, error) {
	cfg := Config{Server: x.Server, Token: x.Token, CA: []byte(x.CA)}
	if x.TokenFile != "" {
		token, err := x.read(x.TokenFile)
		if err != nil {
			return nil, err
		}
		cfg.Token = strings.TrimSpace(string(token))
	}
	if x.CAFile != "" {
		ca, err := x.read(x.CAFile)
		if err != nil {
			return nil, err
		}
		cfg.CA = ca
	}
	return New(cfg)
}

func (x Context) read(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		fix := "correct the context's path with 'weft context add', or take it away with 'weft context remove'"
		if errors.Is(err, fs.ErrPermission) {
			fix = "run the command as a user who may read it, for example with sudo"
		}
		return nil, &v1.Error{Status: http.StatusBadRequest, Code: v1.CodePrecondition, Message: fmt.Sprintf("context %s: %v", x.Name, err), Fix: fix}
	}
	return data, nil
}
