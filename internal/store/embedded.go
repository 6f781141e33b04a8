// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Limits of the embedded etcd.
const (
	startWithin    = 30 * time.Second
	keepRevisions  = "5m"    // history for watches that were cut; compacted beyond
	backendBytes   = 8 << 30 // size at which etcd refuses writes
	operationsMost = 512     // of one transaction: 100 documents and a fence for each of their tenants and nodes
	requestBytes   = 2 << 20 // of one transaction, as its client has it
	socketPathMost = 100     // a unix socket's path has 108 bytes with its end
)

// startEmbedded runs etcd inside this process. It listens on unix sockets in a folder that only we can open.
func startEmbedded(ctx context.Context, cfg Config) (*embed.Etcd, string, error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, "", fmt.Errorf("start etcd: %w", err)
	}
	if err := private(dir); err != nil { // of its sockets; that is all there is between etcd and the machine's other users
		return nil, "", fmt.Errorf("start etcd: %w", err)
	}
	client, peer := filepath.Join(dir, "client.sock"), filepath.Join(dir, "peer.sock")
	if len(client) > socketPathMost {
		return nil, "", fmt.Errorf("start etcd: the path %s is too long for a socket; choose a shorter state directory", client)
	}
	for _, s := range []string{client, peer} {
		if err := os.RemoveAll(s); err != nil {
			return nil, "", fmt.Errorf("start etcd: %w", err)
		}
	}
	c := embed.NewConfig()
	c.Name, c.Dir = "weft", filepath.Join(dir, "data")
	c.ListenClientUrls, c.AdvertiseClientUrls = socketURL(client), socketURL(client)
	c.AdvertisePeerUrls = socketURL(peer)
	// For members, etcd listens at the host of a URL and never looks at its path; without a host, the kernel would choose an abstract
	// socket, which every user of the machine can open.
	c.ListenPeerUrls = []url.URL{{Scheme: "unix", Host: peer}}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, keepRevisions
	c.QuotaBackendBytes = backendBytes
	c.MaxTxnOps, c.MaxRequestBytes = operationsMost, requestBytes
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(newZapCore(cfg)))
	e, err := embed.StartEtcd(c)
	if err != nil {
		if strings.Contains(err.Error(), "cannot access data directory") {
			err = fmt.Errorf("%w (is another server running with this state directory?)", err)
		}
		return nil, "", fmt.Errorf("start etcd in %s: %w", dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, "unix://" + client, nil
	case err = <-e.Err():
	case <-ctx.Done():
		err = ctx.Err()
	case <-time.After(startWithin):
		err = fmt.Errorf("not ready within %s", startWithin)
	}
	e.Close()
	return nil, "", fmt.Errorf("start etcd in %s: %w", dir, err)
}

func socketURL(path string) []url.URL { return []url.URL{{Scheme: "unix", Path: path}} }

// zapCore passes etcd's warnings and errors on to the store's log; what is less goes nowhere.
type zapCore struct {
	zapcore.LevelEnabler
	cfg    Config
	fields []zapcore.Field
}

func newZapCore(cfg Config) zapcore.Core {
	return &zapCore{LevelEnabler: zapcore.WarnLevel, cfg: cfg}
}

// With returns a core that adds fields to each entry.
func (c *zapCore) With(fields []zapcore.Field) zapcore.Core {
	return &zapCore{LevelEnabler: c.LevelEnabler, cfg: c.cfg, fields: append(c.fields[:len(c.fields):len(c.fields)], fields...)}
}

// Check adds the core where the level is enough.
func (c *zapCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write logs one entry.
func (c *zapCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(c.fields[:len(c.fields):len(c.fields)], fields...) {
		f.AddTo(enc)
	}
	level := c.cfg.Log.Debug
	if e.Level >= zapcore.ErrorLevel {
		level = c.cfg.Log.Warn
	}
	level("etcd", "message", e.Message, "fields", enc.Fields)
	return nil
}

// Sync does nothing: the log has no buffer.
func (c *zapCore) Sync() error { return nil }

// diskLeast is how much of the disk the embedded etcd needs to be free before each write: it ends its process where it cannot
// write, and what it writes next may be a segment of its log (64 MB) and a growing database.
const diskLeast = 96 << 20

// room refuses a write that the embedded etcd may find no room for on its disk. Reading goes on.
func (s *Store) room() error {
	if s.etcd == nil {
		return nil
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.cfg.Dir, &st); err != nil {
		return fmt.Errorf("%w: look at the disk of %s: %v", ErrUnavailable, s.cfg.Dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < diskLeast { //nolint:gosec // a size of blocks is not negative
		return fmt.Errorf("%w: the disk of %s has %d MiB left, and a write needs %d", ErrFull, s.cfg.Dir, free>>20, diskLeast>>20)
	}
	return nil
}
