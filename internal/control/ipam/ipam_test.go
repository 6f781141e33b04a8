// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"math/rand/v2"
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

// TestLowestIsTheLowest: in random ranges of both families, with random addresses taken and released, every address given is
// inside, free, not reserved, and there is none below it that could have been.
func TestLowestIsTheLowest(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 5))
		base, bits := netip.MustParseAddr("10.0.1.0"), 24+r.IntN(6)
		if seed%2 == 0 {
			base, bits = netip.MustParseAddr("fd00::"), 16+r.IntN(109)
		}
		in := netip.PrefixFrom(base, bits).Masked()
		router := netip.MustParseAddr([]string{"10.0.1.6", "fd00::6"}[(seed+1)%2])
		reserved := func(a netip.Addr) bool { return a.AsSlice()[len(a.AsSlice())-1]&0xff < 4 || a == router }
		p, taken := NewPool(), map[netip.Addr]bool{}
		for step := range 100 {
			holder := fmt.Sprint(step)
			switch a := in.Addr(); r.IntN(4) {
			case 0:
				for range r.IntN(20) {
					a = a.Next()
				}
				if _, ok := p.Take(a, holder); ok != !taken[a] {
					t.Fatalf("seed %d: %s taken: %v", seed, a, ok)
				}
				taken[a] = true
			case 1:
				for a := range taken {
					p.Release(a, MAC{}, p.addrs[a])
					delete(taken, a)
					break
				}
			default:
				want := in.Addr()
				for in.Contains(want) && (taken[want] || reserved(want)) {
					want = want.Next()
				}
				got, ok := p.Lowest(in, reserved, holder)
				if ok != in.Contains(want) || ok && got != want {
					t.Fatalf("seed %d, step %d: got %s, %v in %s, want %s", seed, step, got, ok, in, want)
				}
				if ok {
					taken[got] = true
				}
			}
		}
	}
}

// TestLastAddressThereIs: a range that ends where addresses end does not begin anew.
func TestLastAddressThereIs(t *testing.T) {
	p, in := NewPool(), netip.MustParsePrefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127")
	none := func(netip.Addr) bool { return false }
	for i, want := range []bool{true, true, false, false} {
		if a, ok := p.Lowest(in, none, fmt.Sprint(i)); ok != want {
			t.Errorf("%d: got %s, %v", i, a, ok)
		}
	}
}
