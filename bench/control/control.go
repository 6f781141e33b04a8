// SPDX-License-Identifier: Apache-2.0

// Package control measures weft's control plane: how long a change takes from its write at the API until it is in effect on all nodes
// that it concerns, and what that costs, with many nodes, large VPCs, many tenants, and noise beside. The server is the real one, in
// a process of its own; so are the nodes' enrolment, stream and handling of rows. Only their kernels are not there.
package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"weft/bench"
)

// Config says what to measure.
type Config struct {
	Binary   string // the program weft
	Version  string
	Progress io.Writer
	Size     Size
}

// Size is how much there is of all.
type Size struct {
	Nodes, Ports, Changes int // a VPC, its nodes, and how many ports start there one by one
	Burst                 int // ports that start at once
	BigNodes, BigPorts    int // a large VPC
	Block                 int // ports by which it grows
	ManyNodes, Tenants    int // tenants with the same addresses
	Rounds, NoisyPorts    int // of a quiet VPC beside a noisy one
}

// Full is what the bars are for; Quick shows in less than a minute that all works.
var (
	Full = Size{
		Nodes: 200, Ports: 10_000, Changes: 300, Burst: 5_000, BigNodes: 60, BigPorts: 60_000, Block: 1_000,
		ManyNodes: 1_000, Tenants: 4_096, Rounds: 6, NoisyPorts: 1_000,
	}
	Quick = Size{
		Nodes: 50, Ports: 1_000, Changes: 100, Burst: 500, BigNodes: 10, BigPorts: 5_000, Block: 500,
		ManyNodes: 100, Tenants: 256, Rounds: 2, NoisyPorts: 200,
	}
)

// bench is one run.
type run struct {
	Config
	report *bench.Report
	start  time.Time
}

// Run measures, each stage with a server of its own.
func Run(ctx context.Context, c Config) (*bench.Report, error) {
	r := &run{Config: c, start: time.Now(), report: &bench.Report{
		Bench:   "control",
		Machine: bench.ThisMachine(c.Version, "server and simulated nodes share the processors"),
	}}
	for _, stage := range []func(context.Context, *cloud) error{r.one, r.big, r.many, r.noisy} {
		if err := r.stage(ctx, stage); err != nil {
			return nil, fmt.Errorf("bench control: %w", err)
		}
	}
	return r.report, nil
}

func (r *run) stage(ctx context.Context, f func(context.Context, *cloud) error) (err error) {
	dir, err := os.MkdirTemp("", "weft-bench-")
	if err != nil {
		return fmt.Errorf("make a folder for the server: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := startServer(ctx, r.Binary, filepath.Clean(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return f(ctx, s)
}

func (r *run) say(format string, a ...any) {
	fmt.Fprintf(r.Progress, "%6.1fs  %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, a...))
}

// one measures the start of one port in a VPC of many, and many that start at once.
func (r *run) one(ctx context.Context, s *cloud) error {
	z := r.Size
	r.say("%d nodes join", z.Nodes)
	if err := s.join(ctx, z.Nodes); err != nil {
		return err
	}
	v := newVPC("red", s.nodes)
	r.say("a VPC of %d ports", z.Ports)
	if err := v.create(ctx, s); err != nil {
		return err
	}
	if err := v.grow(ctx, s, z.Ports); err != nil {
		return err
	}
	what := fmt.Sprintf("%d nodes, a VPC of %d ports", z.Nodes, z.Ports)
	before, err := s.usage()
	if err != nil {
		return err
	}
	rows, took, bytes := s.heard()
	r.report.Add(what+": rows of a node", "", []float64{float64(rows) / float64(len(s.nodes))}, bench.Bar{})
	r.report.Add(what+": all of it to a node, as it grows", "MB", []float64{float64(bytes) / float64(len(s.nodes)) / 1e6}, bench.Bar{})
	r.say("%d ports start one by one", z.Changes)
	times, err := v.changes(ctx, s, z.Changes)
	if err != nil {
		return err
	}
	after, err := s.usage()
	if err != nil {
		return err
	}
	_, took2, bytes2 := s.heard()
	each := float64(z.Changes * len(s.nodes))
	r.quantiles(what+": a port starts, to all", times, 20, 100)
	r.report.Add(what+": rows to a node for a start", "", []float64{float64(took2-took) / each}, bench.Bar{})
	r.report.Add(what+": bytes to a node for a start", "B", []float64{float64(bytes2-bytes) / each}, bench.Bar{})
	r.report.Add(what+": server's processor time for a start", "ms",
		[]float64{float64((after.cpu - before.cpu).Microseconds()) / 1000 / float64(z.Changes)}, bench.Bar{})
	r.report.Add(what+": server's memory", "MiB", []float64{float64(after.most) / (1 << 20)}, bench.Bar{})

	r.say("%d ports start at once", z.Burst)
	if err := v.add(ctx, s, z.Burst); err != nil {
		return err
	}
	start := time.Now()
	if err := v.attach(ctx, s); err != nil {
		return err
	}
	claimed := time.Since(start)
	if _, err := v.change(ctx, s); err != nil {
		return err
	}
	burst := fmt.Sprintf("%d ports start at once on %d nodes", z.Burst, z.Nodes)
	r.report.Add(burst+": claimed", "s", []float64{claimed.Seconds()}, bench.Bar{})
	r.report.Add(burst+": in effect everywhere", "s", []float64{time.Since(start).Seconds()}, bench.Bar{})
	return nil
}

// big measures how a VPC grows.
func (r *run) big(ctx context.Context, s *cloud) error {
	z := r.Size
	r.say("%d nodes join", z.BigNodes)
	if err := s.join(ctx, z.BigNodes); err != nil {
		return err
	}
	v := newVPC("blue", s.nodes)
	if err := v.create(ctx, s); err != nil {
		return err
	}
	var blocks []float64 // seconds
	for len(v.ports) < z.BigPorts {
		start := time.Now()
		if err := v.grow(ctx, s, z.Block); err != nil {
			return err
		}
		blocks = append(blocks, time.Since(start).Seconds())
		if n := len(v.ports); n%(10*z.Block) == 0 {
			r.say("a VPC of %d ports: %.2f ms for each of the last %d", n, 1000*blocks[len(blocks)-1]/float64(z.Block), z.Block)
		}
	}
	u, err := s.usage()
	if err != nil {
		return err
	}
	const ends = 3 // blocks that are compared, behind the first
	var ratios []float64
	for i := range min(ends, len(blocks)/2) {
		ratios = append(ratios, blocks[len(blocks)-1-i]/blocks[1+i])
	}
	what := fmt.Sprintf("a VPC of %d ports in %d subnets on %d nodes", z.BigPorts, subnets, z.BigNodes)
	r.report.Add(what+": time of a port, the last to the first", "x", ratios, bench.Bar{Most: 1.3})
	r.report.Add(what+": a port made, attached and in effect", "ms", []float64{1000 * sum(blocks) / float64(z.BigPorts)}, bench.Bar{})
	r.report.Add(what+": server's memory", "MiB", []float64{float64(u.most) / (1 << 20)}, bench.Bar{Most: 1024})
	times, err := v.changes(ctx, s, z.Changes/3)
	if err != nil {
		return err
	}
	r.quantiles(what+": a port starts, to all", times, 0, 0)
	return nil
}

// many measures tenants that all have the same addresses.
func (r *run) many(ctx context.Context, s *cloud) error {
	z := r.Size
	empty, err := s.usage()
	if err != nil {
		return err
	}
	r.say("%d nodes join", z.ManyNodes)
	if err := s.join(ctx, z.ManyNodes); err != nil {
		return err
	}
	joined, err := s.usage()
	if err != nil {
		return err
	}
	r.say("%d tenants with the same addresses", z.Tenants)
	var vpcs []*vpc
	for i := range z.Tenants {
		first := i * tenantNodes % (z.ManyNodes - tenantNodes)
		v := newVPC(fmt.Sprintf("tenant-%d", i+1), s.nodes[first:first+tenantNodes])
		v.few = true
		vpcs = append(vpcs, v)
	}
	if err := createAll(ctx, s, vpcs); err != nil {
		return err
	}
	r.say("their ports are attached")
	if err := attachAll(ctx, s, vpcs); err != nil {
		return err
	}
	for _, v := range vpcs { // all that came before is in effect
		if v.nodes[0] == s.nodes[0] || v == vpcs[len(vpcs)-1] {
			if _, err := v.change(ctx, s); err != nil {
				return err
			}
		}
	}
	if err := s.quiet(ctx); err != nil {
		return err
	}
	_, before, _ := s.heard()
	var times []float64
	for i := range z.Changes {
		took, err := vpcs[(i*37)%len(vpcs)].change(ctx, s)
		if err != nil {
			return err
		}
		times = append(times, took.Seconds()*1000)
	}
	_, after, _ := s.heard()
	u, err := s.usage()
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%d tenants with the same addresses on %d nodes", z.Tenants, z.ManyNodes)
	r.quantiles(what+": a port starts, to all", times, 20, 100)
	r.report.Add(what+": rows sent for a start, to those it concerns", "x",
		[]float64{float64(after-before) / float64(z.Changes*(tenantNodes+1))}, bench.Bar{Most: 1})
	r.report.Add(what+": server's memory", "MiB", []float64{float64(u.most) / (1 << 20)}, bench.Bar{})
	r.report.Add(what+": server's memory for a connected node", "KiB",
		[]float64{float64(joined.now-empty.now) / 1024 / float64(z.ManyNodes)}, bench.Bar{})
	return nil
}

// noisy measures a quiet VPC alone, and beside one that changes all the time, on the same nodes.
func (r *run) noisy(ctx context.Context, s *cloud) error {
	const nodes, quietPorts = 20, 200
	z := r.Size
	r.say("a quiet VPC beside a noisy one")
	if err := s.join(ctx, nodes); err != nil {
		return err
	}
	quiet, loud := newVPC("quiet", s.nodes), newVPC("loud", s.nodes)
	for v, n := range map[*vpc]int{quiet: quietPorts, loud: z.NoisyPorts} {
		if err := v.create(ctx, s); err != nil {
			return err
		}
		if err := v.grow(ctx, s, n); err != nil {
			return err
		}
	}
	var alone, beside, ratios, rates []float64
	for range z.Rounds {
		a, err := quiet.changes(ctx, s, z.Changes)
		if err != nil {
			return err
		}
		stop := loud.noise(ctx, s)
		b, err := quiet.changes(ctx, s, z.Changes)
		rate, nerr := stop()
		if err := errors.Join(err, nerr); err != nil {
			return err
		}
		alone, beside, rates = append(alone, a...), append(beside, b...), append(rates, rate)
		ratios = append(ratios, quantile(b, 0.99)/quantile(a, 0.99))
	}
	r.report.Add("quiet VPC beside a noisy one: changes of the noisy one", "/s", rates, bench.Bar{})
	r.report.Add("quiet VPC beside a noisy one: p99, to p99 alone", "x", ratios, bench.Bar{Most: 1.5})
	r.quantiles("quiet VPC alone: a port starts, to all", alone, 0, 0)
	r.quantiles("quiet VPC beside a noisy one: a port starts, to all", beside, 0, 0)
	return nil
}

// quantiles adds p50 and p99 of times in ms, with their bars; 0: none.
func (r *run) quantiles(what string, times []float64, half, most float64) {
	r.report.Add(what+", p50", "ms", []float64{quantile(times, 0.5)}, bench.Bar{Most: half})
	r.report.Add(what+", p99", "ms", []float64{quantile(times, 0.99)}, bench.Bar{Most: most})
}

func quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(samples))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}

func sum(samples []float64) (s float64) {
	for _, x := range samples {
		s += x
	}
	return s
}
