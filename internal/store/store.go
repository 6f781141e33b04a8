// SPDX-License-Identifier: Apache-2.0

// Package store keeps resources in etcd and an image of them in memory. A write that was acknowledged is never lost; a
// transaction commits only if nothing that it checked has changed meanwhile. It is the only importer of the etcd client.
package store

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	v1 "weft/api/v1"
)

// Errors of this package.
var (
	// ErrCompacted says that the changes asked for are not among those that are kept; list, and follow from there.
	ErrCompacted = errors.New("changes since that revision are not kept")
	// ErrTooLarge says that a transaction holds more than etcd takes at once.
	ErrTooLarge = errors.New("the transaction is too large for etcd")
	// ErrUnavailable says that etcd did not answer in time, or not at all. A write may have been done all the same.
	ErrUnavailable = errors.New("etcd does not answer")
	// ErrFull says that etcd has no space left, and takes no writes until there is some.
	ErrFull = errors.New("the store has no space left")
	// ErrConflict says that a transaction did not get through against others.
	ErrConflict = errors.New("too many conflicting writes")
	// ErrClosed says that the store is being closed.
	ErrClosed = errors.New("the store is closed")
)

// Config says where the data is.
type Config struct {
	Dir       string      // of the embedded etcd; not used with Endpoints
	Endpoints []string    // of an external etcd; empty: embedded
	TLS       *tls.Config // for Endpoints; nil: none
	Log       *slog.Logger
}

// Store is open until Close.
type Store struct {
	cfg    Config
	etcd   *embed.Etcd // nil: external
	client *clientv3.Client
	stop   context.CancelFunc
	wg     sync.WaitGroup

	image    *image
	name     string        // of this process among those that write; begins the ids of its writes
	writes   atomic.Uint64 // counts them
	strained atomic.Bool   // the last write got no answer
	scopes   sync.Map      // scope name: chan struct{}, a lock; writers of one scope in this process take turns
	counting chan struct{} // a lock of the writer that draws numbers from counters; taken after its scopes
}

// dialTimeout bounds the first contact with etcd.
const dialTimeout = 10 * time.Second

// Open starts the embedded etcd or connects to the external one, and reads everything.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, name: rand.Text() + "-", counting: make(chan struct{}, 1)}
	endpoints := cfg.Endpoints
	if len(endpoints) == 0 {
		e, endpoint, err := startEmbedded(ctx, cfg)
		if err != nil {
			return nil, err
		}
		s.etcd, endpoints = e, []string{endpoint}
	}
	run, stop := context.WithCancel(context.Background())
	s.stop = stop
	client, err := clientv3.New(clientv3.Config{
		Endpoints: endpoints, TLS: cfg.TLS, DialTimeout: dialTimeout, Logger: zap.NewNop(), Context: run,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 5 * time.Second,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to etcd at %v: %w", endpoints, err), s.Close())
	}
	s.client = client
	s.image = newImage(client, cfg.Log)
	first, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := s.image.list(first); err != nil {
		return nil, errors.Join(fmt.Errorf("read etcd at %v: %w", endpoints, err), s.Close())
	}
	s.wg.Go(func() { s.image.follow(run) })
	if cfg.TLS != nil {
		s.wg.Go(func() { lookForStrangers(run, endpoints, cfg.TLS, cfg.Log) })
	}
	return s, nil
}

// Close ends everything that Open started.
func (s *Store) Close() error {
	s.stop()
	s.wg.Wait()
	var err error
	if s.client != nil {
		if cerr := s.client.Close(); !errors.Is(cerr, context.Canceled) {
			err = cerr
		}
	}
	if s.image != nil {
		s.image.close()
	}
	if s.etcd != nil {
		s.etcd.Close()
	}
	return err
}

// View returns the image as it is now. It does not change any more, and costs nothing to take.
func (s *Store) View() *View { return s.image.current() }

// Changes returns the changes after revision since, one batch a revision, and then those to come. The channel ends with
// ctx, with the store, or when the reader is too slow: then list and follow again. The error is ErrCompacted where the
// changes are no longer kept, or since is a revision that the store never had.
func (s *Store) Changes(ctx context.Context, since int64) (<-chan []Event, error) {
	if s.etcd == nil && since > s.View().Revision() { // another server was ahead of this one
		if err := s.CatchUp(ctx); err != nil {
			return nil, err
		}
	}
	return s.image.subscribe(ctx, since)
}

// CatchUp waits until View holds all that was written before, by other servers, too.
func (s *Store) CatchUp(ctx context.Context) error {
	if s.etcd != nil {
		return nil
	}
	within := writeWithin
	if s.strained.Load() {
		within = strainedWithin
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	revision, err := s.now(ctx)
	if err == nil {
		err = s.image.reached(ctx, revision)
	}
	if err != nil {
		return fmt.Errorf("%w: ask for the newest revision: %v", ErrUnavailable, err)
	}
	return nil
}

// now asks a majority of etcd for the present revision.
func (s *Store) now(ctx context.Context) (int64, error) {
	for {
		try, cancel := context.WithTimeout(ctx, tryWithin)
		resp, err := s.client.Get(clientv3.WithRequireLeader(try), prefix+"f/", clientv3.WithCountOnly())
		cancel()
		if err == nil {
			return resp.Header.Revision, nil
		}
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(tryAgain):
		}
	}
}

// Status asks etcd how it is.
func (s *Store) Status(ctx context.Context) (v1.StoreStatus, error) {
	st := v1.StoreStatus{Embedded: s.etcd != nil}
	start := time.Now()
	if _, err := s.client.Get(ctx, prefix+"f/", clientv3.WithCountOnly()); err != nil {
		return st, fmt.Errorf("read etcd: %w", err)
	}
	st.LatencyMS = float64(time.Since(start).Microseconds()) / 1000
	members, err := s.client.MemberList(ctx)
	if err != nil {
		return st, fmt.Errorf("list members of etcd: %w", err)
	}
	st.Members = len(members.Members)
	m, err := s.client.Status(ctx, s.client.Endpoints()[0])
	if err != nil {
		return st, fmt.Errorf("status of etcd: %w", err)
	}
	st.Version, st.SizeBytes = m.Version, m.DbSize
	return st, nil
}
