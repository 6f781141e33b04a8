// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"io"
	"strings"

	"weft/lab/capture"
)

// CaptureConfig says what to capture.
type CaptureConfig struct {
	Target string    // NODE, NODE:DEVICE or TENANT/PORT; without a device all of them
	Out    io.Writer // gets a pcap file
	Count  int       // end after so many packets; 0: do not
}

// Capture writes packets as they pass, until ctx ends or Count is reached, and returns how many.
func (l *Lab) Capture(ctx context.Context, cfg CaptureConfig) (int, error) {
	target, device, _ := strings.Cut(cfg.Target, ":")
	ns, err := l.Target(target)
	if err != nil {
		return 0, err
	}
	n, err := capture.Run(ctx, ns, device, cfg.Out, cfg.Count)
	if err != nil {
		return n, fmt.Errorf("capture on %s: %w", cfg.Target, err)
	}
	return n, nil
}
