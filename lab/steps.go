// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"io"
	"time"
)

// How often a wait looks again, and how often it says what it waits for.
const (
	lookEvery = 20 * time.Millisecond
	sayEvery  = 3 * time.Second
)

// steps writes a line for each step, with the time since the first.
type steps struct {
	out   io.Writer
	start time.Time
}

func newSteps(out io.Writer) *steps {
	if out == nil {
		out = io.Discard
	}
	return &steps{out: out, start: time.Now()}
}

func (s *steps) done(format string, args ...any) {
	fmt.Fprintf(s.out, "%6.2fs  %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(format, args...))
}

// wait looks until check says nothing more is missing, at most within. It says regularly what is.
func (s *steps) wait(ctx context.Context, within time.Duration, what string, check func(context.Context) (missing string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	said := time.Now()
	for {
		missing, err := check(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if missing == "" {
			return nil
		}
		if time.Since(said) >= sayEvery {
			s.done("%s: waiting: %s", what, missing)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s after %s: %w", what, missing, within, context.Cause(ctx))
		case <-time.After(lookEvery):
		}
	}
}
