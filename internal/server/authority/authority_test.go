// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"weft/internal/base/nodeid"
)

var host1 = nodeid.ID{Node: "host-1", Machine: "m1"}

func load(t *testing.T, dir string) *Authority {
	t.Helper()
	a, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCertificateSaysWhoseItIs(t *testing.T) {
	dir := t.TempDir()
	a := load(t, dir)
	pair, err := a.NodePair(host1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a = load(t, dir) // a restart of the server
	if id, _, err := a.Whose(pair.Leaf, time.Now()); err != nil || id != host1 {
		t.Errorf("whose: %v, %v", id, err)
	}
	if id, _, err := a.Whose(pair.Leaf, time.Now().Add(-1000*time.Hour)); err != nil || id != host1 { // the clock stepped back
		t.Errorf("whose, long before the authority was made: %v, %v", id, err)
	}
	if id, ended, err := a.Whose(pair.Leaf, time.Now().Add(3*time.Hour)); !errors.Is(err, ErrEnded) || id != host1 || ended.Round(time.Minute) != 2*time.Hour {
		t.Errorf("whose after its end: %v, ended %s ago, %v", id, ended, err)
	}
	if _, err := a.NodePair(nodeid.ID{Node: "a/b", Machine: "m"}, time.Hour); err == nil {
		t.Error("a name that is none was certified")
	}
}

func TestForeignCertificatesAreNobodys(t *testing.T) {
	a, other := load(t, t.TempDir()), load(t, t.TempDir())
	foreign, err := other.NodePair(host1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	server, err := a.Server(nil, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*x509.Certificate{"another_authority's": foreign.Leaf, "the_server's": server.Leaf, "the_authority's": a.Certificate()} {
		if id, _, err := a.Whose(c, time.Now()); err == nil || errors.Is(err, ErrEnded) {
			t.Errorf("%s certificate is %s's: %v", name, id, err)
		}
	}
}

// TestAuthorityIsReplacedInSteps: what either of two authorities signed is believed while both stand in ca.pem.
func TestAuthorityIsReplacedInSteps(t *testing.T) {
	dir, next := t.TempDir(), t.TempDir()
	old := load(t, dir)
	load(t, next)
	before, err := old.NodePair(host1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	read := func(dir, name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	oldCert, newCert := read(dir, "ca.pem"), read(next, "ca.pem")

	write("ca.pem", append(oldCert[:len(oldCert):len(oldCert)], newCert...)) // told to all, and signs nothing yet
	both := load(t, dir)
	if len(both.Believed()) != 2 || !both.Certificate().Equal(old.Certificate()) {
		t.Error("the new one signs before nodes know it")
	}
	write("ca.key", read(next, "ca.key"))
	write("ca.pem", append(newCert[:len(newCert):len(newCert)], oldCert...)) // it signs; what the old one signed is good
	both = load(t, dir)
	after, err := both.NodePair(host1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*x509.Certificate{before.Leaf, after.Leaf} {
		if id, _, err := both.Whose(c, time.Now()); err != nil || id != host1 {
			t.Errorf("whose: %v, %v", id, err)
		}
	}
	write("ca.pem", newCert)
	alone := load(t, dir)
	if _, _, err := alone.Whose(before.Leaf, time.Now()); err == nil {
		t.Error("the old authority is gone, and believed")
	}
	if _, _, err := alone.Whose(after.Leaf, time.Now()); err != nil {
		t.Error(err)
	}
}
