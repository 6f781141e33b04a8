// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		samples        []float64
		median, spread float64
	}{
		{nil, 0, 0},
		{[]float64{3}, 3, 0},
		{[]float64{3, 1, 2}, 2, 0.25},
		{[]float64{4, 1, 3, 2, 5}, 3, 1.0 / 3},
		{[]float64{1, 1, 1, 100}, 1, 12.375},
	} {
		median, spread := Median(test.samples)
		if median != test.median || math.Abs(spread-test.spread) > 1e-9 {
			t.Errorf("%v: %v ± %v, want %v ± %v", test.samples, median, spread, test.median, test.spread)
		}
	}
}

func TestBarsHoldOrNot(t *testing.T) {
	r := Report{Bench: "test", Machine: ThisMachine("v0", "a veth")}
	r.Add("enough", "x", []float64{0.95}, Bar{Least: 0.95})
	r.Add("too little", "x", []float64{0.94}, Bar{Least: 0.95})
	r.Add("little enough", "x", []float64{1.05}, Bar{Most: 1.05})
	r.Add("too much", "x", []float64{1.06}, Bar{Most: 1.05})
	r.Add("no bar", "Gbit/s", []float64{12.3}, Bar{})
	r.Add("nothing measured", "x", nil, Bar{Most: 1})
	var out bytes.Buffer
	if err := r.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back struct {
		Bench   string
		Machine map[string]any
		Rows    []struct {
			What, Unit, Bar string
			Value, Spread   float64
			Holds           *bool
		}
	}
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"yes", "no", "yes", "no", "-", "no"} {
		got := "-"
		if h := back.Rows[i].Holds; h != nil {
			got = map[bool]string{true: "yes", false: "no"}[*h]
		}
		if got != want {
			t.Errorf("%s: holds %s, want %s", back.Rows[i].What, got, want)
		}
	}
	if back.Machine["wire"] != "a veth" || back.Machine["cores"].(float64) < 1 {
		t.Errorf("machine: %v", back.Machine)
	}
	out.Reset()
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"too little  ", "0.94 x", ">= 0.95", "NO", "a veth"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("the table has no %q:\n%s", line, out.String())
		}
	}
}
