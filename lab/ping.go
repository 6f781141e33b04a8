// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"io"
	"net/netip"

	"weft/lab/ping"
)

// Ping sends count echo requests from a node or workload to an address and writes a line for each. The error is ping.ErrNoReply
// unless all were answered.
func (l *Lab) Ping(ctx context.Context, target string, to netip.Addr, count int, out io.Writer) error {
	ns, err := l.Target(target)
	if err != nil {
		return err
	}
	return ping.Run(ctx, ns, target, to, count, out)
}
