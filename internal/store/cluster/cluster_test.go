// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// TestFaultsAreWhatTheirNamesSay breaks a cluster in each way, and looks from outside whether it is broken.
func TestFaultsAreWhatTheirNamesSay(t *testing.T) {
	c, err := Start(t.Context(), filepath.Join(t.TempDir(), "etcd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	trust, err := c.trust()
	if err != nil {
		t.Fatal(err)
	}
	endpoints, err := c.Endpoints(0)
	if err != nil {
		t.Fatal(err)
	}
	var each [Members]*clientv3.Client
	for i := range each {
		if each[i], err = clientv3.New(clientv3.Config{Endpoints: endpoints[i : i+1], TLS: trust, Logger: zap.NewNop()}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = each[i].Close() })
	}
	takes := func(i int) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		_, err := each[i].Put(clientv3.WithRequireLeader(ctx), "k", "v")
		return err == nil
	}
	eventually := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 20 s: %s", what)
			}
		}
	}
	all := func() bool { return takes(0) && takes(1) && takes(2) }
	heal := func() {
		t.Helper()
		if err := c.Heal(); err != nil {
			t.Fatal(err)
		}
		eventually("all members take writes again", all)
	}
	leader := func() (i int) {
		t.Helper()
		eventually("somebody leads", func() bool { i = c.Leader(t.Context()); return i >= 0 })
		return i
	}
	eventually("all members take writes", all)

	cut := leader()
	other := (cut + 1) % Members
	c.Isolate(cut)
	eventually("the others elect, and the one that is cut off takes nothing", func() bool { return takes(other) && !takes(cut) })
	heal()

	for i := range Members {
		c.Isolate(i)
	}
	eventually("nobody takes writes without a majority", func() bool { return !takes(0) && !takes(1) && !takes(2) })
	heal()

	paused := leader()
	c.Pause(paused)
	eventually("the others go on", func() bool { return takes((paused+1)%Members) && !takes(paused) })
	heal()

	killed := leader()
	c.Kill(killed)
	eventually("the others go on", func() bool { return takes((killed+1)%Members) && !takes(killed) })
	c.Kill((killed + 1) % Members)
	eventually("the last one takes nothing", func() bool { return !takes((killed + 2) % Members) })
	heal()

	c.CutClient(0, 1)
	eventually("a client's way is cut", func() bool { return takes(0) && !takes(1) && takes(2) })
	heal()

	c.Cut(leader(), (leader()+1)%Members, false)
	heal()
	if _, err := c.Compact(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := each[0].Get(t.Context(), "k", clientv3.WithRev(1)); err == nil {
		t.Error("a compacted revision can be read")
	}
}

// TestNobodyWithoutACertificateIsAnswered: clients have to show one.
func TestNobodyWithoutACertificateIsAnswered(t *testing.T) {
	c, err := Start(t.Context(), filepath.Join(t.TempDir(), "etcd"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	trust, err := c.trust()
	if err != nil {
		t.Fatal(err)
	}
	trust.Certificates = nil
	stranger, err := clientv3.New(clientv3.Config{Endpoints: c.admin.Endpoints(), TLS: trust, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := stranger.Get(ctx, "k"); err == nil {
		t.Error("etcd answered a client without a certificate")
	}
}
