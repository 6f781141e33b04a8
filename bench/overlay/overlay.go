// SPDX-License-Identifier: Apache-2.0

// Package overlay measures weft's packet path beside what else would carry the same packets over the same wires: a bare veth, bare
// routes, and the kernel's own bridge and VXLAN. All ways are there at once, and each round takes them in another order.
package overlay

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "weft/api/v1"
	"weft/bench"
	"weft/client"
	"weft/lab"
)

var (
	//go:embed topology.yaml
	topology []byte
	//go:embed resources.yaml
	resources []byte
)

// Config says how to measure.
type Config struct {
	Binary   string // the program weft
	Version  string
	Rounds   int
	Time     time.Duration // of each measurement
	Progress io.Writer
}

// Full and Quick are the two sizes of a run: under five minutes, and under one.
func (c Config) Full() Config { c.Rounds, c.Time = 7, time.Second; return c }

// Quick is for a first look.
func (c Config) Quick() Config { c.Rounds, c.Time = 3, 200*time.Millisecond; return c }

// name of the lab. One bench at a time: two would measure each other.
const name = "bench"

// key of what was measured: samples are kept by it.
type key struct{ where, way, what string }

// Run brings a lab up, measures, and takes it down.
func Run(ctx context.Context, c Config) (_ *bench.Report, err error) {
	t, err := lab.DecodeTopology(topology)
	if err != nil {
		return nil, fmt.Errorf("bench overlay: %w", err)
	}
	if t.Objects, err = v1.DecodeYAML(resources); err != nil {
		return nil, fmt.Errorf("bench overlay: %w", err)
	}
	before, err := client.LoadContexts()
	if err != nil {
		return nil, fmt.Errorf("bench overlay: %w", err)
	}
	l, err := lab.Up(ctx, lab.UpConfig{Name: name, Topology: t, Binary: c.Binary, Progress: c.Progress})
	if l != nil {
		defer func() { err = errors.Join(err, lab.Down(name, c.Progress), restore(before)) }()
	}
	if err != nil {
		return nil, fmt.Errorf("bench overlay: %w", err)
	}
	p, err := build(l)
	if err != nil {
		return nil, fmt.Errorf("bench overlay: %w", err)
	}
	samples := make(map[key][]float64)
	for round := range c.Rounds {
		fmt.Fprintf(c.Progress, "round %d of %d\n", round+1, c.Rounds)
		if err := c.round(ctx, p, round, samples); err != nil {
			return nil, fmt.Errorf("bench overlay: %w", err)
		}
	}
	return c.report(samples), nil
}

// restore makes the context current again that was it before the bench's lab.
func restore(before *client.Contexts) error {
	if before.Current == "" {
		return nil
	}
	return client.UpdateContexts(func(c *client.Contexts) error {
		c.Current = before.Current
		return nil
	})
}

// Places.
const (
	sameHost = "same host"
	offload  = "other host, wire offloads on"
	without  = "other host, wire offloads off"
)

// round measures every way once.
func (c Config) round(ctx context.Context, p *place, round int, samples map[key][]float64) error {
	for _, at := range []struct {
		where string
		ways  []way
		on    bool
	}{{sameHost, p.near, true}, {offload, p.far, true}, {without, p.far, false}} {
		if err := p.offloads(at.on); err != nil {
			return err
		}
		for i := range at.ways {
			if err := ctx.Err(); err != nil {
				return err
			}
			w := at.ways[(i+round)%len(at.ways)]
			if err := c.measure(w, at.where, samples); err != nil {
				return fmt.Errorf("%s, %s: %w", at.where, w.name, err)
			}
		}
	}
	return nil
}

// What is measured.
const (
	oneStream = "TCP, 1 stream"
	streams   = "TCP, 8 streams"
	cpu       = "CPU per Gbit"
	p50       = "latency p50"
	p99       = "latency p99"
	frames    = "64-byte frames"
)

func (c Config) measure(w way, where string, samples map[key][]float64) error {
	add := func(what string, value float64) {
		k := key{where, w.name, what}
		samples[k] = append(samples[k], value)
	}
	one, err := w.stream(1, c.Time)
	if err != nil {
		return err
	}
	add(oneStream, one.rate)
	add(cpu, one.cpu)
	many, err := w.stream(8, c.Time)
	if err != nil {
		return err
	}
	add(streams, many.rate)
	median, slow, err := w.turns(c.Time)
	if err != nil {
		return err
	}
	add(p50, median)
	add(p99, slow)
	rate, err := w.packets(c.Time)
	if err != nil {
		return err
	}
	add(frames, rate)
	return nil
}

// report turns samples into rows: first the ratios that have bars, then what they are made of.
func (c Config) report(samples map[key][]float64) *bench.Report {
	r := &bench.Report{Bench: "overlay", Machine: bench.ThisMachine(c.Version, "the wire is a veth, all nodes share the processors")}
	ratio := func(where, what, yardstick string, bar bench.Bar) {
		r.Add(fmt.Sprintf("%s: %s, weft to %s", where, what, yardstick), "x",
			quotients(samples[key{where, overWeft, what}], samples[key{where, yardstick, what}]), bar)
	}
	for _, what := range []string{oneStream, streams} {
		ratio(sameHost, what, overVeth, bench.Bar{Least: 0.95})
	}
	ratio(sameHost, p50, overVeth, bench.Bar{Most: 1.05})
	for _, what := range []string{oneStream, streams} {
		ratio(sameHost, what, overRoute, bench.Bar{})
	}
	ratio(sameHost, p50, overRoute, bench.Bar{})
	for _, where := range []string{offload, without} {
		for _, what := range []string{oneStream, streams} {
			ratio(where, what, overVXLAN, bench.Bar{Least: 1})
		}
		ratio(where, cpu, overVXLAN, bench.Bar{Most: 0.9})
		ratio(where, p50, overVXLAN, bench.Bar{Most: 0.9})
		ratio(where, p99, overVXLAN, bench.Bar{})
		ratio(where, frames, overVXLAN, bench.Bar{})
		for _, w := range []string{overWeft, overVXLAN} { // the seed: VXLAN costs 20 to 30 %
			loss := quotients(samples[key{where, w, oneStream}], samples[key{where, overRoute, oneStream}])
			for i := range loss {
				loss[i] = 100 * (1 - loss[i])
			}
			r.Add(fmt.Sprintf("%s: %s, %s loses to bare route", where, oneStream, w), "%", loss, bench.Bar{})
		}
	}
	units := map[string]string{oneStream: "Gbit/s", streams: "Gbit/s", cpu: "s", p50: "µs", p99: "µs", frames: "Mpps"}
	for _, where := range []string{sameHost, offload, without} {
		for _, what := range []string{oneStream, streams, cpu, p50, p99, frames} {
			for _, w := range []string{overWeft, overVeth, overRoute, overBridge, overVXLAN} {
				if s := samples[key{where, w, what}]; len(s) > 0 {
					r.Add(fmt.Sprintf("%s: %s, %s", where, what, w), units[what], s, bench.Bar{})
				}
			}
		}
	}
	return r
}

// quotients divides what was measured in the same round.
func quotients(a, b []float64) []float64 {
	var q []float64
	for i := range min(len(a), len(b)) {
		if b[i] != 0 {
			q = append(q, a[i]/b[i])
		}
	}
	return q
}
