// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestChangesOfDevicesAreTold(t *testing.T) {
	ns := newNS(t)
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan LinkEvent, 64), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		inside, err := openNetNS(ns.path)
		if err == nil {
			err = errors.Join(unix.Setns(int(inside), unix.CLONE_NEWNET), inside.Close())
		}
		if err == nil {
			WatchLinks(ctx, slog.New(slog.DiscardHandler), func(e LinkEvent) { events <- e })
		}
		ended <- err
	}()
	await := func(what string, match func(LinkEvent) bool) {
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
	await("that what was before is not told", func(e LinkEvent) bool { return e == LinkEvent{} })
	var index int
	ns.do(t, func() (err error) { index, err = CreateTap(testTap); return err })
	await("a new tap", func(e LinkEvent) bool { return e == LinkEvent{Name: "tap0", Index: index} })
	ns.do(t, func() error { return DeleteLink("tap0") })
	await("a tap that went", func(e LinkEvent) bool { return e == LinkEvent{Name: "tap0", Index: index, Gone: true} })

	// The end at the node goes with the workload's namespace.
	workload := newNS(t)
	v := testVeth
	v.NetNS = workload.path
	ns.do(t, func() error { _, err := CreateVeth(v); return err })
	workload.do(t, func() error {
		far, err := netlink.LinkByName("eth0")
		return errors.Join(err, netlink.LinkDel(far))
	})
	await("a pair that went with its other end", func(e LinkEvent) bool { return e.Name == v.HostName && e.Gone })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
