// SPDX-License-Identifier: Apache-2.0

package term

import (
	"encoding/json"
	"io"
	"strings"

	"github.com/goccy/go-yaml"
)

// Table collects rows and writes them with columns aligned, two spaces apart, without trailing spaces.
type Table struct {
	env  *Env
	Rows [][]string
}

// Add appends a row.
func (t *Table) Add(cells ...string) { t.Rows = append(t.Rows, cells) }

// Flush writes the table.
func (t *Table) Flush() error {
	var width []int
	for _, r := range t.Rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(c))
		}
	}
	var b strings.Builder
	for _, r := range t.Rows {
		for len(r) > 0 && r[len(r)-1] == "" {
			r = r[:len(r)-1]
		}
		for i, c := range r {
			if i == len(r)-1 {
				b.WriteString(t.paint(c))
				break
			}
			b.WriteString(t.paint(c) + strings.Repeat(" ", width[i]-len(c)+2))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(t.env.Out, b.String())
	return err
}

// paint colours words of state; the word itself always stays.
func (t *Table) paint(cell string) string {
	if !t.env.colors() {
		return cell
	}
	switch cell {
	case "Ready", "Attached", "OK":
		return "\x1b[32m" + cell + "\x1b[0m"
	case "Pending", "Syncing", "Degraded", "Never":
		return "\x1b[33m" + cell + "\x1b[0m"
	case "Gone", "NodeGone", "FAIL":
		return "\x1b[31m" + cell + "\x1b[0m"
	}
	return cell
}

// NewTable returns an empty table.
func (e *Env) NewTable() *Table { return &Table{env: e} }

// ToYAML writes an object by way of JSON, so that names and forms are the API's.
func ToYAML(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	y, err := yaml.JSONToYAML(data)
	return string(y), err
}

// CheckFormat refuses a value of -o that is none of formats.
func CheckFormat(format string, formats ...string) error {
	for _, f := range formats {
		if format == f {
			return nil
		}
	}
	return Usagef("-o %s is not possible here; use one of %s", format, strings.Join(formats, ", "))
}
