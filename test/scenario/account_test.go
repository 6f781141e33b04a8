// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settleFor is how long counters may take to agree after a story, while its last packets are under way.
const settleFor = 3 * time.Second

// account is one node's side of the books, as "weft dump account" has it.
type account struct {
	given, ended uint64            // packets
	byWay        map[string]uint64 // packets, by side or way
	frames       map[string]uint64 // given, by side
	kernel       map[string]uint64 // by device and counter, as "weft-vx rx"
	text         string
}

// readAccount parses the lines of a dump.
func readAccount(text string) (account, error) {
	a := account{byWay: map[string]uint64{}, frames: map[string]uint64{}, kernel: map[string]uint64{}, text: text}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		_, name, _ := strings.Cut(words[1], "=")
		for _, w := range words[2:] {
			key, value, _ := strings.Cut(w, "=")
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				return a, fmt.Errorf("%q: %w", line, err)
			}
			switch {
			case words[0] == "kernel":
				a.kernel[name+" "+key] = n
			case key == "packets" && words[0] == "given":
				a.given += n
				a.byWay[name] += n
			case key == "packets":
				a.ended += n
				a.byWay[name] += n
			case key == "frames":
				a.frames[name] = n
			}
		}
	}
	return a, nil
}

// ports sums what the kernel counts as received at the ports' devices; made reports whether weft made all of them.
func (a account) ports() (rx uint64, made bool) {
	made = true
	for key, n := range a.kernel {
		device, counter, _ := strings.Cut(key, " ")
		if counter == "rx" && !strings.HasPrefix(device, "weft-") {
			rx += n
			made = made && strings.HasPrefix(device, "wp")
		}
	}
	return rx, made
}

// balanced tells what is wrong with the books of all nodes, or "".
func balanced(nodes map[string]account, moved, forgot bool, fabric uint64) string {
	var wrong strings.Builder
	var sent, received, lost, strangers uint64
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		a := nodes[name]
		if a.given != a.ended {
			fmt.Fprintf(&wrong, "%s: %d packets given to the programs, %d passed or dropped\n%s", name, a.given, a.ended, a.text)
		}
		if uplink := a.kernel["weft-vx rx"]; a.frames["from-uplink"] != uplink {
			fmt.Fprintf(&wrong, "%s: %d frames from the tunnel, the kernel counts %d\n%s", name, a.frames["from-uplink"], uplink, a.text)
		}
		// What a device counted goes with it, and one that was there before counted more: then the sum says nothing.
		if rx, made := a.ports(); !moved && made && a.frames["from-port"] != rx {
			fmt.Fprintf(&wrong, "%s: %d frames from ports, the kernel counts %d\n%s", name, a.frames["from-port"], rx, a.text)
		}
		sent += a.byWay["to-tunnel"]
		received += a.byWay["from-uplink"]
		lost += a.kernel["weft-vx tx-dropped"] + a.kernel["weft-vx rx-dropped"]
		strangers += a.byWay["tunnel-peer-unknown"]
	}
	// A packet of a flow that was lost may be one that the kernel dropped at weft-vx. Nodes count what they send; what a stranger sends into a tunnel end is counted as its drop only.
	if ended := received + max(lost, fabric); !forgot && (sent > ended || ended > sent+strangers) {
		fmt.Fprintf(&wrong, "all nodes: %d packets sent into the tunnel, %d received, %d of them perhaps of strangers, %d lost at weft-vx, %d on the way\n", sent, received, strangers, lost, fabric)
		for _, name := range slices.Sorted(maps.Keys(nodes)) {
			fmt.Fprintf(&wrong, "%s:\n%s", name, nodes[name].text)
		}
	}
	return wrong.String()
}

// settled waits until the books of all nodes agree, and fails with them if they do not.
func (s *story) settled() error {
	for deadline := time.Now().Add(settleFor); ; time.Sleep(100 * time.Millisecond) {
		nodes := make(map[string]account)
		for _, n := range s.l.Topology.Nodes {
			if !n.Role.HasAgent() {
				continue
			}
			text, err := s.l.Agent(n.Name).Dump(context.Background(), "account")
			if err != nil {
				return fmt.Errorf("account of %s: %w", n.Name, err)
			}
			if nodes[n.Name], err = readAccount(text); err != nil {
				return fmt.Errorf("account of %s: %w", n.Name, err)
			}
		}
		wrong := balanced(nodes, s.moved, s.forgot, s.fabric)
		if wrong == "" {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("packets are missing or too many:\n%s", wrong)
		}
	}
}
