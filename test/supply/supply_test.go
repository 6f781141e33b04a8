// SPDX-License-Identifier: Apache-2.0

// Package supply_test builds what users get a second time, elsewhere and in other circumstances, and says whether it is the
// same, and whether what is said of it is true.
package supply_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	root    = "../.."
	version = "v0.0.1-test"
	epoch   = "1000000000"
)

// objects are the compiled parts of the packet path and of its tests.
var objects = []string{
	"internal/node/kernel/bpf_bpfel.go", "internal/node/kernel/bpf_bpfel.o",
	"bpf/test/addrform_bpfel_test.go", "bpf/test/addrform_bpfel_test.o",
}

// cold compiles the standard library and all modules a second time too, which takes minutes.
var cold = flag.Bool("cold", false, "compile everything again, not only what is weft's own")

// place is a copy of the repository, without its history, and the circumstances there.
type place struct {
	dir   string
	cache string
	env   []string
	umask string
}

func TestWhatUsersGetCanBeBuiltAgain(t *testing.T) {
	first := place{copyOfTree(t, "a"), goEnv(t, "GOCACHE"), []string{"TZ=UTC", "LANG=C", "USER=ann"}, "022"}
	first.make(t, "deb")
	second := place{copyOfTree(t, "another/folder with a longer name"), t.TempDir(), []string{"TZ=Asia/Tokyo", "LANG=C.UTF-8", "USER=bob", "GOFLAGS=-mod=mod -v"}, "077"}
	least := 300
	if !*cold {
		theirs, ours := first.lend(t, second.cache)
		if theirs < 100 || ours < 30 {
			t.Fatalf("%d packages of others and %d of weft: the test would prove nothing", theirs, ours)
		}
		least = ours
	}
	before := entries(t, second.cache)
	second.make(t, "deb")
	if made := entries(t, second.cache) - before; made < least {
		t.Errorf("only %d packages were compiled anew, of %d", made, least)
	}
	for _, file := range []string{"bin/weft", debName(t, first.dir)} {
		a, b := read(t, filepath.Join(first.dir, file)), read(t, filepath.Join(second.dir, file))
		if !bytes.Equal(a, b) {
			t.Errorf("%s is another one when it is built elsewhere: the first of %d and %d bytes that differs is %d", file, len(a), len(b), differ(a, b))
		}
	}
	t.Run("package_tells_what_is_in_it", func(t *testing.T) { describes(t, filepath.Join(first.dir, debName(t, first.dir))) })
	t.Run("packet_path", func(t *testing.T) {
		second.cache = first.cache
		second.run(t, "go", "generate", "./internal/node/kernel", "./bpf/test")
		for _, file := range objects {
			if !bytes.Equal(read(t, filepath.Join(root, file)), read(t, filepath.Join(second.dir, file))) {
				t.Errorf("%s is not what this compiler makes of the sources: make generate", file)
			}
		}
	})
}

// describes compares what a package says of the program in it with what Go says.
func describes(t *testing.T, deb string) {
	files := unpack(t, deb)
	program := filepath.Join(t.TempDir(), "weft")
	if err := os.WriteFile(program, files["./usr/bin/weft"], 0o755); err != nil {
		t.Fatal(err)
	}
	var bill struct {
		Metadata   struct{ Component struct{ Version string } }
		Components []struct {
			Name, Version, Purl string
			Properties          []struct{ Name, Value string }
		}
	}
	if err := json.Unmarshal(files["./usr/share/doc/weft/weft.cdx.json"], &bill); err != nil {
		t.Fatal(err)
	}
	if bill.Metadata.Component.Version != version {
		t.Errorf("it is of version %q", bill.Metadata.Component.Version)
	}
	said := map[string]string{} // module and version, and its checksum
	for _, c := range bill.Components {
		sum := ""
		for _, p := range c.Properties {
			sum = p.Value
		}
		if strings.HasPrefix(c.Purl, "pkg:golang/") {
			said[c.Name+" "+c.Version] = sum
		}
	}
	out, err := exec.Command("go", "version", "-m", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"std " + strings.TrimPrefix(info.GoVersion, "go"): ""}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 4 && f[0] == "dep" {
			want[f[1]+" "+f[2]] = f[3]
		}
	}
	if len(want) < 20 {
		t.Fatalf("go version -m tells of %d modules only:\n%s", len(want), out)
	}
	listing := string(files["./usr/share/doc/weft/THIRD-PARTY.txt"])
	for what, sum := range want {
		if got, ok := said[what]; !ok || got != sum {
			t.Errorf("%s with checksum %q is in the program; the bill has %q (%v)", what, sum, got, ok)
		}
		if !strings.HasPrefix(what, "std ") && !strings.Contains(listing, "\n"+what+": ") {
			t.Errorf("%s is not in the listing of licences", what)
		}
	}
	for what := range said {
		if _, ok := want[what]; !ok {
			t.Errorf("%s is in the bill, and not in the program", what)
		}
	}
	for _, s := range info.Settings {
		if strings.HasPrefix(s.Key, "vcs") || (s.Key == "CGO_ENABLED" && s.Value != "0") || (s.Key == "-trimpath" && s.Value != "true") {
			t.Errorf("built with %s=%s", s.Key, s.Value)
		}
	}
	if paths := regexp.MustCompile(`/(home|tmp|root|build)/[a-z][\w/.-]*\.go\b`).FindAllString(string(files["./usr/bin/weft"]), 3); paths != nil {
		t.Errorf("the program names files of the machine it was built on: %q", paths)
	}
}

// copyOfTree copies what git has, as it is in the folder now.
func copyOfTree(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, read(t, filepath.Join(root, file)), info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func (p *place) make(t *testing.T, what string) {
	t.Helper()
	p.run(t, "make", "--no-print-directory", what, "VERSION="+version, "SOURCE_DATE_EPOCH="+epoch)
}

func (p *place) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("bash", append([]string{"-c", `umask ` + p.umask + ` && exec "$@"`, "-"}, args...)...)
	cmd.Dir = p.dir
	cmd.Env = append(append(os.Environ(), "GOCACHE="+p.cache, "MAKEFLAGS=", "MAKELEVEL="), p.env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, said.String())
	}
	return string(out)
}

// lend gives a cache all that was compiled of others, so that only what is weft's own is compiled again: the compiled
// package, and the entry that leads there, whose name begins with the first half of the package's build ID.
func (p *place) lend(t *testing.T, to string) (theirs, ours int) {
	t.Helper()
	list := p.run(t, "env", "CGO_ENABLED=0", "GOFLAGS=", "go", "list", "-deps", "-export", "-trimpath", "-f", "{{.ImportPath}}|{{.BuildID}}|{{.Export}}", "./cmd/weft")
	for line := range strings.Lines(list) {
		f := strings.Split(strings.TrimSpace(line), "|")
		if len(f) != 3 || f[2] == "" {
			continue
		}
		if strings.HasPrefix(f[0], "weft/") {
			ours++
			continue
		}
		action, _, _ := strings.Cut(f[1], "/")
		id, err := base64.RawURLEncoding.DecodeString(action)
		if err != nil {
			t.Fatalf("build ID of %s: %v", f[0], err)
		}
		name := hex.EncodeToString(id)
		found, err := filepath.Glob(filepath.Join(p.cache, name[:2], name+"*-a"))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %d entries in the cache: %v", f[0], len(found), err)
		}
		for _, file := range []string{found[0], f[2]} {
			rel, err := filepath.Rel(p.cache, file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(to, filepath.Dir(rel)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(to, rel), read(t, file), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		theirs++
	}
	return theirs, ours
}

// entries counts what was compiled into a cache.
func entries(t *testing.T, cache string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(cache, "*", "*-a"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func debName(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "bin", "*.deb"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages in %s: %v, %v", dir, found, err)
	}
	return filepath.Join("bin", filepath.Base(found[0]))
}

// unpack reads the files of a package: an ar archive whose last member is a tar.
func unpack(t *testing.T, name string) map[string][]byte {
	t.Helper()
	data := read(t, name)[len("!<arch>\n"):]
	files := map[string][]byte{}
	for len(data) >= 60 {
		member := strings.TrimSpace(string(data[:16]))
		size, err := strconv.Atoi(strings.TrimSpace(string(data[48:58])))
		if err != nil {
			t.Fatal(err)
		}
		body := data[60 : 60+size]
		data = data[60+size+size%2:]
		if member != "data.tar.gz" {
			continue
		}
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for archive := tar.NewReader(z); ; {
			h, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if files[h.Name], err = io.ReadAll(archive); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
