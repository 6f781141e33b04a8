// SPDX-License-Identifier: Apache-2.0

// Package check is the suite behind weft check: it makes two throw-away tenants with equal addresses on a running system,
// sends real packets between their workloads, and tells what arrived where it must, and what nowhere.
package check

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "weft/api/v1"
	"weft/client"
)

// ErrNoCase: a check of nothing would have passed.
var ErrNoCase = errors.New("no case has a name that matches")

// Config says what to check, and how to tell.
type Config struct {
	Client   *client.Client
	All      bool           // every attack, from every workload, at every workload of the other tenant
	Only     *regexp.Regexp // run the cases whose names match; nil: all
	Groups   []string       // run these groups only; none: all
	Progress io.Writer      // a line for each case; nil: none

	countWithin time.Duration // how long a packet may take to be heard where it must; 0: 3 s
	earWithin   time.Duration // how long a stray packet may take to arrive; 0: 150 ms

	began func(*run)                        // a test's: who runs
	fires func(workload string, row []shot) // a test's: what is about to be sent
}

// Result is what came of a run.
type Result struct {
	APIVersion string   `json:"apiVersion"`
	ID         string   `json:"id"` // ends the names of the tenants of this run
	Nodes      []string `json:"nodes"`
	Groups     []Group  `json:"groups"`
	Cases      []Case   `json:"cases"`
	Passed     int      `json:"passed"`
	Failed     int      `json:"failed"`
	Packets    int      `json:"packets"` // that were sent on purpose, each with a canary of its own or one for a flood
	Through    int      `json:"through"` // packets that one tenant sent and the other heard
	Seconds    float64  `json:"seconds"`
}

// Group is the sum of some cases.
type Group struct {
	Name    string  `json:"name"`
	Cases   int     `json:"cases"`
	Failed  int     `json:"failed"`
	Packets int     `json:"packets"`
	Seconds float64 `json:"seconds"`
}

// Case is one thing that was tried, often between many workloads.
type Case struct {
	Group    string    `json:"group"`
	Name     string    `json:"name"`
	Passed   bool      `json:"passed"`
	Packets  int       `json:"packets"`
	Note     string    `json:"note,omitempty"`     // what must fail was stopped by
	Failed   []Failure `json:"failures,omitempty"` // the first of them
	Failures int       `json:"failed,omitempty"`   // how many there were
}

// Failure is what a case wanted in one place, and what came.
type Failure struct {
	Path string `json:"path"` // from where to where
	Want string `json:"want"`
	Got  string `json:"got"`
}

// failuresMost of a case are kept: the others say the same.
const failuresMost = 5

func (c *Case) fail(path, want, got string) {
	c.Passed = false
	c.Failures++
	if len(c.Failed) < failuresMost {
		c.Failed = append(c.Failed, Failure{path, want, got})
	}
}

// tenantPrefix begins the names of the tenants that a check makes; only these are cleaned up.
const tenantPrefix = "weft-check-"

// run is the state of one run.
type run struct {
	cfg     Config
	id      string
	nodes   []string          // hosts that take part: up to two, or three where all is checked
	tunnels map[string]string // tunnel end by node
	vni     [2]uint32         // of the tenants' VPCs
	sides   [2][]*actor       // the workloads of tenants a and b, in the same order
	mtu     int               // the least of the workloads' devices

	mu      sync.Mutex // guards below, and what becomes of tests, while groups work
	sent    map[string]*sending
	through int
}

// Run runs the suite. The error tells why it could not run; what failed is in the result.
func Run(ctx context.Context, cfg Config) (res *Result, err error) {
	start := time.Now()
	var random [3]byte
	rand.Read(random[:])
	cfg.countWithin = cmp.Or(cfg.countWithin, 3*time.Second)
	cfg.earWithin = cmp.Or(cfg.earWithin, 150*time.Millisecond)
	r := &run{cfg: cfg, id: hex.EncodeToString(random[:]), sent: make(map[string]*sending), tunnels: make(map[string]string)}
	if err := r.chooseNodes(ctx); err != nil {
		return nil, err
	}
	r.layOut()
	if cfg.began != nil {
		cfg.began(r)
	}
	plan := r.plan()
	if len(plan) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoCase, cfg.Only)
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if cerr := r.cleanUp(clean); cerr != nil {
			err = errors.Join(err, fmt.Errorf("clean up (repeat with 'weft check --cleanup'): %w", cerr))
		}
	}()
	r.tell("making tenants %s and %s with equal addresses on %s\n", r.tenant(0), r.tenant(1), strings.Join(r.nodes, ", "))
	if err := r.setUp(ctx); err != nil {
		return nil, fmt.Errorf("set up the check: %w", err)
	}
	res = &Result{APIVersion: v1.APIVersion, ID: r.id, Nodes: r.nodes}
	defer func() { res.Seconds = time.Since(start).Seconds() }()
	return res, r.groups(ctx, plan, res)
}

// groups runs one group after the other.
func (r *run) groups(ctx context.Context, plan []*work, res *Result) error {
	total, done := 0, 0
	for _, w := range plan {
		total += len(w.tests)
	}
	for _, w := range plan {
		began := time.Now()
		if err := r.work(ctx, w); err != nil {
			return fmt.Errorf("stopped in group %s, after %d of %d cases: %w", w.name, done, total, err)
		}
		g := Group{Name: w.name, Cases: len(w.tests), Seconds: time.Since(began).Seconds()}
		for _, t := range w.tests {
			done++
			g.Packets += t.Packets
			if !t.Passed {
				g.Failed++
			}
			r.show(done, total, t.Case)
			res.Cases = append(res.Cases, t.Case)
		}
		res.Groups = append(res.Groups, g)
		res.Passed, res.Failed, res.Packets, res.Through = res.Passed+g.Cases-g.Failed, res.Failed+g.Failed, res.Packets+g.Packets, r.through
	}
	return nil
}

func (r *run) show(i, n int, c Case) {
	word, note := "ok", ""
	if !c.Passed {
		word = "FAIL"
	}
	if c.Note != "" {
		note = "   (" + c.Note + ")"
	}
	r.tell("[%*d/%d] %-62s %-4s %6d packets%s\n", len(fmt.Sprint(n)), i, n, c.Group+": "+c.Name, word, c.Packets, note)
	for _, f := range c.Failed {
		r.tell("    path  %s\n    want  %s\n    got   %s\n", f.Path, f.Want, f.Got)
	}
	if c.Failures > len(c.Failed) {
		r.tell("    and %d more like these\n", c.Failures-len(c.Failed))
	}
}

func (r *run) tell(format string, args ...any) {
	if r.cfg.Progress != nil {
		fmt.Fprintf(r.cfg.Progress, format, args...)
	}
}

// chooseNodes takes the first hosts that are ready.
func (r *run) chooseNodes(ctx context.Context) error {
	st, err := r.cfg.Client.Status(ctx)
	if err != nil {
		return err
	}
	most := 2
	if r.cfg.All {
		most = 3
	}
	for _, n := range st.Nodes {
		if slices.Contains(n.Spec.Roles, "host") && n.Status.Ready && len(r.nodes) < most {
			r.nodes = append(r.nodes, n.Name)
			r.tunnels[n.Name] = n.Spec.Address.String()
		}
	}
	if len(r.nodes) == 0 {
		return &v1.Error{Code: v1.CodePrecondition, Message: "no node with the role host is ready", Fix: "look at 'weft get nodes', and start an agent with --roles host"}
	}
	if len(r.nodes) == 1 {
		r.tell("one host only: nothing between hosts is checked\n")
	}
	return nil
}
