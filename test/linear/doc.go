// SPDX-License-Identifier: Apache-2.0

// Package linear puts servers on an etcd of three members, breaks both while clients write, and proves from what the clients were
// told that no acknowledged write was lost, that all of it happened in one order, and that no watch missed a step.
package linear
