// SPDX-License-Identifier: Apache-2.0

package device

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

func TestChangesOfDevicesAreTold(t *testing.T) {
	do := newNS(t)
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan Event, 64), make(chan struct{})
	go func() {
		do(t, func() error {
			Watch(ctx, slog.New(slog.DiscardHandler), func(e Event) { events <- e })
			return nil
		})
		close(ended)
	}()
	await := func(what string, match func(Event) bool) {
		t.Helper()
		deadline := time.After(2 * time.Second)
		for {
			select {
			case e := <-events:
				if match(e) {
					return
				}
			case <-deadline:
				t.Fatalf("not told: %s", what)
			}
		}
	}
	await("that what was before is not told", func(e Event) bool { return e == Event{} })
	var tap *netlink.Tuntap
	do(t, func() error {
		tap = &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tap0"}, Mode: netlink.TUNTAP_MODE_TAP}
		return netlink.LinkAdd(tap)
	})
	await("a new tap", func(e Event) bool { return e.Name == "tap0" && e.Index != 0 && !e.Gone })
	do(t, func() error { return netlink.LinkSetUp(tap) })
	await("a tap that came up", func(e Event) bool { return e.Name == "tap0" })
	do(t, func() error { return netlink.LinkDel(tap) })
	await("a tap that went", func(e Event) bool { return e.Name == "tap0" && e.Gone })
	do(t, func() error { return addPair("near0", "far0", "") })
	do(t, func() error {
		far, err := netlink.LinkByName("far0")
		return errors.Join(err, netlink.LinkDel(far))
	})
	await("a pair that went with its other end", func(e Event) bool { return e.Name == "near0" && e.Gone })
	cancel()
	<-ended
}
