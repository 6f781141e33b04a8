// SPDX-License-Identifier: Apache-2.0

// Package clock tells the time of day as this process has it: for certificates and for times that are stored. What lasts, such as
// a timeout, is measured by the standard library, which no step of a clock can disturb.
package clock

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// Variable is the variable of the environment that puts this process's clock ahead or, with a minus, behind: "36h", "-90s". It is
// for tests of what a step does; the machine's own clock is never touched.
const Variable = "WEFT_CLOCK_OFFSET"

// Now returns the time of day.
func Now() time.Time { return time.Now().Add(offset()) }

// Check reports an offset that makes no sense; Now then has none.
func Check() error {
	_, err := parse(os.Getenv(Variable))
	return err
}

// offset is decided once: it is the same for the whole life of the process.
var offset = sync.OnceValue(func() time.Duration {
	d, err := parse(os.Getenv(Variable))
	if err != nil {
		return 0
	}
	return d
})

func parse(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is no duration such as 36h or -90s", Variable, text)
	}
	return d, nil
}
