// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	eventBuffer     = 1 << 20 // bytes of events that may wait in the kernel
	watchAgainAfter = time.Second
)

// Event says that a device of the namespace came, went, or is otherwise than it was. One without a name says that
// events were lost: anything may be.
type Event struct {
	Name  string
	Index int
	Gone  bool
}

// Watch tells of each change of a device until ctx ends. A watch that breaks off begins again and says so.
func Watch(ctx context.Context, log *slog.Logger, tell func(Event)) {
	for {
		err := watch(ctx, tell)
		if ctx.Err() != nil {
			return
		}
		log.Warn("watch of devices begins again", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(watchAgainAfter):
		}
	}
}

func watch(ctx context.Context, tell func(Event)) error {
	ctx, cancel := context.WithCancel(ctx)
	updates := make(chan netlink.LinkUpdate)
	broken := make(chan error, 1)
	err := netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{
		ReceiveBufferSize: eventBuffer, ReceiveBufferForceSize: true,
		ErrorCallback: func(err error) {
			select {
			case broken <- err:
			default:
			}
			cancel()
		},
	})
	if err != nil {
		cancel()
		return fmt.Errorf("watch devices: %w", err)
	}
	tell(Event{}) // what happened before is not told
	for u := range updates {
		a := u.Attrs()
		tell(Event{Name: a.Name, Index: a.Index, Gone: u.Header.Type == unix.RTM_DELLINK})
	}
	cancel()
	select {
	case err := <-broken:
		return err
	default:
		return ctx.Err()
	}
}
