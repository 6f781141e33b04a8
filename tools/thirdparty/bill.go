// SPDX-License-Identifier: Apache-2.0

package thirdparty

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bill is what is said of one binary besides what is in it.
type bill struct {
	version string    // of weft
	time    time.Time // of the newest commit
	parts   map[string]Part
}

// Bill tells what a binary is made of, as CycloneDX in JSON: from what the compiler left in the binary itself, with the
// licences of the listing in the folder root of the repository. Equal binaries have equal bills.
func Bill(root, binary, version string, at time.Time) ([]byte, error) {
	listing, err := os.ReadFile(filepath.Join(root, File))
	if err != nil {
		return nil, err
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	return bill{version, at.UTC(), Parse(string(listing))}.json(info, sha256.Sum256(program))
}

func (b bill) json(info *debug.BuildInfo, sum [sha256.Size]byte) ([]byte, error) {
	bom, err := b.of(info, sum)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("write the bill of %s: %w", info.Path, err)
	}
	return out.Bytes(), nil
}

// of makes the bill of a binary whose checksum is sum.
func (b bill) of(info *debug.BuildInfo, sum [sha256.Size]byte) (*cdx.BOM, error) {
	program := cdx.Component{
		BOMRef: "weft", Type: cdx.ComponentTypeApplication, Name: "weft", Version: b.version,
		Description: "the network of a cloud, from plain Linux machines",
		Licenses:    licence("Apache-2.0"),
		Hashes:      &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties:  settings(info),
	}
	components, err := b.components(info)
	if err != nil {
		return nil, err
	}
	refs := []string{}
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = serial(sum)
	bom.Metadata = &cdx.Metadata{Timestamp: b.time.Format(time.RFC3339), Component: &program}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: program.BOMRef, Dependencies: &refs}}
	return bom, nil
}

// components are the standard library, the modules, and the headers of the packet path.
func (b bill) components(info *debug.BuildInfo) ([]cdx.Component, error) {
	std, err := b.component("std", strings.TrimPrefix(info.GoVersion, "go"), "golang", "")
	if err != nil {
		return nil, err
	}
	all := []cdx.Component{std}
	modules := map[string]bool{"std": true}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, fmt.Errorf("%s is replaced by %s: what is linked must be what go.mod names", m.Path, m.Replace.Path)
		}
		c, err := b.component(m.Path, m.Version, "golang", m.Sum)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		modules[m.Path] = true
	}
	for _, name := range headerPackages() {
		p, ok := b.parts[name]
		if !ok {
			return nil, fmt.Errorf("%s is not in the listing: make generate", name)
		}
		c, err := b.component(name, p.Version, "deb/debian", "")
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// component is one part, which must be in the listing in this version.
func (b bill) component(name, version, kind, sum string) (cdx.Component, error) {
	p, ok := b.parts[name]
	if !ok || (p.Version != "" && p.Version != version) {
		return cdx.Component{}, fmt.Errorf("%s %s is in the binary, and %q in the listing of licences: make generate", name, version, p.Version)
	}
	// Names are in lower case there, and a plus sign is not itself.
	purl := "pkg:" + kind + "/" + strings.ToLower(name) + "@" + strings.ReplaceAll(url.PathEscape(version), "+", "%2B")
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl, Licenses: licence(p.Licence)}
	if sum != "" { // of a module's files, in the words of go.sum
		c.Properties = &[]cdx.Property{{Name: "go:sum", Value: sum}}
	}
	return c, nil
}

// serial makes the number that a bill must have out of the binary's checksum: a UUID of version 8, whose bits are anybody's own.
func serial(sum [sha256.Size]byte) string {
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// settings are how the compiler was called.
func settings(info *debug.BuildInfo) *[]cdx.Property {
	all := []cdx.Property{{Name: "go:version", Value: info.GoVersion}}
	for _, s := range info.Settings {
		all = append(all, cdx.Property{Name: "go:" + s.Key, Value: s.Value})
	}
	return &all
}

func licence(expression string) *cdx.Licenses {
	if strings.Contains(expression, " ") {
		return &cdx.Licenses{{Expression: expression}}
	}
	return &cdx.Licenses{{License: &cdx.License{ID: expression}}}
}
