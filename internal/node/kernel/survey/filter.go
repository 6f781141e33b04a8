// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Chain is a chain of nftables; those of iptables are such, unless its older form is in use.
type Chain struct {
	Family, Table, Name string
	Hook                string // "input", "forward", "output" …; "": it is only called by others
	Drop                bool   // what no rule decides is dropped
	rules               [][]byte
}

// String names the chain as nft does.
func (c Chain) String() string { return c.Family + " " + c.Table + " " + c.Name }

// Rules counts its rules.
func (c Chain) Rules() int { return len(c.rules) }

// Names reports whether a rule of the chain speaks of a UDP or TCP port. What is in a set is not seen.
func (c Chain) Names(port uint16) bool {
	wire := binary.BigEndian.AppendUint16(nil, port) // nft compares with the packet's bytes
	pair := binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, port), port)
	for _, r := range c.rules {
		if bytes.Contains(r, wire) || bytes.Contains(r, pair) { // the second: a range, as modules of iptables keep it
			return true
		}
	}
	return false
}

// SetsZone reports whether a rule of the chain puts connections into zones of their own.
func (c Chain) SetsZone() bool {
	for _, r := range c.rules {
		for _, e := range list(r) {
			if text(e[exprName]) != "ct" {
				continue
			}
			of, err := attributes(e[exprData])
			if _, sets := of[ctSource]; err == nil && sets && len(of[ctKey]) == 4 && binary.BigEndian.Uint32(of[ctKey]) == ctZone {
				return true
			}
		}
	}
	return false
}

// list reads the expressions of a rule.
func list(rule []byte) (out []map[uint16][]byte) {
	elements, err := nl.ParseRouteAttr(rule)
	if err != nil {
		return nil
	}
	for _, e := range elements {
		if at, err := attributes(e.Value); err == nil {
			out = append(out, at)
		}
	}
	return out
}

// Messages and attributes of nftables (linux/netfilter/nf_tables.h).
const (
	nftGetChain, nftGetRule = 4, 7

	chainTable, chainName, chainHook, chainPolicy = 1, 3, 4, 5
	hookNumber                                    = 1
	ruleTable, ruleChain, ruleExpressions         = 1, 2, 4

	exprName, exprData = 1, 2
	ctKey, ctSource    = 2, 4
	ctZone             = 17

	policyDrop = 0
)

// Of the address families that chains are of.
var families = map[byte]string{unix.NFPROTO_INET: "inet", unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_ARP: "arp", unix.NFPROTO_BRIDGE: "bridge", unix.NFPROTO_NETDEV: "netdev"}

// hooks of the families of IP.
var hooks = []string{"prerouting", "input", "forward", "output", "postrouting", "ingress"}

// Chains lists all chains of nftables with their rules.
func Chains() ([]Chain, error) {
	var out []Chain
	err := dump(nftGetChain, func(family byte, at map[uint16][]byte) {
		c := Chain{Family: families[family], Table: text(at[chainTable]), Name: text(at[chainName])}
		if hook, ok := at[chainHook]; ok && c.Family != "netdev" && c.Family != "arp" {
			if nested, err := attributes(hook); err == nil && len(nested[hookNumber]) == 4 {
				if n := binary.BigEndian.Uint32(nested[hookNumber]); int(n) < len(hooks) {
					c.Hook = hooks[n]
				}
			}
			c.Drop = len(at[chainPolicy]) == 4 && binary.BigEndian.Uint32(at[chainPolicy]) == policyDrop
		}
		out = append(out, c)
	})
	if err != nil || len(out) == 0 {
		return nil, err
	}
	err = dump(nftGetRule, func(family byte, at map[uint16][]byte) {
		for i, c := range out {
			if c.Family == families[family] && c.Table == text(at[ruleTable]) && c.Name == text(at[ruleChain]) {
				out[i].rules = append(out[i].rules, at[ruleExpressions])
			}
		}
	})
	return out, err
}

// dump hands out what nftables answers to a question for all of a kind.
func dump(message int, take func(family byte, at map[uint16][]byte)) error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|message, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // this kernel has no nftables, or has not loaded it
	}
	if err != nil {
		return fmt.Errorf("list nftables: %w", err)
	}
	for _, a := range answers {
		if len(a) < nl.SizeofNfgenmsg {
			continue
		}
		at, err := attributes(a[nl.SizeofNfgenmsg:])
		if err != nil {
			return fmt.Errorf("list nftables: %w", err)
		}
		take(a[0], at)
	}
	return nil
}

func attributes(b []byte) (map[uint16][]byte, error) {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return nil, err
	}
	out := make(map[uint16][]byte, len(list))
	for _, a := range list {
		out[a.Attr.Type&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER)] = a.Value
	}
	return out, nil
}

func text(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
