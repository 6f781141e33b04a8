// SPDX-License-Identifier: Apache-2.0

package port

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"weft/internal/southbound"
)

// State is how one attachment stands.
type State struct {
	Attachment
	Addresses []string // with the length of the subnet's prefix
	MAC       southbound.MAC
	MTU       int
	Ready     bool
	Err       error
}

// States returns how every attachment stands, by tenant and port.
func (p *Ports) States() []State {
	out := make([]State, 0, len(p.have))
	for id := range p.have {
		out = append(out, p.state(id))
	}
	slices.SortFunc(out, func(a, b State) int {
		return cmp.Or(cmp.Compare(a.ID.Tenant, b.ID.Tenant), cmp.Compare(a.ID.Port, b.ID.Port))
	})
	return out
}

// State returns how one attachment stands; ok is false where there is none.
func (p *Ports) State(id ID) (s State, ok bool) {
	if _, ok := p.have[id]; !ok {
		return State{}, false
	}
	return p.state(id), true
}

func (p *Ports) state(id ID) State {
	a := p.have[id]
	s := State{Attachment: a.Attachment, MAC: p.rows[id].MAC, MTU: p.cfg.MTU, Err: a.err}
	s.Ready = a.ifindex != 0 && a.err == nil && !a.pending
	for _, i := range p.rows[id].Interfaces {
		s.Addresses = append(s.Addresses, fmt.Sprintf("%s/%d", i.Address, i.Bits))
	}
	return s
}

// InPlace returns the rows of the ports that have their device, by its index.
func (p *Ports) InPlace() map[uint32]southbound.Port {
	out := make(map[uint32]southbound.Port, len(p.have))
	for id, a := range p.have {
		if row, ok := p.rows[id]; ok && a.ifindex != 0 && row.Binding == a.Binding {
			out[a.ifindex] = row
		}
	}
	return out
}

// loadAttachments reads the state file; a missing one is an empty one.
func loadAttachments(file string) ([]Attachment, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read attachments: %w", err)
	}
	var list []Attachment
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("read attachments from %s: %w", file, err)
	}
	for i := range list {
		if list[i].Way == "" {
			list[i].Way = WayNetNS // there was no other when this was written
		}
	}
	return list, nil
}

// save writes the state file so that a crash leaves the old one or the new one.
func (p *Ports) save() error {
	list := make([]Attachment, 0, len(p.have))
	for _, a := range p.have {
		list = append(list, a.Attachment)
	}
	slices.SortFunc(list, func(a, b Attachment) int {
		return cmp.Or(cmp.Compare(a.ID.Tenant, b.ID.Tenant), cmp.Compare(a.ID.Port, b.ID.Port))
	})
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	next := p.cfg.StateFile + ".next" // one name: what a crash leaves is overwritten
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	if err := os.Rename(next, p.cfg.StateFile); err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	return syncFolder(filepath.Dir(p.cfg.StateFile))
}

// syncFolder makes a rename in the folder outlive a power cut.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("save attachments: %w", err)
	}
	return nil
}
