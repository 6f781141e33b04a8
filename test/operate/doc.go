// SPDX-License-Identifier: Apache-2.0

// Package operate runs what docs/operate tells operators to do, as it stands there, on machines that have nothing of weft.
package operate
