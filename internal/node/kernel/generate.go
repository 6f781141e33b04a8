// SPDX-License-Identifier: Apache-2.0

package kernel

// One little-endian object serves amd64 and arm64: the programs use nothing of a machine.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -type drop_reason bpf ../../../bpf/node.bpf.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -nostdlibinc -I../../../bpf/include
