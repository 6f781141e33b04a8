// SPDX-License-Identifier: Apache-2.0

// Package agentfile is the file that says how a machine's agent runs, as 'weft node join' writes it; 'weft agent --config' reads it
// (configfile).
package agentfile

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/goccy/go-yaml"

	"weft/internal/base/configfile"
)

// File is what an agent needs to know. Its words are flags of the agent; a test of the command keeps them so.
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

// Read is for those who are not the agent and want to know how it runs: words that they do not need are passed over.
func Read(path string) (File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("read the agent's configuration: %w", err)
	}
	if err := configfile.OneDocument(data); err != nil {
		return File{}, fmt.Errorf("read the agent's configuration %s: %w", path, err)
	}
	var f File
	if err := yaml.Unmarshal(data, &f); err != nil {
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
