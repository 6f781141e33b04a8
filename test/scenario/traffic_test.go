// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"weft/lab/traffic"
)

// sendNumbered begins flows between two workloads or nodes.
func sendNumbered(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("%w: traffic NAME FROM TO [rate=N] [flows=N] [ipv6]", errUsage)
	}
	rate, flows, ipv6 := 1000, 1, false
	for _, a := range args[3:] {
		key, value, _ := strings.Cut(a, "=")
		n, err := strconv.Atoi(value)
		switch {
		case a == "ipv6":
			ipv6 = true
		case err != nil:
			return fmt.Errorf("%w: %s", errUsage, a)
		case key == "rate":
			rate = n
		case key == "flows":
			flows = n
		default:
			return fmt.Errorf("%w: %s", errUsage, a)
		}
	}
	var ends [2]traffic.End
	for i, target := range args[1:3] {
		var err error
		if ends[i], err = s.l.End(target, ipv6); err != nil {
			return err
		}
	}
	for range flows {
		f, err := traffic.Start(ends[0], ends[1], rate/flows)
		if err != nil {
			return err
		}
		s.flows[args[0]] = append(s.flows[args[0]], f)
	}
	return nil
}

// lost ends flows and judges what they lost.
func lost(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) < 2 || s.flows[args[0]] == nil {
		return fmt.Errorf("%w: lost NAME none | lost NAME gap=DURATION [spared=N] [atports]", errUsage)
	}
	results := traffic.Stop(s.flows[args[0]])
	delete(s.flows, args[0])
	spared, sent, longest := 0, uint64(0), time.Duration(0)
	var total, twice uint64
	for i, r := range results {
		if r.There.Lost+r.Back.Lost == 0 {
			spared++
		} else {
			ts.Logf("flow %d: there %+v, back %+v", i+1, r.There, r.Back)
		}
		for _, c := range []traffic.Count{r.There, r.Back} {
			sent, total, twice = sent+c.Sent, total+c.Lost, twice+c.Duplicated
			longest = max(longest, c.LongestGap)
			if c.Sent == 0 || c.Received == 0 {
				return fmt.Errorf("flow %d sent and received nothing: %+v", i+1, c)
			}
		}
	}
	ts.Logf("%d packets sent, %d lost, %d of %d flows without loss, longest gap %s", sent, total, spared, len(results), longest.Round(time.Millisecond))
	s.fabric += total
	for _, a := range args[1:] {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "atports": // not on the way between nodes: a workload had no interface
			s.fabric -= total
		case "none":
			if total != 0 || twice != 0 {
				return fmt.Errorf("%d of %d packets are lost, %d came twice", total, sent, twice)
			}
		case "gap":
			most, err := time.ParseDuration(value)
			if err != nil {
				return fmt.Errorf("%w: %s", errUsage, a)
			}
			if longest >= most {
				return fmt.Errorf("nothing came for %s", longest)
			}
		case "spared":
			least, err := strconv.Atoi(value)
			if err != nil {
				return fmt.Errorf("%w: %s", errUsage, a)
			}
			if spared < least {
				return fmt.Errorf("%d of %d flows lost nothing", spared, len(results))
			}
		default:
			return fmt.Errorf("%w: %s", errUsage, a)
		}
	}
	return nil
}

// bounce ends a program of a node at once, and starts it again.
func bounce(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("%w: bounce NODE [PROGRAM]", errUsage)
	}
	return s.l.Restart(args[0], strings.Join(args[1:], ""), syscall.SIGKILL)
}

// ways judges how many next hops a node has to another.
func ways(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%w: ways NODE TO N", errUsage)
	}
	have, err := s.l.Ways(args[0], args[1])
	if err == nil && strconv.Itoa(have) != args[2] {
		err = fmt.Errorf("%s has %d ways to %s", args[0], have, args[1])
	}
	return err
}
