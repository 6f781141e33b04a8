// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"weft/lab/fault"
)

// breakOne makes a fault, as 'weft lab fault' does.
func breakOne(s *story, _ *testscript.TestScript, args []string) error {
	cfg := fault.Config{Percent: 100}
	var words []string
	for _, a := range args {
		key, value, named := strings.Cut(a, "=")
		var err error
		switch {
		case key == "percent" && named:
			cfg.Percent, err = strconv.ParseFloat(value, 64)
		case key == "seed" && named:
			cfg.Seed, err = strconv.ParseUint(value, 10, 64)
		case key == "by" && named:
			cfg.By, err = time.ParseDuration(value)
		case a == "both":
			cfg.Both = true
		default:
			words = append(words, a)
		}
		if err != nil {
			return fmt.Errorf("%w: %s", errUsage, a)
		}
	}
	if len(words) < 2 || len(words) > 3 {
		return fmt.Errorf("%w: fault WHAT WHERE [FROM] [percent=N] [seed=N] [by=DURATION] [both]", errUsage)
	}
	cfg.What, cfg.Where, cfg.From = words[0], words[1], append(words, "")[2]
	if cfg.What == "node-dead" || cfg.What == "reboot" {
		s.forgot, s.moved = true, true
	}
	_, err := fault.Begin(context.Background(), s.l, cfg)
	return err
}

// heal ends one fault, or all.
func heal(s *story, _ *testscript.TestScript, args []string) (err error) {
	if strings.Join(args, " ") == "all" {
		_, err = fault.HealAll(context.Background(), s.l)
	} else {
		_, err = fault.Heal(context.Background(), s.l, strings.Join(args, " "))
	}
	return err
}

// dead lets a node die.
func dead(s *story, ts *testscript.TestScript, args []string) error {
	return breakOne(s, ts, append([]string{"node-dead"}, args...))
}
