// SPDX-License-Identifier: Apache-2.0

// Package bench is the common shape of measurements: rows with a value, its spread and the bar that it has to reach, written as a
// table or as JSON. A value is a ratio to a yardstick of the same run wherever there is one.
package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// Report is what a bench found.
type Report struct {
	Bench   string  `json:"bench"`
	Machine Machine `json:"machine"`
	Rows    []Row   `json:"rows"`
}

// Machine is where it was measured.
type Machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Version string `json:"version"` // of weft
	Wire    string `json:"wire"`    // what stands for the network
}

// Row is one figure.
type Row struct {
	What   string  `json:"what"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit"`
	Spread float64 `json:"spread"`          // half of what lies between the quartiles, as part of the value
	Bar    string  `json:"bar,omitempty"`   // ">= 0.95"
	Holds  *bool   `json:"holds,omitempty"` // whether the value reaches the bar
}

// ThisMachine describes the machine.
func ThisMachine(version, wire string) Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), Version: version, Wire: wire}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	text, _ := os.ReadFile("/proc/cpuinfo") // it is a name for people
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
}

// Bar is what a value must reach.
type Bar struct {
	Least, Most float64 // 0: no such bound
}

func (b Bar) text() string {
	switch {
	case b.Least != 0:
		return fmt.Sprintf(">= %g", b.Least)
	case b.Most != 0:
		return fmt.Sprintf("<= %g", b.Most)
	}
	return ""
}

// Add adds a row: the median of samples. The zero Bar is none.
func (r *Report) Add(what, unit string, samples []float64, bar Bar) {
	row := Row{What: what, Unit: unit, Bar: bar.text()}
	row.Value, row.Spread = Median(samples)
	if row.Bar != "" {
		holds := len(samples) > 0 && (bar.Least == 0 || row.Value >= bar.Least) && (bar.Most == 0 || row.Value <= bar.Most)
		row.Holds = &holds
	}
	r.Rows = append(r.Rows, row)
}

// Median returns the median, and half of what lies between the quartiles as part of it.
func Median(samples []float64) (median, spread float64) {
	if len(samples) == 0 {
		return 0, 0
	}
	s := slices.Sorted(slices.Values(samples))
	at := func(q float64) float64 {
		x := q * float64(len(s)-1)
		i := min(int(x), len(s)-1)
		j := min(i+1, len(s)-1)
		return s[i] + (x-float64(i))*(s[j]-s[i])
	}
	median = at(0.5)
	if median != 0 {
		spread = (at(0.75) - at(0.25)) / 2 / median
	}
	return median, spread
}

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHAT\tVALUE\tSPREAD\tBAR\tHOLDS")
	for _, row := range r.Rows {
		holds := ""
		if row.Holds != nil {
			holds = map[bool]string{true: "yes", false: "NO"}[*row.Holds]
		}
		fmt.Fprintf(t, "%s\t%s %s\t±%.0f%%\t%s\t%s\n", row.What, figure(row.Value), row.Unit, 100*row.Spread, row.Bar, holds)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	m := r.Machine
	_, err := fmt.Fprintf(w, "\n%s; %d cores %s, Linux %s, %s, weft %s\n", m.Wire, m.Cores, m.CPU, m.Kernel, m.Go, m.Version)
	return err
}

// figure writes three digits that matter.
func figure(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
