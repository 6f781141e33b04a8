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
	cfg     Config
	etcd    *embed.Etcd // nil: external
	members *members
	stop    context.CancelFunc
	wg      sync.WaitGroup

	image    *image
	within   time.Duration // writeWithin, but for tests
	name     string        // of this process among those that write; begins the ids of its writes
	writes   atomic.Uint64 // counts them
	strained atomic.Bool   // the last write got no answer
	health   atomic.Pointer[trouble]
	scopes   sync.Map      // scope name: chan struct{}, a lock; writers of one scope in this process take turns
	counting chan struct{} // a lock of the writer that draws numbers from counters; taken after its scopes
}

// dialTimeout bounds the first contact with etcd.
const dialTimeout = 10 * time.Second

// Open starts the embedded etcd or connects to the external one, and reads everything.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := &Store{cfg: cfg, within: writeWithin, name: rand.Text() + "-", counting: make(chan struct{}, 1)}
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
	s.image = newImage(cfg.Log)
	var err error
	if s.members, err = connect(run, endpoints, cfg.TLS, s.image.hurry); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.image.members = s.members
	first, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := s.image.list(first); err != nil {
		return nil, errors.Join(fmt.Errorf("read etcd at %v: %w", endpoints, err), s.Close())
	}
	s.image.recall(first)
	s.wg.Go(func() { s.image.follow(run) })
	s.wg.Go(func() { s.look(run) })
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
	if s.members != nil {
		err = s.members.close()
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

// Changes returns the changes after revision since, one batch a revision, and then those to come: each of them. The channel ends with
// ctx, with the store, when the reader is too slow, or where a step was missed: then list and follow again. The error is ErrCompacted where the
// changes are no longer kept, or since is a revision that the store never had.
func (s *Store) Changes(ctx context.Context, since int64) (<-chan []Event, error) {
	return s.follow(ctx, since, true)
}

// Differences is like Changes, but steps that were missed, because etcd had compacted them, are told as one that leads to the same end.
func (s *Store) Differences(ctx context.Context, since int64) (<-chan []Event, error) {
	return s.follow(ctx, since, false)
}

func (s *Store) follow(ctx context.Context, since int64, each bool) (<-chan []Event, error) {
	if s.etcd == nil && since > s.View().Revision() { // another server was ahead of this one
		if err := s.CatchUp(ctx); err != nil {
			return nil, err
		}
	}
	return s.image.subscribe(ctx, since, each)
}

// CatchUp waits until View holds all that was written before, by other servers, too.
func (s *Store) CatchUp(ctx context.Context) error {
	if s.etcd != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience())
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
		member, i := s.members.now()
		resp, err := member.Get(clientv3.WithRequireLeader(try), prefix+"f/", clientv3.WithCountOnly())
		cancel()
		if err == nil {
			return resp.Header.Revision, nil
		}
		s.members.leave(i)
		select {
		case <-ctx.Done():
			return 0, err
		case <-time.After(tryAgain):
		}
	}
}
