// SPDX-License-Identifier: Apache-2.0

package nodecmd

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	v1 "weft/api/v1"
)

func TestOldKernelsAreRefused(t *testing.T) {
	for release, fit := range map[string]bool{
		"6.6.0": true, "6.18.44-fly": true, "7.0-rc1": true, "10.1.0": true, "6.6-generic": true,
		"6.5.13": false, "6.1.0-21-amd64": false, "5.15.0": false, "mainline": false, "6.x": false, "": false,
	} {
		if err := checkKernel(release); (err == nil) != fit {
			t.Errorf("kernel %q: %v", release, err)
		}
	}
}

func TestUnderlayMTU(t *testing.T) {
	address := netip.MustParseAddr("198.19.0.4")
	link := netip.MustParseAddr("198.18.0.1")
	lo := underlayDevice{mtu: 65536, loopback: true, up: true, addresses: []netip.Addr{address}}
	for _, c := range []struct {
		name    string
		devices []underlayDevice
		want    int // 0: refused
	}{
		{"on_a_device", []underlayDevice{{mtu: 9000, up: true, addresses: []netip.Addr{address}}, {mtu: 1500, up: true, addresses: []netip.Addr{link}}}, 9000},
		{"on_loopback", []underlayDevice{lo, {mtu: 9000, up: true, addresses: []netip.Addr{link}}, {mtu: 1500, up: true, addresses: []netip.Addr{link}}}, 1500},
		{"others_do_not_count", []underlayDevice{lo, {mtu: 9000, up: true, addresses: []netip.Addr{link}}, {mtu: 1400, up: true}, {mtu: 1300, addresses: []netip.Addr{link}}}, 9000},
		{"nobodys_address", []underlayDevice{{mtu: 1500, up: true, addresses: []netip.Addr{link}}}, 0},
		{"too_small", []underlayDevice{{mtu: 1000, up: true, addresses: []netip.Addr{address}}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := underlayMTU(address, c.devices); got != c.want || (err == nil) != (c.want != 0) {
				t.Errorf("%d, %v; want %d", got, err, c.want)
			}
		})
	}
}

func TestServerOfAllAddressesIsReachedAsTheClientDoes(t *testing.T) {
	for _, c := range [][3]string{
		{":7444", "https://weft.example:7443", "weft.example:7444"},
		{":7444", "https://[2001:db8::1]:7443", "[2001:db8::1]:7444"},
		{"198.19.0.8:7444", "https://127.0.0.1:7443", "198.19.0.8:7444"},
	} {
		if got := serverOf(c[0], c[1]); got != c[2] {
			t.Errorf("stream %s, API %s: %s", c[0], c[1], got)
		}
	}
}

func TestAuthorityIsBelievedByItsHashAlone(t *testing.T) {
	s := httptest.NewUnstartedServer(nil)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	at := s.Listener.Addr().String()
	sum := sha256.Sum256(s.Certificate().Raw) // it is its own authority
	hash := "sha256:" + hex.EncodeToString(sum[:])
	if pem, err := fetchAuthority(t.Context(), at, hash); err != nil || !strings.Contains(string(pem), "BEGIN CERTIFICATE") {
		t.Errorf("the right hash: %s, %v", pem, err)
	}
	other := "sha256:" + strings.Repeat("0", 64)
	var e *v1.Error
	if _, err := fetchAuthority(t.Context(), at, other); !errors.As(err, &e) || e.Code != v1.CodeUnauthorized || !strings.Contains(e.Message, hash) {
		t.Errorf("another hash: %v", err)
	}
	s.Close()
	if _, err := fetchAuthority(t.Context(), at, hash); !errors.As(err, &e) || e.Code != v1.CodeUnavailable {
		t.Errorf("no server: %v", err)
	}
}
