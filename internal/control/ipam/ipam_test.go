// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"testing"
)

func TestLowestSkipsTakenAndReserved(t *testing.T) {
	p, in := NewPool(), netip.MustParsePrefix("10.0.1.0/29")
	reserved := func(a netip.Addr) bool { return a.As4()[3] < 4 || a.As4()[3] == 7 }
	p.Take(netip.MustParseAddr("10.0.1.5"), "x")
	var got []string
	for i := range 4 {
		a, ok := p.Lowest(in, reserved, fmt.Sprint(i))
		got = append(got, fmt.Sprint(a, ok))
	}
	want := "[10.0.1.4 true 10.0.1.6 true invalid IP false invalid IP false]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
	p.Release(netip.MustParseAddr("10.0.1.4"), MAC{}, "0")
	if a, ok := p.Lowest(in, reserved, "again"); !ok || a.String() != "10.0.1.4" {
		t.Errorf("after release got %v, %v", a, ok)
	}
}

func TestTakeNamesTheOtherHolder(t *testing.T) {
	p, a := NewPool(), netip.MustParseAddr("10.0.1.4")
	if _, ok := p.Take(a, "web-1"); !ok {
		t.Fatal("a free address was refused")
	}
	if _, ok := p.Take(a, "web-1"); !ok {
		t.Error("the holder itself was refused")
	}
	if other, ok := p.Take(a, "web-2"); ok || other != "web-1" {
		t.Errorf("got %q, %v", other, ok)
	}
}

func TestMACsAreStableAndApart(t *testing.T) {
	p, seen := NewPool(), map[MAC]bool{}
	for i := range 70000 {
		m := p.ChooseMAC(4096, fmt.Sprint("p", i), MAC{})
		if seen[m] || m[0]&3 != 2 {
			t.Fatalf("port %d got %v", i, m)
		}
		seen[m] = true
	}
	first := NewPool().ChooseMAC(4096, "web-1", MAC{})
	if again := NewPool().ChooseMAC(4096, "web-1", MAC{}); again != first {
		t.Errorf("%v, then %v", first, again)
	}
	if other := NewPool().ChooseMAC(4096, "web-1", first); other == first {
		t.Error("the address to avoid was chosen")
	}
}
