// SPDX-License-Identifier: Apache-2.0

// Package scenario tells stories on a lab: each file in testdata is one, with real programs, packets and failures, and
// ends by checking that the tenants in it cannot reach each other.
package scenario
