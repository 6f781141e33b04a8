// SPDX-License-Identifier: Apache-2.0

// Command deb builds the Debian package of weft: the same bytes from the same files, with nothing but Go.
package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/md5" //nolint:gosec // dpkg's own list of files has MD5 sums; they guard against bad disks, not against people
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"weft/tools/thirdparty"
)

// file is one file of the package.
type file struct {
	to   string // absolute
	mode int64
	data []byte
}

// pack is the package as it is about to be written.
type pack struct {
	root    string    // of the repository
	program string    // version as the program says it
	version string    // in Debian's form
	arch    string    // in Debian's words
	speaks  string    // a program that runs here; "": the packaged one does
	time    time.Time // of every file
	bill    func(root, binary, version string, at time.Time) ([]byte, error)
	files   []file
}

// conffiles are kept as the operator has changed them.
var conffiles = []string{"/etc/weft/server.yaml"}

func main() {
	p := &pack{bill: thirdparty.Bill}
	binary := flag.String("binary", "bin/weft", "the program")
	version := flag.String("version", "", "version as git describes it")
	stamp := flag.Int64("time", 0, "seconds since 1970 of the newest commit")
	out := flag.String("out", "bin", "folder for the package")
	flag.StringVar(&p.root, "root", ".", "folder of the repository")
	flag.StringVar(&p.arch, "arch", runtime.GOARCH, "architecture of the program, in Debian's words")
	flag.StringVar(&p.speaks, "ask", "", "the same program for this machine, where the packaged one does not run here")
	flag.Parse()
	p.time = time.Unix(*stamp, 0).UTC()
	p.program, p.version = *version, debianVersion(*version, p.time)
	name := filepath.Join(*out, fmt.Sprintf("weft_%s_%s.deb", p.version, p.arch))
	if err := p.build(*binary, name); err != nil {
		fmt.Fprintln(os.Stderr, "deb:", err)
		os.Exit(1)
	}
	fmt.Println(name)
}

// debianVersion makes of v1.2.3, v1.2.3-4-gabc or abc one that dpkg orders as the commits came.
func debianVersion(git string, at time.Time) string {
	git = strings.ReplaceAll(git, "-dirty", "+dirty")
	if v, ok := strings.CutPrefix(git, "v"); ok && v != "" && v[0] >= '0' && v[0] <= '9' {
		return strings.Replace(strings.Replace(v, "-g", ".g", 1), "-", "+", 1)
	}
	return "0.0~git" + at.Format("20060102150405") + "." + git
}

func (p *pack) build(binary, name string) error {
	if err := p.collect(binary); err != nil {
		return err
	}
	slices.SortFunc(p.files, func(a, b file) int { return strings.Compare(a.to, b.to) })
	control, err := p.control()
	if err != nil {
		return err
	}
	data, err := p.archive(p.files, true)
	if err != nil {
		return err
	}
	var deb bytes.Buffer
	deb.WriteString("!<arch>\n")
	for _, m := range []file{{to: "debian-binary", data: []byte("2.0\n")}, {to: "control.tar.gz", data: control}, {to: "data.tar.gz", data: data}} {
		fmt.Fprintf(&deb, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.to, p.time.Unix(), 0, 0, "100644", len(m.data))
		deb.Write(m.data)
		if len(m.data)%2 == 1 {
			deb.WriteByte('\n')
		}
	}
	return os.WriteFile(name, deb.Bytes(), 0o644)
}

// collect reads what goes into the package.
func (p *pack) collect(binary string) error {
	for _, f := range []struct {
		to, from string
		mode     int64
	}{
		{"/usr/bin/weft", binary, 0o755},
		{"/usr/lib/systemd/system/weft-server.service", "deploy/systemd/weft-server.service", 0o644},
		{"/usr/lib/systemd/system/weft-agent.service", "deploy/systemd/weft-agent.service", 0o644},
		{"/usr/lib/systemd/system/weft-bgp.service", "deploy/systemd/weft-bgp.service", 0o644},
		{"/usr/lib/systemd/network/00-weft.network", "deploy/etc/networkd.network", 0o644},
		{"/usr/lib/systemd/networkd.conf.d/50-weft.conf", "deploy/etc/networkd.conf", 0o644},
		{"/usr/lib/NetworkManager/conf.d/50-weft.conf", "deploy/etc/networkmanager.conf", 0o644},
		{"/usr/lib/modules-load.d/weft.conf", "deploy/etc/modules.conf", 0o644},
		{"/usr/share/doc/weft/copyright", "LICENSE", 0o644},
		{"/usr/share/doc/weft/THIRD-PARTY.txt", thirdparty.File, 0o644},
		{"/usr/share/doc/weft/CHANGELOG.md", "CHANGELOG.md", 0o644},
	} {
		if err := p.add(f.to, p.path(f.from), f.mode); err != nil {
			return err
		}
	}
	for pattern, to := range map[string]string{"docs/operate/*.md": "/usr/share/doc/weft/operate", "docs/cli/*.md": "/usr/share/doc/weft/cli", "examples/*.yaml": "/usr/share/doc/weft/examples"} {
		found, err := filepath.Glob(filepath.Join(p.root, pattern))
		if err != nil || len(found) == 0 {
			return fmt.Errorf("no file matches %s: %w", pattern, err)
		}
		for _, f := range found {
			if err := p.add(path.Join(to, filepath.Base(f)), f, 0o644); err != nil {
				return err
			}
		}
	}
	made, err := p.bill(p.root, p.path(binary), p.program, p.time)
	if err != nil {
		return err
	}
	p.files = append(p.files, file{"/usr/share/doc/weft/weft.cdx.json", 0o644, made})
	return p.ask(cmp.Or(p.speaks, binary))
}

// ask lets the program write the files that follow from its commands and flags.
func (p *pack) ask(binary string) error {
	for _, f := range []struct {
		to   string
		args []string
	}{
		{"/etc/weft/server.yaml", []string{"server", "--print-default-config"}},
		{"/usr/share/bash-completion/completions/weft", []string{"completion", "bash"}},
		{"/usr/share/zsh/vendor-completions/_weft", []string{"completion", "zsh"}},
		{"/usr/share/fish/vendor_completions.d/weft.fish", []string{"completion", "fish"}},
	} {
		text, err := exec.Command(p.path(binary), f.args...).Output()
		if err != nil {
			return fmt.Errorf("%s %s: %w", binary, strings.Join(f.args, " "), err)
		}
		p.files = append(p.files, file{f.to, 0o644, text})
	}
	return p.manual(binary)
}

// manual adds the pages for man(1), packed as dpkg has them.
func (p *pack) manual(binary string) error {
	dir, err := os.MkdirTemp("", "weft-man-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if out, err := exec.Command(p.path(binary), "man", "--dir", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%s man: %w: %s", binary, err, out)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(pages) == 0 {
		return fmt.Errorf("%s man has written no page: %w", binary, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		var packed bytes.Buffer
		z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(text); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		p.files = append(p.files, file{"/usr/share/man/man1/" + filepath.Base(page) + ".gz", 0o644, packed.Bytes()})
	}
	return nil
}

// path is where a file of the repository is.
func (p *pack) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(p.root, name)
}

func (p *pack) add(to, from string, mode int64) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	p.files = append(p.files, file{to, mode, data})
	return nil
}

// control is the archive of what dpkg reads and runs.
func (p *pack) control() ([]byte, error) {
	size := 0
	var sums strings.Builder
	for _, f := range p.files {
		size += len(f.data)
		if !slices.Contains(conffiles, f.to) {
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.data), f.to[1:]) //nolint:gosec // as above
		}
	}
	text, err := os.ReadFile(p.path("deploy/deb/control"))
	if err != nil {
		return nil, err
	}
	header := strings.NewReplacer("@VERSION@", p.version, "@ARCH@", p.arch, "@SIZE@", fmt.Sprint(size/1024)).Replace(string(text))
	files := []file{
		{"/control", 0o644, []byte(header)},
		{"/conffiles", 0o644, []byte(strings.Join(conffiles, "\n") + "\n")},
		{"/md5sums", 0o644, []byte(sums.String())},
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		data, err := os.ReadFile(p.path("deploy/deb/" + script))
		if err != nil {
			return nil, err
		}
		files = append(files, file{"/" + script, 0o755, data})
	}
	return p.archive(files, false)
}

// archive makes a compressed tar; folders come before what is in them, all of them root's.
func (p *pack) archive(files []file, folders bool) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed) // it is built at every test
	if err != nil {
		return nil, err
	}
	t := tar.NewWriter(z)
	made := map[string]bool{"/": true}
	for _, f := range files {
		for _, dir := range parents(f.to) {
			if !folders || made[dir] {
				continue
			}
			made[dir] = true
			if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "." + dir + "/", Mode: 0o755, ModTime: p.time, Format: tar.FormatGNU}); err != nil {
				return nil, err
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "." + f.to, Mode: f.mode, Size: int64(len(f.data)), ModTime: p.time, Format: tar.FormatGNU}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := io.Copy(t, bytes.NewReader(f.data)); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// parents lists the folders above a file, the outermost first.
func parents(name string) []string {
	var dirs []string
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		dirs = append(dirs, dir)
	}
	slices.Reverse(dirs)
	return dirs
}
