// SPDX-License-Identifier: Apache-2.0

// Package privtest lets a test say that it needs root.
package privtest

import (
	"os"
	"testing"
)

// Require skips the test where it does not run as root. With REQUIRE_PRIVILEGED=1, as in CI, that is a failure instead.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("REQUIRE_PRIVILEGED") == "1" {
		t.Fatal("this test needs root, and REQUIRE_PRIVILEGED=1 says that it must run")
	}
	t.Skip("this test works with network namespaces and eBPF and needs root; run it with 'make test-root'")
}
