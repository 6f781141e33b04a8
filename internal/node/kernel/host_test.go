// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

func TestOldKernelIsRefusedWithASentence(t *testing.T) {
	for release, fine := range map[string]bool{
		"6.6.0": true, "6.18.44-fc": true, "7.0-rc1": true, "6.5.13": false, "6.1.0-44-amd64": false, "5.15.0": false,
	} {
		err := checkRelease(release)
		if fine != (err == nil) {
			t.Errorf("%s: %v", release, err)
		}
		if err != nil && (!errors.Is(err, ErrKernelTooOld) || !strings.Contains(err.Error(), "needs 6.6")) {
			t.Errorf("%s: %v", release, err)
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no-pins":   func(c *Config) { c.PinDir = "" },
		"no-tunnel": func(c *Config) { c.Tunnel = netip.Addr{} },
		"zone":      func(c *Config) { c.Tunnel = netip.MustParseAddr("fe80::1%eth0") },
		"no-mac":    func(c *Config) { c.RouterMAC = [6]byte{} },
		"small-mtu": func(c *Config) { c.UnderlayMTU = 1300 },
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig("/sys/fs/bpf/weft/x", "198.19.0.1")
			change(&c)
			if _, err := Open(c); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// The C headers are where numbers and sentences are defined; Go must say the same.
func TestEnumsAreThoseOfTheHeaders(t *testing.T) {
	reasons := enum(t, "drop.h", "DROP_")
	delete(reasons, "none")
	delete(reasons, "reason-max")
	for _, r := range DropReasons() {
		if want := reasons[r.String()]; want.number != int(r) || want.text != r.Meaning() {
			t.Errorf("%s = %d %q, in C %d %q", r, r, r.Meaning(), want.number, want.text)
		}
		delete(reasons, r.String())
	}
	if len(reasons) != 0 {
		t.Errorf("only in C: %v", reasons)
	}
	kinds := enum(t, "pass.h", "PASS_")
	for k := range passKinds {
		if kinds[k.String()].number != int(k) {
			t.Errorf("%s is %d in Go, %d in C", k, k, kinds[k.String()].number)
		}
	}
	if kinds["kind-max"].number != int(passKinds) {
		t.Errorf("%d kinds in Go, %d in C", passKinds, kinds["kind-max"].number)
	}
	for name, l := range enum(t, "overlay.h", "LOCATION_") {
		if LocationKind(l.number).String() != name {
			t.Errorf("location %s is %s in Go", name, LocationKind(l.number))
		}
	}
}

type enumerator struct {
	number int
	text   string
}

func enum(t *testing.T, header, prefix string) map[string]enumerator {
	t.Helper()
	text, err := os.ReadFile("../../../bpf/abi/" + header)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]enumerator{}
	for _, m := range regexp.MustCompile(prefix+`(\w+) = (\d+),\s*(?:/\* (.*?) \*/)?`).FindAllStringSubmatch(string(text), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		found[strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")] = enumerator{n, m[3]}
	}
	if len(found) == 0 {
		t.Fatalf("no %s in %s", prefix, header)
	}
	return found
}

func TestLayouts(t *testing.T) {
	for name, l := range map[string]struct{ got, want uintptr }{
		"port_key":       {unsafe.Sizeof(bpfPortKey{}), 4},
		"port_value":     {unsafe.Sizeof(bpfPortValue{}), 104},
		"port_mac":       {unsafe.Offsetof(bpfPortValue{}.Mac), 92},
		"rate_key":       {unsafe.Sizeof(bpfRateKey{}), 8},
		"rate_value":     {unsafe.Sizeof(bpfRateValue{}), 8},
		"receive_value":  {unsafe.Sizeof(bpfReceiveValue{}), 24},
		"route_key":      {unsafe.Sizeof(bpfRouteKey{}), 32},
		"source_key":     {unsafe.Sizeof(bpfSourceKey{}), 28},
		"source_value":   {unsafe.Sizeof(bpfSourceValue{}), 4},
		"location_key":   {unsafe.Sizeof(bpfLocationKey{}), 20},
		"location_value": {unsafe.Sizeof(bpfLocationValue{}), 44},
		"location_mac":   {unsafe.Offsetof(bpfLocationValue{}.Mac), 32},
		"sender_key":     {unsafe.Sizeof(bpfSenderKey{}), 20},
		"sender_value":   {unsafe.Sizeof(bpfSenderValue{}), 8},
		"drop_key":       {unsafe.Sizeof(bpfDropKey{}), 8},
		"drop_value":     {unsafe.Sizeof(bpfDropValue{}), 16},
	} {
		if l.got != l.want {
			t.Errorf("%s: %d in Go, %d in C", name, l.got, l.want)
		}
	}
}

func TestMapNamesFitTheKernel(t *testing.T) {
	spec, err := LoadSpec()
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Maps {
		if len(name) > 15 {
			t.Errorf("%s: the kernel keeps 15 characters", name)
		}
	}
}
