// SPDX-License-Identifier: Apache-2.0

package names

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cacheFor is how long names are good: a shell asks at every press of the key.
const cacheFor = 5 * time.Second

// cacheFile is where the names that an answer to question has are kept, for their owner only; "" where there is no place.
func cacheFile(question ...string) string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(strings.Join(question, "\x00")))
	return filepath.Join(dir, "weft", "names-"+hex.EncodeToString(sum[:8])+".json")
}

// load returns names that are not too old.
func load(path string) (names []string, ok bool) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, false
	}
	if age := time.Since(info.ModTime()); age < 0 || age > cacheFor {
		return nil, false
	}
	data, err := os.ReadFile(path)
	return names, err == nil && json.Unmarshal(data, &names) == nil
}

// keep writes names, and removes those that nobody will ask for. That it fails costs a question to the server, and nobody hears of it.
func keep(path string, names []string) {
	data, err := json.Marshal(names)
	if err != nil || path == "" || os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	old, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "names-*")) // the pattern is a good one
	for _, o := range old {
		if info, err := os.Stat(o); err == nil && time.Since(info.ModTime()) > 100*cacheFor {
			_ = os.Remove(o)
		}
	}
	f, err := os.CreateTemp(filepath.Dir(path), "names-*.new")
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if f.Close() != nil || err != nil || os.Rename(f.Name(), path) != nil {
		_ = os.Remove(f.Name())
	}
}
