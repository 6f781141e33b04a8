// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync"

	"weft/internal/agent/enrol"
	"weft/internal/base/nodeid"
	"weft/internal/southbound"
)

// prove prepares what the node proves itself with, and the stream that it does so for.
func (a *Agent) prove(cfg Config) (err error) {
	leave := func(reason error) { a.leave(context.Background(), reason.Error()) }
	a.identity, err = enrol.New(enrol.Config{
		ID: nodeid.ID{Node: cfg.Node, Machine: a.machine}, Server: cfg.Server, CAFile: cfg.CAFile, TokenFile: cfg.TokenFile,
		Dir: cfg.StateDir, Log: cfg.Log, Removed: leave,
	})
	if err != nil {
		return err
	}
	a.client, err = southbound.NewClient(southbound.ClientConfig{
		Server: cfg.Server, Node: a, Name: cfg.Node, Log: cfg.Log, Dial: a.identity.Dial, Removed: leave, Unproven: a.identity.Unproven,
	})
	return err
}

// follow keeps the stream to the server, and the certificate that it takes, unless and until the node is removed.
func (a *Agent) follow(ctx context.Context) {
	if reason := a.whyRemoved(); reason != "" {
		a.leave(ctx, reason)
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { a.identity.Run(ctx) })
	select {
	case <-a.identity.Ready():
		a.client.Run(ctx)
	case <-ctx.Done():
	}
}
