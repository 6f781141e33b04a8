// SPDX-License-Identifier: Apache-2.0

// Package agentfile is the file that says how a machine's agent runs: 'weft node join' writes it, 'weft agent --config' reads it.
package agentfile

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"

	"github.com/goccy/go-yaml"
)

// File is what an agent needs to know; it has the agent's flags, by the same names.
type File struct {
	Node        string     `yaml:"node"`
	Roles       []string   `yaml:"roles"`
	Site        string     `yaml:"site,omitempty"`
	Server      string     `yaml:"server"` // host:port of the nodes' stream
	CA          string     `yaml:"ca"`     // path
	TokenFile   string     `yaml:"tokenFile"`
	Address     netip.Addr `yaml:"address"` // tunnel end
	UnderlayMTU int        `yaml:"underlayMTU"`
	StateDir    string     `yaml:"stateDir"`
	RunDir      string     `yaml:"runDir"`
	BPFFS       string     `yaml:"bpffs"`
	BGPConfig   string     `yaml:"bgpConfig,omitempty"` // path
}

// Read reads a file; a word that it does not know is an error.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("read the agent's configuration: %w", err)
	}
	var f File
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&f); err != nil {
		return File{}, fmt.Errorf("read the agent's configuration %s: %s", path, yaml.FormatError(err, false, true))
	}
	return f, nil
}

// Bytes is the file as it is written.
func (f File) Bytes() ([]byte, error) {
	data, err := yaml.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("write the agent's configuration: %w", err)
	}
	return append([]byte("# Written by 'weft node join'; read by 'weft agent --config'. Its words are the agent's flags.\n"), data...), nil
}
