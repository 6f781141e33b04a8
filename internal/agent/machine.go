// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	v1 "weft/api/v1"
	"weft/internal/southbound"
)

// A machine is a node until it is removed. It keeps, in its state directory:
//
//	machine    its identity, made when an agent first started there
//	removed    why it is no node any more; while the file is there, the agent does not ask the server to be one
//
// 'weft node join' takes both away: the machine is another one then.
const (
	machineFile = "machine"
	removedFile = "removed"
)

// loadMachine reads the machine's identity, or makes one.
func loadMachine(dir string) (string, error) {
	path := filepath.Join(dir, machineFile)
	data, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(data)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the machine's identity: %w", err)
	}
	id := uuid.NewString()
	if err := writeDurably(path, id+"\n"); err != nil {
		return "", fmt.Errorf("keep the machine's identity: %w", err)
	}
	return id, nil
}

// loadRemoved returns why the machine is no node any more; "": it is one, or is to be.
func loadRemoved(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, removedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read whether the node was removed: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// writeDurably writes a file so that a crash leaves all of it, or none.
func writeDurably(path, text string) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// leave takes every port and row of a node that was removed out of the kernel. The agent goes on answering locally, and does not
// ask the server again, now or after a restart.
func (a *Agent) leave(ctx context.Context, reason string) {
	a.cfg.Log.Error("this node was removed: its ports are taken down, and it does not come back by itself", "err", reason)
	if err := writeDurably(filepath.Join(a.cfg.StateDir, removedFile), reason+"\n"); err != nil {
		a.cfg.Log.Error("keep that the node was removed", "err", err) // the server says so again after a restart
	}
	a.mu.Lock()
	a.removed = reason
	a.mu.Unlock()
	_ = a.do(ctx, func() { // fails only while the agent stops
		step := southbound.Step{Snapshot: true}
		a.recallNothing()
		a.take(step)
		a.keep(step)
		a.mu.Lock()
		a.epoch, a.revision, a.synced = "", 0, true
		a.mu.Unlock()
		a.apply()
	})
}

func (a *Agent) whyRemoved() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.removed
}

// member refuses what only a node can do.
func (a *Agent) member() error {
	if a.whyRemoved() == "" {
		return nil
	}
	return &v1.Error{
		Status: http.StatusConflict, Code: v1.CodeNodeRemoved, Object: "node/" + a.cfg.Node, Message: "this node was removed from the system",
		Fix: "if it is to be a node again, join it: 'weft node token', where the system is administered, tells how",
	}
}
