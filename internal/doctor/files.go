// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Room on a disk, bytes. Below the first, the store refuses writes.
const (
	roomFail = 96 << 20
	roomWarn = 1 << 30
)

func checkDisk(_ context.Context, m *machine) []Finding {
	var st unix.Statfs_t
	dir := m.StateDir
	for dir != "/" && unix.Statfs(dir, &st) != nil {
		dir = filepath.Dir(dir)
	}
	if err := unix.Statfs(dir, &st); err != nil {
		return warn(fmt.Sprintf("%s: %v", dir, err), "", "")
	}
	return judgeDisk(m.StateDir, st.Bavail*uint64(st.Bsize)) //nolint:gosec // a block's size is no negative number
}

func judgeDisk(dir string, room uint64) []Finding {
	const fix = "make room, or move the folder to a larger disk"
	text := fmt.Sprintf("%s has room for %d MiB", dir, room>>20)
	switch {
	case room < roomFail:
		return fail(text+": the store refuses writes below 96, and agents cannot save their rows", fix, "")
	case room < roomWarn:
		return warn(text+"; a busy store needs a GiB", fix, "")
	}
	return ok(text)
}

// A certificate is made anew when a third of its life is left; when less than lifeWarn is, nobody did.
const (
	lifeWarn = 0.2
	lastDays = 30 * 24 * time.Hour // of an authority, which nobody makes anew
)

func checkCertificates(_ context.Context, m *machine) []Finding {
	var out []Finding
	seen := 0
	for _, dir := range []string{m.ConfigDir, m.StateDir} {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error { // what cannot be read is not weft's business here
			if err != nil || d.IsDir() || filepath.Ext(path) != ".pem" && filepath.Ext(path) != ".crt" {
				return nil //nolint:nilerr // the others are looked at
			}
			text, err := os.ReadFile(path)
			for err == nil && len(text) > 0 {
				block, rest := pem.Decode(text)
				if block == nil {
					break
				}
				text = rest
				if c, err := x509.ParseCertificate(block.Bytes); block.Type == "CERTIFICATE" && err == nil {
					seen++
					out = append(out, judgeCertificate(path, c, m.Now)...)
				}
			}
			return nil
		})
	}
	if len(out) == 0 && seen > 0 {
		return ok(fmt.Sprintf("%d certificates are good for a while", seen))
	}
	return out
}

// judgeCertificate says nothing of one that is good.
func judgeCertificate(path string, c *x509.Certificate, now time.Time) []Finding {
	left := c.NotAfter.Sub(now).Round(time.Minute)
	fix, pkg := "look at the log of who uses it, and at the clock: it should have been made anew", ""
	if c.IsCA {
		fix = "see docs/operate/install.md: an authority is made anew by hand"
	}
	name := filepath.Base(filepath.Dir(path)) + "/" + filepath.Base(path)
	switch {
	case now.Before(c.NotBefore):
		return fail(fmt.Sprintf("the certificate %s begins only at %s, by this machine's clock", name, c.NotBefore.Format(time.RFC3339)), "set the clock", "chrony")
	case left <= 0:
		return fail(fmt.Sprintf("the certificate %s ended at %s: who needs it cannot connect", name, c.NotAfter.Format(time.RFC3339)), fix, pkg)
	case c.IsCA && left < lastDays:
		return warn(fmt.Sprintf("the authority %s ends in %s", name, days(left)), fix, pkg)
	case !c.IsCA && lifeLeft(c, now) < lifeWarn:
		return warn(fmt.Sprintf("the certificate %s ends in %s, and was not made anew", name, days(left)), fix, pkg)
	}
	return nil
}

func days(d time.Duration) string {
	if d > 48*time.Hour {
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
	return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
}
