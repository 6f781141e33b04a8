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
	"strings"
	"time"

	v1 "weft/api/v1"
	"weft/client"
)

// ErrNoCase: a check of nothing would have passed.
var ErrNoCase = errors.New("no case has a name that matches")

// Config says what to check, and how to tell.
type Config struct {
	Client   *client.Client
	Only     *regexp.Regexp // run the cases whose names match; nil: all
	Progress io.Writer      // a line for each case; nil: none

	countWithin time.Duration // how long a drop may take to show in the counters; 0: 3 s
	earWithin   time.Duration // how long a stray packet may take to arrive; 0: 150 ms
}

// Result is what came of a run.
type Result struct {
	APIVersion string   `json:"apiVersion"`
	ID         string   `json:"id"` // ends the names of the tenants of this run
	Nodes      []string `json:"nodes"`
	Cases      []Case   `json:"cases"`
	Passed     int      `json:"passed"`
	Failed     int      `json:"failed"`
	Seconds    float64  `json:"seconds"`
}

// Case is one thing that was tried.
type Case struct {
	Name    string  `json:"name"`
	Passed  bool    `json:"passed"`
	Seconds float64 `json:"seconds"`
	Note    string  `json:"note,omitempty"` // what a must-fail case was stopped by
	Path    string  `json:"path,omitempty"` // of a failed case: from where to where
	Want    string  `json:"want,omitempty"` // of a failed case
	Got     string  `json:"got,omitempty"`  // of a failed case
}

// tenantPrefix begins the names of the tenants that a check makes; only these are cleaned up.
const tenantPrefix = "weft-check-"

// run is the state of one run.
type run struct {
	cfg     Config
	id      string
	nodes   []string          // hosts that take part: one or two
	sides   [2][]*actor       // the workloads of tenants a and b, in the same order
	mtu     int               // the least of the workloads' devices
	current string            // the case that runs
	sent    map[string]packet // by canary
}

// packet is one that was sent, or a run of them with the same canary.
type packet struct {
	tenant string // of the sender
	test   string // the case that sent it
}

// actor is one probe workload.
type actor struct {
	tenant, port, node string
	subnet             string
	addr               string
	mac                v1.MAC
	sibling            *actor // with the same address, in the other tenant
}

func (a *actor) String() string {
	return fmt.Sprintf("%s/%s (%s) on %s", a.tenant, a.port, a.addr, a.node)
}

// test is a case before it ran.
type test struct {
	name string
	path string
	try  func(ctx context.Context) (note string, err error)
}

// Run runs the suite. The error tells why it could not run; what failed is in the result.
func Run(ctx context.Context, cfg Config) (res *Result, err error) {
	start := time.Now()
	var raw [3]byte
	rand.Read(raw[:])
	cfg.countWithin = cmp.Or(cfg.countWithin, 3*time.Second)
	cfg.earWithin = cmp.Or(cfg.earWithin, 150*time.Millisecond)
	r := &run{cfg: cfg, id: hex.EncodeToString(raw[:]), sent: make(map[string]packet)}
	if err := r.chooseNodes(ctx); err != nil {
		return nil, err
	}
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if cerr := r.cleanUp(clean); cerr != nil {
			err = errors.Join(err, fmt.Errorf("clean up (repeat with 'weft check --cleanup'): %w", cerr))
		}
	}()
	r.tell("making tenants %sa-%s and %sb-%s with equal addresses on %s\n", tenantPrefix, r.id, tenantPrefix, r.id, strings.Join(r.nodes, ", "))
	if err := r.setUp(ctx); err != nil {
		return nil, fmt.Errorf("set up the check: %w", err)
	}
	res = &Result{APIVersion: v1.APIVersion, ID: r.id, Nodes: r.nodes}
	var tests []test
	for _, t := range append(r.mustPass(), r.mustFail()...) {
		if cfg.Only == nil || cfg.Only.MatchString(t.name) {
			tests = append(tests, t)
		}
	}
	if len(tests) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoCase, cfg.Only)
	}
	defer func() { res.Seconds = time.Since(start).Seconds() }()
	for i, t := range tests {
		c := r.one(ctx, t)
		if ctx.Err() != nil {
			return res, fmt.Errorf("stopped after %d of %d cases: %w", i, len(tests), ctx.Err()) // c was cut short, and says nothing
		}
		res.Cases = append(res.Cases, c)
		if c.Passed {
			res.Passed++
		} else {
			res.Failed++
		}
		r.show(i+1, len(tests), c)
	}
	return res, nil
}

// failure says what a case wanted and what came.
type failure struct{ want, got string }

func (f failure) Error() string { return "want " + f.want + ", got " + f.got }

func (r *run) one(ctx context.Context, t test) Case {
	start := time.Now()
	r.current = t.name
	note, err := t.try(ctx)
	c := Case{Name: t.name, Passed: err == nil, Seconds: time.Since(start).Seconds(), Note: note}
	if err != nil {
		c.Path, c.Want, c.Got = t.path, "success", err.Error()
		var f failure
		if errors.As(err, &f) {
			c.Want, c.Got = f.want, f.got
		}
	}
	return c
}

func (r *run) show(i, n int, c Case) {
	word, note := "ok", ""
	if !c.Passed {
		word = "FAIL"
	}
	if c.Note != "" {
		note = "   (" + c.Note + ")"
	}
	r.tell("[%*d/%d] %-58s %-4s %6.2fs%s\n", len(fmt.Sprint(n)), i, n, c.Name, word, c.Seconds, note)
	if !c.Passed {
		r.tell("    path  %s\n    want  %s\n    got   %s\n", c.Path, c.Want, c.Got)
	}
}

func (r *run) tell(format string, args ...any) {
	if r.cfg.Progress != nil {
		fmt.Fprintf(r.cfg.Progress, format, args...)
	}
}

// chooseNodes takes the first two hosts that are ready.
func (r *run) chooseNodes(ctx context.Context) error {
	st, err := r.cfg.Client.Status(ctx)
	if err != nil {
		return err
	}
	for _, n := range st.Nodes {
		host := false
		for _, role := range n.Spec.Roles {
			host = host || role == "host"
		}
		if host && n.Status.Ready && len(r.nodes) < 2 {
			r.nodes = append(r.nodes, n.Name)
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

// canaryLength is that of each canary, as the nodes' ears know it.
const canaryLength = len("weft-canary-") + 12

// canary returns a text that no other packet carries, for one that from sends.
func (r *run) canary(from *actor) string {
	c := fmt.Sprintf("weft-canary-%s%06x", r.id, len(r.sent)+1)
	r.sent[c] = packet{from.tenant, r.current}
	return c
}
