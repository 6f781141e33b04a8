// SPDX-License-Identifier: Apache-2.0

package dhcp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"weft/internal/southbound"
)

// Save writes the rows that are served to a file, for an agent that starts while no server is reachable. A crash leaves the
// old file or the new one.
func Save(file string, rows map[uint32]southbound.Port) error {
	data, err := json.Marshal(rows)
	if err != nil {
		return fmt.Errorf("save what DHCP serves: %w", err)
	}
	next := file + ".next" // one name: what a crash leaves is overwritten
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("save what DHCP serves: %w", err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("save what DHCP serves: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return fmt.Errorf("save what DHCP serves: %w", err)
	}
	return nil
}

// Load reads what Save wrote; a missing file has no rows.
func Load(file string) (map[uint32]southbound.Port, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what DHCP served: %w", err)
	}
	var rows map[uint32]southbound.Port
	if err := json.Unmarshal(data, &rows); err != nil {
		return nil, fmt.Errorf("read what DHCP served from %s: %w", file, err)
	}
	return rows, nil
}
