// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/goccy/go-yaml"

	"weft/internal/base/configfile"
)

// Relation says what a neighbour is to this speaker (the roles of RFC 9234).
type Relation string

// What is learned from a provider is told to customers only; what is learned from a customer, and the own, to all.
const (
	Provider Relation = "provider" // leads to the rest of the network: a ToR for its hosts
	Customer Relation = "customer" // reaches the rest through this one: a host for its ToR
)

// Config is what a speaker is told: a YAML file, or JSON.
type Config struct {
	AS       uint32         `yaml:"as" json:"as"`             // own autonomous system
	RouterID netip.Addr     `yaml:"routerID" json:"routerID"` // IPv4 form, of this speaker alone
	Announce []netip.Prefix `yaml:"announce" json:"announce"` // prefixes that are here
	Source   []netip.Addr   `yaml:"source" json:"source"`     // what packets of this machine carry: one for each IP version at most
	Peers    []Peer         `yaml:"peers" json:"peers"`

	Hold      time.Duration `yaml:"hold" json:"hold"`           // silence after which a session is over; 0: 9 s
	Restart   time.Duration `yaml:"restart" json:"restart"`     // how long routes are kept for a speaker that restarts; 0: 120 s
	StartWait time.Duration `yaml:"startWait" json:"startWait"` // how long routes found at the start wait for a peer that does not come; 0: 30 s
}

// Peer is a neighbour on a link.
type Peer struct {
	Name     string     `yaml:"name" json:"name"` // for people
	Address  netip.Addr `yaml:"address" json:"address"`
	AS       uint32     `yaml:"as" json:"as"`
	Device   string     `yaml:"device" json:"device"` // link whose loss ends the session at once; "": the one with the peer's subnet
	Relation Relation   `yaml:"relation" json:"relation"`
	Password string     `yaml:"password" json:"-"` // TCP MD5 signature (RFC 2385); "": none
	BFD      bool       `yaml:"bfd" json:"bfd"`    // 3 × 200 ms, single hop (RFC 5881)
}

// Bounds of what a configuration may say.
const (
	peersMost    = 512
	announceMost = 4096
	holdLeast    = 3 * time.Second
	restartMost  = 4095 * time.Second // 12 bits (RFC 4724)
)

// LoadConfig reads a file.
func LoadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read BGP configuration: %w", err)
	}
	c, err := DecodeConfig(data)
	if err != nil {
		return nil, fmt.Errorf("BGP configuration %s: %w", path, err)
	}
	return c, nil
}

// DecodeConfig reads a configuration strictly: it refuses what it does not know.
func DecodeConfig(data []byte) (*Config, error) {
	c := &Config{}
	if err := configfile.OneDocument(data); err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalWithOptions(data, c, yaml.Strict()); err != nil {
		return nil, errors.New(yaml.FormatError(err, false, true))
	}
	if c.Hold == 0 {
		c.Hold = 9 * time.Second
	}
	if c.Restart == 0 {
		c.Restart = 120 * time.Second
	}
	if c.StartWait == 0 {
		c.StartWait = 30 * time.Second
	}
	return c, c.check()
}

func (c *Config) check() error {
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.AS == 0 || c.AS == 23456 {
		refuse("as: %d is no number of an autonomous system, such as 4200000003 for private use", c.AS)
	}
	if !c.RouterID.Is4() || c.RouterID.IsUnspecified() {
		refuse("routerID: %q is not written as an IPv4 address, such as 198.19.0.3; each speaker has its own", c.RouterID)
	}
	for _, t := range []struct {
		field       string
		value       time.Duration
		least, most time.Duration
	}{{"hold", c.Hold, holdLeast, time.Hour}, {"restart", c.Restart, time.Second, restartMost}, {"startWait", c.StartWait, time.Second, time.Hour}} {
		if t.value < t.least || t.value > t.most || t.value%time.Second != 0 {
			refuse("%s: %s is not a number of whole seconds in %s to %s", t.field, t.value, t.least, t.most)
		}
	}
	if len(c.Peers) > peersMost || len(c.Announce) > announceMost {
		refuse("there are %d peers and %d prefixes; at most %d and %d fit", len(c.Peers), len(c.Announce), peersMost, announceMost)
	}
	for i, p := range c.Announce {
		switch {
		case !p.IsValid() || p != p.Masked() || p.Addr().Is4In6():
			refuse("announce: %s is not a prefix without host bits", p)
		case slices.Contains(c.Announce[:i], p):
			refuse("announce: %s is there twice", p)
		}
	}
	for i, a := range c.Source {
		if !a.IsValid() || a.Is4In6() || slices.ContainsFunc(c.Source[:i], func(o netip.Addr) bool { return o.Is4() == a.Is4() }) {
			refuse("source: %s is not the only address of its IP version", a)
		}
	}
	return errors.Join(append(errs, c.checkPeers())...)
}

func (c *Config) checkPeers() error {
	var errs []error
	for i, p := range c.Peers {
		refuse := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("peer %s: %w", p.Address, fmt.Errorf(format, args...)))
		}
		switch {
		case !p.Address.IsValid() || p.Address.Is4In6() || p.Address.IsUnspecified() || p.Address.IsMulticast() || p.Address.Zone() != "":
			refuse("address: it is not that of one neighbour")
		case slices.ContainsFunc(c.Peers[:i], func(o Peer) bool { return o.Address == p.Address }):
			refuse("it is there twice")
		}
		if p.AS == 0 || p.AS == c.AS {
			refuse("as: %d is not that of another autonomous system", p.AS)
		}
		if p.Relation != Provider && p.Relation != Customer {
			refuse("relation: %q is none of provider, customer", p.Relation)
		}
		if len(p.Device) > 15 {
			refuse("device: %q is no name of a device", p.Device)
		}
		if len(p.Password) > 80 {
			refuse("password: it is longer than 80 bytes")
		}
	}
	return errors.Join(errs...)
}

// source is the address of an IP version that routes give to packets of this machine.
func (c *Config) source(v4 bool) netip.Addr {
	for _, a := range c.Source {
		if a.Is4() == v4 {
			return a
		}
	}
	return netip.Addr{}
}

// sameSession reports whether a session goes on when a peer becomes another: its name and BFD are beside it.
func (p Peer) sameSession(o Peer) bool {
	p.Name, p.BFD = o.Name, o.BFD
	return p == o
}
