// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"weft/internal/agent"
	"weft/internal/base/agentfile"
)

func agentCommand(version string) *cobra.Command {
	var cfg agent.Config
	var address, config string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Run a node's agent: it brings the server's rows into the kernel",
		Long: `Run the agent of this machine: it connects to a server, joins as a node, and keeps the packet path as the server
wants it. Stopping the agent stops no packet: programs, tables and devices stay.`,
		Example: `  weft agent --server 192.0.2.10:7444 --ca ca.pem --token-file node.token --address 192.0.2.31
  weft agent --server 192.0.2.10:7444 --ca ca.pem --token-file node.token --address 192.0.2.32 --roles edge
  weft agent --config /etc/weft/agent.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if config != "" {
				file, err := agentfile.Read(config)
				if err != nil {
					return err
				}
				fromFile(cmd, file, &cfg, &address)
			}
			var err error
			if cfg.Address, err = netip.ParseAddr(address); err != nil {
				return fmt.Errorf("--address must be this node's underlay address, for example 192.0.2.31: %w", err)
			}
			if cfg.Server == "" {
				return errors.New("--server is required: host:port of the server's southbound address")
			}
			cfg.Version, cfg.Log = version, newLog(verbose)
			ctx, stop := notifyContext(cmd.Context())
			defer stop()
			return agent.Run(ctx, cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.Node, "node", defaultNode(), "name of the node")
	f.StringSliceVar(&cfg.Roles, "roles", []string{"host"}, "what the node does: host, edge")
	f.StringVar(&cfg.Site, "site", "", "data centre of the node")
	f.StringVar(&cfg.Server, "server", "", "host:port of the server's southbound address")
	f.StringVar(&cfg.CAFile, "ca", "/etc/weft/ca.pem", "certificate of the server's authority (ca.pem of its state directory)")
	f.StringVar(&cfg.TokenFile, "token-file", "/etc/weft/node.token", "file with the token that lets a node join (node.token of the server's state directory)")
	f.StringVar(&address, "address", "", "underlay address of this node's tunnel end")
	f.IntVar(&cfg.UnderlayMTU, "underlay-mtu", 1500, "MTU of the underlay, bytes; the overlay has 50 less")
	f.DurationVar(&cfg.ScanEvery, "scan-every", time.Minute, "how often to look for what somebody else has changed in the kernel, give or take a quarter")
	f.StringVar(&cfg.StateDir, "state-dir", "/var/lib/weft/agent", "folder of what outlives the agent")
	f.StringVar(&cfg.RunDir, "run-dir", "/run/weft", "folder of agent.sock")
	f.StringVar(&cfg.BPFFS, "bpffs", "/sys/fs/bpf/weft/"+defaultNode(), "folder of pinned programs and tables")
	f.StringVar(&cfg.BGPConfig, "bgp-config", "", "configuration of this node's BGP speaker (weft bgp --help), which the agent starts, finds again, and never ends")
	f.StringVar(&config, "config", "", "file that says all of this, as 'weft node join' writes it; flags go before it")
	f.BoolVarP(&verbose, "verbose", "v", false, "log what a developer wants to know")
	return cmd
}

// fromFile takes from the file what no flag says.
func fromFile(cmd *cobra.Command, f agentfile.File, cfg *agent.Config, address *string) {
	said := cmd.Flags().Changed
	for _, s := range []struct {
		flag  string
		to    *string
		value string
	}{
		{"node", &cfg.Node, f.Node},
		{"site", &cfg.Site, f.Site},
		{"server", &cfg.Server, f.Server},
		{"ca", &cfg.CAFile, f.CA},
		{"token-file", &cfg.TokenFile, f.TokenFile},
		{"address", address, f.Address.String()},
		{"state-dir", &cfg.StateDir, f.StateDir},
		{"run-dir", &cfg.RunDir, f.RunDir},
		{"bpffs", &cfg.BPFFS, f.BPFFS},
		{"bgp-config", &cfg.BGPConfig, f.BGPConfig},
	} {
		if !said(s.flag) && s.value != "" {
			*s.to = s.value
		}
	}
	if !said("roles") && len(f.Roles) > 0 {
		cfg.Roles = f.Roles
	}
	if !said("underlay-mtu") && f.UnderlayMTU != 0 {
		cfg.UnderlayMTU = f.UnderlayMTU
	}
}
